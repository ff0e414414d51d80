//! One row of the table: calls over a link that loses, and what became of them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lifecycle::{Clock, Tasks};
use quantum::{Config, Endpoint};
use testkit::{LinkConfig, LossyLink};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::v1::SayRequest;
use crate::ways::{self, Host};

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    /// The share of datagrams that is lost, each way.
    pub(crate) loss: f64,
    pub(crate) fec: bool,
    pub(crate) calls: usize,
}

/// What came of it.
pub(crate) struct Row {
    cell: Cell,
    /// Of all calls, shortest first.
    latencies: Vec<Duration>,
    /// What both sides have counted together.
    lost: u64,
    recovered: u64,
    resent: u64,
    bytes: u64,
}

/// Half the round trip.
const DELAY: Duration = Duration::from_millis(10);
/// 200 calls per second, whether or not those before were answered.
const EVERY: Duration = Duration::from_millis(5);
const SIZE: usize = 1_000;
/// Calls before those that count: a connection has to get to know its path.
const WARM_UP: usize = 100;
const PATIENCE: Duration = Duration::from_secs(30);

impl Cell {
    /// Starts a service, a link and a client, and calls.
    pub(crate) async fn measure(self, keys: &Path) -> anyhow::Result<Row> {
        let host = Host {
            identity: ways::identity(keys)?,
            transport: Config {
                fec_ratio: if self.fec { 0.3 } else { 0.0 },
                ..Config::default()
            },
            tasks: Tasks::new(),
            clock: Clock::start(),
        };
        let server = ways::serve(&host)?;
        let link = LossyLink::start(LinkConfig {
            loss: self.loss,
            delay: DELAY,
            seed: 7,
            ..LinkConfig::to(server.local_addr())
        })?;
        let (endpoint, client) = ways::client(&host, link.address())?;

        let (done, mut answers) = mpsc::channel(self.calls + WARM_UP);
        let data = vec![7; SIZE];
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for number in 0..WARM_UP + self.calls {
            let due = ticks.tick().await.into_std();
            let (mut client, data, done) = (client.clone(), data.clone(), done.clone());
            host.tasks.spawn("call", async move {
                let request = SayRequest { data };
                let answer = client.say(request).await;
                let outcome = answer.map(|_| (number, due.elapsed()));
                // Nobody listens any more only if another call has failed.
                let _ = done.send(outcome).await;
            });
        }
        drop(done);
        let mut latencies = Vec::with_capacity(self.calls);
        while latencies.len() < self.calls {
            let next = tokio::time::timeout(PATIENCE, answers.recv()).await;
            let (number, took) = next
                .context("a call is not answered")?
                .context("an answer is missing")??;
            if number >= WARM_UP {
                latencies.push(took);
            }
        }
        latencies.sort();

        let mut row = Row {
            cell: self,
            latencies,
            lost: 0,
            recovered: 0,
            resent: 0,
            bytes: 0,
        };
        row.add(&server);
        row.add(&endpoint);
        ensure!(host.tasks.stop(PATIENCE).await, "the service does not stop");
        Ok(row)
    }
}

impl Row {
    pub(crate) const HEAD: &str =
        " loss   FEC      p50      p99    p99.9 ms   lost  recovered  resent  bytes/call";

    /// Adds what one side has counted.
    fn add(&mut self, side: &Endpoint) {
        for figures in side.figures().snapshots() {
            self.lost += figures.packets_lost;
            self.recovered += figures.fec_recoveries;
            self.resent += figures.retransmissions;
            self.bytes += figures.sent_bytes;
        }
    }

    /// The latency that this share of the calls did not exceed, in milliseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = (self.latencies.len() as f64 * share).ceil() as usize;
        let latency = self.latencies.get(at.saturating_sub(1).min(last));
        latency.map_or(0.0, |it| it.as_secs_f64() * 1e3)
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let calls = (self.cell.calls + WARM_UP) as u64;
        write!(
            f,
            "{:4} %  {:3} {:8.1} {:8.1} {:8.1}    {:5}  {:9}  {:6}  {:10}",
            self.cell.loss * 100.0,
            if self.cell.fec { "on" } else { "off" },
            self.quantile(0.5),
            self.quantile(0.99),
            self.quantile(0.999),
            self.lost,
            self.recovered,
            self.resent,
            self.bytes / calls,
        )
    }
}

/// Seconds that so many calls take.
pub(crate) fn calls_in(seconds: f64) -> usize {
    (seconds / EVERY.as_secs_f64()) as usize
}

/// One call in each way, as the guide shows them; how long each took.
pub(crate) async fn try_both(keys: &Path) -> anyhow::Result<[Duration; 2]> {
    let host = Host {
        identity: ways::identity(keys)?,
        transport: Config::default(),
        tasks: Tasks::new(),
        clock: Clock::start(),
    };
    let request = || SayRequest {
        data: b"hello".to_vec(),
    };
    let server = ways::serve(&host)?;
    let (_endpoint, mut client) = ways::client(&host, server.local_addr())?;
    let ordered_server = ways::serve_ordered(&host)?;
    let begun = Instant::now();
    client.say(request()).await?;
    let one = begun.elapsed();
    let mut ordered = ways::client_ordered(&host, ordered_server.local_addr()).await?;
    ordered.say(request()).await?;
    let both = begun.elapsed();
    host.tasks.stop(PATIENCE).await;
    Ok([one, both - one])
}
