//! Whose turn it is.
//!
//! Classes are strict: nothing of a lower one is sent while a higher one has something, so a
//! class that always has something starves those below; applications keep their urgent classes
//! small. Inside a class streams take turns of one packet's worth of bytes; what a turn leaves of
//! a packet goes to the next stream, and what the packet leaves of a turn goes on in the next one.

use std::collections::VecDeque;

use super::sending::{Sendable, Sending};
use super::{Priority, StreamId};

/// Streams that could send now as far as their own windows allow.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    classes: [VecDeque<StreamId>; 4],
    len: usize,
    /// How many of them would send an end without data.
    marks: usize,
}

/// A stream's place in the schedule.
#[derive(Debug)]
pub(super) struct Place {
    priority: Priority,
    queued: Sendable,
}

impl Place {
    pub(super) fn new(priority: Priority) -> Self {
        Self {
            priority,
            queued: Sendable::Nothing,
        }
    }
}

impl Schedule {
    /// What `id` could send has changed, or may have.
    pub(super) fn update(&mut self, id: StreamId, place: &mut Place, sending: &Sending) {
        let sendable = sending.sendable();
        if sendable == place.queued {
            return;
        }
        if place.queued == Sendable::Nothing {
            self.class(place.priority).push_back(id);
            self.len += 1;
        } else if sendable == Sendable::Nothing {
            self.remove(id, place);
            return;
        }
        self.count(place.queued, sendable);
        place.queued = sendable;
    }

    /// Moves `id` to another class.
    pub(super) fn set_priority(&mut self, id: StreamId, place: &mut Place, priority: Priority) {
        if place.priority == priority {
            return;
        }
        let queued = place.queued;
        if queued != Sendable::Nothing {
            self.remove(id, place);
            self.class(priority).push_back(id);
            self.len += 1;
            self.count(Sendable::Nothing, queued);
            place.queued = queued;
        }
        place.priority = priority;
    }

    /// Takes `id` out.
    pub(super) fn remove(&mut self, id: StreamId, place: &mut Place) {
        if place.queued == Sendable::Nothing {
            return;
        }
        let class = self.class(place.priority);
        if class.front() == Some(&id) {
            class.pop_front();
        } else {
            class.retain(|other| *other != id);
        }
        self.len -= 1;
        self.count(place.queued, Sendable::Nothing);
        place.queued = Sendable::Nothing;
    }

    /// Whose turn it is.
    pub(super) fn first(&self) -> Option<StreamId> {
        self.classes.iter().find_map(VecDeque::front).copied()
    }

    /// The turn of `id` is over: from the first of its class it becomes the last.
    pub(super) fn rotate(&mut self, id: StreamId, place: &Place) {
        let class = self.class(place.priority);
        if class.front() == Some(&id) {
            class.rotate_left(1);
        }
    }

    /// All, in order: for the case that only ends without data can be sent.
    pub(super) fn iter(&self) -> impl Iterator<Item = StreamId> {
        self.classes.iter().flatten().copied()
    }

    /// Whether anybody could send, given `credit` bytes of data.
    pub(super) fn has_any(&self, credit: u64) -> bool {
        self.marks > 0 || (credit > 0 && self.len > 0)
    }

    pub(super) fn marks(&self) -> usize {
        self.marks
    }

    fn count(&mut self, before: Sendable, now: Sendable) {
        self.marks -= usize::from(before == Sendable::Mark);
        self.marks += usize::from(now == Sendable::Mark);
    }

    fn class(&mut self, priority: Priority) -> &mut VecDeque<StreamId> {
        &mut self.classes[priority as usize]
    }
}
