//! Clients receive while the configuration is reloaded again and again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use serde_json::json;
use testkit::crowd::Progress;
use testkit::{Client, Crowd, Gateway, PATIENCE, token};

use crate::config::config;

/// How large the scenario is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Clients that receive.
    pub clients: usize,
    /// Reloads, each with another configuration.
    pub reloads: u64,
}

/// What happened, if nothing went wrong.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Publications, each of which every client received.
    pub publications: u64,
    /// From the first reload to the last delivery.
    pub took: Duration,
}

/// Runs the scenario. It fails if a client is disconnected, or if the positions that one
/// receives are not contiguous up to the last publication.
pub fn under_load(size: Size) -> anyhow::Result<Outcome> {
    let gateway = Gateway::start(&config(QUIET_LIMITS))?;
    let token = token::user("anna")?;
    let publisher = Client::connect(gateway.main_addr(), &token)?;
    let mut crowd = Crowd::gather(size.clients, |_| {
        let mut client = Client::connect(gateway.main_addr(), &token)?;
        client.subscribe(CHANNEL)?;
        Ok(client)
    })?;

    let stop = &AtomicBool::new(false);
    // The offset everybody must reach; unknown until the last reload is done.
    let last_offset = AtomicU64::new(u64::MAX);
    let (permit, permits) = sync_channel(WINDOW);
    for _ in 0..WINDOW {
        permit.send(())?;
    }
    // Something is published between any two reloads.
    let (beat, beats) = sync_channel(1);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let readers = scope.spawn(|| read_contiguously(&mut crowd, &permit, &last_offset));
        let publisher = scope.spawn(move || publish_until(stop, &permits, &beat, publisher));
        let reloads = (1..=size.reloads).try_for_each(|n| {
            beats.recv_timeout(PATIENCE).context("publisher is stuck")?;
            reload(
                &gateway,
                &format!("limits: {{ handshake_rate: 0, headers: {} }}", 32 + n % 64),
            )
        });
        stop.store(true, Ordering::Relaxed);
        let publications = publisher
            .join()
            .map_err(|_| anyhow!("publisher panicked"))?;
        last_offset.store(*publications.as_ref().unwrap_or(&0), Ordering::Relaxed);
        readers.join().map_err(|_| anyhow!("readers panicked"))??;
        reloads?;
        let publications = publications?;
        ensure!(
            publications >= size.reloads,
            "{publications} publications are no load"
        );
        Ok(Outcome {
            publications,
            took: begun.elapsed(),
        })
    })
}

/// Gives the gateway [`config`] with `extra` and waits until it is in force.
pub fn reload(gateway: &Gateway, extra: &str) -> anyhow::Result<()> {
    let mark = gateway.log().mark();
    gateway.rewrite_config(&config(extra))?;
    gateway.hangup()?;
    gateway
        .log()
        .wait_for_message(mark, PATIENCE, RELOADED)
        .map(drop)
}

fn publish_until(
    stop: &AtomicBool,
    permits: &Receiver<()>,
    beat: &SyncSender<()>,
    mut publisher: Client,
) -> anyhow::Result<u64> {
    let mut published = 0;
    while !stop.load(Ordering::Relaxed) {
        permits
            .recv_timeout(PATIENCE)
            .context("receivers are behind")?;
        publisher.publish(CHANNEL, &json!(published))?;
        published += 1;
        // One that waits is enough.
        let _ = beat.try_send(());
    }
    Ok(published)
}

/// Reads until everybody has `last_offset`; each publication that everybody has permits
/// another.
fn read_contiguously(
    crowd: &mut Crowd,
    permit: &SyncSender<()>,
    last_offset: &AtomicU64,
) -> anyhow::Result<()> {
    let mut seen = vec![0; crowd.members.len()];
    // How many have got each publication that is under way, from `complete` + 1 on.
    let mut complete = 0;
    let mut under_way: std::collections::VecDeque<usize> = std::collections::VecDeque::new();
    let everybody = crowd.members.len();
    crowd.run(PATIENCE * 30, |index, client| {
        if let Some(close) = client.close() {
            return Err(anyhow!("client {index} was disconnected: {close:?}").into());
        }
        while let Some(push) = client.take_push() {
            let offset = push["pub"]["offset"].as_u64().unwrap_or_default();
            if offset != seen[index] + 1 {
                return Err(anyhow!("client {index} missed something before {push}").into());
            }
            seen[index] = offset;
            let place = usize::try_from(offset - complete - 1).unwrap_or_default();
            if place >= under_way.len() {
                under_way.resize(place + 1, 0);
            }
            under_way[place] += 1;
        }
        while under_way.front().is_some_and(|got| *got == everybody) {
            under_way.pop_front();
            complete += 1;
            // The publisher takes no more when it is done.
            let _ = permit.try_send(());
        }
        match complete >= last_offset.load(Ordering::Relaxed) {
            true => Ok(Progress::Enough),
            false => Ok(Progress::More),
        }
    })
}

/// What the log says when a new configuration is in force.
pub const RELOADED: &str = "configuration reloaded";

const CHANNEL: &str = "room:load";
/// Publications under way that not everybody has yet.
const WINDOW: usize = 8;
/// The crowd comes at once.
const QUIET_LIMITS: &str = "limits: { handshake_rate: 0 }";
