//! Load, measured: how many bytes a connection costs, how many deliveries a
//! CPU-second buys, how late a message comes.
//!
//! Most commands drive servers that speak the Centrifuge client protocol:
//! Tidegate (built and started here), the reference broadcaster (this program
//! again, as a child) and any peer named on the command line; others compare a
//! part of Tidegate with the programs that are known for it. What a server
//! costs is read from `/proc`, so servers and generator share one machine; the
//! figures that matter are therefore ratios within one run and costs per unit
//! of work, not peaks (`docs/internals/performance.md`).
//!
//! Every command prints tables for people and, as its last line, one JSON
//! object for machines.

#![expect(
    clippy::disallowed_methods,
    reason = "a load generator lives by the wall clock and waits on other processes"
)]

mod busy;
mod churn;
mod client;
mod fanout;
mod frame;
mod idle;
mod live;
mod outbox;
mod proc;
mod proxy;
mod quantum;
mod reference;
mod relay;
mod report;
mod routes;
mod server_process;
mod slow;
mod token;

use clap::{Args, Parser, Subcommand};

use crate::server_process::Peer;

/// Load generator for servers that speak the Centrifuge client protocol.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bytes of server memory per resting connection.
    Idle(idle::Options),
    /// Deliveries per CPU-second and latency of one channel with many subscribers.
    Fanout(fanout::Options),
    /// Connections opened and closed as fast as they go.
    Churn(churn::Options),
    /// A route table of the relay: lookups, memory, building it again.
    Routes(routes::Options),
    /// Durable records per second, beside Redis and nats-server.
    Outbox(outbox::Options),
    /// Messages through the relay to an agent and back, at a constant rate.
    Relay(relay::echo::Options),
    /// Ten thousand agents, dialled when they are needed.
    Agents(relay::agents::Options),
    /// Messages that pile up for an agent that is away.
    Backlog(relay::backlog::Options),
    /// Requests through the proxy, beside nginx and HAProxy; event streams held.
    Proxy(proxy::Options),
    /// Market data from the aggregator over NATS to many clients, at the pace of a screen.
    Live(live::Options),
    /// Calls over Quantum beside TCP, quinn and KCP on an emulated link that loses packets.
    Quantum(quantum::Options),
    /// A client that reads 1 KiB a second among many that read all.
    Slow(slow::Options),
    /// Runs the server behind the proxies (what `proxy` starts for itself).
    #[command(hide = true)]
    ProxyOrigin(proxy::origin::Options),
    /// Runs the reference broadcaster (what the other commands start for themselves).
    Reference(reference::Options),
}

/// Which servers are driven.
#[derive(Debug, Args)]
struct Subjects {
    /// Tidegate's executable; without it `cargo build --release -p tidegate` makes one.
    #[arg(long, value_name = "FILE")]
    tidegate: Option<std::path::PathBuf>,
    /// Another server to drive: `name=ws://host:port/path,pid=N`. May be repeated.
    #[arg(long, value_name = "PEER")]
    peer: Vec<Peer>,
    /// Drives only the peers.
    #[arg(long, requires = "peer")]
    peers_only: bool,
    /// HS256 secret that peers check tokens with.
    #[arg(long, value_name = "SECRET", default_value = token::SECRET)]
    peer_secret: String,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Idle(options) => idle::run(&options),
        Command::Fanout(options) => fanout::run(&options),
        Command::Churn(options) => churn::run(&options),
        Command::Routes(options) => routes::run(&options),
        Command::Outbox(options) => outbox::run(&options),
        Command::Relay(options) => relay::echo::run(&options),
        Command::Agents(options) => relay::agents::run(&options),
        Command::Backlog(options) => relay::backlog::run(&options),
        Command::Proxy(options) => proxy::run(&options),
        Command::Live(options) => live::run(&options),
        Command::Quantum(options) => quantum::run(&options),
        Command::Slow(options) => slow::run(&options),
        Command::ProxyOrigin(options) => proxy::origin::run(&options),
        Command::Reference(options) => reference::run(&options),
    }
}
