//! Connections opened and closed as fast as they go.
//!
//! Each client connects, upgrades, authenticates, and leaves by the closing
//! handshake; as many as given are under way at any time. What counts is that
//! memory comes back to where it was and what a handshake costs in CPU time,
//! beside the reference.

use std::time::{Duration, Instant};

use clap::Args;

use crate::Subjects;
use crate::client::{Engine, Opening};
use crate::idle::{HANDSHAKES_AT_ONCE, settle};
use crate::proc::{self, Machine, Memory};
use crate::report::{JsonLine, Table, Void, grouped, mebibytes, say};
use crate::server_process::{Secure, Server, Setup, tidegate_executable};
use crate::token::Mint;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long connections are opened and closed on each server.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Connections under way at the same time.
    #[arg(long, default_value_t = HANDSHAKES_AT_ONCE)]
    at_once: usize,
    #[command(flatten)]
    subjects: Subjects,
}

/// What the churn on one server came to.
struct Measured {
    name: String,
    /// After the first [`TOKENS`] connections.
    first: Memory,
    before: Memory,
    after: Memory,
    handshakes: u64,
    seconds: f64,
    cpu_seconds: f64,
    generator_percent: f64,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    say(&proc::describe());
    let mut void = Void::default();
    let machine = Machine::now();
    let mut results = Vec::new();
    if !options.subjects.peers_only {
        let executable = tidegate_executable(options.subjects.tidegate.as_deref())?;
        let setup = Setup {
            secure: Secure::None,
            ping_interval_seconds: 25,
            demo: false,
        };
        results.push(measure(
            &Server::tidegate(&executable, setup)?,
            options,
            &mut void,
        )?);
        results.push(measure(&Server::reference(25)?, options, &mut void)?);
    }
    for peer in &options.subjects.peer {
        let server = Server::peer(peer, &options.subjects.peer_secret)?;
        results.push(measure(&server, options, &mut void)?);
    }
    void.when(machine.steal_percent_since() > 2.0, || {
        format!(
            "{:.1} % of CPU time was stolen",
            machine.steal_percent_since()
        )
    });
    print(&results, &void);
    Ok(())
}

fn measure(server: &Server, options: &Options, void: &mut Void) -> anyhow::Result<Measured> {
    let mint = Mint::new(&server.secret)?;
    // Signed beforehand: the generator's CPU time is the servers' loss.
    let tokens = (0..TOKENS)
        .map(|number| mint.token(number))
        .collect::<Result<Vec<_>, _>>()?;
    let opening = |number: usize| Opening::leave(tokens[number % TOKENS].clone());
    let mut engine = Engine::new()?;
    let group = engine.group(server.address.clone());
    engine.open_all(group, TOKENS, options.at_once, |number| Ok(opening(number)))?;
    let first = settle(&mut engine, server.pid)?;
    let mut number = 0;
    let mut churn = |engine: &mut Engine, duration: Duration| {
        let started = Instant::now();
        while started.elapsed() < duration {
            while engine.tally(group).opening < options.at_once {
                engine.open(group, opening(number));
                number += 1;
            }
            engine.turn(Duration::from_millis(20))?;
        }
        anyhow::Ok(())
    };
    let empty = |engine: &mut Engine| {
        engine.turn_until(Duration::from_secs(5), |engine| {
            engine.tally(group).opening == 0
        })
    };
    churn(&mut engine, WARM_UP)?;
    empty(&mut engine)?;
    let before = settle(&mut engine, server.pid)?;

    let own = std::process::id();
    let (cpu, own_cpu) = (proc::cpu_seconds(server.pid)?, proc::cpu_seconds(own)?);
    let left_before = engine.tally(group).left;
    let started = Instant::now();
    churn(&mut engine, Duration::from_secs(options.seconds))?;
    let seconds = started.elapsed().as_secs_f64();
    let handshakes = engine.tally(group).left - left_before;
    let cpu_seconds = proc::cpu_seconds(server.pid)? - cpu;
    let generator_percent = 100.0 * (proc::cpu_seconds(own)? - own_cpu) / seconds;
    let emptied = empty(&mut engine)?;
    let after = settle(&mut engine, server.pid)?;

    let tally = engine.tally(group);
    let name = server.name.clone();
    void.when(!emptied, || {
        format!("{name}: {} connections did not close", tally.opening)
    });
    void.when(tally.failed > 0, || {
        format!(
            "{name}: {} connections failed ({})",
            tally.failed,
            tally.complaints.join("; ")
        )
    });
    for warning in server.warnings() {
        say(&format!("{name} logged: {warning}"));
    }
    Ok(Measured {
        name,
        first,
        before,
        after,
        handshakes,
        seconds,
        cpu_seconds,
        generator_percent,
    })
}

impl Measured {
    fn per_cpu_second(&self) -> f64 {
        self.handshakes as f64 / self.cpu_seconds
    }

    fn growth_percent(&self) -> f64 {
        100.0 * (self.after.rss as f64 / self.before.rss as f64 - 1.0)
    }
}

fn print(results: &[Measured], void: &Void) {
    say("");
    say("Connect, authenticate, leave:");
    let mut table = Table::new(&[
        "server",
        "handshakes",
        "per second",
        "per CPU-second",
        "MiB early",
        "MiB before",
        "MiB after",
        "growth %",
        "generator CPU %",
    ]);
    for result in results {
        table.row(vec![
            result.name.clone(),
            grouped(result.handshakes as f64),
            grouped(result.handshakes as f64 / result.seconds),
            grouped(result.per_cpu_second()),
            mebibytes(result.first.rss),
            mebibytes(result.before.rss),
            mebibytes(result.after.rss),
            format!("{:.1}", result.growth_percent()),
            format!("{:.0}", result.generator_percent),
        ]);
    }
    table.print();
    void.print();
    let named = |name: &str| results.iter().find(|result| result.name == name);
    let tidegate = named("tidegate");
    let reference = named("reference").map(Measured::per_cpu_second);
    let mut line = JsonLine::new("churn");
    line.count(
        "rss_before",
        tidegate.map(|result| result.before.rss as i64),
    )
    .count("rss_after", tidegate.map(|result| result.after.rss as i64))
    .figure("rss_growth_percent", tidegate.map(Measured::growth_percent))
    .figure(
        "handshakes_per_cpu_second",
        tidegate.map(Measured::per_cpu_second),
    )
    .figure("reference_handshakes_per_cpu_second", reference);
    line.count("rss_early", tidegate.map(|result| result.first.rss as i64));
    for result in results {
        if !["tidegate", "reference"].contains(&result.name.as_str()) {
            let key = format!("{}_handshakes_per_cpu_second", result.name);
            line.figure(&key, result.per_cpu_second());
        }
    }
    line.texts("void", void.reasons()).print();
}

/// Users that come and go, and connections before the first look at the memory.
const TOKENS: usize = 1000;

/// Long enough for the allocator to have its arenas and for the code in use to
/// be resident: both are a matter of load, not of time, and come once.
const WARM_UP: Duration = Duration::from_secs(8);
