//! Messages to an agent and back, at a constant rate that waits for nobody.
//!
//! First the peak: every client sends its next message when the answer to the last has come.
//! Then the rate is a share of that peak, messages leave at times fixed beforehand, and
//! latency counts from those times: to the acknowledgement, which comes after the sync, and
//! to the agent's answer.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use hdrhistogram::Histogram;

use super::clients::{Clients, News, Told};
use super::{Agent, Manner, Place, Syncs, millis, void_of_machine};
use crate::outbox::histogram;
use crate::proc::{self, Machine};
use crate::report::{JsonLine, Table, Void, grouped, say};
use crate::server_process::Server;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Clients, each with an id of its own.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=8192))]
    clients: u32,
    /// Bytes of a message's data, there and back.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    size: u32,
    /// Seconds at the constant rate.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    duration: u64,
    /// The rate, in percent of the peak.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100))]
    share: u32,
    /// Messages per second, instead of a share of the peak.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut void = Void::default();
    let executable = options.place.prepare(&mut void)?;
    let machine = Machine::now();
    let measured = Measured::of(&executable, options)?;
    measured.check(&mut void);
    void_of_machine(&mut void, machine);
    let Measured { paced, syncs, .. } = &measured;
    let mut table = Table::new(&[
        "from the due time to",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
    ]);
    for (name, one) in [("durable ack", &paced.ack), ("echo", &paced.echo)] {
        table.row(vec![
            name.to_owned(),
            format!("{:.2}", millis(one, 0.5)),
            format!("{:.2}", millis(one, 0.99)),
            format!("{:.2}", millis(one, 0.999)),
            format!("{:.2}", millis(one, 1.0)),
        ]);
    }
    say("");
    table.print();
    let seconds = paced.elapsed.as_secs_f64();
    let rate = paced.sent as f64 / seconds;
    let cpu = 1e6 * measured.server_cpu / paced.sent.max(1) as f64;
    let share = 100.0 * syncs.seconds / seconds;
    say(&format!(
        "{} messages/s, {cpu:.1} µs of the gateway's CPU each; {:.0} syncs/s of {:.2} ms in the mean \
         and {:.2} ms at p99: {share:.1} % of the time",
        grouped(rate),
        syncs.count / seconds,
        syncs.mean_ms(),
        measured.sync_p99_ms,
    ));
    void.print();
    JsonLine::new("relay")
        .count("clients", i64::from(options.clients))
        .count("size", i64::from(options.size))
        .count("peak_per_s", measured.peak.round() as i64)
        .count("messages_per_s", rate.round() as i64)
        .figure("ack_p50_ms", millis(&paced.ack, 0.5))
        .figure("ack_p99_ms", millis(&paced.ack, 0.99))
        .figure("ack_p999_ms", millis(&paced.ack, 0.999))
        .figure("echo_p50_ms", millis(&paced.echo, 0.5))
        .figure("echo_p99_ms", millis(&paced.echo, 0.99))
        .figure("echo_p999_ms", millis(&paced.echo, 0.999))
        .figure("cpu_us_per_message", cpu)
        .figure("sync_share_percent", share)
        .figure("sync_mean_ms", syncs.mean_ms())
        .figure("sync_p99_ms", measured.sync_p99_ms)
        .texts("void", void.reasons())
        .print();
    Ok(())
}

/// What the run came to.
struct Measured {
    /// Echoes per second, without a schedule.
    peak: f64,
    paced: Paced,
    /// Seconds of the gateway's CPU time during the schedule.
    server_cpu: f64,
    syncs: Syncs,
    sync_p99_ms: f64,
    /// Share of a core that the generator took.
    generator: f64,
    /// Percentage of the machine that other processes took.
    foreign: f64,
}

impl Measured {
    fn of(executable: &Path, options: &Options) -> anyhow::Result<Self> {
        let agent = Agent::start(Manner::Echoes)?;
        let server = Server::relay(
            executable,
            &format!(
                "{{ auth: none, rate: {{ per_client: {{ rate: 0 }} }}, routes: [ \
                 {{ client_id_prefix: \"client-\", agent: \"ws://{agent}/\", protocol: stratix, \
                 acks: true }} ] }}"
            ),
        )?;
        let ids = (0..options.clients).map(|number| format!("client-{number}"));
        let mut clients = Clients::connect(server.address.socket, ids, options.size as usize)?;
        let mut next = 0;
        peak(&mut clients, &mut next, WARM_UP)?;
        let peak = peak(&mut clients, &mut next, PEAK)?;
        let share = f64::from(options.share) / 100.0;
        let rate = options.rate.map_or(peak * share, f64::from);
        ensure!(rate >= 1.0, "the gateway echoed nothing");
        say(&format!(
            "peak: {} echoes/s with {} clients; now {} messages/s",
            grouped(peak),
            options.clients,
            grouped(rate)
        ));
        let own = std::process::id();
        let syncs = Syncs::of(&server)?;
        let server_cpu = proc::cpu_seconds(server.pid)?;
        let own_cpu = proc::cpu_seconds(own)?;
        let thread_cpu = proc::cpu_seconds_of_thread()?;
        let machine = Machine::now();
        let duration = Duration::from_secs(options.duration);
        let paced = paced(&mut clients, &mut next, rate, duration)?;
        let server_cpu = proc::cpu_seconds(server.pid)? - server_cpu;
        let generator = proc::cpu_seconds_of_thread()? - thread_cpu;
        let known = server_cpu + proc::cpu_seconds(own)? - own_cpu;
        Ok(Self {
            peak,
            server_cpu,
            syncs: Syncs::of(&server)?.since(syncs),
            sync_p99_ms: 1_000.0 * server.metric("tidegate_outbox_sync_p99_seconds")?,
            generator: generator / paced.elapsed.as_secs_f64(),
            foreign: machine.foreign_percent_since(known),
            paced,
        })
    }

