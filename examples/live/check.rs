//! What a reader would see, looked at by a program.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::live_client::LiveClient;
use e2e::live_data::follower::Follower;
use e2e::live_data::{on_demand, ticks};
use serde_json::json;
use testkit::{Client, Gateway, token};

use crate::{SECRET, Scene};

/// Looks at both gateways, kills one, and looks at the other again.
pub(crate) fn run(mut scene: Scene) -> anyhow::Result<()> {
    let token = token::hs256(SECRET.as_bytes(), &token::claims("ann"))?;
    let addresses = scene.gateways.each_ref().map(Gateway::main_addr);
    let mut watchers = Vec::new();
    for address in addresses {
        let mut watcher = Watcher::start(address, &token)?;
        watcher.listen(BATCHES)?;
        println!("\nticks through {address}");
        println!("  {BATCHES} batches, none missing; {}", watcher.intervals());
        watcher.snapshot(address, &token)?;
        watchers.push(watcher);
    }

    let [lost, other] = addresses;
    let mut follower = Follower::start(lost, &token, CHANNEL)?;
    let mut publisher = Client::connect(other, &token)?;
    println!("\na client of {lost} follows {CHANNEL}; it is published at {other}");
    for number in 1..=KILLED_AFTER {
        publisher.publish(CHANNEL, &json!(number))?;
    }
    follower.follow(KILLED_AFTER, other)?;
    scene.gateways[0].kill()?;
    println!("the gateway at {lost} is killed");
    let killed = Instant::now();
    for number in KILLED_AFTER + 1..=LAST {
        publisher.publish(CHANNEL, &json!(number))?;
    }
    follower.follow(LAST, other)?;
    ensure!(follower.moves == 1, "it moved {} times", follower.moves);
    println!(
        "  {LAST} numbers were heard, none missing and none twice; up to date at {other} after {} ms",
        killed.elapsed().as_millis()
    );

    watchers[0].listen_to_the_end()?;
    let before = watchers[0].last;
    let mut watcher = Watcher::start(other, &token)?;
    let after = watcher.listen(1)?;
    println!(
        "  the ticks go on there with batch {after} after {before}; a snapshot closes the gap"
    );
    watcher.snapshot(other, &token)?;
    watchers[1].listen(BATCHES)?;
    println!("  the client that was there all the time has missed nothing");

    println!("\nnats-server is killed and comes back");
    scene.nats.restart()?;
    let back = Instant::now();
    let more = LAST + 1;
    let deadline = back + PATIENCE;
    while let Err(error) = publisher.publish(CHANNEL, &json!(more)) {
        ensure!(Instant::now() < deadline, "still {error}");
    }
    follower.follow(more, other)?;
    println!("  up to date after {} ms", back.elapsed().as_millis());
    println!("\nall is well");
    Ok(())
}

/// A client that looks at the ticks of one group.
struct Watcher {
    client: LiveClient,
    /// The last batch.
    last: u64,
    arrivals: Vec<Instant>,
}

impl Watcher {
    fn start(address: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let mut client = LiveClient::connect(address, token, "")?;
        client.subscribe(&["xy.md.tick.g00"], false)?;
        Ok(Self {
            client,
            last: 0,
            arrivals: Vec::new(),
        })
    }

    /// Hears so many batches; the number of the first.
    fn listen(&mut self, batches: usize) -> anyhow::Result<u64> {
        let mut first = None;
        for _ in 0..batches {
            let seq = ticks(&self.client.payload()?)?.seq;
            self.arrivals.push(Instant::now());
            ensure!(
                self.last == 0 || seq == self.last + 1,
                "batch {seq} came after {}",
                self.last
            );
            self.last = seq;
            first.get_or_insert(seq);
        }
        first.context("nothing was asked for")
    }

    /// Hears what is there until the connection ends.
    fn listen_to_the_end(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.listen(1).is_ok() {
            ensure!(Instant::now() < deadline, "the connection lasts");
        }
        Ok(())
    }

    /// How far apart the batches came.
    fn intervals(&self) -> String {
        let apart = self.arrivals.windows(2).map(|two| two[1] - two[0]);
        let mut apart: Vec<Duration> = apart.collect();
        apart.sort_unstable();
        let at = |percent: usize| {
            let at = apart.get(apart.len() * percent / 100);
            at.or(apart.last()).map_or(0, Duration::as_millis)
        };
        format!("{} ms apart, 95 % within {} ms", at(50), at(95))
    }

    /// Asks for a snapshot, and sees that the batches go on from it.
    fn snapshot(&mut self, address: SocketAddr, token: &str) -> anyhow::Result<()> {
        let mut client = Client::connect(address, token)?;
        let asked = Instant::now();
        let snapshot = on_demand(&mut client, "g00")?;
        let took = asked.elapsed();
        while self.last <= snapshot.seq {
            self.listen(1)?;
        }
        println!(
            "  snapshot of {} symbols on demand within {} ms; batch {} follows {}",
            snapshot.snapshots.len(),
            took.as_millis(),
            snapshot.seq + 1,
            snapshot.seq
        );
        Ok(())
    }
}

const CHANNEL: &str = "demo:check";
const BATCHES: usize = 100;
const KILLED_AFTER: u64 = 20;
/// Less than the demo keeps.
const LAST: u64 = 60;
const PATIENCE: Duration = Duration::from_secs(20);
