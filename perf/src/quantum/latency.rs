//! Tables, figures and plots of how late calls come.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::Options;
use super::cell::{self, Cell};
use super::level::{BURSTS, Level};
use super::load::Plan;
use super::netlab::link::{Loss, Shape};
use super::ours::{BareStreams, Grpc, Quantum, Seen};
use super::plot::{self, Line, Panel};
use super::rivals::{Kcp, Kind, Quinn, Tcp};
use crate::report::{JsonLine, Table, Void, say};

/// Latencies of one row: one link, one load, several levels of loss.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    cells: Vec<(Kind, Level, Cell)>,
    /// What Quantum's endpoints saw in its cells.
    seen: Vec<(Kind, Level, Seen)>,
}

impl Latencies {
    /// Adds what one transport came to: quantiles in milliseconds by percent of loss.
    pub(crate) fn add(&self, object: &mut JsonLine, kind: Kind) {
        let quantiles: [(&str, f64, &[f64]); 3] = [
            ("p50_ms", 0.5, &[0.0]),
            ("p99_ms", 0.99, &[0.0, 1.0, 5.0, 10.0]),
            ("p999_ms", 0.999, &[5.0]),
        ];
        for (key, quantile, percents) in quantiles {
            object.object(key, |by_loss| {
                for &percent in percents {
                    let level = Level::percent(percent);
                    let cell = self.of(kind, level);
                    by_loss.figure(&level.label(), cell.map(|cell| cell.calls.ms(quantile)));
                }
            });
        }
    }

    /// Adds bytes on the wire by bytes called, by percent of loss.
    pub(crate) fn add_overheads(&self, object: &mut JsonLine) {
        for (_, level, cell) in self.ours() {
            object.figure(&level.label(), cell.overhead);
        }
    }

    /// Adds the 99th percentiles of recovery in milliseconds, by percent of loss.
    pub(crate) fn add_recoveries(&self, object: &mut JsonLine) {
        for (kind, level, seen) in &self.seen {
            if *kind == Kind::OURS {
                let p99 = seen.recovery_p99.map(|p99| p99.as_secs_f64() * 1e3);
                object.figure(&level.label(), p99);
            }
        }
    }

    pub(crate) fn greatest_overhead(&self) -> Option<f64> {
        let all = self.ours().map(|(.., cell)| cell.overhead);
        all.max_by(f64::total_cmp)
    }

    /// The longest 99th percentile of recovery.
    pub(crate) fn worst_recovery(&self) -> Option<Duration> {
        let ours = self.seen.iter().filter(|one| one.0 == Kind::OURS);
        ours.filter_map(|(.., seen)| seen.recovery_p99).max()
    }

    fn ours(&self) -> impl Iterator<Item = &(Kind, Level, Cell)> {
        self.cells.iter().filter(|one| one.0 == Kind::OURS)
    }

    /// A cell, if it was measured.
    pub(crate) fn of(&self, kind: Kind, level: Level) -> Option<&Cell> {
        let found = |one: &&(Kind, Level, Cell)| one.0 == kind && one.1 == level;
        self.cells.iter().find(found).map(|(.., cell)| cell)
    }
}

/// One link, one load, levels of loss as asked for.
pub(crate) fn row(
    options: &Options,
    carries_tcp: bool,
    void: &mut Void,
) -> anyhow::Result<Latencies> {
    let levels = match options.loss.is_empty() {
        true => LEVELS_OF_ROW.map(Level::percent).to_vec(),
        false => options.loss.clone(),
    };
    let place = Place {
        rtt_ms: options.rtt,
        rate: options.rate,
        size: options.size,
    };
    say(&format!(
        "{}, {} Mbit/s, one connection",
        place.title(),
        options.mbit
    ));
    say("latencies in ms from when a call was due; overhead: bytes on the wire by bytes called");
    let latencies = measure(options, place, &levels, carries_tcp)?;
    for (kind, level, cell) in &latencies.cells {
        let late = cell.calls.latest_start;
        if late > LATE {
            // It shares a thread with the transport, whose own delays are part of its latency.
            let what = format!(
                "{} at {} % lost: a call began {late:?} late",
                kind.name(),
                level.label()
            );
            say(&what);
            void.when(kind.is_ours(), || what);
        }
    }
    let mut figures = CSV_HEAD.to_owned();
    csv(&mut figures, place, &latencies);
    let panel = panel(options, place, &levels, &latencies);
    save(&options.out, "row.csv", &figures)?;
    let title = "99th percentile of latency over loss in percent";
    save(&options.out, "row.svg", &plot::draw(title, &[panel], 1))?;
    Ok(latencies)
}

