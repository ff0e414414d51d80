//! How much more than expected the path delivers at once (the draft's extra_acked).
//!
//! Radio links, offloads and receivers that acknowledge seldom deliver in bursts. The window has
//! to be larger by a burst, or the sender stalls between two of them.

use super::filter::MaxOverRounds;
use crate::Time;

#[derive(Debug, Clone)]
pub(super) struct Aggregation {
    since: Time,
    delivered: u64,
    extra: MaxOverRounds,
}

impl Aggregation {
    pub(super) fn new(now: Time) -> Self {
        Self {
            since: now,
            delivered: 0,
            extra: MaxOverRounds::default(),
        }
    }

    /// Nothing was in flight: the pause is no sign of slow delivery.
    pub(super) fn restart(&mut self, now: Time) {
        self.since = now;
        self.delivered = 0;
    }

    /// `acked` bytes came while `bandwidth` bytes per second were expected.
    pub(super) fn on_acked(&mut self, now: Time, acked: u64, bandwidth: f64, view: View) {
        let expected_since = |since: Time| (bandwidth * now.since(since).as_secs_f64()) as u64;
        let mut expected = expected_since(self.since);
        if self.delivered <= expected {
            self.restart(now);
            expected = 0;
        }
        self.delivered = self.delivered.saturating_add(acked);
        let extra = self.delivered.saturating_sub(expected).min(view.cwnd);
        self.extra.update(view.round, extra, view.window);
    }

    /// Bytes beyond what the bandwidth explains, the most of the window's rounds.
    pub(super) fn extra(&self) -> u64 {
        self.extra.get()
    }
}

/// What bounds an observation.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) cwnd: u64,
    pub(super) round: u64,
    /// Rounds that an observation is remembered.
    pub(super) window: u64,
}
