//! Repeatable chance: everything that a run draws comes from its seed.

use std::time::Duration;

/// A sequence of numbers that derives from one (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The sequence of a seed. Neighbouring seeds have nothing in common.
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Self(seed ^ 0x5175_616e_7475_6d21);
        chance.0 = chance.next();
        chance
    }

    /// A sequence of its own, so that what is drawn from it shifts nothing here.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// From 0 to `end` − 1; 0 if `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end.max(1)
    }

    /// From `low` to `high`, ends included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// From `low` to `high`, small ones as likely as large ones by their number of digits.
    pub(crate) fn spread(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.unit())
    }

    /// From 0 up to, and not, 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with that probability.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// Up to, and not, that long.
    pub(crate) fn within(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.unit())
    }
}

/// Mixes the bits of a number.
pub(crate) fn mixed(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
