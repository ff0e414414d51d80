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
fn clients_of_a_killed_gateway_go_on_at_the_other_without_a_gap() -> anyhow::Result<()> {
    leaves(Gateway::kill).map(drop)
}

#[test]
fn clients_of_a_draining_gateway_go_on_at_the_other_without_a_gap() -> anyhow::Result<()> {
    let closes = leaves(Gateway::terminate)?;
    assert_eq!(closes, [Some(3001); FOLLOWERS]);
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
    let top = api(&first, "history", &json!({ "channel": "room:1" }))?;
    let epoch = top["epoch"].as_str().context("no epoch")?;
    let recover = |epoch: &str, offset| {
        let mut client = Client::connect(second.main_addr(), &bearer)?;
        let answer = client.recover("room:1", epoch, offset)?;
        anyhow::Ok(answer["recovered"] == true)
    };
    assert!(!recover("nobody", 3)?);
    assert!(!recover(epoch, 14)?);
    assert!(recover(epoch, 3)?);
    // Nor is what was removed at the other gateway.
    api(&first, "history_remove", &json!({ "channel": "room:1" }))?;
    assert!(!recover(epoch, 3)?);
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

/// Clients follow while their gateway leaves and numbers are published through both, one
/// after the other; the clients' close codes.
fn leaves(leave: impl Fn(&Gateway) -> anyhow::Result<()>) -> anyhow::Result<Vec<Option<u16>>> {
    let scene = Scene::start()?;
    let drain = "drain: { grace: 10s, delay: 0s }";
    let (first, second) = (scene.gateway(drain)?, scene.gateway(drain)?);
    let bearer = token::user("anna")?;
    let mut followers = Vec::new();
    for _ in 0..FOLLOWERS {
        followers.push(Follower::start(first.main_addr(), &bearer, "room:1")?);
    }
    let elsewhere: SocketAddr = second.main_addr();
    std::thread::scope(|scope| {
        let (first, second) = (&first, &second);
        let publishing = scope.spawn(move || publish_through(&[first, second], 1..=LAST));
        let (one, rest) = followers.split_first_mut().context("nobody follows")?;
        let following = rest.iter_mut().map(|one| {
            let follow = move || one.follow(LAST, elsewhere);
            scope.spawn(follow)
        });
        let following: Vec<_> = following.collect();
        one.follow(LEAVES_AFTER, elsewhere)?;
        leave(first)?;
        one.follow(LAST, elsewhere)?;
        for thread in following.into_iter().chain([publishing]) {
            let done = thread.join();
            done.map_err(|_| anyhow::anyhow!("a thread has panicked"))??;
        }
        anyhow::Ok(())
    })?;
    // Who was quick may have heard all of it before its connection ended.
    let (mut last, deadline) = (LAST, Instant::now() + PATIENCE);
    while followers.iter().any(|one| one.moves == 0) {
        ensure!(Instant::now() < deadline, "some have not moved");
        publish(&second, last + 1..=last + 20)?;
        last += 20;
        for follower in &mut followers {
            follower.follow(last, elsewhere)?;
        }
    }
    let moved_once = followers.iter().all(|one| one.moves == 1);
    ensure!(moved_once, "some moved twice");
    Ok(followers.into_iter().flat_map(|one| one.closes).collect())
}

/// Publishes numbers in order, each until it is taken, and none twice.
fn publish(gateway: &Gateway, numbers: std::ops::RangeInclusive<u64>) -> anyhow::Result<()> {
    publish_through(&[gateway], numbers)
}

/// Likewise, through the next gateway once one does not answer.
fn publish_through(
    gateways: &[&Gateway],
    numbers: std::ops::RangeInclusive<u64>,
) -> anyhow::Result<()> {
    let mut asked = gateways.iter().cycle();
    let mut gateway = asked.next().context("there is no gateway")?;
    for number in numbers {
        let publish = json!({
            "channel": "room:1", "data": number, "idempotency_key": number.to_string(),
        });
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = api(gateway, "publish", &publish) {
            ensure!(Instant::now() < deadline, "{number} is not taken: {error}");
            gateway = asked.next().unwrap_or(gateway);
        }
    }
    Ok(())
}

const FOLLOWERS: usize = 8;
const LEAVES_AFTER: u64 = 50;
const LAST: u64 = 200;
