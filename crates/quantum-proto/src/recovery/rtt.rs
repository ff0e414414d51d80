//! The round trip, measured.

use std::time::Duration;

/// The round trip as RFC 9002 estimates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rtt {
    /// The last sample, the peer's delay included.
    pub latest: Duration,
    /// The smoothed RTT; 100 ms before the first sample.
    pub smoothed: Duration,
    /// Its mean deviation; 50 ms before the first sample.
    pub variation: Duration,
    /// The shortest sample on this path, the peer's delay included; zero before the first.
    pub min: Duration,
    sampled: bool,
}

impl Default for Rtt {
    fn default() -> Self {
        Self {
            latest: INITIAL,
            smoothed: INITIAL,
            variation: INITIAL / 2,
            min: Duration::ZERO,
            sampled: false,
        }
    }
}

impl Rtt {
    /// Whether there was a sample.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// A packet was acknowledged `latest` after it was sent; the peer says that it waited for
    /// `delay`, and cannot thereby get below the shortest sample. Gives the sample.
    pub(super) fn on_sample(&mut self, latest: Duration, delay: Duration) -> Duration {
        self.latest = latest;
        if !self.sampled {
            *self = Self {
                latest,
                smoothed: latest,
                variation: latest / 2,
                min: latest,
                sampled: true,
            };
            return latest;
        }
        self.min = self.min.min(latest);
        let sample = latest.saturating_sub(delay).max(self.min);
        self.variation = (3 * self.variation + self.smoothed.abs_diff(sample)) / 4;
        self.smoothed = (7 * self.smoothed + sample) / 8;
        sample
    }
}

/// Taken for the RTT before it is known: a probe is due after 300 ms then.
const INITIAL: Duration = Duration::from_millis(100);
