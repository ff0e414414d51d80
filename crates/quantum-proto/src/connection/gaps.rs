//! How long a hole among the received sequences stayed open.
//!
//! A hole is seen when something later arrives; it is closed by a repair, or by a retransmission.
//! The time between is what error correction is for: the seed wants it below 10 ms.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Time;

/// Holes that are open now, lowest sequence first.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    open: VecDeque<(u64, Time)>,
    /// The highest sequence seen or known of.
    highest: u64,
}

/// Further holes are not timed.
const OPEN_MAX: usize = 1_024;

impl Gaps {
    /// `sequence` is known of, because it came or because a repair covers it.
    pub(super) fn see(&mut self, now: Time, sequence: u64, came: bool) {
        let from = self.highest + 1;
        let until = if came { sequence } else { sequence + 1 };
        for missing in from..until {
            if self.open.len() >= OPEN_MAX {
                break;
            }
            self.open.push_back((missing, now));
        }
        self.highest = self.highest.max(sequence);
    }

    /// It is here now; tells since when it was missed.
    pub(super) fn close(&mut self, now: Time, sequence: u64) -> Option<Duration> {
        let index = self.open.binary_search_by_key(&sequence, |it| it.0).ok()?;
        let (_, since) = self.open.remove(index)?;
        Some(now.since(since))
    }
}
