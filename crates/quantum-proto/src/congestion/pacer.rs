//! Spreads packets over time.

use crate::Time;

/// A token bucket in bytes that fills at the pacing rate.
#[derive(Debug, Clone)]
pub struct Pacer {
    rate: u64,
    mss: u64,
}

impl Pacer {
    /// A pacer for datagrams of `mss` bytes, with a full bucket.
    pub fn new(_now: Time, rate: u64, mss: u64) -> Self {
        Self { rate, mss }
    }

    /// When a packet of `bytes` may leave: `now` or earlier means at once.
    pub fn ready_at(&mut self, now: Time, _bytes: u64) -> Time {
        now
    }

    /// A packet left.
    pub fn on_send(&mut self, _now: Time, _bytes: u64) {}

    /// There was room but nothing to send: the next ten packets may leave at once.
    pub fn on_app_limited(&mut self) {}

    /// From `now` on the bucket fills with `rate` bytes per second.
    pub fn set_rate(&mut self, _now: Time, rate: u64) {
        self.rate = rate;
    }

    /// Full datagrams have another size now.
    pub fn set_mss(&mut self, mss: u64) {
        self.mss = mss;
    }
}
