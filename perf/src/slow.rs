//! One client that reads 1 KiB a second among many that read all, on conflated subjects.
//!
//! A source publishes values on a few subjects over NATS, each with the time it was published.
//! First the others are alone, then the slow client is there as well. It has a small receive
//! buffer and reads a few bytes at a time. What counts is how old a value is when the slow
//! client has read it, whether the gateway's memory grows, and whether the others notice.

mod reader;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use testkit::services::{Nats, NatsOptions};

use self::reader::{Slow, SlowReader};
use crate::live::crowd::Crowd;
use crate::live::scene::{self, Source};
use crate::live::wire::{self, Heard, Speech};
use crate::live::{microseconds, milliseconds};
use crate::proc::{self, Machine};
use crate::report::{JsonLine, Table, Void, grouped, mebibytes, say};
use crate::server_process::{Server, tidegate_executable};
use crate::token::Mint;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Clients that read all.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Subjects, all of which every client takes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    subjects: u32,
    /// Values per second on each subject.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(32..=65_000))]
    size: u32,
    /// Bytes a second that the slow client reads.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(64..=1_000_000))]
    pace: u32,
    /// Seconds that each of the two phases measures.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// The gateway's `client.queue_max_size`, if not its default.
    #[arg(long, value_name = "BYTES")]
    queue: Option<u32>,
    /// The gateway's `websocket.unsent_max`, if not its default.
    #[arg(long, value_name = "BYTES")]
    unsent: Option<u32>,
    /// Tidegate's executable; without it `cargo build --release -p tidegate` makes one.
    #[arg(long, value_name = "FILE")]
    tidegate: Option<std::path::PathBuf>,
}

/// The clients that read all, and who publishes.
struct Scene {
    crowd: Crowd,
    source: Source,
    subjects: Vec<String>,
    padding: Vec<u8>,
    /// Between two publications of all subjects.
    interval_nanos: u64,
}

/// What a phase came to.
struct Phase {
    /// Microseconds from publication to receipt, at those who read all.
    latency: Histogram<u64>,
    missing: u64,
    late_percent: f64,
    gateway_cpu_percent: f64,
    foreign_percent: f64,
    /// Most resident memory of the gateway.
    rss_max: u64,
}

/// Both phases, and what the slow client came to.
struct Measured {
    alone: Phase,
    beside: Phase,
    slow: Slow,
    /// Resident memory of the gateway before and after.
    memory: (u64, u64),
    /// Percentage of CPU time that other machines took.
    steal: f64,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    say(&proc::describe());
    let wanted = u64::from(options.clients) + 200;
    ensure!(
        proc::files_max() >= wanted,
        "the clients need {wanted} files; the limit is {}",
        proc::files_max()
    );
    let executable = tidegate_executable(options.tidegate.as_deref())?;
    let nats = Nats::start(&NatsOptions {
        jetstream: true,
        ..NatsOptions::default()
    })?;
    let queue = options
        .queue
        .map(|bytes| format!(", queue_max_size: {bytes}"));
    let unsent = options
        .unsent
        .map(|bytes| format!("websocket: {{ unsent_max: {bytes} }}\n"));
    let gateway = scene::gateway(
        &executable,
        &nats,
        &queue.unwrap_or_default(),
        &unsent.unwrap_or_default(),
    )?;
    let mut scene = Scene::open(&gateway, &nats, options)?;
    let measured = scene.measure(&gateway, options)?;

    for warning in gateway.warnings() {
        say(&format!("logged: {warning}"));
    }
    let void = void(&scene.crowd, &measured);
    print(options, &measured);
    print_line(options, &measured, &void);
    Ok(())
}

/// What makes the figures useless.
fn void(crowd: &Crowd, measured: &Measured) -> Void {
    let Measured {
        alone,
        beside,
        slow,
        steal,
        ..
    } = measured;
    let mut void = Void::default();
    let losses = crowd.losses();
    void.when(!losses.is_empty(), || {
        format!("{} clients lost ({})", losses.len(), losses[0])
    });
    void.when(slow.lost.is_some(), || {
        let reason = slow.lost.as_deref().unwrap_or_default();
        format!("the slow client was lost ({reason})")
    });
    void.when(*steal > 2.0, || {
        format!("{steal:.1} % of CPU time was stolen")
    });
    for (label, phase) in [("alone", alone), ("beside", beside)] {
        void.when(phase.missing > 0, || {
            format!("{label}: {} not received", phase.missing)
        });
        void.when(phase.late_percent > 1.0, || {
            format!(
                "{label}: {:.1} % of the schedule was missed",
                phase.late_percent
            )
        });
        void.when(phase.foreign_percent > 10.0, || {
            format!(
                "{label}: other processes took {:.0} % of the machine",
                phase.foreign_percent
            )
        });
    }
    void
}

