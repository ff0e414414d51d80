//! Quantum beside TCP, quinn and KCP on one emulated link: how late calls come when packets are
//! lost, how much a link carries, who gets how much of it, what a call costs.
//!
//! Client and server are threads of this process at the two ends of the link (`netlab`), with
//! one connection between them. Latency counts from when a call was due, so whoever falls
//! behind shows it. All get the same link anew: a seed decides which packet of each direction
//! is lost.

mod bulk;
mod cell;
mod echo;
mod latency;
mod level;
mod load;
mod netlab;
mod ours;
mod plot;
mod rivals;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use self::bulk::{Flow, Shares};
use self::cell::Echo;
use self::latency::Latencies;
use self::level::Level;
use self::netlab::Lab;
use self::netlab::link::{Loss, Shape};
use self::ours::{BareStreams, Grpc, Quantum};
use self::rivals::{Kind, Tcp};
use crate::proc::{self, Machine};
use crate::report::{JsonLine, Table, Void, grouped, say};

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Measures only this; may be repeated.
    #[arg(long, value_enum, value_name = "PART")]
    only: Vec<Part>,
    /// Drives only this transport where latencies are measured; may be repeated.
    #[arg(long, value_enum, value_name = "TRANSPORT")]
    subject: Vec<Kind>,
    /// Seconds of each measurement, after two of warming up.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Decides which packets are lost.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Round-trip time of the link in milliseconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    rtt: u64,
    /// Rate of the link in Mbit/s.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    mbit: u64,
    /// Calls per second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Bytes of each request and of each answer.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    size: u32,
    /// Percent of packets lost, or `bursts` (2 % in runs of 3); may be repeated.
    #[arg(long, value_name = "LOSS")]
    loss: Vec<Level>,
    /// Goes through round-trip times of 1, 20 and 80 ms, six kinds of loss, 50 to 10,000 calls a
    /// second of 100 to 65,536 bytes, and measures nothing else.
    #[arg(long, conflicts_with_all = ["only", "rtt", "rate", "size", "loss"])]
    grid: bool,
    /// Folder for figures (CSV) and plots (SVG).
    #[arg(long, default_value = "target/perf/quantum", value_name = "FOLDER")]
    out: PathBuf,
}

/// A part of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// How late calls come.
    Latency,
    /// How much one upload gets through.
    Bulk,
    /// Calls over the loopback device, as fast as they go.
    Echo,
    /// What two uploads leave each other.
    Fairness,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    say(&proc::describe());
    let mut void = Void::default();
    let machine = Machine::now();
    let only_datagrams = Lab::new(&options.shape(Loss::Independent(0.0)), options.seed)?
        .only_datagrams()
        .map(str::to_owned);
    match &only_datagrams {
        None => say("link: two network namespaces with the kernel's own stack at both ends"),
        Some(reason) => say(&format!(
            "link: a relay between two sockets, which carries no TCP: {reason}"
        )),
    }
    let carries_tcp = only_datagrams.is_none();
    say("");
    if options.grid {
        latency::grid(options, carries_tcp)?;
        return Ok(());
    }
    let mut found = Found::default();
    if options.wants(Part::Latency) {
        found.latencies = latency::row(options, carries_tcp, &mut void)?;
    }
    if options.wants(Part::Bulk) {
        found.bulk = bulk(options, carries_tcp)?;
    }
    if options.wants(Part::Fairness) && carries_tcp {
        found.fairness = fairness(options)?;
    }
    if options.wants(Part::Echo) {
        found.echo = echo(options)?;
    }
    let steal = machine.steal_percent_since();
    void.when(steal > 2.0, || {
        format!("{steal:.1} % of CPU time was stolen")
    });
    void.print();
    found.print_json(options, &void);
    Ok(())
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// The link with a queue of two products of rate and delay.
    fn shape(&self, loss: Loss) -> Shape {
        Shape {
            rtt: Duration::from_millis(self.rtt),
            rate: self.mbit * 1_000_000,
            queue_bdp: 2.0,
            loss,
        }
    }

    fn subjects(&self) -> &[Kind] {
        match self.subject.is_empty() {
            true => Kind::ALL,
            false => &self.subject,
        }
    }

    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// Everything that was measured.
