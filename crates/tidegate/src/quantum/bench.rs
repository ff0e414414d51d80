//! Calls beside each other, as many as go.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use gateway::reload::Source;
use hdrhistogram::Histogram;
use lifecycle::{Clock, Stops, Tasks};
use quantum::codes::close;
use quantum::grpc::Channel;
use tokio::sync::mpsc;

use super::{Peer, echo, say, shown, unreached};

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    peer: Peer,
    /// How long it goes on
    #[arg(short, long, default_value = "5s", value_parser = gateway::tokens::span)]
    duration: Duration,
    /// Calls at the same time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1000))]
    concurrency: u16,
    /// Bytes of a message
    #[arg(short, long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(..=4_000_000))]
    size: u32,
}

/// What one caller has measured.
struct Measured {
    micros: Histogram<u64>,
    failed: u64,
}

impl Bench {
    pub(super) async fn run(self, source: &Source, tasks: Tasks, clock: Clock) -> Result<()> {
        let mut stops = Stops::listen().context("signals can't be listened to")?;
        let (endpoint, channel) = self.peer.channel(source, &tasks, clock)?;
        let address = self.peer.address.clone();
        let message = Bytes::from(vec![b'x'; usize::try_from(self.size)?]);
        let connected = channel.connected().await;
        connected.map_err(|error| unreached(error, &address))?;
        let first = echo::call(&channel, message.clone()).await;
        let status =
            first.map_err(|error| anyhow::anyhow!("{address}: {}", error.status().message()))?;
        anyhow::ensure!(
            status == Some(0),
            "{address} does not serve `tidegate quantum echo` (gRPC status {})",
            status.map_or("none".to_owned(), |status| status.to_string()),
        );
        let before = channel.connected().await?.stats();
        let (tell, mut told) = mpsc::channel(usize::from(self.concurrency));
        let begun = clock.elapsed();
        let until = begun + self.duration;
        for _ in 0..self.concurrency {
            let (channel, message, tell) = (channel.clone(), message.clone(), tell.clone());
            tasks.spawn("bench", async move {
                let measured = caller(&channel, &message, clock, until).await;
                // Whoever has been interrupted does not listen any more.
                let _ = tell.send(measured).await;
            });
        }
        drop(tell);
        let mut all = Measured::new()?;
        loop {
            let measured = tokio::select! {
                measured = told.recv() => measured,
                () = stops.next() => anyhow::bail!("interrupted"),
            };
            let Some(measured) = measured else { break };
            let measured = measured?;
            all.micros
                .add(measured.micros)
                .context("latencies can't be added up")?;
            all.failed += measured.failed;
        }
        let took = clock.elapsed().saturating_sub(begun);
        let after = channel.connected().await?.stats();
        let span = |quantile: f64| {
            shown(Duration::from_micros(
                all.micros.value_at_quantile(quantile),
            ))
        };
        let calls = all.micros.len();
        say(&format!(
            "{calls} calls of {} bytes in {:.1} s, {} at the same time: {:.0} calls/s\n\
             latency: p50 {}, p90 {}, p99 {}, p99.9 {}, most {}\n\
             packets: {} sent, {} lost, {} sent again; {} repairs sent, {} packets given back\n",
            self.size,
            took.as_secs_f64(),
            self.concurrency,
            calls as f64 / took.as_secs_f64(),
            span(0.5),
            span(0.9),
            span(0.99),
            span(0.999),
            shown(Duration::from_micros(all.micros.max())),
            after.packets_sent.saturating_sub(before.packets_sent),
            after.packets_lost.saturating_sub(before.packets_lost),
            after.retransmissions.saturating_sub(before.retransmissions),
            after
                .fec_repairs_sent
                .saturating_sub(before.fec_repairs_sent),
            after.fec_recoveries.saturating_sub(before.fec_recoveries),
        ))?;
        endpoint.close(close::DONE, "bench is over");
        let _ = tokio::time::timeout(GOODBYE, endpoint.drained()).await;
        anyhow::ensure!(all.failed == 0, "{} calls failed", all.failed);
        Ok(())
    }
}

impl Measured {
    fn new() -> Result<Self> {
        Ok(Self {
            // Up to a minute, to three digits.
            micros: Histogram::new_with_bounds(1, 60_000_000, 3).context("histogram")?,
            failed: 0,
        })
    }
}

/// One call after the other.
async fn caller(
    channel: &Channel,
    message: &Bytes,
    clock: Clock,
    until: Duration,
) -> Result<Measured> {
    let mut measured = Measured::new()?;
    loop {
        let begun = clock.elapsed();
        if begun >= until {
            return Ok(measured);
        }
        match echo::call(channel, message.clone()).await {
            Ok(Some(0)) => {
                let took = clock.elapsed().saturating_sub(begun);
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                measured.micros.saturating_record(micros.max(1));
            }
            Ok(_) => measured.failed += 1,
            Err(error) => {
                measured.failed += 1;
                // Without a connection there is nothing to measure.
                if measured.failed > FAILURES_MAX {
                    anyhow::bail!("{}", error.status().message());
                }
            }
        }
    }
}

const GOODBYE: Duration = Duration::from_millis(500);
const FAILURES_MAX: u64 = 100;
