//! One endpoint: its latency, its penalty, its health.

use std::time::Duration;

use super::Outcome;
use crate::class::Verdict;
use crate::deadline::millis;
use crate::window::Window;

#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) weight: u32,
    /// As a multiple of the average weight.
    pub(super) strength: f64,
    pub(super) pending: u32,
    pub(super) latency: Option<Latency>,
    pub(super) penalty: Option<Penalty>,
    pub(super) health: Health,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Latency {
    pub(super) us: f64,
    /// When it was last measured.
    pub(super) at: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Penalty {
    us: f64,
    since: u64,
    fades_ms: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Health {
    /// Hard failures in a row.
    pub(super) consecutive: u32,
    pub(super) window: Window,
    /// When it came back or will; its ramp begins there.
    pub(super) back: Option<u64>,
    /// The length of the last ejection.
    pub(super) out_ms: u64,
    /// Ejections in a row.
    pub(super) row: u32,
}

/// Whom [`super::Balance::pick`] settles for, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    Weighted,
    /// Also those of weight 0.
    Spare,
    /// Also the ejected.
    Any,
}

impl Endpoint {
    pub(super) fn new(weight: u32, strength: f64) -> Self {
        Self {
            weight,
            strength,
            pending: 0,
            latency: None,
            penalty: None,
            health: Health {
                consecutive: 0,
                window: Window::new(COMPARED_OVER),
                back: None,
                out_ms: 0,
                row: 0,
            },
        }
    }

    pub(super) fn measure(&mut self, now: u64, outcome: Outcome) {
        let elapsed = micros(outcome.elapsed);
        match outcome.verdict {
            Verdict::Success => {
                self.latency = Some(Latency::after(self.latency, elapsed, now));
                if let Some(penalty) = &mut self.penalty {
                    penalty.us /= 2.0;
                }
            }
            Verdict::Failure | Verdict::Soft => {
                let asked = outcome
                    .after
                    .unwrap_or_default()
                    .clamp(PENALTY_LEAST, PENALTY_MOST);
                let us = micros(asked).max(elapsed);
                if us >= self.penalty_us(now) {
                    self.penalty = Some(Penalty {
                        us,
                        since: now,
                        fades_ms: millis(asked).max(DECAY_MS),
                    });
                }
            }
            Verdict::Neutral => {
                let at_least = self
                    .latency
                    .is_none_or(|latency| elapsed > latency.decayed(now));
                if at_least {
                    self.latency = Some(Latency {
                        us: elapsed,
                        at: now,
                    });
                }
            }
        }
    }

    /// In microseconds that nobody waits: only the order counts.
    pub(super) fn load(&self, latency_us: f64, now: u64) -> f64 {
        let strength = self.strength * self.health.ramp(now);
        let busy = 1.0 + f64::from(self.pending) / strength;
        (latency_us.max(LATENCY_LEAST_US) + self.penalty_us(now)) * busy
    }

    pub(super) fn penalty_us(&self, now: u64) -> f64 {
        self.penalty.map_or(0.0, |penalty| {
            let gone = now.saturating_sub(penalty.since) as f64 / penalty.fades_ms as f64;
            penalty.us * (1.0 - gone).max(0.0)
        })
    }

    /// Its part in the draw, in thousandths of its weight, so that a ramp can have a tenth.
    pub(super) fn share(&self, choice: Choice, now: u64) -> u64 {
        let weight = match choice {
            Choice::Weighted => self.weight,
            Choice::Spare | Choice::Any => self.weight.max(1),
        };
        if self.health.is_out(now) {
            return match choice {
                Choice::Weighted | Choice::Spare => 0,
                Choice::Any => u64::from(weight) * 1_000,
            };
        }
        (f64::from(weight) * self.health.ramp(now) * 1_000.0) as u64
    }
}

impl Latency {
    pub(super) fn after(before: Option<Self>, us: f64, now: u64) -> Self {
        let us = before.map_or(us, |before| {
            if us >= before.us {
                return us;
            }
            let kept = before.kept(now);
            before.us * kept + us * (1.0 - kept)
        });
        Self { us, at: now }
    }

    pub(super) fn decayed(&self, now: u64) -> f64 {
        self.us * self.kept(now)
    }

    /// The part of it that the time since has left.
    pub(super) fn kept(&self, now: u64) -> f64 {
        let since = now.saturating_sub(self.at);
        if since == 0 {
            return 1.0;
        }
        (-(since as f64) / DECAY_MS as f64).exp()
    }
}

impl Health {
    /// Takes one outcome; `true` if there are too many failures in a row.
    pub(super) fn count(&mut self, verdict: Verdict, now: u64) -> bool {
        match verdict {
            Verdict::Success => self.consecutive = 0,
            Verdict::Failure => self.consecutive = self.consecutive.saturating_add(1),
            Verdict::Soft => {}
            Verdict::Neutral => return false,
        }
        self.window.count(verdict == Verdict::Success, now);
        verdict == Verdict::Failure && self.consecutive >= CONSECUTIVE
    }

    pub(super) fn is_out(&self, now: u64) -> bool {
        self.back.is_some_and(|back| now < back)
    }

    /// The part of its weight that counts; what is out and used all the same is whole.
    pub(super) fn ramp(&self, now: u64) -> f64 {
        match self.back {
            Some(back) if now >= back && now - back < RAMP_MS => {
                ((now - back) as f64 / RAMP_MS as f64).max(RAMP_LEAST)
            }
            Some(_) | None => 1.0,
        }
    }
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * MICROS_PER_SECOND
}

pub(super) const MICROS_PER_SECOND: f64 = 1e6;
/// The time in which a latency falls to 37 % if nothing is measured.
const DECAY_MS: u64 = 10_000;
/// Below, a difference says nothing.
pub(super) const LATENCY_LEAST_US: f64 = 50.0;
const PENALTY_LEAST: Duration = Duration::from_secs(5);
const PENALTY_MOST: Duration = Duration::from_secs(300);
/// Hard failures in a row that eject.
const CONSECUTIVE: u32 = 5;
/// The time over which endpoints are compared.
const COMPARED_OVER: Duration = Duration::from_secs(10);
pub(super) const RAMP_MS: u64 = 10_000;
/// With less, an endpoint of a target with few calls would not get any.
const RAMP_LEAST: f64 = 0.1;
