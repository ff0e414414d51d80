//! Leaves an upstream alone that fails.
//!
//! ```text
//!            too many failures              open time over, a call comes
//!   closed ────────────────────► open ────────────────────────► half-open
//!     ▲                            ▲                               │  │
//!     │                            └────────── probe failed ───────┘  │
//!     └──────────────────────────────── probe succeeded ──────────────┘
//! ```
//!
//! * **What counts.** Consecutive failures find a dead upstream at once. A share of
//!   failures over a window of ten buckets finds one that fails half of the time. The
//!   window is exact: a decaying average would keep an upstream open for failures
//!   long gone, or forget them by traffic and not by time.
//! * **Stale results.** Every transition begins a new generation, and the outcome of a
//!   call of an older one is ignored: a slow success of before must not close a breaker
//!   that opened since, nor a slow failure reopen one that recovered.
//! * **Half-open.** A probe is a reservation. It ends with its outcome, and one that was
//!   cancelled or says nothing is free again for the next call.
//! * **Open time** grows with every opening in a row, spread by chance so that many
//!   gateways do not probe together, and lasts at least as long as the upstream asked.
//! * **Ramp.** An upstream that has just come back gets a linearly growing share of its
//!   calls, or the queue of all clients would knock it over again. Failing again before
//!   the ramp ends continues the row of openings.

use std::time::Duration;

use crate::Verdict;
use crate::backoff::{Backoff, share_of};
use crate::deadline::millis;
use crate::refusal::Refusal;
use crate::settings::{PolicyError, within};
use crate::window::Window;

/// When a breaker opens and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerSettings {
    /// Failures in a row that open it; 0: they are not counted.
    pub consecutive: u32,
    /// Share of failures that opens it.
    pub rate: Option<FailureRate>,
    /// How long it stays open: the first time, the second in a row, and so on.
    /// Its cap also limits what the upstream can ask for.
    pub open: Backoff,
    /// Calls that probe at the same time when it is half-open; at least 1.
    pub probes: u32,
    /// How long after recovery until all calls pass again; up to an hour, zero is at once.
    pub ramp: Duration,
}

/// A share of failures within a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FailureRate {
    /// Above 0, up to 1.
    pub share: f64,
    /// 10 milliseconds to an hour.
    pub window: Duration,
    /// Fewer outcomes than that in the window say nothing; at least 1.
    pub minimum: u32,
}

/// A breaker, closed at first.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    state: State,
    /// Counts the transitions.
    generation: u64,
    /// Openings in a row before the present one.
    row: u32,
    consecutive: u32,
    window: Option<Window>,
}

/// What a breaker looks like from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open {
        /// Until the next probe.
        retry_after: Duration,
    },
    /// The next call is a probe, or one is under way.
    HalfOpen,
}

/// Leave to make one try; to be answered by [`Breaker::settle`], with
/// [`Verdict::Neutral`] if nothing came of it.
#[derive(Debug)]
#[must_use = "a pass that is not settled keeps its probe"]
pub struct Pass {
    generation: u64,
    probe: bool,
}

/// What the outcome of a call did to the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// It opened for so long.
    Opened(Duration),
    /// It closed.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// `since` is the moment of recovery, if there was one.
    Closed {
        since: Option<u64>,
    },
    Open {
        until: u64,
    },
    HalfOpen {
        probes: u32,
    },
}