fn print(options: &Options, measured: &Measured) {
    let Measured {
        alone,
        beside,
        slow,
        memory,
        ..
    } = measured;
    let mut table = Table::new(&[
        "milliseconds from publication",
        "p50",
        "p99",
        "max",
        "receipts",
        "missing",
        "gateway CPU %",
        "gateway MiB at most",
    ]);
    for (label, phase) in [
        ("the others, alone", alone),
        ("the others, beside the slow one", beside),
    ] {
        table.row(vec![
            label.to_owned(),
            format!("{:.2}", milliseconds(&phase.latency, 0.5)),
            format!("{:.2}", milliseconds(&phase.latency, 0.99)),
            format!("{:.2}", milliseconds(&phase.latency, 1.0)),
            grouped(phase.latency.len() as f64),
            phase.missing.to_string(),
            format!("{:.0}", phase.gateway_cpu_percent),
            mebibytes(phase.rss_max),
        ]);
    }
    table.row(vec![
        "the slow one".to_owned(),
        format!("{:.0}", milliseconds(&slow.age, 0.5)),
        format!("{:.0}", milliseconds(&slow.age, 0.99)),
        format!("{:.0}", milliseconds(&slow.age, 1.0)),
        grouped(slow.age.len() as f64),
    ]);
    table.print();
    say(&format!(
        "the slow client read {} of {} values, {} bytes in {:.0} s; gateway {} MiB before, \
         {} MiB after",
        slow.age.len(),
        options.offered(),
        grouped(slow.bytes as f64),
        slow.seconds,
        mebibytes(memory.0),
        mebibytes(memory.1),
    ));
    say("");
}

fn print_line(options: &Options, measured: &Measured, void: &Void) {
    let Measured {
        alone,
        beside,
        slow,
        memory,
        ..
    } = measured;
    void.print();
    let mut line = JsonLine::new("slow");
    line.figure("age_p50_ms", milliseconds(&slow.age, 0.5))
        .figure("age_p99_ms", milliseconds(&slow.age, 0.99))
        .figure("age_max_ms", milliseconds(&slow.age, 1.0))
        .count("values_read", slow.age.len() as i64)
        .count("values_offered", options.offered() as i64)
        .figure("others_p99_alone_ms", milliseconds(&alone.latency, 0.99))
        .figure("others_p99_beside_ms", milliseconds(&beside.latency, 0.99))
        .count("rss_before", memory.0 as i64)
        .count("rss_after", memory.1 as i64)
        .count("rss_max", beside.rss_max as i64)
        .count("clients", i64::from(options.clients))
        .count("pace", i64::from(options.pace))
        .texts("void", void.reasons())
        .print();
}

impl Options {
    /// Values that were there for the slow client.
    fn offered(&self) -> u64 {
        u64::from(self.subjects) * u64::from(self.rate) * self.seconds
    }

    fn subject_names(&self) -> Vec<String> {
        (0..self.subjects)
            .map(|subject| format!("xy.md.last.s{subject:02}"))
            .collect()
    }

    /// What a client says first: who it is, and that it wants all subjects.
    fn join(&self, mint: &Mint, number: usize) -> anyhow::Result<Vec<u8>> {
        let names = self.subject_names();
        let connect = wire::connect(mint.token(number)?);
        let subscriptions = names.iter().map(|name| wire::subscribe(name));
        let mut join = Vec::new();
        wire::commands(&mut join, 1, [connect].into_iter().chain(subscriptions))?;
        Ok(join)
    }
}

impl Scene {
    /// Lets those in who read all.
    fn open(gateway: &Server, nats: &Nats, options: &Options) -> anyhow::Result<Self> {
        let address = gateway.address.socket;
        let mint = Mint::new(&gateway.secret)?;
        let mut crowd = Crowd::new()?;
        let last = 1 + options.subjects;
        let mut refused = None;
        crowd.open_all(
            options.clients as usize,
            |number| {
                let join = options.join(&mint, number)?;
                Ok((address, Speech::Centrifuge, join))
            },
            |heard| match heard {
                Heard::Reply(reply) => {
                    refused = refused.take().or_else(|| reply.error.clone());
                    reply.id == last
                }
                _ => false,
            },
        )?;
        if let Some(refused) = refused {
            bail!("client was refused: {} {}", refused.code, refused.message);
        }
        Ok(Self {
            crowd,
            source: Source::connect(nats)?,
            subjects: options.subject_names(),
            padding: vec![b'x'; options.size as usize - 16],
            interval_nanos: 1_000_000_000 / u64::from(options.rate),
        })
    }