/// All links and loads; figures and plots are saved as they come.
pub(crate) fn grid(options: &Options, carries_tcp: bool) -> anyhow::Result<()> {
    let levels: Vec<Level> = LEVELS_OF_GRID
        .map(Level::percent)
        .into_iter()
        .chain([BURSTS])
        .collect();
    let mut figures = CSV_HEAD.to_owned();
    for rtt_ms in [1, 20, 80] {
        let mut panels = Vec::new();
        for rate in [50, 200, 2000, 10_000] {
            for size in [100, 1000, 65_536] {
                let place = Place { rtt_ms, rate, size };
                if place.mbit() > 0.8 * options.mbit as f64 {
                    say(&format!("{}: more than the link carries", place.title()));
                    continue;
                }
                say(&place.title());
                let latencies = measure(options, place, &levels, carries_tcp)?;
                csv(&mut figures, place, &latencies);
                panels.push(panel(options, place, &levels, &latencies));
                save(&options.out, "grid.csv", &figures)?;
                let title = format!("99th percentile over loss, round trip {rtt_ms} ms");
                let name = format!("grid-{rtt_ms}ms.svg");
                save(&options.out, &name, &plot::draw(&title, &panels, 3))?;
            }
        }
    }
    Ok(())
}

/// A link and a load, loss aside.
#[derive(Debug, Clone, Copy)]
struct Place {
    rtt_ms: u64,
    rate: u32,
    size: u32,
}

impl Place {
    fn title(self) -> String {
        let Self { rtt_ms, rate, size } = self;
        format!("round trip {rtt_ms} ms, {rate} calls/s of {size} bytes")
    }

    /// What the calls fill of each direction.
    fn mbit(self) -> f64 {
        f64::from(self.rate) * f64::from(self.size) * 8e-6
    }
}

fn measure(
    options: &Options,
    place: Place,
    levels: &[Level],
    carries_tcp: bool,
) -> anyhow::Result<Latencies> {
    let plan = Plan {
        rate: place.rate,
        size: place.size as usize,
        warm_up: WARM_UP,
        duration: options.duration(),
        drain: DRAIN,
    };
    let quantum = Quantum::new()?;
    let mut latencies = Latencies::default();
    for &level in levels {
        let shape = Shape {
            rtt: Duration::from_millis(place.rtt_ms),
            ..options.shape(level.loss)
        };
        for &kind in options.subjects() {
            if !carries_tcp && !kind.is_datagrams() {
                continue;
            }
            let measured = match kind {
                Kind::Quantum => cell::measure(&Grpc(&quantum), &shape, options.seed, &plan),
                Kind::QuantumBare => {
                    cell::measure(&BareStreams(&quantum), &shape, options.seed, &plan)
                }
                Kind::TcpCubic => cell::measure(&Tcp("cubic"), &shape, options.seed, &plan),
                Kind::TcpBbr => cell::measure(&Tcp("bbr"), &shape, options.seed, &plan),
                Kind::QuinnCubic => cell::measure(&Quinn::new(false)?, &shape, options.seed, &plan),
                Kind::QuinnBbr => cell::measure(&Quinn::new(true)?, &shape, options.seed, &plan),
                Kind::Kcp => cell::measure(&Kcp, &shape, options.seed, &plan),
            };
            // What a rival can't do says nothing about the others.
            match measured {
                Ok(cell) => {
                    latencies.cells.push((kind, level, cell));
                    if kind.is_ours() {
                        latencies.seen.push((kind, level, quantum.seen()));
                    }
                }
                Err(error) => say(&format!(
                    "{} at {} %: {error:#}",
                    kind.name(),
                    level.label()
                )),
            }
        }
        print(options, &latencies, level, carries_tcp);
    }
    Ok(latencies)
}

