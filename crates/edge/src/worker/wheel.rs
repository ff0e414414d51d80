//! One timer wheel for all connections of a worker.
//!
//! An entry is a slot number in a bucket, 4 bytes. Entries are hints: whoever is
//! woken looks at its own deadline and is put back if that lies ahead. So a deadline
//! that moves later costs nothing, and nothing is ever searched for.

/// Width of a bucket in milliseconds; timers fire up to this late.
pub(crate) const TICK_MS: u64 = 100;

const BUCKETS: usize = 1_024;

/// The wheel; its reach is 102 s, and later deadlines are looked at once per round.
pub(crate) struct Wheel {
    buckets: Vec<Vec<u32>>,
    /// The next tick to be fired.
    tick: u64,
    len: usize,
}

impl Wheel {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            buckets: vec![Vec::new(); BUCKETS],
            tick: now_ms / TICK_MS,
            len: 0,
        }
    }

    /// Wakes `slot` at or soon after `at_ms`; returns the tick, for the caller to
    /// remember and not ask twice.
    pub(crate) fn schedule(&mut self, slot: u32, at_ms: u64) -> u64 {
        let reach = self.tick + BUCKETS as u64 - 1;
        let tick = (at_ms / TICK_MS + 1).clamp(self.tick, reach);
        self.buckets[(tick % BUCKETS as u64) as usize].push(slot);
        self.len += 1;
        tick
    }

    /// Takes a bucket that is due, with its tick; `None` when all due ones are taken.
    pub(crate) fn due(&mut self, now_ms: u64) -> Option<(u64, Vec<u32>)> {
        let now = now_ms / TICK_MS;
        while self.tick <= now {
            let tick = self.tick;
            self.tick += 1;
            let bucket = &mut self.buckets[(tick % BUCKETS as u64) as usize];
            if !bucket.is_empty() {
                let slots = std::mem::take(bucket);
                self.len -= slots.len();
                return Some((tick, slots));
            }
        }
        None
    }

    /// When the next bucket with an entry is due.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        (self.tick..self.tick + BUCKETS as u64)
            .find(|tick| !self.buckets[(tick % BUCKETS as u64) as usize].is_empty())
            .map(|tick| tick * TICK_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_fire_once_and_not_early() {
        let mut wheel = Wheel::new(1_000);
        wheel.schedule(7, 1_950);
        assert!(wheel.due(1_900).is_none());
        assert_eq!(wheel.next_ms(), Some(2_000));
        assert_eq!(wheel.due(2_000), Some((20, vec![7])));
        assert!(wheel.due(5_000).is_none());
        assert_eq!(wheel.next_ms(), None);
    }

    #[test]
    fn what_lies_beyond_the_reach_fires_at_its_edge() {
        let mut wheel = Wheel::new(0);
        let tick = wheel.schedule(1, 10_000_000);
        assert_eq!(tick, BUCKETS as u64 - 1);
        let (fired, slots) = wheel.due(tick * TICK_MS).expect("the edge is due");
        assert_eq!((fired, slots), (tick, vec![1]));
    }

    #[test]
    fn the_past_fires_at_once() {
        let mut wheel = Wheel::new(5_000);
        wheel.schedule(1, 10);
        assert_eq!(wheel.due(5_000).map(|(_, slots)| slots), Some(vec![1]));
    }
}
