//! Messages that pile up for an agent that is away: where they are kept, how they drain when
//! it comes back, and what clients of another agent notice.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use hdrhistogram::Histogram;

use super::clients::{Clients, News, Told};
use super::{Agent, Manner, Place, millis, void_of_machine};
use crate::outbox::histogram;
use crate::proc::{self, Machine};
use crate::report::{JsonLine, Void, grouped, mebibytes, say};
use crate::server_process::Server;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Messages that pile up.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..=1_000_000))]
    messages: u64,
    /// Bytes of a message's data.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    size: u32,
    /// Clients they come from.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=8192))]
    clients: u32,
    /// Messages per second to the other agent meanwhile.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    beside: u32,
    #[command(flatten)]
    place: Place,
}

/// What the agent has seen: the last number of each client, and whether it was a step back.
#[derive(Default)]
struct Seen {
    last: HashMap<String, u64>,
    messages: u64,
    disordered: u64,
    repeated: u64,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut void = Void::default();
    let executable = options.place.prepare(&mut void)?;
    let machine = Machine::now();
    let mut stage = Stage::set(&executable, options)?;
    let piled = stage.pile_up(options)?;
    say(&format!(
        "{} messages of {} bytes taken durably in {:.1} s while their agent was away: memory rose by {} \
         MiB ({} MiB of messages held), the outbox has {} MiB",
        grouped(options.messages as f64),
        options.size,
        piled.took.as_secs_f64(),
        mebibytes(piled.grown),
        mebibytes(piled.held as u64),
        mebibytes(piled.on_disk as u64),
    ));
    let drained = stage.drain(options)?;
    let rate = options.messages as f64 / drained.took.as_secs_f64();
    let Drained {
        disordered,
        repeated,
        before,
        meanwhile,
        ..
    } = &drained;
    say(&format!(
        "the agent came back and was found after {:.1} s; drained in {:.1} s, {}/s, {disordered} out of \
         order, {repeated} twice; memory then {} MiB above the start",
        drained.found_after.as_secs_f64(),
        drained.took.as_secs_f64(),
        grouped(rate),
        mebibytes(drained.grown),
    ));
    say(&format!(
        "{} messages/s to another agent meanwhile: durable ack p50 {:.2} ms, p99 {:.2} ms ({:.2} and \
         {:.2} ms before)",
        options.beside,
        millis(meanwhile, 0.5),
        millis(meanwhile, 0.99),
        millis(before, 0.5),
        millis(before, 0.99),
    ));
    void.when(disordered + repeated > 0, || {
        format!("{disordered} messages came out of order, {repeated} twice")
    });
    void_of_machine(&mut void, machine);
    say("");
    void.print();
    JsonLine::new("backlog")
        .count("messages", i64::try_from(options.messages)?)
        .count("size", i64::from(options.size))
        .figure("rss_growth_mib", piled.grown as f64 / MEBI)
        .figure("held_mib", piled.held / MEBI)
        .figure("disk_mib", piled.on_disk / MEBI)
        .figure("rss_growth_at_end_mib", drained.grown as f64 / MEBI)
        .figure(
            "taken_per_s",
            options.messages as f64 / piled.took.as_secs_f64(),
        )
        .figure("drained_per_s", rate)
        .figure("drain_cpu_s", drained.cpu)
        .count("disordered", i64::try_from(*disordered)?)
        .count("repeated", i64::try_from(*repeated)?)
        .figure("beside_ack_p50_ms", millis(meanwhile, 0.5))
        .figure("beside_ack_p99_ms", millis(meanwhile, 0.99))
        .figure("beside_ack_p99_before_ms", millis(before, 0.99))
        .texts("void", void.reasons())
        .print();
    Ok(())
}

/// The gateway with its clients and the agent that is away.
struct Stage {
    server: Server,
    away: Option<Agent>,
    late: Clients,
    /// Clients of an agent that is there, and how many messages they have sent.
    beside: Clients,
    sent_beside: u64,
    /// Resident memory before anything piled up.
    start_rss: u64,
}

/// The messages wait.
struct Piled {
    took: Duration,
    grown: u64,
    held: f64,
    on_disk: f64,
}

/// They have come to the agent.
struct Drained {
    found_after: Duration,
    took: Duration,
    cpu: f64,
    grown: u64,
    disordered: u64,
    repeated: u64,
    /// Acknowledgements of the other agent's clients, in microseconds.
    before: Histogram<u64>,
    meanwhile: Histogram<u64>,
}

impl Stage {
    fn set(executable: &Path, options: &Options) -> anyhow::Result<Self> {
        let (away, other) = (Agent::away()?, Agent::start(Manner::Acknowledges)?);
        let route = |prefix: &str, agent| {
            format!(
                "{{ client_id_prefix: \"{prefix}\", agent: \"ws://{agent}/\", protocol: stratix, \
                 acks: true }}"
            )
        };
        let server = Server::relay(
            executable,
            &format!(
                "{{ auth: none, rate: {{ per_client: {{ rate: 0 }} }}, history: {{ per_client: 0 }}, \
                 routes: [ {}, {} ] }}",
                route("late-", away.address),
                route("client-", other)
            ),
        )?;
        let (address, size) = (server.address.socket, options.size as usize);
        let late = (0..options.clients).map(|number| format!("late-{number}"));
        let beside = (0..BESIDE).map(|number| format!("client-{number}"));
        let mut stage = Self {
            late: Clients::connect(address, late, size)?,
            beside: Clients::connect(address, beside, size)?,
            away: Some(away),
            sent_beside: 0,
            start_rss: 0,
            server,
        };
        // What every first message brings in is not what messages cost.
        stage.traffic(options, |sent| Ok(sent >= u64::from(options.beside)))?;
        stage.start_rss = proc::memory(stage.server.pid)?.rss;
        Ok(stage)
    }

