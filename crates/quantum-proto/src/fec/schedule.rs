//! When a repair is due.
//!
//! Repairs come from two budgets. Within a flight there is one per so many sources, at most
//! `fec_ratio`. When the queue runs empty, nothing behind the last packets would reveal their loss,
//! so they get repairs of their own (*tail*), paid from `fec_tail_rate`: the bytes are few where the
//! packets are few, and a ratio would give a lone request a third of a repair.
//!
//! The estimated loss p decides how much of it happens. The aim is that less than one source in a
//! thousand waits for a retransmission:
//!
//! | p | in a flight | at a tail |
//! |---|---|---|
//! | clean: none of 1,000 packets in 10 s | – | one probe a second |
//! | below 0.1 % | – | one repair |
//! | up to 1 % | one per 12 sources or more often | one repair |
//! | up to 3.2 % | the same | one; at once for single packets |
//! | above | up to `fec_ratio` | a second one 6 ms after the last packet |
//!
//! A tail begins 2 ms after the last packet, or an eighth of the round trip. A single packet's
//! repair follows it at once instead, which costs the same. Its share of the ratio comes 2 ms
//! later, so that a short burst of losses does not take all copies, and so does its second repair,
//! which only rare calls get: frequent ones are covered by the repairs of those that follow.

use std::time::Duration;

use super::encoder::Situation;
use super::loss::Loss;
use crate::time::Time;

/// Which budget pays for a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Ratio,
    Tail,
}

/// The state of one connection's repairs.
#[derive(Debug)]
pub(super) struct Schedule {
    /// How long after the last packet a queue counts as empty.
    delay: Duration,
    /// When the last source left, and whether it was a message and a flight in one.
    last: Option<(Time, bool)>,
    /// Since when some source has had no repair at all.
    bare_since: Option<Time>,
    /// Sources since the flight's last repair.
    sources: u32,
    /// When repairs of the flight are due, and how many.
    flight: Option<(Time, u8)>,
    /// When the next repair of the tail is due, and how many are to come.
    tail: Option<(Time, u8)>,
    probed: Option<Time>,
    /// Second repairs of single packets that may be sent.
    seconds: f64,
    seconds_at: Time,
}

impl Schedule {
    pub(super) fn new() -> Self {
        Self {
            delay: TAIL_DELAY,
            last: None,
            bare_since: None,
            sources: 0,
            flight: None,
            tail: None,
            probed: None,
            seconds: 0.0,
            seconds_at: Time::ZERO,
        }
    }

    /// A source left. Each `every` of them earn `repairs` within the flight.
    pub(super) fn on_source(
        &mut self,
        now: Time,
        alone: bool,
        loss: &Loss,
        (every, repairs): (u32, u8),
    ) {
        let p = loss.probability();
        let follows = self
            .last
            .is_some_and(|(at, single)| !single && now.since(at) < self.delay);
        let single = alone && !follows;
        self.last = Some((now, single));
        if loss.is_over(now) {
            let probe = self.probed.is_none_or(|at| now.since(at) >= PROBE_EVERY);
            self.flight = None;
            self.tail = probe.then(|| (now + self.delay, 1));
            if probe {
                self.probed = Some(now);
            }
            return;
        }
        let bare = *self.bare_since.get_or_insert(now);
        if p >= RARE {
            self.sources += 1;
            if self.sources >= every {
                self.sources -= every;
                let at = if single { now + self.delay } else { now };
                let (at, left) = self.flight.unwrap_or((at, 0));
                self.flight = Some((at, left.saturating_add(repairs).min(FLIGHT_MAX)));
            }
        } else {
            self.sources = 0;
        }
        let more = p > OFTEN && (!single || self.take_second(now));
        let at = if single && p > SOME {
            now
        } else {
            (now + self.delay).min(bare + SECOND_DELAY)
        };
        self.tail = Some((at, 1 + u8::from(more)));
    }

    /// Sources count towards the ratio from here on.
    pub(super) fn begin_flight(&mut self) {
        self.sources = 0;
    }

    /// Which repair is due now. What the situation does not allow is forgotten: the next source
    /// will be covered together with the last ones.
    pub(super) fn due(&mut self, now: Time, situation: &Situation) -> Option<Due> {
        self.delay = TAIL_DELAY.min(situation.srtt / 8);
        if situation.probe_rtt || situation.cwnd_limited {
            self.forget();
            return None;
        }
        if self.flight.is_some_and(|(at, _)| now >= at) {
            return Some(Due::Ratio);
        }
        if self.tail.is_none_or(|(at, _)| now < at) {
            return None;
        }
        if situation.more_queued {
            self.tail = None;
            return None;
        }
        Some(Due::Tail)
    }

    /// A repair that was due was sent.
    pub(super) fn on_repair(&mut self, now: Time, due: Due) {
        self.bare_since = None;
        if due == Due::Ratio {
            self.flight = self
                .flight
                .and_then(|(at, left)| (left > 1).then(|| (at, left - 1)));
        }
        // Whatever comes after the last source protects the tail.
        let left = self.tail.map_or(0, |(_, left)| left - 1);
        self.tail = self.next_tail(now, left);
    }

    /// There were no tokens for a repair of the tail: perhaps later.
    pub(super) fn on_refusal(&mut self, now: Time) {
        let left = self.tail.map_or(0, |(_, left)| left);
        self.tail = self.next_tail(now, left);
    }

    /// Nothing is left to repair.
    pub(super) fn forget(&mut self) {
        self.bare_since = None;
        self.sources = 0;
        self.flight = None;
        self.tail = None;
    }

    /// When something is due next.
    pub(super) fn timeout(&self) -> Option<Time> {
        let flight = self.flight.map(|(at, _)| at);
        let tail = self.tail.map(|(at, _)| at);
        flight.into_iter().chain(tail).min()
    }

    /// The first of the tail's points that lies ahead.
    fn next_tail(&self, now: Time, left: u8) -> Option<(Time, u8)> {
        let (last, _) = self.last.filter(|_| left > 0)?;
        [last + self.delay, last + SECOND_DELAY]
            .into_iter()
            .find(|at| *at > now)
            .map(|at| (at, left))
    }

    /// Allows second repairs of single packets at a rate that matters to rare calls only: frequent
    /// ones are covered by the repairs of those that follow.
    fn take_second(&mut self, now: Time) -> bool {
        let earned = now.since(self.seconds_at).as_secs_f64() * SECONDS_RATE;
        self.seconds = (self.seconds + earned).min(SECONDS_RATE);
        self.seconds_at = now;
        if self.seconds < 1.0 {
            return false;
        }
        self.seconds -= 1.0;
        true
    }
}

/// The queue has run empty if no packet follows for so long, or for an eighth of the round trip.
const TAIL_DELAY: Duration = Duration::from_millis(2);
/// When a tail's second repair leaves; and the longest that a packet has none.
const SECOND_DELAY: Duration = Duration::from_millis(6);
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Second repairs of single packets, per second and in a row.
const SECONDS_RATE: f64 = 8.0;
/// The most repairs that a flight owes: no burst of them after a pause.
const FLIGHT_MAX: u8 = 8;
/// Below it only tails are repaired.
const RARE: f64 = 1e-3;
/// Above it single packets are repaired at once.
const SOME: f64 = 1e-2;
/// Above it one repair leaves more than a thousandth of the tails unrepaired.
const OFTEN: f64 = 0.0316;
