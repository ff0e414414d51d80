//! Spreads packets over time.
//!
//! A token bucket. It holds one quantum: what the sender may give the network card in one go,
//! one millisecond at the pacing rate, at least two packets and at most 64 KiB. Two exceptions
//! keep a pacer from costing more than it saves:
//!
//! - Requests are few packets after a pause. A sender that had nothing to send saves up to ten
//!   packets, so that a message of that size leaves at once; the long-term rate stays the pacing
//!   rate. The first packets that find the bucket empty end this.
//! - Timers fire late. A sender that was told to wait and came later than told is credited up to
//!   two milliseconds of that lateness, which otherwise would be lost throughput.

use std::time::Duration;

use crate::Time;

/// A token bucket in bytes that fills at the pacing rate.
#[derive(Debug, Clone)]
pub struct Pacer {
    /// Bytes per second, at least one.
    rate: u64,
    mss: u64,
    /// Bytes that may leave at once; below zero after a batch larger than what was there.
    tokens: f64,
    filled_at: Time,
    /// Until when the sender was told to wait.
    told: Option<Time>,
    /// The sender had nothing to send since the bucket was last empty.
    app_limited: bool,
}

impl Pacer {
    /// A pacer for `rate` bytes per second and datagrams of `mss` bytes; the first ten packets
    /// leave at once.
    pub fn new(now: Time, rate: u64, mss: u64) -> Self {
        let mss = mss.clamp(1, MAX_MSS);
        Self {
            rate: rate.max(1),
            mss,
            tokens: (mss * BURST_PACKETS) as f64,
            filled_at: now,
            told: None,
            app_limited: true,
        }
    }

    /// When a packet of `bytes` may leave: `now` means at once.
    ///
    /// Who has to wait waits for half a quantum, so that it does not wake for each packet.
    pub fn ready_at(&mut self, now: Time, bytes: u64) -> Time {
        self.fill(now);
        // More than the bucket holds must leave sometime too.
        let needed = (bytes as f64).min(self.capacity());
        if self.tokens >= needed {
            self.told = None;
            return now;
        }
        self.app_limited = false;
        let target = needed.max(self.quantum() / 2.0);
        let wait = (target - self.tokens) / self.rate as f64;
        let wait = Duration::try_from_secs_f64(wait).unwrap_or(LONGEST_WAIT);
        // Rounded up, or the wake would come a nanosecond too early and wait again.
        let at = now + wait.min(LONGEST_WAIT) + Duration::from_nanos(1);
        // Whoever asks twice while waiting does not gain by it.
        let at = self
            .told
            .filter(|told| *told > now)
            .map_or(at, |told| told.min(at));
        self.told = Some(at);
        at
    }

    /// A packet of `bytes` left. May be called without [`Pacer::ready_at`], for packets that
    /// must not wait: later ones then wait longer.
    pub fn on_send(&mut self, now: Time, bytes: u64) {
        self.fill(now);
        // A debt is bounded, so that a burst of unpaced packets does not silence the rest.
        self.tokens = (self.tokens - bytes as f64).max(-(MAX_QUANTUM as f64));
    }

    /// There was room but nothing to send: up to ten packets may be saved up.
    pub fn on_app_limited(&mut self) {
        self.app_limited = true;
        self.told = None;
    }

    /// From `now` on the bucket fills with `rate` bytes per second.
    pub fn set_rate(&mut self, now: Time, rate: u64) {
        let rate = rate.max(1);
        if rate != self.rate {
            self.fill(now);
            self.rate = rate;
            // What was told holds for the old rate.
            self.told = self.told.filter(|told| *told <= now);
        }
    }

    /// Full datagrams have another size now.
    pub fn set_mss(&mut self, mss: u64) {
        self.mss = mss.clamp(1, MAX_MSS);
    }

    fn fill(&mut self, now: Time) {
        let gained = now.since(self.filled_at).as_secs_f64() * self.rate as f64;
        self.filled_at = self.filled_at.max(now);
        let late = match self.told {
            Some(told) => now.since(told).min(LATENESS),
            None => Duration::ZERO,
        };
        let capacity = self.capacity() + late.as_secs_f64() * self.rate as f64;
        if self.tokens < capacity {
            self.tokens = (self.tokens + gained).min(capacity);
        }
    }

    fn capacity(&self) -> f64 {
        if self.app_limited {
            self.quantum().max((self.mss * BURST_PACKETS) as f64)
        } else {
            self.quantum()
        }
    }

    fn quantum(&self) -> f64 {
        quantum(self.rate, self.mss) as f64
    }
}

/// Bytes to send in one go at `rate` bytes per second: one millisecond, at least two packets of
/// `mss` bytes, at most 64 KiB.
pub(super) fn quantum(rate: u64, mss: u64) -> u64 {
    (rate / 1_000).min(MAX_QUANTUM).max(2 * mss)
}

/// Packets that a sender may save up while it has nothing to send.
const BURST_PACKETS: u64 = 10;
/// The largest UDP payload.
pub(super) const MAX_MSS: u64 = 65_507;
/// One GSO batch.
const MAX_QUANTUM: u64 = 64 << 10;
/// How much of a late wake is made up for.
const LATENESS: Duration = Duration::from_millis(2);
/// Even the slowest path is asked again after this time.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
