//! Market data at the pace of a screen: aggregator, NATS, gateway, and a thousand clients.
//!
//! Three processes stand between a change and its receipt: `tidegate market` with the built-in
//! market, a real nats-server, and a gateway whose bus is that server. Clients speak the
//! Centrifuge protocol in Protobuf and take one group each, its batches of ticks and its
//! snapshots. Beside them new clients come all the time and ask for a snapshot at once. In the
//! end the aggregator is killed, and started again without a source, so that all it tells can
//! only be what it found on the bus.
//!
//! What the aggregator takes in is a phase of its own, without any of the others.

mod aggregator;
mod audience;
pub(crate) mod crowd;
mod input;
pub(crate) mod scene;
pub(crate) mod wire;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use testkit::services::{Nats, NatsOptions};

use self::aggregator::Aggregator;
use self::audience::{Audience, Figures};
use crate::proc::{self, Machine};
use crate::report::{JsonLine, Table, Void, grouped, mebibytes, say};
use crate::server_process::tidegate_executable;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Symbols of the market, a fifth of which change per tick.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    symbols: u32,
    /// Groups that the symbols are dealt out to.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    groups: u32,
    /// Clients, one group each.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// New clients per second beside them, each of which asks for a snapshot and leaves.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    newcomers: u32,
    /// Tidegate's executable; without it `cargo build --release -p tidegate` makes one.
    #[arg(long, value_name = "FILE")]
    tidegate: Option<std::path::PathBuf>,
}

/// CPU time of everything that takes part, in seconds.
#[derive(Debug, Clone, Copy)]
struct Spent {
    gateway: f64,
    nats: f64,
    aggregator: f64,
    generator: f64,
}

/// What a restart of the aggregator came to.
#[derive(Debug, Clone, Copy)]
struct Restart {
    /// From the start of the process to the last group's whole state at a client.
    outside_ms: f64,
    /// What the aggregator itself says it took.
    inside_ms: f64,
    /// Groups whose numbers did not go on from where clients had been.
    fallen_back: usize,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    say(&proc::describe());
    ensure!(
        proc::files_max() >= u64::from(options.clients) + 200,
        "{} clients need more files than {}",
        options.clients,
        proc::files_max()
    );
    let executable = tidegate_executable(options.tidegate.as_deref())?;
    let mut void = Void::default();
    let ticks_in = input::run(options.symbols as usize, options.groups as usize)?;
    say(&format!(
        "aggregator alone, one thread: {} ticks/s taken and cut into batches",
        grouped(ticks_in)
    ));

    let nats = Nats::start(&NatsOptions {
        jetstream: true,
        ..NatsOptions::default()
    })?;
    let gateway = scene::gateway(&executable, &nats, "", "")?;
    let market = market(options, "generator");
    let mut aggregator = Aggregator::start(&executable, &nats, &market)?;
    let mut audience = Audience::open(&gateway, options)?;
    audience.listen_for(WARM_UP, None)?;

    let pids = [
        gateway.pid,
        nats.process_id().context("nats-server ended")?,
        aggregator.pid(),
        std::process::id(),
    ];
    let rss = proc::memory(gateway.pid)?.rss;
    let (machine, before, started) = (Machine::now(), Spent::of(pids)?, Instant::now());
    let own = proc::cpu_seconds_of_thread()?;
    audience.record()?;
    audience.listen_for(
        Duration::from_secs(options.seconds),
        Some(options.newcomers),
    )?;
    let figures = audience.recorded()?;
    let seconds = started.elapsed().as_secs_f64();
    let spent = Spent::of(pids)?.since(before);
    let own = proc::cpu_seconds_of_thread()? - own;
    let foreign = machine.foreign_percent_since(spent.all());
    let steal = machine.steal_percent_since();
    let memory = (rss, proc::memory(gateway.pid)?.rss);

    let restart = restart(&executable, &nats, options, &mut aggregator, &mut audience)?;

    for warning in gateway.warnings().into_iter().chain(aggregator.warnings()) {
        say(&format!("logged: {warning}"));
    }
    let losses = audience.losses();
    void.when(!losses.is_empty(), || {
        format!("{} clients lost ({})", losses.len(), losses[0])
    });
    void.when(figures.failed > 0, || {
        format!("{} newcomers got no snapshot in time", figures.failed)
    });
    void.when(steal > 2.0, || {
        format!("{steal:.1} % of CPU time was stolen")
    });
    void.when(foreign > 10.0, || {
        format!("other processes took {foreign:.0} % of the machine")
    });
    void.when(own / seconds > 0.8, || {
        format!(
            "the generator used {:.0} % of its core",
            100.0 * own / seconds
        )
    });
    print(&figures, &spent, seconds, memory, restart);
    print_line(options, &figures, &spent, seconds, ticks_in, restart, &void);
    Ok(())
}

/// Kills the aggregator and starts it again without a source.
fn restart(
    executable: &std::path::Path,
    nats: &Nats,
    options: &Options,
    aggregator: &mut Aggregator,
    audience: &mut Audience,
) -> anyhow::Result<Restart> {
    aggregator.kill()?;
    // What it said last is on its way to clients.
    audience.listen_for(Duration::from_millis(500), None)?;
    let since = audience.nanos();
    let market = market(options, "subjects");
    aggregator.replace(executable, nats, &market)?;
    let (outside, fallen_back) = audience.whole_state(RESTART_WITHIN)?;
    Ok(Restart {
        outside_ms: outside.saturating_sub(since) as f64 / 1e6,
        inside_ms: aggregator.rebuild_ms(RESTART_WITHIN)?,
        fallen_back,
    })
}