    fn pile_up(&mut self, options: &Options) -> anyhow::Result<Piled> {
        let started = Instant::now();
        pile_up(&mut self.late, options.messages)?;
        let took = started.elapsed();
        let pending = self.server.metric("tidegate_relay_pending")?;
        ensure!(
            pending >= options.messages as f64,
            "only {pending} messages wait"
        );
        Ok(Piled {
            took,
            grown: self.grown()?,
            held: self.server.metric("tidegate_relay_held_bytes")?,
            on_disk: self.server.metric("tidegate_outbox_bytes")?,
        })
    }

    fn drain(&mut self, options: &Options) -> anyhow::Result<Drained> {
        let before = self.traffic(options, |sent| Ok(sent >= 2 * u64::from(options.beside)))?;
        let away = self.away.take().context("the agent is there already")?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let watched = Arc::clone(&seen);
        let cpu = proc::cpu_seconds(self.server.pid)?;
        let opened = Instant::now();
        away.open(
            Manner::Acknowledges,
            Arc::new(move |client: &str, id: &str| lock(&watched).note(client, id)),
        )?;
        let (mut begun, mut ended) = (None, None);
        let meanwhile = self.traffic(options, |_| {
            let messages = lock(&seen).messages;
            if messages > 0 {
                begun.get_or_insert_with(Instant::now);
            }
            if messages >= options.messages {
                ended.get_or_insert_with(Instant::now);
            }
            ensure!(
                opened.elapsed() < DRAINED_WITHIN,
                "only {messages} messages have come to the agent"
            );
            Ok(ended.is_some())
        })?;
        let (begun, ended) = begun.zip(ended).context("nothing was drained")?;
        let seen = lock(&seen);
        Ok(Drained {
            found_after: begun - opened,
            took: ended - begun,
            cpu: proc::cpu_seconds(self.server.pid)? - cpu,
            grown: self.grown()?,
            disordered: seen.disordered,
            repeated: seen.repeated,
            before,
            meanwhile,
        })
    }

    fn grown(&self) -> anyhow::Result<u64> {
        let memory = proc::memory(self.server.pid)?;
        Ok(memory.rss.saturating_sub(self.start_rss))
    }

    fn traffic(
        &mut self,
        options: &Options,
        is_over: impl FnMut(u64) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Histogram<u64>> {
        let rate = f64::from(options.beside);
        traffic(&mut self.beside, &mut self.sent_beside, rate, is_over)
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    fn note(&mut self, client: &str, id: &str) {
        let number = id.strip_prefix("m-").and_then(|digits| digits.parse().ok());
        let Some(number) = number else {
            return;
        };
        self.messages += 1;
        let last = self.last.insert(client.to_owned(), number);
        match last {
            Some(last) if last == number => self.repeated += 1,
            Some(last) if last > number => self.disordered += 1,
            _ => {}
        }
    }
}

/// Sends so many messages, a few of each client at a time, and waits until all are safe.
fn pile_up(clients: &mut Clients, messages: u64) -> anyhow::Result<()> {
    let mut news = Vec::new();
    let (mut sent, mut safe) = (0, 0);
    let started = Instant::now();
    let in_flight = WINDOW * clients.len() as u64;
    while safe < messages {
        while sent < messages && sent - safe < in_flight {
            clients.send(usize::try_from(sent)? % clients.len(), sent)?;
            sent += 1;
        }
        clients.turn(Duration::from_millis(10), &mut news)?;
        for News { told, .. } in news.drain(..) {
            ensure!(told == Told::Ack, "a message was refused");
            safe += 1;
        }
        ensure!(
            started.elapsed() < DRAINED_WITHIN,
            "only {safe} messages are safe"
        );
    }
    Ok(())
}

/// Sends at a constant rate until `is_over` of how many were sent says so, and waits for the
/// last acknowledgements; microseconds from the due times to those.
fn traffic(
    clients: &mut Clients,
    number: &mut u64,
    rate: f64,
    mut is_over: impl FnMut(u64) -> anyhow::Result<bool>,
) -> anyhow::Result<Histogram<u64>> {
    let first = *number;
    let started = Instant::now();
    let due = |message: u64| started + Duration::from_secs_f64((message - first) as f64 / rate);
    let mut acks = histogram()?;
    let mut news = Vec::new();
    let mut over_since = None;
    loop {
        let now = Instant::now();
        if over_since.is_none() && is_over(*number - first)? {
            over_since = Some(now);
        }
        if over_since.is_none() {
            while due(*number) <= now {
                clients.send(usize::try_from(*number)? % clients.len(), *number)?;
                *number += 1;
            }
        }
        if let Some(since) = over_since {
            if acks.len() == *number - first {
                return Ok(acks);
            }
            ensure!(
                since.elapsed() < Duration::from_secs(10),
                "acknowledgements did not come"
            );
        }
        let was_ready = clients.turn(Duration::ZERO, &mut news)?;
        let now = Instant::now();
        for News { message, told, .. } in news.drain(..) {
            ensure!(told != Told::Refused, "a message was refused");
            let late = now.saturating_duration_since(due(message));
            acks.saturating_record(u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
        }
        if !was_ready {
            std::thread::sleep(NAP);
        }
    }
}

const MEBI: f64 = 1_048_576.0;

/// Clients of the other agent.
const BESIDE: usize = 50;

/// Messages of a client that are sent and not yet safe.
const WINDOW: u64 = 8;

/// For all messages to be taken, or to come to the agent.
const DRAINED_WITHIN: Duration = Duration::from_secs(120);

/// Longest sleep between two looks at the sockets.
const NAP: Duration = Duration::from_micros(200);