    fn measure(&mut self, gateway: &Server, options: &Options) -> anyhow::Result<Measured> {
        let duration = Duration::from_secs(options.seconds);
        self.phase(gateway.pid, WARM_UP)?;
        let before = proc::memory(gateway.pid)?.rss;
        let machine = Machine::now();
        let alone = self.phase(gateway.pid, duration)?;
        let join = options.join(&Mint::new(&gateway.secret)?, options.clients as usize)?;
        let address = gateway.address.socket;
        let slow = SlowReader::start(address, join, options.pace, self.crowd.clock())?;
        let beside = self.phase(gateway.pid, duration)?;
        let slow = slow.stop()?;
        Ok(Measured {
            alone,
            beside,
            slow,
            memory: (before, proc::memory(gateway.pid)?.rss),
            steal: machine.steal_percent_since(),
        })
    }

    /// Publishes on a schedule that waits for nobody, and notes what comes when.
    fn phase(&mut self, gateway: u32, duration: Duration) -> anyhow::Result<Phase> {
        let (own, machine) = (std::process::id(), Machine::now());
        let (cpu, own_cpu) = (proc::cpu_seconds(gateway)?, proc::cpu_seconds(own)?);
        let started = Instant::now();
        let first = self.crowd.now().nanos + self.interval_nanos;
        let rounds = duration.as_nanos() as u64 / self.interval_nanos;
        let clients = self.crowd.len() as u64;
        let mut latency = microseconds()?;
        let (mut late, mut rss_max) = (0, 0);
        for round in 0..rounds {
            let due = first + round * self.interval_nanos;
            self.listen_until(due, &mut latency)?;
            late += u64::from(self.crowd.now().nanos - due > LATE.as_nanos() as u64);
            let mut value = format!("{due:016x}").into_bytes();
            value.extend_from_slice(&self.padding);
            for subject in &self.subjects {
                self.source.publish(subject, &value);
            }
            self.source.flush()?;
            rss_max = rss_max.max(proc::memory(gateway)?.rss);
        }
        let wanted = rounds * self.subjects.len() as u64 * clients;
        let deadline = self.crowd.now().nanos + RECEIVED_WITHIN.as_nanos() as u64;
        while latency.len() < wanted && self.crowd.now().nanos < deadline {
            let soon = self.crowd.now().nanos + 10_000_000;
            self.listen_until(soon, &mut latency)?;
        }
        let seconds = started.elapsed().as_secs_f64();
        let cpu = proc::cpu_seconds(gateway)? - cpu;
        let own_cpu = proc::cpu_seconds(own)? - own_cpu;
        Ok(Phase {
            missing: wanted.saturating_sub(latency.len()),
            latency,
            late_percent: 100.0 * late as f64 / rounds.max(1) as f64,
            gateway_cpu_percent: 100.0 * cpu / seconds,
            // nats-server is not among what is known, and takes little.
            foreign_percent: machine.foreign_percent_since(cpu + own_cpu),
            rss_max,
        })
    }

    fn listen_until(&mut self, due: u64, latency: &mut Histogram<u64>) -> anyhow::Result<()> {
        let mut broken = false;
        loop {
            let now = self.crowd.now().nanos;
            if now >= due {
                break;
            }
            self.crowd
                .turn(Duration::from_nanos(due - now), |_, now, heard, _| {
                    if let Heard::Publication { data, .. } = heard {
                        match published(data) {
                            Some(at) => {
                                latency.saturating_record(now.nanos.saturating_sub(at) / 1000);
                            }
                            None => broken = true,
                        }
                    }
                })?;
        }
        ensure!(!broken, "a value has no time");
        Ok(())
    }
}

/// When a value was published, in nanoseconds of the crowd.
fn published(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value.get(..16)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

fn age(value: &[u8], now_nanos: u64) -> anyhow::Result<u64> {
    let at = published(value).context("a value has no time")?;
    Ok(now_nanos.saturating_sub(at) / 1000)
}

const WARM_UP: Duration = Duration::from_secs(2);

/// A round later than this after it was due missed the schedule; it counts as latency too.
const LATE: Duration = Duration::from_millis(5);

const RECEIVED_WITHIN: Duration = Duration::from_secs(5);
