//! How much the peer may send: of one stream, or of all together.

use std::time::Duration;

use crate::Time;

/// A receive window. It moves on as bytes are used, and the peer is told when half of it is
/// used; it doubles, up to [`GROWTH_MAX`] times its first size, while the peer uses it up within
/// eight round trips: a smaller one would limit the peer while something lost is sent again, be
/// that data in front of what waits or the news of the window itself.
#[derive(Debug)]
pub(super) struct Window {
    size: u64,
    largest: u64,
    used: u64,
    told: u64,
    /// When the peer was last to be told; nothing before the first use.
    since: Option<Time>,
}

/// A window grows to at most so many times its configured size.
pub(super) const GROWTH_MAX: u64 = 16;

/// A window that lasts for so many round trips is large enough.
const ROUNDS: u128 = 8;

impl Window {
    /// A window of `size` bytes, of which the peer knows.
    pub(super) fn new(size: u32) -> Self {
        let size = u64::from(size.max(1));
        Self {
            size,
            largest: size * GROWTH_MAX,
            used: 0,
            told: size,
            since: None,
        }
    }

    /// The configured size has become `size`; nothing is taken back.
    pub(super) fn grow(&mut self, size: u32) {
        self.size = self.size.max(u64::from(size));
        self.largest = self.largest.max(u64::from(size) * GROWTH_MAX);
    }

    /// `bytes` have been used: the peer may send as many more.
    pub(super) fn on_used(&mut self, bytes: u64) {
        self.used += bytes;
    }

    /// Half the window or more is not known to the peer.
    pub(super) fn is_due(&self) -> bool {
        self.news() >= (self.size / 2).max(1)
    }

    /// Doubles the window if it is too small for the path; asked each time it becomes due.
    pub(super) fn tune(&mut self, now: Time, srtt: Duration) {
        let Some(since) = self.since.replace(now) else {
            return;
        };
        // The news took so long, a whole window in proportion.
        let whole = now.since(since).as_nanos() * u128::from(self.size);
        let news = u128::from(self.news());
        if whole < ROUNDS * srtt.as_nanos() * news {
            self.size = (self.size * 2).min(self.largest);
        }
    }

    /// A reader waits: the time until its window is used up counts from here, the first time.
    pub(super) fn start(&mut self, now: Time) {
        self.since.get_or_insert(now);
    }

    /// The new limit, which the peer is told now.
    pub(super) fn tell(&mut self) -> u64 {
        self.told = self.used + self.size;
        self.told
    }

    /// The limit that the peer knows, in bytes since the beginning.
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    fn news(&self) -> u64 {
        self.used + self.size - self.told
    }
}
