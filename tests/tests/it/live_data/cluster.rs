//! Two gateways on one NATS server: what is done at one is done at both.

use std::time::{Duration, Instant};

use anyhow::ensure;
use e2e::live_data::Scene;
use e2e::live_data::operator::{Administrator, api};
use serde_json::{Value, json};
use testkit::{Client, Gateway, PATIENCE, token};

#[test]
fn what_is_published_at_one_gateway_is_heard_and_kept_at_the_other() -> anyhow::Result<()> {
    let scene = Scene::start()?;
    let gateways = [scene.gateway("")?, scene.gateway("")?];
    let bearer = token::user("anna")?;
    let mut clients = Vec::new();
    for gateway in &gateways {
        let mut client = Client::connect(gateway.main_addr(), &bearer)?;
        client.subscribe("room:1")?;
        clients.push(client);
    }
    clients[0].publish("room:1", &json!("from a client"))?;
    let publish = json!({ "channel": "room:1", "data": "from a backend" });
    let published = api(&gateways[1], "publish", &publish)?;
    for client in &mut clients {
        for (offset, data) in [(1, "from a client"), (2, "from a backend")] {
            let publication = client.next_publication("room:1")?;
            assert_eq!(publication["offset"], offset);
            assert_eq!(publication["data"], data);
        }
    }
    let ask = json!({ "channel": "room:1", "limit": -1 });
    let histories = [0, 1].map(|n| api(&gateways[n], "history", &ask));
    let [first, second] = histories;
    let (first, second) = (first?, second?);
    assert_eq!(first, second);
    assert_eq!(first["offset"], 2);
    assert_eq!(first["epoch"], published["epoch"]);

    // One key, one publication, whichever gateway is asked.
    let keyed = json!({ "channel": "room:1", "data": 3, "idempotency_key": "k" });
    assert_eq!(
        api(&gateways[0], "publish", &keyed)?,
        api(&gateways[1], "publish", &keyed)?
    );
    for client in &mut clients {
        assert_eq!(client.next_publication("room:1")?["offset"], 3);
    }
    Ok(())
}

#[test]
fn presence_is_that_of_both_gateways() -> anyhow::Result<()> {
    let scene = Scene::start()?;
    let gateways = [scene.gateway("")?, scene.gateway("")?];
    let join = |gateway: &Gateway, user: &str| {
        let mut client = Client::connect(gateway.main_addr(), &token::user(user)?)?;
        client.subscribe("room:1")?;
        anyhow::Ok(client)
    };
    let (mut anna, ben) = (join(&gateways[0], "anna")?, join(&gateways[1], "ben")?);
    for gateway in &gateways {
        wait_present(gateway, &["anna", "ben"])?;
    }
    let presence = anna.request("presence", json!({ "channel": "room:1" }))?;
    assert_eq!(users(&presence), ["anna", "ben"]);
    drop(ben);
    for gateway in &gateways {
        wait_present(gateway, &["anna"])?;
    }
    anna.request("unsubscribe", json!({ "channel": "room:1" }))?;
    for gateway in &gateways {
        wait_present(gateway, &[])?;
    }
    Ok(())
}

#[test]
fn server_api_of_one_gateway_acts_on_clients_of_the_other() -> anyhow::Result<()> {
    let scene = Scene::start()?;
    let (here, there) = (scene.gateway("")?, scene.gateway("")?);
    let mut ben = Client::connect(there.main_addr(), &token::user("ben")?)?;
    let mut other = Client::connect(there.main_addr(), &token::user("other")?)?;
    let begun = Instant::now();
    api(
        &here,
        "subscribe",
        &json!({ "user": "ben", "channel": "room:2" }),
    )?;
    let push = ben.next_push(PATIENCE)?;
    assert!(push.get("subscribe").is_some(), "{push}");
    api(&here, "publish", &json!({ "channel": "room:2", "data": 1 }))?;
    assert_eq!(ben.next_publication("room:2")?["data"], 1);
    let orders = [
        ("unsubscribe", json!({ "user": "ben", "channel": "room:2" })),
        ("disconnect", json!({ "user": "ben" })),
    ];
    api(&here, orders[0].0, &orders[0].1)?;
    let push = ben.next_push(PATIENCE)?;
    assert_eq!(push["unsubscribe"]["code"], 2000, "{push}");
    api(&here, orders[1].0, &orders[1].1)?;
    assert_eq!(ben.wait_close(PATIENCE)?.code, Some(3503));
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "took {:?}",
        begun.elapsed()
    );
    // Nobody else is meant.
    other.subscribe("room:2")?;
    Ok(())
}

#[test]
fn who_is_revoked_at_one_gateway_is_out_at_all() -> anyhow::Result<()> {
    let scene = Scene::start()?;
    let (here, mut there) = (scene.gateway("")?, scene.gateway("")?);
    let operator = Administrator::of(&here)?;
    let with_id = |id: &str| {
        let mut claims = token::claims("ben");
        claims["jti"] = id.into();
        token::hs256(token::SECRET.as_bytes(), &claims)
    };
    let (lost, kept) = (with_id("lost")?, with_id("kept")?);
    let mut clients = [
        Client::connect(there.main_addr(), &token::user("anna")?)?,
        Client::connect(there.main_addr(), &lost)?,
    ];
    let mut left = Client::connect(there.main_addr(), &kept)?;
    let begun = Instant::now();
    for what in [json!({ "user": "anna" }), json!({ "token_id": "lost" })] {
        let answer = operator.send(&here, "POST", "/admin/revocations", &what)?;
        ensure!(answer.status == 201, "{}", answer.text());
    }
    for client in &mut clients {
        let close = client.wait_close(PATIENCE)?;
        assert!(close.code.is_some_and(|code| code >= 3000), "{close:?}");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "took {:?}",
        begun.elapsed()
    );
    left.subscribe("room:1")?;
    // It holds for who comes back to that gateway, for the gateway that starts again, and
    // for one that was not there at all.
    assert!(Client::connect(there.main_addr(), &lost).is_err());
    there.restart()?;
    let new = scene.gateway("")?;
    for gateway in [&there, &new] {
        let deadline = Instant::now() + PATIENCE;
        while Client::connect(gateway.main_addr(), &lost).is_ok() {
            ensure!(Instant::now() < deadline, "the token is still good");
        }
        Client::connect(gateway.main_addr(), &kept)?;
    }
    Ok(())
}

/// Waits until exactly these users are present at `room:1`.
fn wait_present(gateway: &Gateway, expected: &[&str]) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let presence = api(gateway, "presence", &json!({ "channel": "room:1" }))?;
        if users(&presence) == expected {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{expected:?} were expected: {presence}"
        );
    }
}

fn users(presence: &Value) -> Vec<&str> {
    let present = presence["presence"].as_object().into_iter().flatten();
    let mut users: Vec<_> = present
        .filter_map(|(_, info)| info["user"].as_str())
        .collect();
    users.sort_unstable();
    users
}
