//! When an acknowledgement is due.

use std::time::Duration;

use super::Arrival;
use crate::Time;

/// The clockwork of acknowledgements.
#[derive(Debug)]
pub(super) struct Timing {
    due: Option<Time>,
    /// Packets that wait for an acknowledgement.
    waiting: u32,
    /// So many waiting packets make one due at once.
    every: u32,
    /// Packets up to this counter follow closely upon a gap.
    prompt_to: u64,
    smoothed: Duration,
    /// Since when packets are counted, and how many came: the rate of arrival.
    rate_from: Time,
    rate_count: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            due: None,
            waiting: 0,
            every: EVERY,
            prompt_to: 0,
            smoothed: Duration::from_millis(100),
            rate_from: Time::ZERO,
            rate_count: 0,
        }
    }
}

impl Timing {
    /// `missing`: the packet left a gap below it; `late`: a larger counter came before.
    pub(super) fn on_packet(&mut self, now: Time, arrival: &Arrival, missing: bool, late: bool) {
        self.count(now);
        if missing {
            // The peer calls a packet lost when the third one after it is acknowledged: it shall
            // learn of each of the three without delay.
            self.prompt_to = arrival.counter.saturating_add(PROMPT);
        }
        if !arrival.eliciting {
            return;
        }
        self.waiting += 1;
        let at_once =
            late || arrival.ce || arrival.counter < self.prompt_to || self.waiting >= self.every;
        let at = match (at_once, arrival.push) {
            (true, _) => now,
            (false, true) => now + (self.smoothed / 8).min(PUSH_DELAY_MAX),
            (false, false) => now + (self.smoothed / 4).clamp(DELAY_MIN, DELAY_MAX),
        };
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    pub(super) fn on_ack_sent(&mut self) {
        self.due = None;
        self.waiting = 0;
    }

    pub(super) fn set_rtt(&mut self, smoothed: Duration) {
        self.smoothed = smoothed;
    }

    pub(super) fn ack_at(&self) -> Option<Time> {
        self.due
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Above 20,000 packets per second one acknowledgement for ten is often enough.
    fn count(&mut self, now: Time) {
        self.rate_count += 1;
        if now.since(self.rate_from) >= RATE_SPAN {
            let dense = u128::from(self.rate_count) * SECOND / now.since(self.rate_from).as_nanos();
            self.every = if dense > DENSE { EVERY_DENSE } else { EVERY };
            (self.rate_from, self.rate_count) = (now, 0);
        }
    }
}

/// The longest that an acknowledgement waits.
pub(super) const DELAY_MAX: Duration = Duration::from_millis(5);
/// At RTTs below four times this a shorter wait would only make more packets.
const DELAY_MIN: Duration = Duration::from_millis(1);
/// The longest that it waits behind the end of a message.
const PUSH_DELAY_MAX: Duration = Duration::from_millis(1);
/// Packets after a gap, with the one that shows it, that are acknowledged at once.
const PROMPT: u64 = 3;
const EVERY: u32 = 2;
const EVERY_DENSE: u32 = 10;
/// Packets per second that are dense.
const DENSE: u128 = 20_000;
const RATE_SPAN: Duration = Duration::from_millis(10);
const SECOND: u128 = 1_000_000_000;
