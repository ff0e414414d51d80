//! The turns of all proxies and what they come to.

use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;

use super::load::Load;
use super::open_loop;
use super::origin::Origin;
use super::pin::{Cores, started_on};
use super::subject::{Kind, PATH, Subject};
use crate::proc::{self, Machine};
use crate::report::{Void, say};

/// How long and how much.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) cores: Cores,
    /// Of each measurement.
    pub(super) duration: Duration,
    pub(super) rounds: u64,
    pub(super) connections: usize,
    pub(super) open_connections: usize,
    /// Of the slowest peak, from 0 to 1.
    pub(super) share: f64,
}

/// What one proxy came to: medians over the rounds.
#[derive(Debug)]
pub(super) struct Measured {
    /// User and system time for each request of the closed loop.
    pub(super) cpu_us: f64,
    /// The cheapest round and the dearest.
    pub(super) cpu_range: (f64, f64),
    /// Requests per second of the closed loop.
    pub(super) peak: f64,
    /// One connection, the generator on the proxy's core: a request crosses cores as often
    /// with a proxy as without.
    pub(super) beside: Added,
    /// One connection, the generator on the origin's core: two crossings more than without.
    pub(super) apart: Added,
    pub(super) open_p50_ms: f64,
    pub(super) open_p99_ms: f64,
    /// Share of requests that needed no new connection to the origin, 0 to 1.
    pub(super) reuse: f64,
    pub(super) errors: u64,
}

/// Latency with one connection, in microseconds; with a proxy, beyond the same quantile
/// without.
#[derive(Debug, Clone, Copy)]
pub(super) struct Added {
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

/// What all came to.
pub(super) struct Report {
    pub(super) measured: Vec<(Kind, Measured)>,
    pub(super) direct_beside: Added,
    pub(super) direct_apart: Added,
    /// Requests per second of the open loop.
    pub(super) open_rate: f64,
    /// Whose peak that is a share of.
    pub(super) slowest: Kind,
}

/// What a proxy did in its turns, round by round.
#[derive(Default)]
struct Turns {
    cpu_us: Vec<f64>,
    busy: Vec<f64>,
    peak: Vec<f64>,
    beside: Vec<Added>,
    apart: Vec<Added>,
    open_p50_ms: Vec<f64>,
    open_p99_ms: Vec<f64>,
    missed_percent: Vec<f64>,
    connections: u64,
    requests: u64,
    reopened: u64,
    errors: u64,
    first_error: Option<String>,
}

/// Drives every proxy in every round: one connection, then many, then at a constant rate.
pub(super) fn all(
    subjects: &[Subject],
    origin: &mut Origin,
    plan: &Plan,
    void: &mut Void,
) -> anyhow::Result<Report> {
    let machine = Machine::now();
    let known = |origin: &Origin| -> anyhow::Result<f64> {
        let ours = proc::cpu_seconds(std::process::id())? + proc::cpu_seconds(origin.pid)?;
        let subjects = subjects.iter().map(Subject::cpu_seconds);
        Ok(ours + subjects.sum::<anyhow::Result<f64>>()?)
    };
    let known_before = known(origin)?;
    let mut turns: Vec<Turns> = subjects.iter().map(|_| Turns::default()).collect();
    let (mut direct_beside, mut direct_apart) = (Vec::new(), Vec::new());
    for round in 1..=plan.rounds {
        say(&format!("round {round} of {}: closed loops", plan.rounds));
        for is_beside in [true, false] {
            let direct = single(&mut Load::connect(origin.address, "/", 1)?, plan, is_beside)?;
            match is_beside {
                true => direct_beside.push(direct),
                false => direct_apart.push(direct),
            }
            for (subject, turns) in subjects.iter().zip(&mut turns) {
                let mut load = Load::connect(subject.address, &path(), 1)?;
                let added = single(&mut load, plan, is_beside)?.beyond(direct);
                match is_beside {
                    true => turns.beside.push(added),
                    false => turns.apart.push(added),
                }
                turns.note(&load);
            }
        }
        for (subject, turns) in subjects.iter().zip(&mut turns) {
            closed(subject, origin, plan, turns)?;
        }
    }
    let (slowest, peak) = subjects
        .iter()
        .zip(&turns)
        .map(|(subject, turns)| (subject.kind, median(&turns.peak)))
        .min_by(|one, other| one.1.total_cmp(&other.1))
        .context("no proxy was driven")?;
    let open_rate = peak * plan.share;
    for round in 1..=plan.rounds {
        say(&format!("round {round} of {}: open loops", plan.rounds));
        for (subject, turns) in subjects.iter().zip(&mut turns) {
            open(subject, origin, plan, open_rate, turns, void)?;
        }
    }
    let foreign = machine.foreign_percent_since(known(origin)? - known_before);
    void.when(foreign > FOREIGN_PERCENT_MAX, || {
        format!("{foreign:.1} % of CPU time went to other programs")
    });
    let measured = subjects
        .iter()
        .zip(turns)
        .map(|(subject, turns)| (subject.kind, turns.measured(subject.kind, void)))
        .collect();
    Ok(Report {
        measured,
        direct_beside: Added::median(&direct_beside),
        direct_apart: Added::median(&direct_apart),
        open_rate,
        slowest,
    })
}

/// Latency with one connection, from the proxy's core or from the origin's.
fn single(load: &mut Load, plan: &Plan, is_beside: bool) -> anyhow::Result<Added> {
    let Cores { subject, others } = plan.cores;
    let core = if is_beside { subject } else { others };
    let latency = started_on(core, others, || {
        load.closed(WARM_UP)?;
        Ok(load.closed(plan.duration / 2)?.latency)
    })?;
    Ok(Added {
        p50_us: micros(&latency, 0.5),
        p99_us: micros(&latency, 0.99),
    })
}

fn closed(
    subject: &Subject,
    origin: &mut Origin,
    plan: &Plan,
    turns: &mut Turns,
) -> anyhow::Result<()> {
    let before = origin.figures()?;
    let mut load = Load::connect(subject.address, &path(), plan.connections)?;
    load.closed(WARM_UP)?;
    let cpu = subject.cpu_seconds()?;
    let closed = load.closed(plan.duration)?;
    let cpu = subject.cpu_seconds()? - cpu;
    let seconds = closed.elapsed.as_secs_f64();
    turns.cpu_us.push(1e6 * cpu / closed.requests.max(1) as f64);
    turns.busy.push(cpu / seconds);
    turns.peak.push(closed.requests as f64 / seconds);
    turns.note(&load);
    turns.note_reuse(before, origin)
}

fn open(
    subject: &Subject,
    origin: &mut Origin,
    plan: &Plan,
    rate: f64,
    turns: &mut Turns,
    void: &mut Void,
) -> anyhow::Result<()> {
    let before = origin.figures()?;
    let mut load = Load::connect(subject.address, &path(), plan.open_connections)?;
    open_loop::run(&mut load, rate, WARM_UP)?;
    let cpu = proc::cpu_seconds(origin.pid)? + proc::cpu_seconds_of_thread()?;
    let open = open_loop::run(&mut load, rate, plan.duration)?;
    let cpu = proc::cpu_seconds(origin.pid)? + proc::cpu_seconds_of_thread()? - cpu;
    let busy = 100.0 * cpu / open.elapsed.as_secs_f64();
    void.when(busy > 80.0, || {
        format!("generator and origin were busy for {busy:.0} % of the open loop")
    });
    void.when(open.requests < SAMPLES_MIN, || {
        format!("{} answers are too few for a p99", open.requests)
    });
    turns.open_p50_ms.push(micros(&open.latency, 0.5) / 1e3);
    turns.open_p99_ms.push(micros(&open.latency, 0.99) / 1e3);
    turns.missed_percent.push(open.missed_percent);
    turns.note(&load);
    turns.note_reuse(before, origin)
}

impl Added {
    fn beyond(self, direct: Self) -> Self {
        Self {
            p50_us: self.p50_us - direct.p50_us,
            p99_us: self.p99_us - direct.p99_us,
        }
    }

