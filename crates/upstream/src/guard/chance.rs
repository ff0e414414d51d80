//! Random numbers for jitter and ramps: spread, not secret, and the same for the same seed.

/// `SplitMix64`: a counter with a fixed step, each value mixed on its own.
#[derive(Debug, Clone)]
pub(super) struct Chance {
    counter: u64,
}

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self { counter: seed }
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.counter;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
