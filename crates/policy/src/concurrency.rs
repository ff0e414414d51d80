//! How many calls are under way at once, and how many may wait for that.
//!
//! Only the counting: who waits, in which order, and how they are woken is the
//! caller's. A slot that is free while somebody waits belongs to the first who waits;
//! who comes later queues, so that nobody is overtaken.

use std::time::Duration;

use crate::settings::{PolicyError, within};

/// How many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConcurrencySettings {
    /// Calls under way at once; 0 is unlimited.
    pub limit: u32,
    /// Calls that may wait for a slot; beyond, they are refused.
    pub waiting_max: u32,
    /// How long one waits at most; up to an hour.
    pub wait_max: Duration,
}

/// The count of slots taken and of those who wait.
#[derive(Debug, Clone)]
pub struct Concurrency {
    limit: u32,
    waiting_max: u32,
    in_flight: u32,
    waiting: u32,
}

/// What a call finds at the entrance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entrance {
    /// A slot; to be answered by [`Concurrency::leave`].
    Slot,
    /// A place in the queue; [`Concurrency::hand_on`] turns the first one into a slot,
    /// [`Concurrency::give_up`] gives it back.
    Queue,
    /// Nothing.
    Full,
}

impl ConcurrencySettings {
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        let least = if self.waiting_max > 0 { 0.001 } else { 0.0 };
        within(
            "longest wait for a slot in seconds",
            self.wait_max.as_secs_f64(),
            least,
            3_600.0,
        )
    }
}

impl Default for ConcurrencySettings {
    /// No limit, so no queue.
    fn default() -> Self {
        Self {
            limit: 0,
            waiting_max: 0,
            wait_max: Duration::ZERO,
        }
    }
}

impl Concurrency {
    /// All slots are free.
    pub fn new(settings: &ConcurrencySettings) -> Self {
        Self {
            limit: settings.limit,
            waiting_max: settings.waiting_max,
            in_flight: 0,
            waiting: 0,
        }
    }

    /// A call comes.
    pub fn enter(&mut self) -> Entrance {
        if self.waiting == 0 && self.has_room() {
            self.in_flight += 1;
            Entrance::Slot
        } else if self.waiting < self.waiting_max {
            self.waiting += 1;
            Entrance::Queue
        } else {
            Entrance::Full
        }
    }

    /// A call that had a slot ends. [`Concurrency::hand_on`] is due.
    pub fn leave(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// One who waits goes away.
    pub fn give_up(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Gives a free slot to the first who waits; `true` if there was such a pair.
    /// To be asked until it is `false`.
    #[must_use]
    pub fn hand_on(&mut self) -> bool {
        let pair = self.waiting > 0 && self.has_room();
        if pair {
            self.waiting -= 1;
            self.in_flight += 1;
        }
        pair
    }

    /// Slots taken.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Calls that wait.
    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    fn has_room(&self) -> bool {
        self.in_flight < u32::MAX && (self.limit == 0 || self.in_flight < self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concurrency(limit: u32, waiting_max: u32) -> Concurrency {
        Concurrency::new(&ConcurrencySettings {
            limit,
            waiting_max,
            wait_max: Duration::from_secs(1),
        })
    }

    #[test]
    fn zero_is_unlimited() {
        let mut calls = concurrency(0, 0);
        assert!((0..10_000).all(|_| calls.enter() == Entrance::Slot));
    }

    #[test]
    fn slots_then_queue_then_nothing() {
        let mut calls = concurrency(2, 1);
        let found: Vec<_> = (0..4).map(|_| calls.enter()).collect();
        assert_eq!(
            found,
            [
                Entrance::Slot,
                Entrance::Slot,
                Entrance::Queue,
                Entrance::Full
            ]
        );
    }

    #[test]
    fn a_free_slot_belongs_to_the_first_who_waits() {
        let mut calls = concurrency(1, 2);
        assert_eq!(calls.enter(), Entrance::Slot);
        assert_eq!(calls.enter(), Entrance::Queue);
        assert!(!calls.hand_on());
        calls.leave();
        assert_eq!(calls.enter(), Entrance::Queue, "nobody is overtaken");
        assert!(calls.hand_on());
        assert!(!calls.hand_on());
        assert_eq!((calls.in_flight(), calls.waiting()), (1, 1));
    }

    #[test]
    fn who_gives_up_leaves_a_place() {
        let mut calls = concurrency(1, 1);
        assert_eq!(calls.enter(), Entrance::Slot);
        assert_eq!(calls.enter(), Entrance::Queue);
        calls.give_up();
        calls.leave();
        assert!(!calls.hand_on());
        assert_eq!(calls.enter(), Entrance::Slot);
    }
}