    fn median(rounds: &[Self]) -> Self {
        let of = |value: fn(&Self) -> f64| median(&rounds.iter().map(value).collect::<Vec<_>>());
        Self {
            p50_us: of(|round| round.p50_us),
            p99_us: of(|round| round.p99_us),
        }
    }
}

impl Turns {
    fn note(&mut self, load: &Load) {
        self.errors += load.errors;
        self.reopened += load.reopened;
        if self.first_error.is_none() {
            self.first_error.clone_from(&load.first_error);
        }
    }

    fn note_reuse(
        &mut self,
        before: super::origin::Figures,
        origin: &mut Origin,
    ) -> anyhow::Result<()> {
        let after = origin.figures()?;
        self.connections += after.connections - before.connections;
        // One of them asked for these figures.
        self.requests += after.requests - before.requests - 1;
        Ok(())
    }

    fn measured(self, kind: Kind, void: &mut Void) -> Measured {
        let name = kind.name();
        void.when(self.errors > 0, || {
            let first = self.first_error.as_deref().unwrap_or_default();
            format!("{name}: {} errors, the first: {first}", self.errors)
        });
        void.when(self.reopened > 0, || {
            format!("{name} closed {} connections of clients", self.reopened)
        });
        let missed = median(&self.missed_percent);
        void.when(missed > MISSED_PERCENT_MAX, || {
            format!("{name}: the generator sent {missed:.1} % of its requests late")
        });
        let busy = 100.0 * median(&self.busy);
        void.when(busy < BUSY_PERCENT_MIN, || {
            format!("{name} was busy for {busy:.0} % of the closed loop only: no peak")
        });
        Measured {
            cpu_us: median(&self.cpu_us),
            cpu_range: (
                self.cpu_us.iter().copied().fold(f64::INFINITY, f64::min),
                self.cpu_us.iter().copied().fold(0.0, f64::max),
            ),
            peak: median(&self.peak),
            beside: Added::median(&self.beside),
            apart: Added::median(&self.apart),
            open_p50_ms: median(&self.open_p50_ms),
            open_p99_ms: median(&self.open_p99_ms),
            reuse: 1.0 - self.connections as f64 / self.requests.max(1) as f64,
            errors: self.errors,
        }
    }
}

fn path() -> String {
    format!("{PATH}/")
}

fn micros(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1e3
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Before each measurement, with the same load.
const WARM_UP: Duration = Duration::from_secs(1);

/// Requests that the generator may send late.
const MISSED_PERCENT_MAX: f64 = 1.0;

/// A proxy that idles more than this in the closed loop waits for the generator.
const BUSY_PERCENT_MIN: f64 = 80.0;

/// Other programs slow down the proxies unequally beyond this.
const FOREIGN_PERCENT_MAX: f64 = 5.0;

/// For a p99 that a few answers do not decide.
const SAMPLES_MIN: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn median_is_the_one_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }
}
