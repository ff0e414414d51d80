//! What a resting connection costs in memory.
//!
//! Each variant runs against a fresh server. A part of the connections is
//! opened and closed first, then opened again and held: pools, caches and code
//! pages are then there and do not count as connections. From that state to the
//! full number the resident memory grows by the bytes of the rest: a slope, to
//! which memory freed in the warm-up contributes nothing on either side.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;

use crate::Subjects;
use crate::client::{Engine, GroupId, Opening};
use crate::proc::{self, Memory};
use crate::report::{JsonLine, Table, Void, grouped, mebibytes, say};
use crate::server_process::{Secure, Server, Setup, tidegate_executable};
use crate::token::Mint;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Connections held open at the same time.
    #[arg(long, default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(10..))]
    connections: u32,
    /// Seconds between the server's pings; one round is waited for.
    #[arg(long, default_value_t = 10)]
    ping_interval: u64,
    #[command(flatten)]
    subjects: Subjects,
}

/// A way to be connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Bare,
    Subscribed,
    Tls,
}

/// What a variant came to.
struct Measured {
    label: String,
    /// Resident bytes per connection, as the slope from the warm state.
    bytes: f64,
    /// The same of anonymous memory.
    anonymous: f64,
    /// Resident bytes per connection counted from the fresh process, start-up included.
    with_start: f64,
    /// Kernel memory per connection, both ends.
    kernel: f64,
    fresh: Memory,
    full: Memory,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let connections = options.connections as usize;
    say(&proc::describe());
    let needed = u64::from(options.connections) + 200;
    ensure!(
        proc::files_max() >= needed,
        "{connections} connections need {needed} files per process; the limit is {}",
        proc::files_max(),
    );
    let mut void = Void::default();
    let mut results = Vec::new();
    if !options.subjects.peers_only {
        let executable = tidegate_executable(options.subjects.tidegate.as_deref())?;
        for variant in [Variant::Bare, Variant::Subscribed, Variant::Tls] {
            let server = tidegate(&executable, variant, options.ping_interval)?;
            results.push(measure(&server, variant, options, &mut void)?);
        }
        let server = Server::reference(options.ping_interval)?;
        results.push(measure(&server, Variant::Bare, options, &mut void)?);
    }
    for peer in &options.subjects.peer {
        for variant in [Variant::Bare, Variant::Subscribed] {
            let server = Server::peer(peer, &options.subjects.peer_secret)?;
            results.push(measure(&server, variant, options, &mut void)?);
        }
    }
    print(&results, connections, &void);
    Ok(())
}

fn tidegate(executable: &Path, variant: Variant, ping_interval: u64) -> anyhow::Result<Server> {
    let secure = match variant {
        Variant::Tls => Secure::Main,
        Variant::Bare | Variant::Subscribed => Secure::None,
    };
    let setup = Setup {
        secure,
        ping_interval_seconds: ping_interval,
        demo: false,
    };
    Server::tidegate(executable, setup)
}

fn measure(
    server: &Server,
    variant: Variant,
    options: &Options,
    void: &mut Void,
) -> anyhow::Result<Measured> {
    let label = format!("{} {}", server.name, variant.label());
    let connections = options.connections as usize;
    let held = (connections / 10).clamp(1, 1000);
    let mint = Mint::new(&server.secret)?;
    let channels: Vec<Arc<str>> = match variant {
        Variant::Subscribed => (0..connections.div_ceil(10))
            .map(|index| format!("c{index}").into())
            .collect(),
        Variant::Bare | Variant::Tls => Vec::new(),
    };
    let opening = |number: usize| -> anyhow::Result<Opening> {
        let channel = channels.get(number % channels.len().max(1)).map(Arc::clone);
        Ok(Opening::stay(mint.token(number)?, channel))
    };

    let mut engine = Engine::new()?;
    let group = engine.group(server.address.clone());
    let fresh = settle(&mut engine, server.pid)?;
    engine.open_all(group, held, HANDSHAKES_AT_ONCE, |number| {
        Ok(Opening::leave(mint.token(number)?))
    })?;
    engine.open_all(group, held, HANDSHAKES_AT_ONCE, &opening)?;
    let warm = settle(&mut engine, server.pid)?;
    let kernel_warm = proc::kernel();

    let started = Instant::now();
    let rest = connections - held;
    engine.open_all(group, rest, HANDSHAKES_AT_ONCE, |number| {
        opening(held + number)
    })?;
    let opened_in = started.elapsed();
    let pinged = await_pings(&mut engine, group, connections, options.ping_interval)?;
    void.when(!pinged, || {
        format!("{label}: not every connection was pinged in time")
    });
    let full = settle(&mut engine, server.pid)?;
    let kernel_full = proc::kernel();

    let tally = engine.tally(group);
    void.when(tally.lost > 0, || {
        format!(
            "{label}: {} connections were lost ({})",
            tally.lost,
            tally.complaints.join("; ")
        )
    });
    say(&format!(
        "{label}: {connections} connections, {:.0}/s, {} pings",
        rest as f64 / opened_in.as_secs_f64(),
        tally.pings,
    ));
    for warning in server.warnings() {
        say(&format!("{label} logged: {warning}"));
    }
    let slope = |from: u64, to: u64| (to as f64 - from as f64) / rest as f64;
    Ok(Measured {
        label,
        bytes: slope(warm.rss, full.rss),
        anonymous: slope(warm.anonymous, full.anonymous),
        with_start: (full.rss as f64 - fresh.rss as f64) / connections as f64,
        kernel: slope(
            kernel_warm.slab + kernel_warm.buffers,
            kernel_full.slab + kernel_full.buffers,
        ),
        fresh,
        full,
    })
}

