//! Random operations against a model that says exactly what must come of each.
//!
//! The model keeps what happened as lists and derives everything anew at each step: no
//! counters, no buckets that move, no state that is carried from one transition to the next.

use super::*;
use crate::chance::Chance;

/// What the test knows without looking into the breaker.
#[derive(Debug)]
struct Model {
    settings: BreakerSettings,
    now: u64,
    phase: Phase,
    /// Each opening: when, until when.
    openings: Vec<Opening>,
    /// Outcomes of the present era that count, with their moments.
    outcomes: Vec<(u64, Verdict)>,
    /// Rises with each transition.
    era: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// With the moment of recovery, if there was one.
    Closed(Option<u64>),
    Open,
    /// With the probes that are out.
    HalfOpen(u32),
}

#[derive(Debug, Clone, Copy)]
struct Opening {
    until: u64,
    /// It follows the one before: by a probe that failed, or within the ramp.
    in_row: bool,
}

/// What should come of asking for leave.
#[derive(Debug, PartialEq, Eq)]
enum Leave {
    Passes,
    Probes,
    Refused(Refusal),
}

impl Model {
    fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            now: 0,
            phase: Phase::Closed(None),
            openings: Vec::new(),
            outcomes: Vec::new(),
            era: 0,
        }
    }

    fn open_until(&self) -> u64 {
        self.openings.last().map_or(0, |opening| opening.until)
    }

    fn reserve(&mut self, random: u64) -> Leave {
        match self.phase {
            Phase::Closed(None) => Leave::Passes,
            Phase::Closed(Some(since)) => {
                let (gone, ramp) = (self.now - since, millis(self.settings.ramp));
                // A tenth at least, then as much as of the ramp is gone.
                let drawn = u128::from(random >> 11);
                let in_a_tenth = drawn * 10 < 1 << 53;
                let in_what_is_gone = drawn * u128::from(ramp) < u128::from(gone) << 53;
                if gone >= ramp || in_a_tenth || in_what_is_gone {
                    Leave::Passes
                } else {
                    Leave::Refused(Refusal::Recovering {
                        retry_after: Duration::from_millis(ramp - gone),
                    })
                }
            }
            Phase::Open if self.now < self.open_until() => Leave::Refused(Refusal::BreakerOpen {
                retry_after: Duration::from_millis(self.open_until() - self.now),
            }),
            Phase::Open => {
                self.enter(Phase::HalfOpen(1));
                Leave::Probes
            }
            Phase::HalfOpen(out) if out >= self.settings.probes => {
                Leave::Refused(Refusal::ProbeTaken)
            }
            Phase::HalfOpen(out) => {
                self.phase = Phase::HalfOpen(out + 1);
                Leave::Probes
            }
        }
    }

    fn settle(
        &mut self,
        era: u64,
        verdict: Verdict,
        after: Option<Duration>,
        random: u64,
    ) -> Option<Transition> {
        if era != self.era {
            return None;
        }
        match (self.phase, verdict) {
            (Phase::Open, _) | (Phase::Closed(_), Verdict::Neutral) => None,
            (Phase::Closed(since), _) => {
                self.outcomes.push((self.now, verdict));
                if !self.failed_in_a_row() && !self.failed_by_share() {
                    return None;
                }
                let ramp = millis(self.settings.ramp);
                let in_row = since.is_some_and(|since| self.now - since < ramp);
                Some(self.open(in_row, after, random))
            }
            (Phase::HalfOpen(_), Verdict::Success) => {
                self.enter(Phase::Closed(Some(self.now)));
                Some(Transition::Closed)
            }
            (Phase::HalfOpen(out), Verdict::Neutral) => {
                self.phase = Phase::HalfOpen(out - 1);
                None
            }
            (Phase::HalfOpen(_), Verdict::Failure | Verdict::Soft) => {
                Some(self.open(true, after, random))
            }
        }
    }

    fn failed_in_a_row(&self) -> bool {
        let row = self
            .outcomes
            .iter()
            .rev()
            .filter(|(_, verdict)| *verdict != Verdict::Soft)
            .take_while(|(_, verdict)| *verdict == Verdict::Failure)
            .count();
        self.settings.consecutive > 0 && row >= self.settings.consecutive as usize
    }

    fn failed_by_share(&self) -> bool {
        let Some(rate) = &self.settings.rate else {
            return false;
        };
        // The present tenth of the window and the nine before it.
        let tenth = millis(rate.window).div_ceil(10);
        let oldest = (self.now / tenth).saturating_sub(9);
        let within: Vec<_> = self
            .outcomes
            .iter()
            .filter(|(at, _)| at / tenth >= oldest)
            .collect();
        let failed = within
            .iter()
            .filter(|(_, verdict)| *verdict != Verdict::Success)
            .count();
        within.len() >= rate.minimum as usize
            && failed as f64 / within.len() as f64 >= rate.share - 1e-9
    }

    fn open(&mut self, in_row: bool, after: Option<Duration>, random: u64) -> Transition {
        self.openings.push(Opening { until: 0, in_row });
        let row = self
            .openings
            .iter()
            .rev()
            .take_while(|opening| opening.in_row)
            .count();
        let row = u32::try_from(row).unwrap();
        let own = self.settings.open.delay(row, random);
        let span = own.max(after.unwrap_or_default().min(self.settings.open.cap()));
        let now = self.now;
        if let Some(opening) = self.openings.last_mut() {
            opening.until = now + millis(span);
        }
        self.enter(Phase::Open);
        Transition::Opened(span)
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.outcomes.clear();
        self.era += 1;
    }

    fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed(_) => BreakerState::Closed,
            Phase::Open if self.now < self.open_until() => BreakerState::Open {
                retry_after: Duration::from_millis(self.open_until() - self.now),
            },
            Phase::Open | Phase::HalfOpen(_) => BreakerState::HalfOpen,
        }
    }
}

