//! A table of a million routes: how long it takes to build and to swap, what a lookup costs,
//! how much memory a route takes.
//!
//! Half of the routes are numeric ranges, three tenths exact ids, two tenths prefixes of
//! several lengths; the agents are as many as asked for. Clients are drawn at random from
//! all three kinds and from ids without a route.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;
use router::table::{Builder, RouteTable, Rule};
use upstream::ws_agent::{AgentAuth, DataEncoding, Peer, Target};

use crate::proc;
use crate::report::{JsonLine, Table, grouped, say};

/// Clients that are drawn before the clock runs; more than caches hold.
const CLIENTS: usize = 1 << 20;

/// Rounds over all clients; the median counts.
const ROUNDS: usize = 7;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many routes.
    #[arg(long, default_value_t = 1_000_000)]
    routes: usize,
    /// How many agents they lead to.
    #[arg(long, default_value_t = 10_000)]
    agents: usize,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        options.routes >= 10 && options.agents >= 1,
        "there must be at least 10 routes and an agent"
    );
    let before = proc::memory(std::process::id())?.anonymous;
    let (table, build) = timed(|| build(options));
    let table = table?;
    let taken = proc::memory(std::process::id())?
        .anonymous
        .saturating_sub(before);
    let bytes_per_route = taken as f64 / options.routes as f64;
    // A reload builds the new table while the old one serves, then swaps.
    let (swapped, reload) = timed(|| build_again(options, &table));
    swapped?;
    let mut rows = Table::new(&["clients", "ns", "found"]);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut mixed = 0.0;
    for (name, kinds) in [
        ("ranges", &[0][..]),
        ("exact ids", &[1]),
        ("prefixes", &[2]),
        ("none", &[3]),
        ("all, mixed", &[0, 1, 2, 3]),
    ] {
        let clients = clients(options, kinds, &mut random);
        let (ns, found) = lookups(&table, &clients);
        let share = format!("{:.0} %", 100.0 * found as f64 / clients.len() as f64);
        rows.row(vec![name.to_owned(), format!("{ns:.0}"), share]);
        mixed = ns;
    }
    say(&format!(
        "{} routes to {} agents: built in {:.0} ms, built again beside it and swapped in {:.0} ms, {:.1} bytes per route",
        grouped(options.routes as f64),
        grouped(table.agents().len() as f64),
        millis(build),
        millis(reload),
        bytes_per_route
    ));
    rows.print();
    JsonLine::new("routes")
        .count("routes", i64::try_from(options.routes)?)
        .count("agents", i64::try_from(table.agents().len())?)
        .figure("lookup_ns", mixed)
        .figure("bytes_per_route", bytes_per_route)
        .figure("build_ms", millis(build))
        .figure("reload_ms", millis(reload))
        .print();
    Ok(())
}

fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let outcome = act();
    (outcome, start.elapsed())
}

fn build(options: &Options) -> anyhow::Result<RouteTable> {
    let mut builder = Builder::default();
    for index in 0..options.routes {
        let agent = target(index % options.agents);
        let rule = match index % 10 {
            0..5 => Rule::prefix(&range(index), vec![agent]),
            5..8 => Rule::exact(&exact(index), agent),
            _ => Rule::prefix(&prefix(index), vec![agent]),
        };
        builder.add(rule?)?;
    }
    Ok(builder.build())
}

fn build_again(options: &Options, running: &RouteTable) -> anyhow::Result<()> {
    let mut current = Arc::new(RouteTable::default());
    let fresh = Arc::new(build(options)?);
    ensure!(fresh.len() == running.len(), "two builds differ");
    drop(std::mem::replace(&mut current, fresh));
    black_box(&current);
    Ok(())
}

/// Numbers of a range; ranges of a name follow each other.
const RANGE: usize = 1_000;
/// Names that have ranges.
const NAMES: usize = 1_000;

fn range(index: usize) -> String {
    let (name, nth) = (index % NAMES, index / NAMES);
    format!("client{name}-{}-{}", nth * RANGE, nth * RANGE + RANGE - 1)
}

fn exact(index: usize) -> String {
    format!("device-{index:x}")
}

/// Prefixes of eight lengths.
fn prefix(index: usize) -> String {
    format!("tenant/{}{index:x}/", "x".repeat(index / 10 % 8))
}

fn target(agent: usize) -> Target {
    Target {
        url: Arc::from(format!("ws://agent-{agent}.example.com:8080/ws")),
        peer: Peer::OpenClaw,
        auth: AgentAuth::None,
        tls_fingerprint: None,
        agent_id: Arc::from("main"),
        deltas: false,
        acks: false,
        data_encoding: DataEncoding::Auto,
        dial_timeout: Duration::from_secs(10),
        try_timeout: Duration::from_secs(30),
        in_flight: 256,
        idle_timeout: Duration::from_secs(300),
    }
}

/// Client ids of these kinds: in a range, exact, below a prefix, without a route.
fn clients(options: &Options, kinds: &[usize], random: &mut Random) -> Vec<String> {
    let client = |nth: usize| {
        let rows = options.routes / 10 * 10;
        let row = random.below(rows) / 10 * 10;
        match kinds[nth % kinds.len()] {
            0 => {
                let index = row + random.below(5);
                let number = index / NAMES * RANGE + random.below(RANGE);
                format!("client{}-{number}", index % NAMES)
            }
            1 => exact(row + 5 + random.below(3)),
            2 => format!(
                "{}user-{}",
                prefix(row + 8 + random.below(2)),
                random.below(1_000)
            ),
            _ => format!("nobody-{}", random.below(1_000_000)),
        }
    };
    (0..CLIENTS).map(client).collect()
}

/// Nanoseconds of a lookup, and how many clients have a route.
fn lookups(table: &RouteTable, clients: &[String]) -> (f64, usize) {
    let mut times = Vec::new();
    let mut found = 0;
    for _ in 0..ROUNDS {
        let (count, time) = timed(|| {
            let matches = clients.iter().filter_map(|client| table.lookup(client));
            matches
                .inspect(|found| {
                    black_box(found.rule);
                })
                .count()
        });
        found = count;
        times.push(time.as_nanos() as f64 / clients.len() as f64);
    }
    times.sort_by(f64::total_cmp);
    (times[ROUNDS / 2], found)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// Marsaglia's xorshift, so that runs repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}