    fn check(&self, void: &mut Void) {
        let Self {
            paced,
            generator,
            foreign,
            ..
        } = self;
        void.when(paced.refused > 0, || {
            format!("{} messages were refused", paced.refused)
        });
        let missing = (2 * paced.sent).saturating_sub(paced.ack.len() + paced.echo.len());
        void.when(missing > 0, || {
            format!("{missing} acknowledgements or echoes did not come")
        });
        let late = 100.0 * paced.late as f64 / paced.sent.max(1) as f64;
        void.when(late > 1.0, || {
            format!("{late:.1} % of the messages were sent more than {LATE:?} after they were due")
        });
        void.when(*generator > 0.8, || {
            format!("the generator used {:.0} % of a core", 100.0 * generator)
        });
        void.when(*foreign > 10.0, || {
            format!("other processes took {foreign:.0} % of the machine")
        });
    }
}

/// Keeps one message of every client under way for a while; echoes per second.
fn peak(clients: &mut Clients, next: &mut u64, duration: Duration) -> anyhow::Result<f64> {
    let mut news = Vec::new();
    let mut under_way = 0;
    for client in 0..clients.len() {
        clients.send(client, *next)?;
        *next += 1;
        under_way += 1;
    }
    let started = Instant::now();
    let mut echoes = 0_u64;
    let mut deadline = started + duration + ANSWER_WITHIN;
    let mut measured = None;
    while under_way > 0 {
        ensure!(Instant::now() < deadline, "{under_way} echoes did not come");
        clients.turn(Duration::from_millis(10), &mut news)?;
        let elapsed = started.elapsed();
        if elapsed >= duration && measured.is_none() {
            measured = Some(echoes as f64 / elapsed.as_secs_f64());
            deadline = Instant::now() + ANSWER_WITHIN;
        }
        for News { client, told, .. } in news.drain(..) {
            match told {
                Told::Ack => continue,
                Told::Echo => echoes += 1,
                Told::Refused => anyhow::bail!("a message was refused"),
            }
            if measured.is_some() {
                under_way -= 1;
            } else {
                clients.send(client, *next)?;
                *next += 1;
            }
        }
    }
    measured.context("the peak was not measured")
}

/// What came of the schedule.
struct Paced {
    sent: u64,
    /// Sent more than [`LATE`] after they were due.
    late: u64,
    refused: u64,
    elapsed: Duration,
    /// Microseconds from the due time to the acknowledgement.
    ack: Histogram<u64>,
    /// Microseconds from the due time to the echo.
    echo: Histogram<u64>,
}

fn paced(
    clients: &mut Clients,
    next: &mut u64,
    rate: f64,
    duration: Duration,
) -> anyhow::Result<Paced> {
    let first = *next;
    let total = (rate * duration.as_secs_f64()) as u64;
    let started = Instant::now();
    let due = |message: u64| started + Duration::from_secs_f64((message - first) as f64 / rate);
    let mut paced = Paced {
        sent: 0,
        late: 0,
        refused: 0,
        elapsed: Duration::ZERO,
        ack: histogram()?,
        echo: histogram()?,
    };
    let mut news = Vec::new();
    let last = due(first + total);
    loop {
        let mut now = Instant::now();
        while paced.sent < total && due(*next) <= now {
            let client = usize::try_from(*next)? % clients.len();
            clients.send(client, *next)?;
            paced.late += u64::from(now - due(*next) > LATE);
            *next += 1;
            paced.sent += 1;
            now = Instant::now();
        }
        let is_over = paced.sent == total && paced.echo.len() + paced.refused >= total;
        if is_over || now > last + ANSWER_WITHIN {
            // The time of the schedule, not of the stragglers.
            paced.elapsed = duration;
            return Ok(paced);
        }
        let was_ready = clients.turn(Duration::ZERO, &mut news)?;
        let now = Instant::now();
        for News { message, told, .. } in news.drain(..) {
            if message < first {
                continue;
            }
            let late = now.saturating_duration_since(due(message));
            let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
            match told {
                Told::Ack => paced.ack.saturating_record(micros),
                Told::Echo => paced.echo.saturating_record(micros),
                Told::Refused => paced.refused += 1,
            }
        }
        if !was_ready {
            // The system's timers for sockets are too coarse.
            let wait = due(*next).saturating_duration_since(Instant::now());
            std::thread::sleep(wait.min(NAP));
        }
    }
}

/// Not measured at the start.
const WARM_UP: Duration = Duration::from_secs(1);

/// How long the peak is looked for.
const PEAK: Duration = Duration::from_secs(5);

/// For the last answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A message sent so much after it was due tells more about the generator than the gateway.
const LATE: Duration = Duration::from_millis(5);

/// Longest sleep between two looks at the sockets.
const NAP: Duration = Duration::from_micros(100);
