//! Durable records per second: our log alone, the gateway in front of it, and what others
//! make of the same disk.
//!
//! Everybody stores records of the same size, so many at a time, and answers only after the
//! disk has them: our log through its public API with fdatasync, Redis with `appendonly yes`
//! and `appendfsync always`, nats-server with JetStream and `sync_interval: always`. They take
//! turns, so that whatever else moves on this machine moves for all. The servers are driven by
//! raw sockets, which costs less than any client library.

mod gateway;
mod load;
mod log;
mod rivals;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use hdrhistogram::Histogram;

use crate::proc::{self, Machine};
use crate::report::{JsonLine, Table, Void, grouped, say};

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Records appended and not yet durable, at any time.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=8192))]
    in_flight: u32,
    /// Bytes of a record.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    size: u32,
    /// Seconds of each turn.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    duration: u64,
    /// Turns of everybody.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where everybody stores: a folder on the disk that is to be measured. Default: beside
    /// this program.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Leaves the gateway out.
    #[arg(long)]
    no_gateway: bool,
    /// Leaves Redis and nats-server out.
    #[arg(long)]
    no_rivals: bool,
    /// Tidegate's executable; without it `cargo build --release -p tidegate` makes one.
    #[arg(long, value_name = "FILE")]
    tidegate: Option<PathBuf>,
}

/// One turn.
pub(crate) struct Turn {
    pub(crate) records: u64,
    pub(crate) elapsed: Duration,
    /// Microseconds from sending a record to learning that it is durable.
    pub(crate) latency: Histogram<u64>,
    /// CPU time of whoever stores, in seconds; our log runs in this process and includes the
    /// generator.
    pub(crate) cpu_seconds: f64,
    /// Records that were refused.
    pub(crate) refused: u64,
}

/// Somebody who stores records.
pub(crate) trait Subject {
    fn name(&self) -> &str;
    /// Stores records for this long.
    fn turn(&mut self, duration: Duration) -> anyhow::Result<Turn>;
}

/// How much is stored at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) in_flight: usize,
    pub(crate) size: usize,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    say(&proc::describe());
    let folder = data_folder(options.folder.as_deref())?;
    say(&format!("records are stored in {}", folder.display()));
    proc::files_max();
    // The servers store where their temporary folders are.
    if tempfile::env::override_temp_dir(&folder).is_err() {
        anyhow::bail!("temporary folders are elsewhere already");
    }
    let mut void = Void::default();
    void.when(is_memory(&folder)?, || {
        format!("{} is not on a disk", folder.display())
    });
    let machine = Machine::now();
    let shape = Shape {
        in_flight: options.in_flight as usize,
        size: options.size as usize,
    };
    let mut subjects: Vec<Box<dyn Subject>> = vec![Box::new(log::Log::open(shape)?)];
    if !options.no_gateway {
        let executable = options.tidegate.as_deref();
        subjects.push(Box::new(gateway::Gateway::start(executable, shape)?));
    }
    if !options.no_rivals {
        subjects.push(Box::new(rivals::Redis::start(shape, 1)?));
        subjects.push(Box::new(rivals::Redis::start(shape, PIPELINED)?));
        subjects.push(Box::new(rivals::JetStream::start(shape)?));
    }
    let mut turns: Vec<Vec<Turn>> = subjects.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.rounds {
        for (subject, turns) in subjects.iter_mut().zip(&mut turns) {
            let turn = subject.turn(Duration::from_secs(options.duration));
            turns.push(turn.with_context(|| format!("{} did not end its turn", subject.name()))?);
        }
    }
    let mut table = Table::new(&[
        "durable records",
        "records/s",
        "range",
        "p50 ms",
        "p99 ms",
        "CPU µs/record",
    ]);
    let mut figures = Vec::new();
    for (subject, turns) in subjects.iter().zip(&turns) {
        let (name, figure) = (subject.name(), Figures::of(turns));
        void.when(figure.refused > 0, || {
            format!("{name} refused {} records", figure.refused)
        });
        void.when(figure.records < 1000, || {
            format!("{name} stored {} records", figure.records)
        });
        table.row(vec![
            name.to_owned(),
            grouped(figure.rate),
            format!("{}-{}", grouped(figure.slowest), grouped(figure.fastest)),
            format!("{:.2}", figure.p50_ms),
            format!("{:.2}", figure.p99_ms),
            format!("{:.1}", figure.cpu_micros),
        ]);
        figures.push((name.to_owned(), figure));
    }
    void.when(machine.steal_percent_since() > 2.0, || {
        format!(
            "{:.1} % of CPU time was stolen",
            machine.steal_percent_since()
        )
    });
    say("");
    table.print();
    void.print();
    let of = |name: &str| {
        figures
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, figure)| figure)
    };
    let rate = |name: &str| of(name).map(|figure| figure.rate.round() as i64);
    let p99 = |name: &str| of(name).map(|figure| figure.p99_ms);
    JsonLine::new("outbox")
        .count("records_per_s", rate(log::NAME))
        .figure("p99_ms", p99(log::NAME))
        .count("gateway_per_s", rate(gateway::NAME))
        .figure("gateway_p99_ms", p99(gateway::NAME))
        .count("redis_always_per_s", rate(rivals::REDIS))
        .count(
            "redis_always_pipelined_per_s",
            rate(rivals::REDIS_PIPELINED),
        )
        .count("jetstream_always_per_s", rate(rivals::JETSTREAM))
        .texts("void", void.reasons())
        .print();
    Ok(())
}

