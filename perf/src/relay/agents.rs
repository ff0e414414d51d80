//! Very many agents: dialled when there is something for them, no more at a time than allowed,
//! closed when they have nothing to do, and one log for all.
//!
//! The agents are paths of one scripted agent. Each gets a message over HTTP. Two servers are
//! asked: one that may hold only a part of the connections and closes them soon, and one that
//! may hold all, to see what a connection costs.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use testkit::{http, stratix_agent};

use super::{Place, descriptors, files_below, void_of_machine};
use crate::proc::{self, Machine};
use crate::report::{JsonLine, Table, Void, grouped, mebibytes, say};
use crate::server_process::Server;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Agents; each takes a descriptor here and one in the gateway.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=15_000))]
    agents: u32,
    /// Most connections of the server that may not hold all.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Seconds after which that server closes a connection that carries nothing.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
    idle: u32,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut void = Void::default();
    let executable = options.place.prepare(&mut void)?;
    let machine = Machine::now();
    let capped = capped(&executable, options)?;
    let open = open(&executable, options)?;
    let agents = f64::from(options.agents);
    void.when(capped.most_open > options.connections as usize, || {
        format!("{} connections were open at once", capped.most_open)
    });
    void.when(capped.files_after > capped.files_before + SEGMENTS, || {
        format!(
            "{} files instead of {}",
            capped.files_after, capped.files_before
        )
    });
    void_of_machine(&mut void, machine);
    let per_resting = capped.resting.saturating_sub(capped.fresh) as f64 / agents;
    say(&format!(
        "{} agents, at most {} connections: all reached in {:.1} s ({}/s), {} open at once at most, none \
         {:.1} s later",
        grouped(agents),
        grouped(f64::from(options.connections)),
        capped.reached.as_secs_f64(),
        grouped(agents / capped.reached.as_secs_f64()),
        grouped(capped.most_open as f64),
        capped.closed.as_secs_f64(),
    ));
    say(&format!(
        "{} agents, all connected: all reached in {:.1} s ({}/s)",
        grouped(agents),
        open.reached.as_secs_f64(),
        grouped(agents / open.reached.as_secs_f64()),
    ));
    say("");
    let mut table = Table::new(&["the gateway", "RSS MiB", "files", "descriptors"]);
    let mut row = |name: &str, rss: u64, files: usize, descriptors: usize| {
        table.row(vec![
            name.to_owned(),
            mebibytes(rss),
            files.to_string(),
            descriptors.to_string(),
        ]);
    };
    let Capped {
        files_before,
        files_after,
        ..
    } = capped;
    row(
        "started",
        capped.fresh,
        files_before,
        capped.descriptors_before,
    );
    row(
        "as many connected as may",
        capped.busy,
        files_after,
        capped.descriptors_busy,
    );
    row(
        "all reached, none connected",
        capped.resting,
        files_after,
        capped.descriptors_after,
    );
    row("all connected", open.rss, open.files, open.descriptors);
    table.print();
    say(&format!(
        "bytes of memory per agent: {per_resting:.0} at rest, what is remembered of its message included; {:.0} \
         more when connected",
        open.per_connected
    ));
    void.print();
    JsonLine::new("agents")
        .count("agents", i64::from(options.agents))
        .count("connections_max", i64::from(options.connections))
        .count("most_open", i64::try_from(capped.most_open)?)
        .figure("reached_capped_s", capped.reached.as_secs_f64())
        .figure("reached_open_s", open.reached.as_secs_f64())
        .figure("all_closed_after_s", capped.closed.as_secs_f64())
        .figure("bytes_per_resting_agent", per_resting)
        .figure("bytes_per_connected_agent", open.per_connected)
        .count("files", i64::try_from(capped.files_after)?)
        .count(
            "descriptors_at_rest",
            i64::try_from(capped.descriptors_after)?,
        )
        .texts("void", void.reasons())
        .print();
    Ok(())
}

/// What came of the server that may not hold all connections.
struct Capped {
    fresh: u64,
    busy: u64,
    resting: u64,
    reached: Duration,
    closed: Duration,
    most_open: usize,
    files_before: usize,
    files_after: usize,
    descriptors_before: usize,
    descriptors_busy: usize,
    descriptors_after: usize,
}