impl BreakerSettings {
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        within(
            "breaker probes",
            f64::from(self.probes),
            1.0,
            f64::from(u32::MAX),
        )?;
        within(
            "breaker ramp in seconds",
            self.ramp.as_secs_f64(),
            0.0,
            3_600.0,
        )?;
        if let Some(rate) = &self.rate {
            within("breaker failure share", rate.share, f64::MIN_POSITIVE, 1.0)?;
            within(
                "breaker window in seconds",
                rate.window.as_secs_f64(),
                0.01,
                3_600.0,
            )?;
            within(
                "breaker minimum of outcomes",
                f64::from(rate.minimum),
                1.0,
                f64::from(u32::MAX),
            )?;
        }
        Ok(())
    }
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: BreakerSettings) -> Self {
        Self::of_generation(settings, 0)
    }

    /// A closed breaker that ignores the passes of all generations before.
    pub(crate) fn of_generation(settings: BreakerSettings, generation: u64) -> Self {
        Self {
            state: State::Closed { since: None },
            generation,
            row: 0,
            consecutive: 0,
            window: settings.rate.map(|rate| Window::new(rate.window)),
            settings,
        }
    }

    /// Would a call be refused? Changes nothing and takes nothing.
    pub fn check(&self, now: u64) -> Result<(), Refusal> {
        match self.state {
            State::Closed { .. } => Ok(()),
            State::Open { until } if now < until => Err(Refusal::BreakerOpen {
                retry_after: Duration::from_millis(until - now),
            }),
            State::Open { .. } => Ok(()),
            State::HalfOpen { probes } if probes >= self.settings.probes => {
                Err(Refusal::ProbeTaken)
            }
            State::HalfOpen { .. } => Ok(()),
        }
    }

    /// Lets one try through, as a probe if the breaker is half-open.
    pub fn reserve(&mut self, now: u64, random: u64) -> Result<Pass, Refusal> {
        self.check(now)?;
        let probe = match &mut self.state {
            State::Closed { since } => {
                if let Some(since) = *since {
                    ramp(since, self.settings.ramp, now, random)?;
                }
                false
            }
            State::Open { .. } => {
                self.enter(State::HalfOpen { probes: 1 });
                true
            }
            State::HalfOpen { probes } => {
                *probes += 1;
                true
            }
        };
        Ok(Pass {
            generation: self.generation,
            probe,
        })
    }

    /// Takes note of what came of a try. `after` is when the upstream wants to be
    /// asked again.
    pub fn settle(
        &mut self,
        pass: Pass,
        verdict: Verdict,
        after: Option<Duration>,
        now: u64,
        random: u64,
    ) -> Option<Transition> {
        if pass.generation != self.generation {
            return None;
        }
        match self.state {
            State::Closed { since } => {
                if !self.counts_too_many(verdict, now) {
                    return None;
                }
                // Failing before the ramp is over is the same illness.
                let relapse = since.is_some_and(|since| now < self.ramp_end(since));
                let row = if relapse {
                    self.row.saturating_add(1)
                } else {
                    0
                };
                Some(self.open(row, after, now, random))
            }
            // No pass is of this generation: the first one after the open time begins
            // the next.
            State::Open { .. } => None,
            State::HalfOpen { probes } => match verdict {
                Verdict::Success => {
                    self.enter(State::Closed { since: Some(now) });
                    Some(Transition::Closed)
                }
                Verdict::Failure | Verdict::Soft => {
                    Some(self.open(self.row.saturating_add(1), after, now, random))
                }
                Verdict::Neutral => {
                    self.state = State::HalfOpen {
                        probes: probes.saturating_sub(1),
                    };
                    None
                }
            },
        }
    }

    /// What it looks like.
    pub fn state(&self, now: u64) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { until } if now < until => BreakerState::Open {
                retry_after: Duration::from_millis(until - now),
            },
            State::Open { .. } | State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    pub(crate) fn settings(&self) -> &BreakerSettings {
        &self.settings
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    fn counts_too_many(&mut self, verdict: Verdict, now: u64) -> bool {
        match verdict {
            Verdict::Success => self.consecutive = 0,
            Verdict::Failure => self.consecutive = self.consecutive.saturating_add(1),
            Verdict::Soft => {}
            Verdict::Neutral => return false,
        }
        let in_a_row =
            self.settings.consecutive > 0 && self.consecutive >= self.settings.consecutive;
        let by_share = match (&mut self.window, &self.settings.rate) {
            (Some(window), Some(rate)) => {
                window.count(verdict == Verdict::Success, now);
                window.exceeds(rate)
            }
            (None, _) | (_, None) => false,
        };
        in_a_row || by_share
    }

    fn open(&mut self, row: u32, after: Option<Duration>, now: u64, random: u64) -> Transition {
        self.row = row;
        let asked = after.unwrap_or_default().min(self.settings.open.cap());
        let span = self.settings.open.delay(row, random).max(asked);
        self.enter(State::Open {
            until: now.saturating_add(millis(span)),
        });
        Transition::Opened(span)
    }

    /// The only place where the state's kind changes.
    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
        self.consecutive = 0;
        if let Some(window) = &mut self.window {
            window.clear();
        }
    }

    fn ramp_end(&self, since: u64) -> u64 {
        since.saturating_add(millis(self.settings.ramp))
    }
}

impl Pass {
    /// It is a trial of an upstream that failed.
    pub fn is_probe(&self) -> bool {
        self.probe
    }
}

impl Default for BreakerSettings {
    /// Five failures in a row; 30 s, doubling up to 300 s, ± 10 %; one probe; 10 s of ramp.
    fn default() -> Self {
        Self {
            consecutive: 5,
            rate: None,
            open: Backoff::OPEN_TIME,
            probes: 1,
            ramp: Duration::from_secs(10),
        }
    }
}

/// Lets the part through that has grown since the recovery, at least a tenth.
fn ramp(since: u64, length: Duration, now: u64, random: u64) -> Result<(), Refusal> {
    let length = millis(length);
    let elapsed = now.saturating_sub(since);
    if elapsed >= length {
        return Ok(());
    }
    let share = (elapsed as f64 / length as f64).max(RAMP_LEAST);
    if share_of(random) < share {
        return Ok(());
    }
    Err(Refusal::Recovering {
        retry_after: Duration::from_millis(length - elapsed),
    })
}

/// With less, an upstream with few calls would not get any.
const RAMP_LEAST: f64 = 0.1;

#[cfg(test)]
mod tests;