/// How often something rare took place in all runs, so that the test proves something.
#[derive(Debug, Default)]
struct Seen {
    opened: u32,
    closed: u32,
    relapses: u32,
    recovering: u32,
    probes_taken: u32,
    asked_for: u32,
    stale: u32,
}

fn run(seed: u64, seen: &mut Seen) {
    let mut chance = Chance(seed);
    let settings = BreakerSettings {
        consecutive: [0, 2, 3, 5][usize::try_from(chance.below(4)).unwrap()],
        rate: seed.is_multiple_of(2).then_some(FailureRate {
            share: 0.5,
            window: Duration::from_secs(2),
            minimum: 8,
        }),
        open: Backoff::new(Duration::from_millis(500), 2.0, Duration::from_secs(4), 0.3).unwrap(),
        probes: 1 + u32::try_from(chance.below(3)).unwrap(),
        ramp: Duration::from_millis(chance.below(3) * 700),
    };
    let mut breaker = Breaker::new(settings.clone());
    let mut model = Model::new(settings);
    let mut out: Vec<(u64, Pass)> = Vec::new();
    // Some runs are of an ill upstream, some of one that is mostly well.
    let well = chance.below(8);
    for step in 0..2_000 {
        model.now += chance.below(120);
        let at = format!("seed {seed} step {step} {:?} at {}", model.phase, model.now);
        let random = chance.draw();
        if chance.below(2) == 0 {
            let looked = breaker.check(model.now);
            assert_eq!(
                looked,
                breaker.check(model.now),
                "looking changes nothing: {at}"
            );
            let came = match breaker.reserve(model.now, random) {
                Ok(pass) => {
                    let leave = if pass.is_probe() {
                        Leave::Probes
                    } else {
                        Leave::Passes
                    };
                    out.push((0, pass));
                    leave
                }
                Err(refusal) => Leave::Refused(refusal),
            };
            assert_eq!(came, model.reserve(random), "{at}");
            match came {
                Leave::Passes | Leave::Probes => {
                    assert_eq!(looked, Ok(()), "{at}");
                    if let Some((era, _)) = out.last_mut() {
                        *era = model.era;
                    }
                }
                Leave::Refused(Refusal::Recovering { .. }) => seen.recovering += 1,
                Leave::Refused(Refusal::ProbeTaken) => seen.probes_taken += 1,
                Leave::Refused(_) => {}
            }
        } else if !out.is_empty() {
            let index = usize::try_from(chance.below(out.len() as u64)).unwrap();
            let (era, pass) = out.swap_remove(index);
            let verdict = match chance.below(12) {
                0 => Verdict::Neutral,
                1 => Verdict::Soft,
                number if number < 2 + well => Verdict::Success,
                _ => Verdict::Failure,
            };
            let after = (chance.below(4) == 0).then(|| Duration::from_millis(chance.below(8_000)));
            seen.stale += u32::from(era != model.era);
            let came = breaker.settle(pass, verdict, after, model.now, random);
            assert_eq!(came, model.settle(era, verdict, after, random), "{at}");
            match came {
                Some(Transition::Opened(span)) => {
                    seen.opened += 1;
                    let asked =
                        after.is_some_and(|after| span == after.min(Duration::from_secs(4)));
                    seen.asked_for += u32::from(asked);
                    let relapse = model.openings.last().is_some_and(|opening| opening.in_row);
                    seen.relapses += u32::from(relapse);
                }
                Some(Transition::Closed) => seen.closed += 1,
                None => {}
            }
        }
        assert_eq!(breaker.state(model.now), model.state(), "{at}");
    }
}

#[test]
fn random_histories_are_those_of_the_model() {
    let mut seen = Seen::default();
    for seed in 0..300 {
        run(seed, &mut seen);
    }
    let Seen {
        opened,
        closed,
        relapses,
        recovering,
        probes_taken,
        asked_for,
        stale,
    } = seen;
    for count in [
        opened,
        closed,
        relapses,
        recovering,
        probes_taken,
        asked_for,
        stale,
    ] {
        assert!(count > 500, "too rare to prove anything: {seen:?}");
    }
}
