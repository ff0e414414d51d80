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
    /// Since when next to nothing was lost.
    quiet_since: Option<Time>,
}

impl Loss {
    /// A new path is assumed to lose 1 %, so that its first packets are protected.
    pub(super) fn new() -> Self {
        Self {
            slow: ASSUMED,
            fast: ASSUMED,
            burst: 1.0,
            run: 0,
            quiet_since: None,
        }
    }

    pub(super) fn on_fate(&mut self, now: Time, lost: bool) {
        let value = if lost { 1.0 } else { 0.0 };
        self.slow += (value - self.slow) * SLOW;
        self.fast += (value - self.fast) * FAST;
        if lost {
            self.run += 1;
        } else if self.run > 0 {
            self.burst += (f64::from(self.run) - self.burst) * BURST;
            self.run = 0;
        }
        if self.probability() >= QUIET {
            self.quiet_since = None;
        } else {
            self.quiet_since.get_or_insert(now);
        }
    }

    /// The probability that a packet is lost, 0 to 1.
    pub(super) fn probability(&self) -> f64 {
        self.slow.max(self.fast)
    }

    /// The mean number of packets lost in a row, at least 1.
    pub(super) fn burst(&self) -> f64 {
        self.burst
    }

    /// Next to nothing was lost for half a minute.
    pub(super) fn is_over(&self, now: Time) -> bool {
        self.quiet_since
            .is_some_and(|since| now.since(since) >= QUIET_FOR)
    }
}

const ASSUMED: f64 = 0.01;
const SLOW: f64 = 1.0 / 1_024.0;
const FAST: f64 = 1.0 / 128.0;
const BURST: f64 = 1.0 / 8.0;
/// Below this probability a path counts as clean …
const QUIET: f64 = 1e-4;
/// … if it stays there for so long.
const QUIET_FOR: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