#[derive(Debug, Default)]
struct Found {
    latencies: Latencies,
    /// Flow, percent of loss, and what it came to.
    bulk: Vec<(Flow, Level, Shares)>,
    /// The two flows, and their shares.
    fairness: Vec<([Flow; 2], Shares)>,
    /// Transport, and what its calls cost.
    echo: Vec<(&'static str, Echo)>,
}

/// One upload alone.
fn bulk(options: &Options, carries_tcp: bool) -> anyhow::Result<Vec<(Flow, Level, Shares)>> {
    let mut all = Vec::new();
    let mut table = Table::new(&[
        "upload",
        "loss %",
        "Mbit/s",
        "queue max BDP",
        "mean BDP",
        "dropped by queue",
    ]);
    let quantum = Quantum::new()?;
    let duration = options.duration().min(BULK_FOR);
    for percent in [0.0, 1.0, 5.0] {
        let level = Level::percent(percent);
        for flow in [Flow::Quantum, Flow::Tcp("bbr"), Flow::Tcp("cubic")] {
            if flow != Flow::Quantum && !carries_tcp {
                table.row(vec![format!("{} (not run: needs root)", flow.name())]);
                continue;
            }
            let shape = options.shape(level.loss);
            let shares = bulk::share(&quantum, &[flow], &shape, options.seed, duration)?;
            table.row(vec![
                flow.name().to_owned(),
                level.label(),
                format!("{:.1}", shares.mbit.iter().sum::<f64>()),
                format!("{:.2}", shares.queue_max),
                format!("{:.2}", shares.queue_mean),
                shares.overflowed.to_string(),
            ]);
            all.push((flow, level, shares));
        }
    }
    table.print();
    Ok(all)
}

/// Two uploads at once through a queue of one product of rate and delay.
fn fairness(options: &Options) -> anyhow::Result<Vec<([Flow; 2], Shares)>> {
    let mut all = Vec::new();
    let mut table = Table::new(&[
        "two uploads",
        "first Mbit/s",
        "second Mbit/s",
        "ratio",
        "queue max BDP",
        "mean BDP",
    ]);
    let quantum = Quantum::new()?;
    let pairs = [
        [Flow::Quantum, Flow::Tcp("cubic")],
        [Flow::Quantum, Flow::Quantum],
        [Flow::Tcp("bbr"), Flow::Tcp("cubic")],
        [Flow::Tcp("cubic"), Flow::Tcp("cubic")],
    ];
    for flows in pairs {
        let shape = Shape {
            queue_bdp: 1.0,
            ..options.shape(Loss::Independent(0.0))
        };
        let shares = bulk::share(&quantum, &flows, &shape, options.seed, options.duration())?;
        table.row(vec![
            flows.map(Flow::name).join(" and "),
            format!("{:.1}", shares.mbit.first().unwrap_or(&0.0)),
            format!("{:.1}", shares.mbit.get(1).unwrap_or(&0.0)),
            format!("{:.2}", shares.ratio()),
            format!("{:.2}", shares.queue_max),
            format!("{:.2}", shares.queue_mean),
        ]);
        all.push((flows, shares));
    }
    table.print();
    Ok(all)
}

/// Calls over the loopback device.
fn echo(options: &Options) -> anyhow::Result<Vec<(&'static str, Echo)>> {
    say("echo: client and server on one core each, 64 calls in flight; per core: calls for each");
    say("second of processor time of the server's thread; CPU of both threads");
    let duration = options.duration().min(ECHO_FOR);
    let size = options.size as usize;
    let quantum = Quantum::new()?;
    let bare = BareStreams(&quantum);
    let ours = Grpc(&quantum);
    let all = vec![
        (OURS, cell::echo(&ours, size, ECHO_IN_FLIGHT, duration)?),
        (
            OURS_BARE,
            cell::echo(&bare, size, ECHO_IN_FLIGHT, duration)?,
        ),
        (
            TONIC_OVER_TCP,
            cell::echo(&Tcp("cubic"), size, ECHO_IN_FLIGHT, duration)?,
        ),
    ];
    let mut table = Table::new(&[
        "echo over loopback",
        "calls/s",
        "per core",
        "CPU µs/call",
        "p50 ms",
        "p99 ms",
    ]);
    for (name, echo) in &all {
        table.row(vec![
            (*name).to_owned(),
            grouped(echo.per_second),
            grouped(echo.per_server_second),
            format!("{:.1}", echo.cpu_us),
            format!("{:.2}", echo.p50_ms),
            format!("{:.2}", echo.p99_ms),
        ]);
    }
    table.print();
    Ok(all)
}

impl Found {
    fn print_json(&self, options: &Options, void: &Void) {
        let mut line = JsonLine::new("quantum");
        self.latencies.add(&mut line, Kind::OURS);
        line.object("rivals", |rivals| {
            for kind in Kind::RIVALS {
                rivals.object(kind.name(), |one| self.latencies.add(one, kind));
            }
        });
        let recovery = self.latencies.worst_recovery();
        line.figure(
            "recovery_p99_ms",
            recovery.map(|p99| p99.as_secs_f64() * 1e3),
        );
        line.figure("overhead", self.latencies.greatest_overhead());
        for (key, flow) in [
            ("bulk_mbit", Flow::Quantum),
            ("tcp_bbr_bulk_mbit", Flow::Tcp("bbr")),
        ] {
            line.object(key, |mbit| self.add_bulk(mbit, flow));
        }
        let (ours, tcp) = (self.echo_of(OURS), self.echo_of(TONIC_OVER_TCP));
        line.figure("echo_per_core_s", ours.map(|echo| echo.per_server_second));
        // Beyond what was asked for.
        let ratio = ours.zip(tcp);
        line.figure(
            "tcp_echo_per_core_s",
            tcp.map(|echo| echo.per_server_second),
        )
        .figure(
            "echo_to_tcp",
            ratio.map(|(ours, tcp)| ours.per_server_second / tcp.per_server_second),
        )
        .figure("echo_p99_ms", ours.map(|echo| echo.p99_ms))
        .figure("echo_cpu_us", ours.map(|echo| echo.cpu_us))
        .object("overheads", |by_loss| self.latencies.add_overheads(by_loss))
        .object("recoveries_p99_ms", |by_loss| {
            self.latencies.add_recoveries(by_loss);
        })
        .object("to_fair", |shares| {
            for (flows, share) in &self.fairness {
                if let [Flow::Quantum, other] = flows {
                    shares.figure(other.name(), share.ratio());
                }
            }
        });
        let queue = self.bulk.iter().filter(|one| one.0 == Flow::Quantum);
        line.figure(
            "bulk_queue_max_bdp",
            queue.map(|one| one.2.queue_max).max_by(f64::total_cmp),
        );
        line.count("seed", i64::try_from(options.seed).ok())
            .texts("void", void.reasons())
            .print();
    }

    fn echo_of(&self, name: &str) -> Option<&Echo> {
        let found = self.echo.iter().find(|one| one.0 == name);
        found.map(|(_, echo)| echo)
    }

    fn add_bulk(&self, object: &mut JsonLine, flow: Flow) {
        for percent in [1.0, 5.0] {
            let level = Level::percent(percent);
            let of = |one: &&(Flow, Level, Shares)| one.0 == flow && one.1 == level;
            let found = self.bulk.iter().find(of);
            object.figure(
                &level.label(),
                found.map(|(.., shares)| shares.mbit.iter().sum::<f64>()),
            );
        }
    }
}

/// Names in the table of echoes.
const OURS: &str = "tonic over Quantum";
const OURS_BARE: &str = "bare Quantum streams";
const TONIC_OVER_TCP: &str = "tonic over TCP";

const BULK_FOR: Duration = Duration::from_secs(10);

const ECHO_FOR: Duration = Duration::from_secs(5);

const ECHO_IN_FLIGHT: usize = 64;