fn print(options: &Options, latencies: &Latencies, level: Level, carries_tcp: bool) {
    let head = match level.loss {
        Loss::Independent(_) => format!("{} % lost", level.label()),
        Loss::Bursts { share, mean } => {
            format!("{} % lost in runs of {mean}", share * 100.0)
        }
    };
    let mut table = Table::new(&[
        &head,
        "p50",
        "p99",
        "p99.9",
        "calls",
        "unanswered",
        "failed",
        "overhead",
    ]);
    for &kind in options.subjects() {
        if !carries_tcp && !kind.is_datagrams() {
            table.row(vec![format!("{} (not run: needs root)", kind.name())]);
            continue;
        }
        let Some(cell) = latencies.of(kind, level) else {
            table.row(vec![format!("{} (failed)", kind.name())]);
            continue;
        };
        let ms = |quantile| {
            let bound = if cell.calls.is_bound(quantile) {
                "≥ "
            } else {
                ""
            };
            format!("{bound}{:.1}", cell.calls.ms(quantile))
        };
        table.row(vec![
            kind.name().to_owned(),
            ms(0.5),
            ms(0.99),
            ms(0.999),
            cell.calls.offered.to_string(),
            cell.calls.unanswered.to_string(),
            cell.calls.failed.to_string(),
            format!("{:.2}", cell.overhead),
        ]);
    }
    table.print();
    for (kind, _, seen) in latencies.seen.iter().filter(|one| one.1 == level) {
        say(&format!("{}: {}", kind.name(), seen.describe()));
        say("");
    }
    for &kind in options.subjects() {
        let failure = latencies.of(kind, level);
        if let Some(failure) = failure.and_then(|cell| cell.calls.failure.as_ref()) {
            say(&format!("{}: {failure}", kind.name()));
        }
    }
}

fn csv(figures: &mut String, place: Place, latencies: &Latencies) {
    let Place { rtt_ms, rate, size } = place;
    for (kind, level, Cell { calls, overhead }) in &latencies.cells {
        // Writing to a String cannot fail.
        let _ = writeln!(
            figures,
            "{},{rtt_ms},{},{rate},{size},{},{},{},{:.3},{:.3},{:.3},{overhead:.3}",
            kind.name(),
            level.label(),
            calls.offered,
            calls.unanswered,
            calls.failed,
            calls.ms(0.5),
            calls.ms(0.99),
            calls.ms(0.999),
        );
    }
}

fn panel(options: &Options, place: Place, levels: &[Level], latencies: &Latencies) -> Panel {
    let line = |&kind: &Kind| Line {
        name: kind.name(),
        points: levels
            .iter()
            .map(|&level| Some(latencies.of(kind, level)?.calls.ms(0.99)))
            .collect(),
    };
    Panel {
        title: place.title(),
        steps: levels.iter().map(|level| level.label()).collect(),
        lines: options.subjects().iter().map(line).collect(),
    }
}

fn save(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&path, text))
        .with_context(|| format!("{} was not written", path.display()))
}

/// What the table for people shows without further wishes, in percent.
const LEVELS_OF_ROW: [f64; 4] = [0.0, 1.0, 5.0, 10.0];

const LEVELS_OF_GRID: [f64; 5] = [0.0, 0.1, 1.0, 5.0, 10.0];

const WARM_UP: Duration = Duration::from_secs(2);

/// Where a queue of calls has piled up, waiting for the last would take minutes.
const DRAIN: Duration = Duration::from_secs(30);

/// Calls that begin later than this are the generator's fault.
const LATE: Duration = Duration::from_millis(20);

const CSV_HEAD: &str = "transport,rtt_ms,loss_percent,calls_per_s,bytes,calls,unanswered,failed,\
                        p50_ms,p99_ms,p999_ms,overhead\n";
