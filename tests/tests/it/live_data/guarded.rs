//! Who may have what: clients by their tokens, gateways by their credentials.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::config::config;
use e2e::live_client::{LiveClient, Said};
use e2e::live_data::operator::api;
use e2e::live_data::{Scene, foreign_credentials, opened, ticks};
use serde_json::json;
use testkit::{Client, ClientError, Gateway, PATIENCE, token};

use super::limited;

/// The client's token allows the ticks of `g00` and nothing else.
#[test]
fn token_for_one_subject_opens_no_way_to_another() -> anyhow::Result<()> {
    let scene = Scene::start()?;
    let gateways = [scene.gateway("")?, scene.gateway("")?];
    let _market = scene.market(MARKET)?;
    let bearer = limited("ann", &["xy.md.tick.g00"])?;
    for gateway in &gateways {
        let mut client = Client::connect(gateway.main_addr(), &bearer)?;
        let mut ask = |command: &str, body| client.request(command, body);
        for channel in [
            "xy.md.tick.g01",
            "xy.md.snapshot.g00",
            "xy.md.tick.*",
            "xy.md.*.g01",
            "xy.md.>",
            "xy.>",
            ">",
            "room:1",
            "xy.flags",
        ] {
            for command in ["subscribe", "history", "presence", "presence_stats"] {
                let body = json!({ "channel": channel, "limit": -1 });
                is_denied(&ask(command, body), command, channel)?;
            }
            let body = json!({ "channel": channel, "data": 1 });
            is_denied(&ask("publish", body), "publish", channel)?;
        }
        // The call asks for the snapshot's subject, which is not that of the ticks.
        for group in ["g00", "g01"] {
            let body = json!({ "method": "md.snapshot", "data": { "group": group } });
            is_denied(&ask("rpc", body), "rpc", group)?;
        }
        for group in ["*", ">", "g01.>", ""] {
            let body = json!({ "method": "md.snapshot", "data": { "group": group } });
            let answer = ask("rpc", body);
            let is_refused = matches!(
                answer,
                Err(ClientError::Reply {
                    code: 103 | 107,
                    ..
                })
            );
            ensure!(is_refused, "rpc of {group:?} was answered by {answer:?}");
        }
        // What it may, it gets.
        ask("presence", json!({ "channel": "xy.md.tick.g00" }))?;
    }

    let refused = [
        "xy.md.tick.g01",
        "xy.md.tick.*",
        "xy.md.>",
        "xy.exec.health",
    ];
    for gateway in &gateways {
        let mut client = LiveClient::connect(gateway.main_addr(), &bearer, "?envelope=1")?;
        client.send(&json!({ "type": "subscribe", "subjects": refused }))?;
        for subject in refused {
            let notice = json!({ "type": "error", "code": "XYW002", "subject": subject });
            assert_eq!(client.hear()?, Said::Notice(notice));
        }
        client.subscribe(&["xy.md.tick.g00"], false)?;
        for _ in 0..10 {
            let frame = client.payload()?;
            let (subject, payload) = opened(&frame)?;
            assert_eq!(subject, "xy.md.tick.g00");
            assert_eq!(ticks(payload)?.group, "g00");
        }
        assert_eq!(
            gateway.metric("tidegate_nats_denied_total")?,
            0.0,
            "nothing of that got as far as NATS"
        );
    }
    Ok(())
}

#[test]
fn gateway_can_not_publish_market_data() -> anyhow::Result<()> {
    let scene = Scene::start()?;
    let gateway = scene.gateway("")?;
    let _market = scene.market(MARKET)?;
    let bearer = token::user("ann")?;
    let mut watcher = LiveClient::connect(gateway.main_addr(), &bearer, "")?;
    watcher.subscribe(&["xy.md.tick.g00"], false)?;
    let before = ticks(&watcher.payload()?)?.seq;
    // The namespace lets clients publish there; the server does not let the gateway.
    let mut client = Client::connect(gateway.main_addr(), &bearer)?;
    client.publish("xy.md.tick.g00", &json!("forged")).ok();
    let publish = json!({ "channel": "xy.md.tick.g00", "data": "forged" });
    api(&gateway, "publish", &publish).ok();
    gateway.wait_metric("tidegate_nats_denied_total", |denied| denied > 1.5)?;
    let mut last = before;
    while last < before + 30 {
        let batch = ticks(&watcher.payload()?)?;
        ensure!(batch.seq == last + 1, "{} after {last}", batch.seq);
        last = batch.seq;
    }
    Ok(())
}

#[test]
fn credentials_of_another_operator_end_the_start_with_a_clear_error() -> anyhow::Result<()> {
    let scene = Scene::start()?;
    let begun = Instant::now();
    let refused = scene.gateway_with("", &foreign_credentials()?);
    let text = format!("{:#}", refused.err().context("it has started")?);
    assert!(
        text.contains("NATS server refused the connection"),
        "{text}"
    );
    assert!(text.contains("authorization violation"), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "took {:?}",
        begun.elapsed()
    );
    Ok(())
}

#[test]
fn withdrawn_credentials_are_tried_again_until_they_are_good() -> anyhow::Result<()> {
    let mut scene = Scene::start()?;
    let gateway = scene.gateway("")?;
    let bearer = token::user("ann")?;
    let mut client = Client::connect(gateway.main_addr(), &bearer)?;
    client.subscribe("room:1")?;
    let known = scene.accounts()?;
    let unknown = testkit::services::Accounts::new().server_config()?;
    let mark = gateway.log().mark();
    scene.nats.reconfigure(&known, &unknown)?;
    scene.nats.restart()?;
    let refusal = gateway.log().wait_for(mark, PATIENCE, |line| {
        line["message"] == "nats connection failed"
            && line["error"]
                .as_str()
                .is_some_and(|error| error.contains("authorization violation"))
    })?;
    assert_eq!(refusal["level"], "WARN");
    assert!(gateway.metric("tidegate_nats_connected")? < 0.5);
    // Clients stay; so does the process.
    client.request("rpc", json!({ "method": "ping" }))?;
    scene.nats.reconfigure(&unknown, &known)?;
    scene.nats.restart()?;
    gateway.wait_metric("tidegate_nats_connected", |value| value > 0.5)?;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = client.publish("room:1", &json!(1)) {
        ensure!(Instant::now() < deadline, "still {error}");
    }
    Ok(())
}

#[test]
fn nats_beyond_this_machine_is_not_spoken_to_without_tls() -> anyhow::Result<()> {
    let bus = |more: &str| {
        config(&format!(
            "bus: {{ kind: nats, nats: {{ urls: [\"nats://192.0.2.1:4222\"], \
             connect_within: 1s{more} }} }}"
        ))
    };
    let failed = |more| {
        let started = Gateway::start(&bus(more));
        anyhow::Ok(format!("{:#}", started.err().context("it has started")?))
    };
    let refused = failed("")?;
    assert!(
        refused.contains("bus.nats.urls") && refused.contains("insecure"),
        "{refused}"
    );
    let tried = failed(", insecure: true")?;
    assert!(tried.contains("no NATS server was reached"), "{tried}");
    Ok(())
}

fn is_denied<T: std::fmt::Debug>(
    answer: &Result<T, ClientError>,
    command: &str,
    what: &str,
) -> anyhow::Result<()> {
    ensure!(
        matches!(answer, Err(ClientError::Reply { code: 103, .. })),
        "{command} of {what} was answered by {answer:?}"
    );
    Ok(())
}

/// Two groups, and something new in every batch.
const MARKET: &str = "  groups: 2\n  generator: { symbols: 20, rate: 1.0 }";
