//! Clients that lose their gateway, and gateways that lose NATS.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::live_client::LiveClient;
use e2e::live_data::Scene;
use e2e::live_data::follower::Follower;
use e2e::live_data::operator::api;
use serde_json::json;
use testkit::{Client, ClientError, Gateway, PATIENCE, http, token};

#[test]
fn client_of_a_killed_gateway_goes_on_at_the_other_without_a_gap() -> anyhow::Result<()> {
    leaves(Gateway::kill).map(drop)
}

#[test]
fn client_of_a_draining_gateway_goes_on_at_the_other_without_a_gap() -> anyhow::Result<()> {
    let closes = leaves(Gateway::terminate)?;
    assert_eq!(closes, [Some(3001)]);
    Ok(())
}

#[test]
fn position_is_the_same_from_whichever_gateway_it_was() -> anyhow::Result<()> {
    let scene = Scene::start()?;
    let (first, second) = (scene.gateway("")?, scene.gateway("")?);
    let bearer = token::user("anna")?;
    let mut follower = Follower::start(first.main_addr(), &bearer, "room:1")?;
    publish(&first, 1..=3)?;
    follower.follow(3, first.main_addr())?;
    // There and back, with something missed each time.
    for (leaves, goes_to) in [(&first, &second), (&second, &first)] {
        let next = follower.heard + 1;
        api(leaves, "disconnect", &json!({ "user": "anna" }))?;
        publish(leaves, next..=next + 4)?;
        follower.follow(next + 4, goes_to.main_addr())?;
    }
    assert_eq!((follower.moves, follower.heard), (2, 13));
    // A position that nobody ever gave is not pretended to be one.
    let mut other = Client::connect(second.main_addr(), &bearer)?;
    let answer = other.recover("room:1", "nobody", 3)?;
    assert_ne!(answer["recovered"], true, "{answer}");
    Ok(())
}

#[test]
fn nats_restart_costs_no_message_and_no_gateway() -> anyhow::Result<()> {
    let mut scene = Scene::start()?;
    let gateways = [scene.gateway("")?, scene.gateway("")?];
    let bearer = token::user("anna")?;
    let mut followers = Vec::new();
    for gateway in &gateways {
        followers.push(Follower::start(gateway.main_addr(), &bearer, "room:1")?);
    }
    publish(&gateways[0], 1..=20)?;
    for (follower, gateway) in followers.iter_mut().zip(&gateways) {
        follower.follow(20, gateway.main_addr())?;
    }

    scene.nats.kill()?;
    for gateway in &gateways {
        gateway.wait_metric("tidegate_nats_connected", |value| value < 0.5)?;
        let health = http::get(gateway.main_addr(), "/live/healthz", &[])?.json()?;
        assert_eq!(health["natsConnected"], false, "{health}");
        for path in ["/healthz", "/readyz"] {
            let status = http::get(gateway.admin_addr(), path, &[])?.status;
            assert_eq!(status, 200, "{path}");
        }
        let newcomer = format!("/live/ws?token={bearer}");
        let newcomer = LiveClient::open(gateway.main_addr(), &newcomer, &[])?;
        let refused = newcomer.err().context("it was let in")?;
        assert_eq!((refused.status, refused.code.as_str()), (503, "XYW004"));
    }
    // What can't be published is refused, and soon.
    let mut publisher = Client::connect(gateways[1].main_addr(), &bearer)?;
    let begun = Instant::now();
    let refused = publisher.publish("room:1", &json!(0));
    assert!(
        matches!(refused, Err(ClientError::Reply { code: 100, .. })),
        "{refused:?}"
    );
    let refused = publisher.subscribe("room:2");
    assert!(
        matches!(refused, Err(ClientError::Reply { code: 100, .. })),
        "{refused:?}"
    );
    let refused = api(
        &gateways[1],
        "publish",
        &json!({ "channel": "room:1", "data": 0 }),
    );
    let refused = format!("{:#}", refused.err().context("it was published")?);
    assert!(refused.contains("error"), "{refused}");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "took {:?}",
        begun.elapsed()
    );

    scene.nats.restart()?;
    let back = Instant::now();
    for gateway in &gateways {
        gateway.wait_metric("tidegate_nats_connected", |value| value > 0.5)?;
        gateway.wait_metric("xy_nats_reconnects_total", |value| value > 0.5)?;
    }
    publish(&gateways[1], 21..=40)?;
    for (follower, gateway) in followers.iter_mut().zip(&gateways) {
        follower.follow(40, gateway.main_addr())?;
        assert_eq!(follower.moves, 0, "the connections last");
    }
    // Three seconds are promised; a busy machine gets some more.
    assert!(
        back.elapsed() < Duration::from_secs(5),
        "took {:?}",
        back.elapsed()
    );
    Ok(())
}

/// A client follows while a gateway leaves, and numbers are published all the time; its
/// close codes.
fn leaves(leave: impl Fn(&Gateway) -> anyhow::Result<()>) -> anyhow::Result<Vec<Option<u16>>> {
    const LEAVES_AFTER: u64 = 50;
    const LAST: u64 = 200;
    let scene = Scene::start()?;
    let drain = "drain: { grace: 10s, delay: 0s }";
    let (first, second) = (scene.gateway(drain)?, scene.gateway(drain)?);
    let bearer = token::user("anna")?;
    let mut follower = Follower::start(first.main_addr(), &bearer, "room:1")?;
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| publish(&second, 1..=LAST));
        let elsewhere: SocketAddr = second.main_addr();
        follower.follow(LEAVES_AFTER, elsewhere)?;
        leave(&first)?;
        follower.follow(LAST, elsewhere)?;
        let published = publishing.join();
        published.map_err(|_| anyhow::anyhow!("publisher has panicked"))?
    })?;
    ensure!(follower.moves == 1, "it moved {} times", follower.moves);
    Ok(follower.closes)
}

/// Publishes numbers in order, each until it is taken, and none twice.
fn publish(gateway: &Gateway, numbers: std::ops::RangeInclusive<u64>) -> anyhow::Result<()> {
    for number in numbers {
        let publish = json!({
            "channel": "room:1", "data": number, "idempotency_key": number.to_string(),
        });
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = api(gateway, "publish", &publish) {
            ensure!(Instant::now() < deadline, "{number} is not taken: {error}");
        }
    }
    Ok(())
}
