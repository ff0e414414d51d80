//! How lossy the path is.

use std::time::Duration;

use crate::time::Time;

/// Estimates from the fates of packets.
///
/// Two averages run: a slow one that is precise about rare losses, and a fast one that notices a
/// path turning bad within a few dozen packets. The worse of the two counts: a repair too many
/// costs some bytes, one too few a round trip.
#[derive(Debug)]
pub(super) struct Loss {
    slow: f64,
    fast: f64,
    burst: f64,
    /// Packets lost in a row until now.
    run: u32,
    /// Packets that arrived since the last one that was lost, and since when.
    clean: u32,
    clean_since: Option<Time>,
}

impl Loss {
    /// A new path is assumed to lose 1 %, so that its first packets are protected.
    pub(super) fn new() -> Self {
        Self {
            slow: ASSUMED,
            fast: ASSUMED,
            burst: 1.0,
            run: 0,
            clean: 0,
            clean_since: None,
        }
    }

    pub(super) fn on_fate(&mut self, now: Time, lost: bool) {
        let value = if lost { 1.0 } else { 0.0 };
        self.slow += (value - self.slow) * SLOW;
        self.fast += (value - self.fast) * FAST;
        if lost {
            self.run += 1;
            self.clean = 0;
            self.clean_since = None;
            return;
        }
        if self.run > 0 {
            self.burst += (f64::from(self.run) - self.burst) * BURST;
            self.run = 0;
        }
        self.clean = self.clean.saturating_add(1);
        self.clean_since.get_or_insert(now);
    }

    /// The probability that a packet is lost, 0 to 1.
    pub(super) fn probability(&self) -> f64 {
        self.slow.max(self.fast)
    }

    /// The mean number of packets lost in a row, at least 1.
    pub(super) fn burst(&self) -> f64 {
        self.burst
    }

    /// The path is clean: nothing was lost for a while, and enough arrived to believe it.
    pub(super) fn is_over(&self, now: Time) -> bool {
        let long = |since| now.since(since) >= CLEAN_FOR;
        self.clean >= CLEAN_PACKETS && self.clean_since.is_some_and(long)
    }
}

const ASSUMED: f64 = 0.01;
const SLOW: f64 = 1.0 / 1_024.0;
const FAST: f64 = 1.0 / 128.0;
const BURST: f64 = 1.0 / 8.0;
/// A path is clean if it loses none of so many packets (less than 0.3 % with 95 % confidence) …
const CLEAN_PACKETS: u32 = 1_000;
/// … over so long, for bursts come seldom.
const CLEAN_FOR: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