/// Waits until the resident memory has stopped to move and returns it.
pub(crate) fn settle(engine: &mut Engine, pid: u32) -> anyhow::Result<Memory> {
    let started = Instant::now();
    let mut recent: VecDeque<u64> = VecDeque::new();
    loop {
        let next = Instant::now() + SAMPLE_EVERY;
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            engine.turn(left + Duration::from_millis(1))?;
        }
        let memory = proc::memory(pid)?;
        recent.push_back(memory.rss);
        if recent.len() > STABLE_SAMPLES {
            recent.pop_front();
        }
        let (least, most) = recent.iter().fold((u64::MAX, 0), |(least, most), &rss| {
            (least.min(rss), most.max(rss))
        });
        let stable = recent.len() == STABLE_SAMPLES && most - least <= most / 500;
        if stable || started.elapsed() > SETTLE_WITHIN {
            return Ok(memory);
        }
    }
}

/// Waits until as many pings have come since now as there are connections.
fn await_pings(
    engine: &mut Engine,
    group: GroupId,
    connections: usize,
    ping_interval: u64,
) -> anyhow::Result<bool> {
    let wanted = engine.tally(group).pings + connections as u64;
    let patience = Duration::from_secs(2 * ping_interval + 5);
    engine.turn_until(patience, |engine| {
        let tally = engine.tally(group);
        tally.pings >= wanted || tally.lost > 0
    })
}

impl Variant {
    fn label(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Subscribed => "subscribed",
            Self::Tls => "tls",
        }
    }
}

fn print(results: &[Measured], connections: usize, void: &Void) {
    say("");
    say("Bytes per resting connection, JWT checked, pinged:");
    let mut table = Table::new(&[
        "variant",
        "RSS",
        "of it anonymous",
        "RSS with start-up",
        "kernel, both ends",
        "MiB fresh",
        "MiB full",
    ]);
    for result in results {
        table.row(vec![
            result.label.clone(),
            grouped(result.bytes),
            grouped(result.anonymous),
            grouped(result.with_start),
            grouped(result.kernel),
            mebibytes(result.fresh.rss),
            mebibytes(result.full.rss),
        ]);
    }
    table.print();
    void.print();
    let bytes = |label: &str| {
        let found = results.iter().find(|result| result.label == label);
        found.map(|result| result.bytes.round() as i64)
    };
    let mut line = JsonLine::new("idle");
    line.count("connections", connections as i64)
        .count("bare_bytes", bytes("tidegate bare"))
        .count("subscribed_bytes", bytes("tidegate subscribed"))
        .count("tls_bytes", bytes("tidegate tls"))
        .count("reference_bytes", bytes("reference bare"));
    for result in results {
        if !result.label.starts_with("tidegate ") && !result.label.starts_with("reference ") {
            let key = format!("{}_bytes", result.label.replace(' ', "_"));
            line.count(&key, result.bytes.round() as i64);
        }
    }
    line.texts("void", void.reasons()).print();
}

/// Connections under way at the same time.
pub(crate) const HANDSHAKES_AT_ONCE: usize = 64;

const SAMPLE_EVERY: Duration = Duration::from_millis(200);

/// Memory is stable when it moved by at most 0.2 % over this many samples.
const STABLE_SAMPLES: usize = 8;

/// Memory that still moves after this long is taken as it is.
const SETTLE_WITHIN: Duration = Duration::from_secs(15);
