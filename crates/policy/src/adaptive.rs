//! A limit of calls at once that finds its own level.
//!
//! As long as an upstream keeps up, more calls at once take no longer each; beyond, they
//! only queue inside it. So the limit rises while the latency stays near that of calls
//! that do not queue, the *baseline*, and falls in proportion when it leaves it. Latency
//! is the time to the first byte: how long an answer streams says nothing about load.
//!
//! Samples are gathered in rounds of at least ten and a tenth of a second, and each round
//! moves the limit by one step. Three rules make it calm:
//!
//! * **No probing.** Lowering the limit now and then to measure the baseline would refuse
//!   calls for nothing. It is learnt from rounds that were faster, and rises only in rounds
//!   that cannot have queued much: those that used less than half of the limit, and those at
//!   its least. Were it to follow the latency under load, a lasting overload would become
//!   the norm.
//! * **Unused, unmoved.** A round that used less than half of the limit says nothing about
//!   the limit. A quiet night leaves it where it was, and it never runs ahead of the load
//!   either.
//! * **Failures are no latencies.** A round in which more than a tenth failed or was asked
//!   for less lowers the limit; how fast the failures were does not count.

use std::time::Duration;

use crate::class::Verdict;

/// The limit and what it is derived from.
#[derive(Debug, Clone)]
pub(crate) struct Adaptive {
    least: f64,
    most: f64,
    limit: f64,
    /// Latency without queueing, in microseconds.
    baseline: Option<f64>,
    round: Round,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    since: u64,
    answered: u32,
    failed: u32,
    sum_us: f64,
    /// Most calls that were under way at once.
    peak: u32,
}

impl Adaptive {
    /// `least` is at least 1 and at most `most`.
    pub(crate) fn new(least: u32, most: u32) -> Self {
        let (least, most) = (f64::from(least), f64::from(most));
        Self {
            least,
            most,
            limit: BEGIN.clamp(least, most),
            baseline: None,
            round: Round::new(0, 0),
        }
    }

    /// Other bounds for what was learnt.
    pub(crate) fn bound(&mut self, least: u32, most: u32) {
        self.least = f64::from(least);
        self.most = f64::from(most);
        self.limit = self.limit.clamp(self.least, self.most);
    }

    /// So many are under way now.
    pub(crate) fn saw(&mut self, in_flight: u32) {
        self.round.peak = self.round.peak.max(in_flight);
    }

    /// Takes what a call came to, with so many under way.
    pub(crate) fn sample(&mut self, elapsed: Duration, verdict: Verdict, in_flight: u32, now: u64) {
        let round = &mut self.round;
        if round.answered + round.failed == 0 && round.since == 0 {
            round.since = now;
        }
        round.peak = round.peak.max(in_flight);
        match verdict {
            Verdict::Success => {
                round.answered += 1;
                round.sum_us += elapsed.as_secs_f64() * 1e6;
            }
            Verdict::Failure | Verdict::Soft => round.failed += 1,
            Verdict::Neutral => return,
        }
        let length = now.saturating_sub(round.since);
        if length >= ROUND_MS && round.answered + round.failed >= ROUND_SAMPLES {
            let round = *round;
            self.round = Round::new(now, in_flight);
            self.step(round, length);
        }
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit as u32
    }

    fn step(&mut self, round: Round, length: u64) {
        let used = f64::from(round.peak) * 2.0 > self.limit;
        if round.failed * 10 > round.answered + round.failed {
            if used {
                self.limit = (self.limit * ON_FAILURES).max(self.least);
            }
            return;
        }
        let latency = (round.sum_us / f64::from(round.answered)).max(1.0);
        let baseline = self.learn(latency, used, length);
        if used {
            let gradient = (TOLERANCE * baseline / latency).max(0.5);
            // Without the sharp edge the limit could come to rest where it falls and rises
            // by the same, far below what an upstream that became slower for good can do.
            let next = if gradient < 1.0 {
                self.limit * gradient
            } else {
                self.limit + self.limit.sqrt()
            };
            self.limit += (next - self.limit) * SMOOTHING;
            self.limit = self.limit.clamp(self.least, self.most);
        }
    }

    fn learn(&mut self, latency: f64, used: bool, length: u64) -> f64 {
        let Some(baseline) = self.baseline else {
            self.baseline = Some(latency);
            return latency;
        };
        let part = if latency < baseline {
            0.5
        } else if !used {
            part_after(length, RISES_UNUSED_MS)
        } else if self.limit < self.least + 1.0 {
            part_after(length, RISES_LEAST_MS)
        } else {
            0.0
        };
        let learnt = baseline + (latency - baseline) * part;
        self.baseline = Some(learnt);
        learnt
    }
}

impl Round {
    fn new(since: u64, in_flight: u32) -> Self {
        Self {
            since,
            answered: 0,
            failed: 0,
            sum_us: 0.0,
            peak: in_flight,
        }
    }
}

/// How much of the way to a new value is gone after a time.
fn part_after(length: u64, constant_ms: f64) -> f64 {
    1.0 - (-(length as f64) / constant_ms).exp()
}

const BEGIN: f64 = 20.0;
const ROUND_MS: u64 = 100;
const ROUND_SAMPLES: u32 = 10;
/// The latency may be so many times the baseline before the limit falls.
const TOLERANCE: f64 = 1.5;
/// How much of the way to the limit that a round suggests is gone at once.
const SMOOTHING: f64 = 0.2;
const ON_FAILURES: f64 = 0.9;
const RISES_UNUSED_MS: f64 = 10_000.0;
/// An upstream that became slower for good is believed soon: there is little left to refuse.
const RISES_LEAST_MS: f64 = 2_000.0;

#[cfg(test)]
mod tests;