/// The aggregator's section of its configuration.
fn market(options: &Options, source: &str) -> String {
    let Options {
        symbols, groups, ..
    } = options;
    format!(
        "market: {{ enabled: true, source: {source}, groups: {groups}, \
         generator: {{ symbols: {symbols}, rate: 0.2 }}, symbols_max: {symbols}, \
         tick_interval: 33ms, snapshot_interval: 3s }}\n"
    )
}

impl Spent {
    fn of([gateway, nats, aggregator, generator]: [u32; 4]) -> anyhow::Result<Self> {
        Ok(Self {
            gateway: proc::cpu_seconds(gateway)?,
            nats: proc::cpu_seconds(nats)?,
            aggregator: proc::cpu_seconds(aggregator)?,
            generator: proc::cpu_seconds(generator)?,
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            gateway: self.gateway - before.gateway,
            nats: self.nats - before.nats,
            aggregator: self.aggregator - before.aggregator,
            generator: self.generator - before.generator,
        }
    }

    fn all(self) -> f64 {
        self.gateway + self.nats + self.aggregator + self.generator
    }
}

fn print(figures: &Figures, spent: &Spent, seconds: f64, memory: (u64, u64), restart: Restart) {
    say("");
    let mut table = Table::new(&[
        "milliseconds",
        "p50",
        "p95",
        "p99",
        "p99.9",
        "min",
        "max",
        "of",
    ]);
    let rows = [
        ("between batches, at a client", &figures.tick_interval),
        ("between snapshots, at a client", &figures.snapshot_interval),
        ("from a batch's time to its receipt", &figures.end_to_end),
        (
            "from asking for a snapshot to having it",
            &figures.first_snapshot,
        ),
        ("from connecting to having it", &figures.arrival),
    ];
    for (label, histogram) in rows {
        let quantile = |q: f64| format!("{:.1}", milliseconds(histogram, q));
        table.row(vec![
            label.to_owned(),
            quantile(0.5),
            quantile(0.95),
            quantile(0.99),
            quantile(0.999),
            format!("{:.1}", histogram.min() as f64 / 1000.0),
            quantile(1.0),
            grouped(histogram.len() as f64),
        ]);
    }
    table.print();

    let mut table = Table::new(&["process", "CPU % of a core"]);
    for (label, cpu) in [
        ("gateway", spent.gateway),
        ("nats-server", spent.nats),
        ("aggregator", spent.aggregator),
        ("generator", spent.generator),
    ] {
        table.row(vec![
            label.to_owned(),
            format!("{:.0}", 100.0 * cpu / seconds),
        ]);
    }
    table.print();
    say(&format!(
        "{} batches/s and {:.1} MB/s to clients; {} batches missing; {} of {} newcomers could \
         not join snapshot and batches; gateway {} MiB before, {} MiB after",
        grouped(figures.batches as f64 / seconds),
        figures.bytes as f64 / seconds / 1e6,
        figures.gaps,
        figures.unjoined,
        figures.arrival.len(),
        mebibytes(memory.0),
        mebibytes(memory.1),
    ));
    say(&format!(
        "aggregator killed and started: every group's whole state at a client {:.0} ms after the \
         start of the process, {:.0} ms of which it read what it had been; {} groups fell back",
        restart.outside_ms, restart.inside_ms, restart.fallen_back,
    ));
    say("");
}

fn print_line(
    options: &Options,
    figures: &Figures,
    spent: &Spent,
    seconds: f64,
    ticks_in: f64,
    restart: Restart,
    void: &Void,
) {
    void.print();
    let percent = |cpu: f64| (100.0 * cpu / seconds).round();
    let mut line = JsonLine::new("live");
    line.figure("tick_p95_ms", milliseconds(&figures.tick_interval, 0.95))
        .figure("tick_p99_ms", milliseconds(&figures.tick_interval, 0.99))
        .figure(
            "first_snapshot_p95_ms",
            milliseconds(&figures.first_snapshot, 0.95),
        )
        .figure("e2e_p99_ms", milliseconds(&figures.end_to_end, 0.99))
        .figure("ticks_in_per_s", ticks_in.round())
        .figure("rebuild_ms", restart.outside_ms)
        .figure("rebuild_inside_ms", restart.inside_ms)
        .figure(
            "snapshot_interval_min_ms",
            figures.snapshot_interval.min() as f64 / 1000.0,
        )
        .figure(
            "snapshot_interval_max_ms",
            milliseconds(&figures.snapshot_interval, 1.0),
        )
        .figure("e2e_p50_ms", milliseconds(&figures.end_to_end, 0.5))
        .figure("e2e_p95_ms", milliseconds(&figures.end_to_end, 0.95))
        .count("gaps", figures.gaps as i64)
        .count("unjoined", figures.unjoined as i64)
        .count("fallen_back", restart.fallen_back as i64)
        .figure("batches_per_s", (figures.batches as f64 / seconds).round())
        .figure("gateway_cpu_percent", percent(spent.gateway))
        .figure("nats_cpu_percent", percent(spent.nats))
        .figure("aggregator_cpu_percent", percent(spent.aggregator))
        .figure("generator_cpu_percent", percent(spent.generator))
        .count("clients", i64::from(options.clients))
        .count("symbols", i64::from(options.symbols))
        .count("groups", i64::from(options.groups))
        .count("seconds", options.seconds as i64)
        .texts("void", void.reasons())
        .print();
}

/// A quantile of microseconds.
pub(crate) fn milliseconds(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1000.0
}

/// Microseconds up to two minutes, to three digits.
pub(crate) fn microseconds() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 120_000_000, 3).context("bounds of figures are wrong")
}

/// Two snapshots of each group; congestion windows and buffers have their size by then.
const WARM_UP: Duration = Duration::from_secs(7);

const RESTART_WITHIN: Duration = Duration::from_secs(15);
