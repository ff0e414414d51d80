//! A small call every second.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use gateway::reload::Source;
use lifecycle::{Clock, Stops, Tasks};
use quantum::Stats;
use quantum::codes::close;

use super::{Peer, echo, say, shown, unreached};

#[derive(Debug, Args)]
pub(crate) struct Ping {
    #[command(flatten)]
    peer: Peer,
    /// How many calls
    #[arg(short = 'n', long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// The time between two of them
    #[arg(short, long, default_value = "1s", value_parser = gateway::tokens::span)]
    interval: Duration,
    /// How long one may take
    #[arg(long, default_value = "2s", value_parser = gateway::tokens::span)]
    timeout: Duration,
}

impl Ping {
    pub(super) async fn run(self, source: &Source, tasks: Tasks, clock: Clock) -> Result<()> {
        let mut stops = Stops::listen().context("signals can't be listened to")?;
        let (endpoint, channel) = self.peer.channel(source, &tasks, clock)?;
        let address = &self.peer.address;
        let connection = tokio::select! {
            connected = channel.connected() => connected.map_err(|error| unreached(error, address))?,
            () = stops.next() => return Ok(()),
        };
        let stats = connection.stats();
        let remote = connection.remote();
        say(&format!(
            "{address} is {}, handshake {}, connection {}\n",
            SocketAddr::new(remote.ip().to_canonical(), remote.port()),
            shown(stats.handshake.unwrap_or_default()),
            connection.guuid(),
        ))?;
        let mut answers = Vec::new();
        let mut made = 0;
        for number in 1..=self.count {
            if number > 1 {
                tokio::select! {
                    () = tokio::time::sleep(self.interval) => {}
                    () = stops.next() => break,
                }
            }
            made += 1;
            let begun = clock.elapsed();
            let calling = echo::call(&channel, Bytes::from_static(b"ping"));
            let answered = tokio::select! {
                answered = tokio::time::timeout(self.timeout, calling) => answered,
                () = stops.next() => break,
            };
            let took = clock.elapsed().saturating_sub(begun);
            let line = match answered {
                Ok(Ok(_)) => {
                    answers.push(took);
                    let rtt = channel.connection().map(|it| it.stats().rtt);
                    let rtt = shown(rtt.unwrap_or_default());
                    format!("call {number}: answered in {}, rtt {rtt}\n", shown(took))
                }
                Ok(Err(error)) => format!("call {number}: {}\n", error.status().message()),
                Err(_elapsed) => format!("call {number}: no answer within {:?}\n", self.timeout),
            };
            say(&line)?;
        }
        let stats = channel.connection().unwrap_or(connection).stats();
        say(&summary(address, made, &answers, &stats))?;
        endpoint.close(close::DONE, "ping is over");
        // Whoever is not told finds out by itself.
        let _ = tokio::time::timeout(GOODBYE, endpoint.drained()).await;
        anyhow::ensure!(!answers.is_empty(), "{address} did not answer");
        Ok(())
    }
}

fn summary(address: &str, made: u32, answers: &[Duration], stats: &Stats) -> String {
    let mut text = format!("\n{address}: {made} calls, {} answered", answers.len());
    let count = u32::try_from(answers.len()).unwrap_or(u32::MAX);
    if let (Some(least), Some(most)) = (answers.iter().min(), answers.iter().max()) {
        let mean = answers.iter().sum::<Duration>() / count.max(1);
        let spans = [*least, mean, *most].map(shown);
        text.push_str(&format!(", min/avg/max {}", spans.join(" / ")));
    }
    text.push_str(&format!(
        "\npackets: {} sent, {} received, {} lost, {} sent again\n\
         error correction: {} repairs sent, {} packets given back, {} beyond repair\n",
        stats.packets_sent,
        stats.packets_received,
        stats.packets_lost,
        stats.retransmissions,
        stats.fec_repairs_sent,
        stats.fec_recoveries,
        stats.fec_unrecoverable,
    ));
    text
}

const GOODBYE: Duration = Duration::from_millis(500);
