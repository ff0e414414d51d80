//! Source parts that were sent and have not arrived yet, as far as we know.
//!
//! A sequence number names its source part for good, so what is kept here is sent again byte for
//! byte, and streams forget what they have handed over. What is lost is sent again at once, unless
//! a repair that covers it is still under way: then it is held until that repair's fate is known.

use std::collections::VecDeque;

use bytes::Bytes;

/// The store. Sequences are internal numbers, 1 and up.
#[derive(Debug)]
pub(super) struct Sources {
    /// The sequence of the first slot.
    base: u64,
    slots: VecDeque<Slot>,
    lost: VecDeque<u64>,
    /// Held sequences, each with the counter of the newest repair that may bring it.
    held: Vec<(u64, u64)>,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    part: Bytes,
    /// The counter of the newest packet that carries it.
    newest: u64,
    /// The first packet of that transmission, if it goes in pieces; else the same.
    since: u64,
    state: State,
    /// A message or stream ends in it.
    pushes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    InFlight,
    Lost,
    Held,
    Arrived,
}

impl Sources {
    pub(super) fn new() -> Self {
        Self {
            base: 1,
            slots: VecDeque::new(),
            lost: VecDeque::new(),
            held: Vec::new(),
            bytes: 0,
        }
    }

    /// Names a source part that is about to be sent for the first time.
    pub(super) fn push(&mut self, part: Bytes, counter: u64, pushes: bool) -> u64 {
        let sequence = self.next();
        self.bytes += part.len();
        self.slots.push_back(Slot {
            part,
            newest: counter,
            since: counter,
            state: State::InFlight,
            pushes,
        });
        sequence
    }

    /// Remembers that it was sent again; `goes_on` says that this was a further piece of it.
    pub(super) fn sent_again(&mut self, sequence: u64, counter: u64, goes_on: bool) {
        if let Some(slot) = self.slot(sequence) {
            slot.newest = counter;
            if !goes_on {
                slot.since = counter;
            }
            slot.state = State::InFlight;
        }
    }

    /// It has arrived; tells whether that is news.
    pub(super) fn arrived(&mut self, sequence: u64) -> bool {
        let Some(slot) = self.slot(sequence) else {
            return false;
        };
        if slot.state == State::Arrived {
            return false;
        }
        slot.state = State::Arrived;
        let freed = std::mem::take(&mut slot.part).len();
        self.bytes -= freed;
        while self
            .slots
            .front()
            .is_some_and(|it| it.state == State::Arrived)
        {
            self.slots.pop_front();
            self.base += 1;
        }
        true
    }

    /// The packet `counter` that carried it is lost. Held back if a repair that covers it is under
    /// way; `covered_by` is the counter of the newest such.
    pub(super) fn lost(&mut self, sequence: u64, counter: u64, covered_by: Option<u64>) {
        let Some(slot) = self.slot(sequence) else {
            return;
        };
        if slot.state != State::InFlight || counter < slot.since {
            return;
        }
        if let Some(repair) = covered_by {
            slot.state = State::Held;
            self.held.push((sequence, repair));
        } else {
            slot.state = State::Lost;
            self.lost.push_back(sequence);
        }
    }

    /// Part of it went out; the rest follows before anything else that was lost.
    pub(super) fn still_lost(&mut self, sequence: u64) {
        if let Some(slot) = self.slot(sequence)
            && slot.state == State::InFlight
        {
            slot.state = State::Lost;
            self.lost.push_front(sequence);
        }
    }

    /// Repairs with counters below `oldest` have met their fate: what waited for them and has not
    /// come is to be sent again.
    pub(super) fn release(&mut self, oldest: u64) {
        let mut held = std::mem::take(&mut self.held);
        held.retain(|(sequence, repair)| {
            let waits = *repair >= oldest;
            if !waits
                && let Some(slot) = self.slot(*sequence)
                && slot.state == State::Held
            {
                slot.state = State::Lost;
                self.lost.push_back(*sequence);
            }
            waits
        });
        self.held = held;
    }

    /// The next one to send again, oldest loss first.
    pub(super) fn first_lost(&mut self) -> Option<u64> {
        while let Some(sequence) = self.lost.front().copied() {
            if self
                .slot(sequence)
                .is_some_and(|it| it.state == State::Lost)
            {
                return Some(sequence);
            }
            self.lost.pop_front();
        }
        None
    }

    /// The oldest that has not arrived, whatever became of it: what a probe carries.
    pub(super) fn oldest(&self) -> Option<u64> {
        (!self.slots.is_empty()).then_some(self.base)
    }

    /// Its bytes, and whether a message or stream ends in it.
    pub(super) fn part(&self, sequence: u64) -> Option<(Bytes, bool)> {
        let index = usize::try_from(sequence.checked_sub(self.base)?).ok()?;
        let slot = self.slots.get(index)?;
        (slot.state != State::Arrived).then(|| (slot.part.clone(), slot.pushes))
    }

    /// The sequence that the next new source part will get.
    pub(super) fn next(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    /// The oldest sequence that has not arrived, or the next one.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// Bytes kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn slot(&mut self, sequence: u64) -> Option<&mut Slot> {
        let index = usize::try_from(sequence.checked_sub(self.base)?).ok()?;
        self.slots.get_mut(index)
    }
}