/// What the turns of one subject came to.
struct Figures {
    /// The median of the turns.
    rate: f64,
    slowest: f64,
    fastest: f64,
    /// Over all turns.
    p50_ms: f64,
    p99_ms: f64,
    cpu_micros: f64,
    records: u64,
    refused: u64,
}

impl Figures {
    fn of(turns: &[Turn]) -> Self {
        let mut rates: Vec<f64> = turns
            .iter()
            .map(|turn| turn.records as f64 / turn.elapsed.as_secs_f64())
            .collect();
        rates.sort_by(f64::total_cmp);
        let records: u64 = turns.iter().map(|turn| turn.records).sum();
        let cpu: f64 = turns.iter().map(|turn| turn.cpu_seconds).sum();
        let mut all: Option<Histogram<u64>> = None;
        for turn in turns {
            match &mut all {
                // All have the same bounds.
                Some(all) => drop(all.add(&turn.latency)),
                None => all = Some(turn.latency.clone()),
            }
        }
        let quantile = |quantile| {
            let micros = all
                .as_ref()
                .map_or(0, |all| all.value_at_quantile(quantile));
            micros as f64 / 1000.0
        };
        Self {
            rate: rates.get(rates.len() / 2).copied().unwrap_or(0.0),
            slowest: rates.first().copied().unwrap_or(0.0),
            fastest: rates.last().copied().unwrap_or(0.0),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            cpu_micros: cpu * 1e6 / records.max(1) as f64,
            records,
            refused: turns.iter().map(|turn| turn.refused).sum(),
        }
    }
}

/// A histogram of microseconds up to a minute.
pub(crate) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000, 3).context("latency bounds are wrong")
}

/// A folder for what is stored: the one given, or one beside this program.
pub(crate) fn data_folder(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let folder = match given {
        Some(folder) => folder.to_owned(),
        None => {
            let own = std::env::current_exe().context("path of this program is not known")?;
            own.with_file_name("perf-data")
        }
    };
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("folder {} was not made", folder.display()))?;
    Ok(folder.canonicalize()?)
}

/// Whether a folder is in memory, where a sync costs nothing.
pub(crate) fn is_memory(folder: &Path) -> anyhow::Result<bool> {
    let found = rustix::fs::statfs(folder).context("file system is not known")?;
    Ok(found.f_type == TMPFS)
}

/// `TMPFS_MAGIC` of Linux.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

/// Commands that each client of the pipelined Redis has in flight.
const PIPELINED: usize = 16;
