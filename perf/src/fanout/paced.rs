//! Publications on a schedule that does not wait for anyone (open loop).

use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;

use super::{CHANNEL, FLOOD_CHANNEL, Side, Stalled};
use crate::client::Engine;
use crate::proc::{self, Machine};
use crate::report::say;

/// How late publications came.
#[derive(Debug)]
pub(super) struct Latency {
    /// Microseconds.
    histogram: Histogram<u64>,
    /// Receipts that did not come at all.
    pub(super) missing: u64,
    /// Percentage of publications that the generator sent more than [`LATE`] after they were due.
    pub(super) late_percent: f64,
    /// Percentage of one core.
    pub(super) server_percent: f64,
    /// Percentage of one core, of the thread that publishes and receives.
    pub(super) generator_percent: f64,
    /// Percentage of the machine that other processes took.
    pub(super) foreign_percent: f64,
}

impl Latency {
    pub(super) fn milliseconds(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1000.0
    }

    pub(super) fn receipts(&self) -> u64 {
        self.histogram.len()
    }
}

/// Publishes [`PER_SECOND`] times a second, the publishers in turn.
pub(super) fn run(
    engine: &mut Engine,
    side: &mut Side,
    publishers: usize,
    size: u32,
    duration: Duration,
) -> anyhow::Result<Latency> {
    // A second of the same beforehand, not recorded.
    let warm_up = engine.tally(side.group).pushes;
    let sent = schedule(engine, side, publishers, size, Duration::from_secs(1), None)?;
    let wanted = warm_up + sent.publications * side.subscribers;
    engine.turn_until(RECEIVED_WITHIN, |engine| {
        engine.tally(side.group).pushes >= wanted
    })?;
    measure(engine, side, publishers, size, duration, None).map(|(latency, _)| latency)
}

/// The same while other subscribers of the channel have stopped reading and
/// their queues are being filled.
pub(super) fn run_beside_stalled(
    engine: &mut Engine,
    side: &mut Side,
    stalled: &Stalled,
    size: u32,
    duration: Duration,
) -> anyhow::Result<Latency> {
    for &client in &stalled.clients {
        engine.stall(client)?;
    }
    let memory = proc::memory(side.server.pid)?;
    let (latency, sent) = measure(engine, side, 1, size, duration, Some(stalled))?;
    for &client in &stalled.clients {
        engine.resume(client)?;
    }
    // Those that the server closed find out when they read on.
    engine.turn_until(Duration::from_secs(5), |_| false)?;
    let tally = engine.tally(stalled.group);
    let flooded = engine.tally(stalled.publishers).acknowledged * u64::from(FLOOD_SIZE);
    say(&format!(
        "{}: {} subscribers stopped reading while {:.1} MB came for each: {} were closed \
         (codes that reached them: {:?}), server memory rose by {:.1} MiB at most",
        side.server.name,
        stalled.clients.len(),
        flooded as f64 / 1e6,
        tally.lost,
        tally.closes,
        sent.rss_max.saturating_sub(memory.rss) as f64 / 1_048_576.0,
    ));
    Ok(latency)
}

fn measure(
    engine: &mut Engine,
    side: &mut Side,
    publishers: usize,
    size: u32,
    duration: Duration,
    stalled: Option<&Stalled>,
) -> anyhow::Result<(Latency, Sent)> {
    let (server, own) = (side.server.pid, std::process::id());
    let (server_cpu, own_cpu) = (proc::cpu_seconds(server)?, proc::cpu_seconds(own)?);
    let thread_cpu = proc::cpu_seconds_of_thread()?;
    let machine = Machine::now();
    let started = Instant::now();
    let pushes = engine.tally(side.group).pushes;
    engine.record(side.group, true)?;
    let sent = schedule(engine, side, publishers, size, duration, stalled)?;

    let wanted = pushes + sent.publications * side.subscribers;
    engine.turn_until(RECEIVED_WITHIN, |engine| {
        engine.tally(side.group).pushes >= wanted
    })?;
    let missing = wanted.saturating_sub(engine.tally(side.group).pushes);
    let histogram = engine
        .record(side.group, false)?
        .context("latencies were not recorded")?;
    let seconds = started.elapsed().as_secs_f64();
    let server_cpu = proc::cpu_seconds(server)? - server_cpu;
    let own_cpu = proc::cpu_seconds(own)? - own_cpu;
    let thread_cpu = proc::cpu_seconds_of_thread()? - thread_cpu;
    let latency = Latency {
        histogram,
        missing,
        late_percent: 100.0 * sent.late as f64 / sent.publications.max(1) as f64,
        server_percent: 100.0 * server_cpu / seconds,
        generator_percent: 100.0 * thread_cpu / seconds,
        foreign_percent: machine.foreign_percent_since(server_cpu + own_cpu),
    };
    Ok((latency, sent))
}

/// What was sent.
struct Sent {
    publications: u64,
    late: u64,
    /// Most resident memory of the server meanwhile, if subscribers were stalled.
    rss_max: u64,
}

fn schedule(
    engine: &mut Engine,
    side: &mut Side,
    publishers: usize,
    size: u32,
    duration: Duration,
    stalled: Option<&Stalled>,
) -> anyhow::Result<Sent> {
    let interval = 1_000_000_000 / PER_SECOND;
    let first = engine.nanos() + interval;
    let total = PER_SECOND * duration.as_secs();
    let mut sent = Sent {
        publications: 0,
        late: 0,
        rss_max: 0,
    };
    let mut frames = Vec::new();
    while sent.publications < total {
        let due = first + sent.publications * interval;
        let now = engine.nanos();
        if now < due {
            // Below a millisecond this polls without waiting: the last stretch is spun.
            engine.turn(Duration::from_nanos(due - now))?;
            continue;
        }
        sent.late += u64::from(now - due > LATE.as_nanos() as u64);
        frames.clear();
        side.publication(&mut frames, CHANNEL, size, due);
        engine.send(
            side.publishers[sent.publications as usize % publishers],
            &frames,
        );
        if let Some(stalled) = stalled {
            frames.clear();
            side.publication(&mut frames, FLOOD_CHANNEL, FLOOD_SIZE, due);
            engine.send(stalled.publisher, &frames);
            sent.rss_max = sent.rss_max.max(proc::memory(side.server.pid)?.rss);
        }
        sent.publications += 1;
        engine.turn(Duration::ZERO)?;
    }
    Ok(sent)
}

/// Publications per second of all publishers together.
const PER_SECOND: u64 = 20;

/// A publication sent later than this after it was due missed the schedule; the
/// delay counts as latency all the same.
const LATE: Duration = Duration::from_millis(5);

/// Bytes of each publication that fills the queues of those that do not read.
/// The kernel takes up to 4 MiB per socket before the server's own queue grows,
/// which 640 KB/s fill within a run of ten seconds.
const FLOOD_SIZE: u32 = 32 * 1024;

const RECEIVED_WITHIN: Duration = Duration::from_secs(5);