fn capped(executable: &Path, options: &Options) -> anyhow::Result<Capped> {
    let agents = agents()?;
    let idle = Duration::from_secs(options.idle.into());
    let server = server(executable, options, &agents, options.connections, idle)?;
    let data = server.data_folder()?;
    let (fresh, files_before) = (proc::memory(server.pid)?.rss, files_below(&data)?);
    let descriptors_before = descriptors(server.pid)?;
    let started = Instant::now();
    reach(&server, 0..options.agents)?;
    let reached = started.elapsed();
    let busy = proc::memory(server.pid)?.rss;
    let descriptors_busy = descriptors(server.pid)?;
    let started = Instant::now();
    wait("all connections are closed", || {
        Ok(server.metric("tidegate_relay_agents_up")? < 0.5)
    })?;
    let closed = started.elapsed();
    let ledger = agents.ledger();
    ensure!(
        ledger.received.len() == options.agents as usize,
        "{} messages came to the agents",
        ledger.received.len()
    );
    Ok(Capped {
        fresh,
        busy,
        resting: proc::memory(server.pid)?.rss,
        reached,
        closed,
        most_open: ledger.most_open,
        files_before,
        files_after: files_below(&data)?,
        descriptors_before,
        descriptors_busy,
        descriptors_after: descriptors(server.pid)?,
    })
}

/// What came of the server that may.
struct Open {
    rss: u64,
    per_connected: f64,
    reached: Duration,
    files: usize,
    descriptors: usize,
}

fn open(executable: &Path, options: &Options) -> anyhow::Result<Open> {
    let agents = agents()?;
    let server = server(
        executable,
        options,
        &agents,
        options.agents,
        Duration::from_secs(600),
    )?;
    // Pools, caches and code pages are there after the first tenth.
    let warm = options.agents / 10;
    let started = Instant::now();
    reach(&server, 0..warm)?;
    let before = proc::memory(server.pid)?.rss;
    reach(&server, warm..options.agents)?;
    let reached = started.elapsed();
    wait("all agents are connected", || {
        Ok(server.metric("tidegate_relay_agents_up")? >= f64::from(options.agents))
    })?;
    let rss = proc::memory(server.pid)?.rss;
    Ok(Open {
        rss,
        per_connected: rss.saturating_sub(before) as f64 / f64::from(options.agents - warm),
        reached,
        files: files_below(&server.data_folder()?)?,
        descriptors: descriptors(server.pid)?,
    })
}

fn agents() -> anyhow::Result<stratix_agent::StratixAgent> {
    stratix_agent::StratixAgent::start(stratix_agent::Behaviour {
        acks: true,
        ..stratix_agent::Behaviour::default()
    })
}

fn server(
    executable: &Path,
    options: &Options,
    agents: &stratix_agent::StratixAgent,
    connections: u32,
    idle: Duration,
) -> anyhow::Result<Server> {
    let routes: String = (0..options.agents)
        .map(|agent| {
            let url = agents.url(&format!("/{agent}"));
            format!(
                "\n    - {{ client_id: \"client-{agent}\", agent: \"{url}\", protocol: stratix, \
                 acks: true, idle_timeout: {}s }}",
                idle.as_secs()
            )
        })
        .collect();
    let relay = format!(
        "\n  auth: none\n  history: {{ per_client: 0 }}\n  connections_max: {connections}\n  routes:{routes}"
    );
    Server::relay(executable, &relay)
}

/// Sends a message to each of these agents, and waits until all have been delivered.
fn reach(server: &Server, agents: std::ops::Range<u32>) -> anyhow::Result<()> {
    let delivered = server.metric(DELIVERED)?;
    let wanted = delivered + f64::from(agents.end - agents.start);
    let address = server.address.socket;
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|nth| {
                let own = agents.clone().skip(nth).step_by(SENDERS);
                scope.spawn(move || send(address, own))
            })
            .collect();
        senders.into_iter().try_for_each(|sender| {
            let sent = sender.join();
            sent.unwrap_or_else(|_| Err(anyhow::anyhow!("a sender panicked")))
        })
    })?;
    wait("all agents have got their message", || {
        Ok(server.metric(DELIVERED)? >= wanted)
    })
}

fn send(address: SocketAddr, agents: impl Iterator<Item = u32>) -> anyhow::Result<()> {
    let mut stream = http::connect(address)?;
    let mut received = Vec::new();
    for agent in agents {
        let body = format!(
            "{{\"clientId\":\"client-{agent}\",\"messageId\":\"m-{agent}\",\"data\":\"hello\"}}"
        );
        let request = format!(
            "POST /relay/v1/messages HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let response = http::read_response(&mut stream, &mut received)
            .with_context(|| format!("message to agent {agent} was not answered"))?;
        received.clear();
        ensure!(
            response.status == 202,
            "message to agent {agent} was answered with {}: {}",
            response.status,
            response.text()
        );
    }
    Ok(())
}

fn wait(what: &str, mut is_so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

const DELIVERED: &str = "tidegate_relay_delivered_total";

/// Connections that messages are sent over.
const SENDERS: usize = 8;

/// Segments that a log may have begun meanwhile.
const SEGMENTS: usize = 4;

/// For each step.
const PATIENCE: Duration = Duration::from_secs(120);
