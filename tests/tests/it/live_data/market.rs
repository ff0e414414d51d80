//! What the aggregator says, as clients of two gateways hear it.

use std::time::Instant;

use anyhow::{Context, ensure};
use e2e::live_client::LiveClient;
use e2e::live_data::{Scene, on_demand, opened, snapshot, ticks};
use serde_json::{Value, json};
use testkit::{Client, PATIENCE, token};

#[test]
fn both_gateways_pass_on_the_same_bytes() -> anyhow::Result<()> {
    let scene = Scene::start()?;
    let gateways = [scene.gateway("")?, scene.gateway("")?];
    let _market = scene.market(MARKET)?;
    let bearer = token::user("ann")?;
    let mut heard = Vec::new();
    let mut clients = Vec::new();
    for gateway in &gateways {
        let mut client = LiveClient::connect(gateway.main_addr(), &bearer, "")?;
        client.subscribe(&["xy.md.tick.g01"], false)?;
        clients.push(client);
    }
    for client in &mut clients {
        let mut batches = vec![client.payload()?];
        let first = ticks(&batches[0])?.seq;
        while batches.len() < 60 {
            batches.push(client.payload()?);
        }
        for (batch, seq) in batches.iter().zip(first..) {
            let batch = ticks(batch)?;
            assert_eq!((batch.seq, batch.group.as_str()), (seq, "g01"));
            assert!(!batch.ticks.is_empty() && batch.ts_ms > 0);
        }
        heard.push((first, batches));
    }
    let (first, second) = (&heard[0], &heard[1]);
    let begin = first.0.max(second.0);
    let from = |(first, batches): &(u64, Vec<Vec<u8>>)| {
        batches[usize::try_from(begin - first).unwrap_or_default()..].to_vec()
    };
    let (first, second) = (from(first), from(second));
    let both = first.len().min(second.len());
    ensure!(both > 0, "they have no batch in common");
    assert_eq!(first[..both], second[..both]);
    Ok(())
}

#[test]
fn snapshot_on_demand_comes_through_either_gateway() -> anyhow::Result<()> {
    let scene = Scene::start()?;
    let gateways = [scene.gateway("")?, scene.gateway("")?];
    let market = scene.market(MARKET)?;
    let bearer = token::user("ann")?;
    for gateway in &gateways {
        let mut watcher = LiveClient::connect(gateway.main_addr(), &bearer, "")?;
        watcher.subscribe(&["xy.md.tick.g00"], false)?;
        let before = ticks(&watcher.payload()?)?.seq;
        let mut client = Client::connect(gateway.main_addr(), &bearer)?;
        let taken = on_demand(&mut client, "g00")?;
        assert_eq!(taken.group, "g00");
        assert_eq!(taken.snapshots.len(), 10);
        assert!(taken.seq >= before, "{} after {before}", taken.seq);
        // The ticks that follow go on where it ends.
        let mut last = before;
        while last <= taken.seq {
            last = ticks(&watcher.payload()?)?.seq;
        }
        assert_eq!(last, taken.seq + 1);
        let unknown = json!({ "method": "md.snapshot", "data": { "group": "g77" } });
        assert!(client.request("rpc", unknown).is_err());
    }
    drop(market);
    // Nobody is there to answer: that is said, and soon.
    let mut client = Client::connect(gateways[0].main_addr(), &bearer)?;
    let begun = Instant::now();
    assert!(on_demand(&mut client, "g00").is_err());
    ensure!(begun.elapsed() < PATIENCE, "took {:?}", begun.elapsed());
    Ok(())
}

#[test]
fn aggregator_that_crashes_leaves_no_gap_in_the_numbers() -> anyhow::Result<()> {
    let scene = Scene::start()?;
    let gateway = scene.gateway("")?;
    let mut market = scene.market(MARKET)?;
    let bearer = token::user("ann")?;
    let mut client = LiveClient::connect(gateway.main_addr(), &bearer, "?envelope=1")?;
    client.subscribe(&["xy.md.tick.g00", "xy.md.snapshot.g00"], false)?;
    let mut view = View::default();
    view.follow(&mut client, |view| view.seq >= 100 && view.snapshots >= 1)?;
    let before = view.volumes()?;
    let crashed_at = view.seq;
    market.crash()?;
    let snapshots = view.snapshots;
    view.follow(&mut client, |view| {
        view.snapshots > snapshots && view.seq >= crashed_at + 60
    })?;
    for (symbol, volume) in before {
        let after = view.volumes()?[&symbol];
        ensure!(after >= volume, "{symbol} had {volume} and has {after}");
    }
    Ok(())
}

#[test]
fn aggregator_waits_for_the_streams_that_a_gateway_makes() -> anyhow::Result<()> {
    let scene = Scene::start()?;
    let (gateway, _market) = std::thread::scope(|scope| {
        let starting = scope.spawn(|| scene.market(MARKET));
        let gateway = scene.gateway("")?;
        let market = starting.join();
        let market = market.map_err(|_| anyhow::anyhow!("start has panicked"))??;
        anyhow::Ok((gateway, market))
    })?;
    let mut client = LiveClient::connect(gateway.main_addr(), &token::user("ann")?, "")?;
    client.subscribe(&["xy.md.tick.g00"], false)?;
    assert_eq!(ticks(&client.payload()?)?.group, "g00");
    Ok(())
}

#[test]
fn health_of_the_aggregator_reaches_clients() -> anyhow::Result<()> {
    let scene = Scene::start()?;
    let gateway = scene.gateway("")?;
    let _market = scene.market(MARKET)?;
    let mut client = LiveClient::connect(gateway.main_addr(), &token::user("ann")?, "")?;
    client.subscribe(&["xy.exec.health"], false)?;
    let health: Value = serde_json::from_slice(&client.payload()?)?;
    assert_eq!(health["service"], "market", "{health}");
    assert_eq!(health["status"], "ok", "{health}");
    assert_eq!(health["details"]["symbols"], 20, "{health}");
    Ok(())
}

/// What a screen that shows a group knows.
#[derive(Default)]
struct View {
    /// The last batch.
    seq: u64,
    /// How many snapshots have come.
    snapshots: usize,
    last: Option<api::xy::md::v1::SnapshotBatch>,
}

impl View {
    /// Listens until that holds. No batch may be missing, and none may come twice.
    fn follow(
        &mut self,
        client: &mut LiveClient,
        enough: impl Fn(&Self) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !enough(self) {
            ensure!(Instant::now() < deadline, "that did not come about");
            let frame = client.payload()?;
            let (subject, payload) = opened(&frame)?;
            if subject == "xy.md.tick.g00" {
                let seq = ticks(payload)?.seq;
                ensure!(
                    self.seq == 0 || seq == self.seq + 1,
                    "{seq} after {}",
                    self.seq
                );
                self.seq = seq;
            } else {
                let taken = snapshot(payload)?;
                let known = self.last.as_ref().map_or(0, |last| last.seq);
                ensure!(taken.seq >= known, "snapshot {} after {known}", taken.seq);
                self.snapshots += 1;
                self.last = Some(taken);
            }
        }
        Ok(())
    }

    fn volumes(&self) -> anyhow::Result<std::collections::BTreeMap<String, u64>> {
        let last = self.last.as_ref().context("no snapshot has come")?;
        let volumes = last.snapshots.iter();
        Ok(volumes
            .map(|one| (one.symbol.clone(), one.volume))
            .collect())
    }
}

/// Two groups, and something new in every batch.
const MARKET: &str =
    "  groups: 2\n  snapshot_interval: 2s\n  generator: { symbols: 20, rate: 1.0 }";
