//! How much the network reorders.

use std::time::Duration;

use super::{GRANULARITY, Rtt};

/// The tolerance for packets that arrive in another order than they were sent.
#[derive(Debug)]
pub(super) struct Reorder {
    /// Eighths of an RTT that a packet may come late: 1, 2, 4 or 8.
    eighths: u32,
    /// Recoveries since a loss was a mistake.
    quiet: u32,
    /// Losses up to this counter belong to a recovery that was counted.
    recovery_to: Option<u64>,
    /// Mistakes about packets up to this counter were made before the window last grew.
    grown_to: Option<u64>,
}

impl Default for Reorder {
    fn default() -> Self {
        Self {
            eighths: 1,
            quiet: 0,
            recovery_to: None,
            grown_to: None,
        }
    }
}

impl Reorder {
    /// A packet that was given up arrived after all. At most once in a round trip counts.
    pub(super) fn on_spurious(&mut self, counter: u64, largest_sent: Option<u64>) {
        self.quiet = 0;
        if self.grown_to.is_none_or(|grown_to| grown_to < counter) {
            self.eighths = (self.eighths * 2).min(8);
            self.grown_to = largest_sent;
        }
    }

    /// Packets up to `counter` were given up.
    pub(super) fn on_lost(&mut self, counter: u64, largest_sent: Option<u64>) {
        if self.recovery_to.is_some_and(|known| counter <= known) {
            return;
        }
        self.recovery_to = largest_sent;
        self.quiet += 1;
        if self.quiet >= QUIET {
            self.quiet = 0;
            self.eighths = 1;
        }
    }

    /// How long a packet may be under way while later ones are acknowledged.
    pub(super) fn wait(&self, rtt: &Rtt) -> Duration {
        let rtt = rtt.smoothed.max(rtt.latest);
        rtt + (rtt / 8 * self.eighths).max(GRANULARITY)
    }

    /// A packet is lost when one so many later was acknowledged.
    pub(super) fn packets(&self) -> u64 {
        if self.eighths == 1 { PACKETS } else { u64::MAX }
    }
}

/// RFC 9002's threshold, as long as nothing shows that the network reorders.
const PACKETS: u64 = 3;
/// Recoveries without a mistake after which the tolerance is forgotten.
const QUIET: u32 = 16;
