//! Clients that read too slowly get the latest, and hold nobody up.

use std::time::Instant;

use anyhow::ensure;
use e2e::live_client::LiveClient;
use e2e::live_data::{Scene, ticks};
use serde_json::json;
use testkit::{Client, PATIENCE, token};

#[test]
fn slow_client_of_ticks_gets_the_latest_and_the_others_get_all() -> anyhow::Result<()> {
    let scene = Scene::start()?;
    let gateway = scene.gateway("  send_queue_max: 4\nwebsocket: { write_timeout: 1m }")?;
    // Some 100 KiB per batch: what the system's buffers take is soon full.
    let _market = scene.market("  groups: 1\n  generator: { symbols: 4000, rate: 1.0 }")?;
    let bearer = token::user("ann")?;
    let connect = || {
        let mut client = LiveClient::connect(gateway.main_addr(), &bearer, "")?;
        client.subscribe(&["xy.md.tick.g00"], false)?;
        anyhow::Ok(client)
    };
    let (mut slow, mut good) = (connect()?, connect()?);
    let mut last = ticks(&good.payload()?)?.seq;
    let deadline = Instant::now() + PATIENCE;
    while gateway.metric("xy_ws_messages_dropped_total")? < 20.0 {
        ensure!(Instant::now() < deadline, "nothing was dropped");
        for _ in 0..5 {
            let seq = ticks(&good.payload()?)?.seq;
            ensure!(seq == last + 1, "{seq} after {last}");
            last = seq;
        }
    }
    // It reads on: in order, with a gap, and what comes last is the latest.
    let mut seen = Vec::new();
    while seen.last().is_none_or(|seq| *seq <= last) {
        seen.push(ticks(&slow.payload()?)?.seq);
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    let span = seen.last().unwrap_or(&0) - seen[0] + 1;
    assert!(span > seen.len() as u64, "nothing is missing of {seen:?}");
    Ok(())
}

#[test]
fn slow_client_of_the_other_gateway_delays_nobody() -> anyhow::Result<()> {
    let scene = Scene::start()?;
    let (here, there) = (
        scene.gateway("")?,
        scene.gateway("websocket: { write_timeout: 1m }")?,
    );
    let bearer = token::user("ann")?;
    let mut publisher = Client::connect(here.main_addr(), &bearer)?;
    let mut good = Client::connect(there.main_addr(), &bearer)?;
    let mut slow = Client::connect(there.main_addr(), &bearer)?;
    for client in [&mut good, &mut slow] {
        client.subscribe("latest:1")?;
    }
    let filler = "x".repeat(30_000);
    let mut last = 0;
    let deadline = Instant::now() + PATIENCE;
    let series = "tidegate_publications_dropped_total{reason=\"conflated\"}";
    while there.metric(series)? < 10.0 {
        ensure!(Instant::now() < deadline, "nothing was conflated");
        for _ in 0..20 {
            last += 1;
            publisher.publish("latest:1", &json!([last, filler]))?;
            assert_eq!(good.next_publication("latest:1")?["data"][0], last);
        }
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        let publication = slow.next_publication("latest:1")?;
        seen.push(publication["data"][0].as_u64().unwrap_or_default());
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    assert!((seen.len() as u64) < last, "nothing is missing of {last}");
    assert_eq!(slow.close(), None);
    Ok(())
}
