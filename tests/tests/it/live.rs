//! What happens to connections while they live: pings, expiry, revocation, slowness.

use std::time::{Duration, Instant};

use e2e::config::{config, with_client_keys};
use serde_json::{Value, json};
use testkit::{Client, ClientError, Gateway, Handshake, PATIENCE, http, token};

#[test]
fn client_without_pong_is_closed_with_3012() -> anyhow::Result<()> {
    let gateway = Gateway::start(&with_client_keys(
        "  ping_interval: 1s\n  pong_timeout: 500ms",
        "",
    ))?;
    let token = token::user("anna")?;
    let mut good = Client::connect(gateway.main_addr(), &token)?;
    good.wait_ping(PATIENCE)?;
    good.wait_ping(PATIENCE)?;
    assert_eq!(good.close(), None);
    // Whatever else it sends does not count.
    let mut silent = Client::connect(gateway.main_addr(), &token)?;
    silent.answers_pings = false;
    silent.subscribe("room:1")?;
    assert_eq!(silent.wait_close(PATIENCE)?.code, Some(3012));
    Ok(())
}

#[test]
fn client_that_never_connects_is_closed_with_3502() -> anyhow::Result<()> {
    let gateway = Gateway::start(&with_client_keys("  stale_close_delay: 1s", ""))?;
    let mut client = Client::open(gateway.main_addr(), &Handshake::default())?;
    assert_eq!(client.wait_close(PATIENCE)?.code, Some(3502));
    Ok(())
}

#[test]
fn expired_connection_is_closed_with_3005_unless_it_is_refreshed() -> anyhow::Result<()> {
    let gateway = Gateway::start(&with_client_keys("  expired_close_delay: 1s", ""))?;
    let expiring = || {
        let claims = json!({ "sub": "anna", "exp": token::unix_s() + 2 });
        token::hs256(token::SECRET.as_bytes(), &claims)
    };
    let mut refreshed = Client::open(gateway.main_addr(), &Handshake::default())?;
    let connected = refreshed.authenticate(&expiring()?)?;
    assert_eq!(connected["expires"], true);
    assert!(connected["ttl"].as_u64().is_some_and(|ttl| ttl <= 2));
    let mut left = Client::connect(gateway.main_addr(), &expiring()?)?;
    refreshed.request("refresh", json!({ "token": token::user("anna")? }))?;
    assert_eq!(left.wait_close(PATIENCE)?.code, Some(3005));
    refreshed.subscribe("room:1")?;
    assert_eq!(refreshed.close(), None);
    Ok(())
}

#[test]
fn refresh_for_another_user_is_closed_with_3500() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    let mut client = Client::connect(gateway.main_addr(), &token::user("anna")?)?;
    let stolen = json!({ "token": token::user("ben")? });
    let Err(ClientError::Closed(close)) = client.request("refresh", stolen) else {
        panic!("another user's token was accepted")
    };
    assert_eq!(close.code, Some(3500));
    Ok(())
}

#[test]
fn revoked_user_and_token_are_out_within_two_seconds() -> anyhow::Result<()> {
    let mut gateway = Gateway::start(&config(""))?;
    let operator = gateway.command(&["admin-token", "--name", "ops"])?;
    let with_id = |id: &str| {
        let mut claims = token::claims("ben");
        claims["jti"] = id.into();
        token::hs256(token::SECRET.as_bytes(), &claims)
    };
    let mut anna = Client::connect(gateway.main_addr(), &token::user("anna")?)?;
    let mut lost = Client::connect(gateway.main_addr(), &with_id("lost")?)?;
    let mut kept = Client::connect(gateway.main_addr(), &with_id("kept")?)?;
    for what in [json!({ "user": "anna" }), json!({ "token_id": "lost" })] {
        revoke(&gateway, &operator, &what)?;
    }
    let begun = Instant::now();
    for client in [&mut anna, &mut lost] {
        let close = client.wait_close(PATIENCE)?;
        assert!(close.code.is_some_and(|code| code >= 3000), "{close:?}");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "took {:?}",
        begun.elapsed()
    );
    kept.subscribe("room:1")?;
    assert!(Client::connect(gateway.main_addr(), &with_id("lost")?).is_err());
    // It outlives the process.
    gateway.restart()?;
    assert!(Client::connect(gateway.main_addr(), &with_id("lost")?).is_err());
    Client::connect(gateway.main_addr(), &with_id("kept")?)?;
    Ok(())
}

#[test]
fn client_that_stops_reading_is_closed_and_the_others_are_not_held_up() -> anyhow::Result<()> {
    let gateway = Gateway::start(&with_client_keys("  queue_max_size: 100000", ""))?;
    let token = token::user("anna")?;
    let mut publisher = Client::connect(gateway.main_addr(), &token)?;
    let mut good = Client::connect(gateway.main_addr(), &token)?;
    let mut stuck = Client::connect(gateway.main_addr(), &token)?;
    good.subscribe("room:1")?;
    stuck.subscribe("room:1")?;
    let data = Value::from("x".repeat(30_000));
    // The kernel's buffers take some megabytes before the queue grows.
    let deadline = Instant::now() + PATIENCE;
    while gateway.metric("tidegate_disconnects_total{code=\"3008\"}")? < 0.5 {
        assert!(
            Instant::now() < deadline,
            "the stuck client was never closed"
        );
        for _ in 0..20 {
            publisher.publish("room:1", &data)?;
            good.next_publication("room:1")?;
        }
    }
    assert_eq!(good.close(), None);
    // Once it reads on, it finds all that was sent before, and the end.
    stuck.wait_close(PATIENCE)?;
    Ok(())
}

#[test]
fn slow_subscriber_keeps_its_connection_where_losing_is_allowed() -> anyhow::Result<()> {
    let gateway = Gateway::start(&with_client_keys(
        "  queue_max_size: 100000",
        r"
    - name: latest
      slow_client: conflate
      allow_subscribe_for_client: true
      allow_publish_for_client: true
    - name: recent
      slow_client: drop_oldest
      allow_subscribe_for_client: true
      allow_publish_for_client: true
websocket: { write_timeout: 1m }",
    ))?;
    let token = token::user("anna")?;
    let mut publisher = Client::connect(gateway.main_addr(), &token)?;
    for (channel, reason) in [("latest:1", "conflated"), ("recent:1", "dropped_oldest")] {
        let mut slow = Client::connect(gateway.main_addr(), &token)?;
        slow.subscribe(channel)?;
        let series = format!("tidegate_publications_dropped_total{{reason=\"{reason}\"}}");
        let filler = "x".repeat(30_000);
        let mut last = 0;
        let deadline = Instant::now() + PATIENCE;
        while gateway.metric(&series)? < 10.0 {
            assert!(Instant::now() < deadline, "nothing was {reason}");
            for _ in 0..20 {
                last += 1;
                publisher.publish(channel, &json!([last, filler]))?;
            }
        }
        // It reads on: in order, with a gap, and up to the newest.
        let mut seen = Vec::new();
        while seen.last() != Some(&last) {
            seen.push(
                slow.next_publication(channel)?["data"][0]
                    .as_u64()
                    .unwrap_or_default(),
            );
        }
        assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
        assert!((seen.len() as u64) < last, "nothing is missing of {last}");
        assert_eq!(slow.close(), None);
    }
    Ok(())
}

#[test]
fn flood_of_commands_is_closed_with_3013() -> anyhow::Result<()> {
    let gateway = Gateway::start(&with_client_keys(
        "  command_rate: 5\n  command_burst: 20",
        "",
    ))?;
    let mut client = Client::connect(gateway.main_addr(), &token::user("anna")?)?;
    for n in 0..200 {
        let body = json!({ "channel": "room:1", "data": n });
        if client.send_command("publish", body).is_err() {
            break;
        }
    }
    assert_eq!(client.wait_close(PATIENCE)?.code, Some(3013));
    Ok(())
}

#[test]
fn tokens_and_payloads_never_reach_the_log() -> anyhow::Result<()> {
    let mut gateway = Gateway::start(&config("log: { level: trace }\ndrain: { delay: 0s }"))?;
    let good = token::user("anna")?;
    let mut client = Client::connect(gateway.main_addr(), &good)?;
    client.subscribe("room:1")?;
    client.publish("room:1", &json!("canary payload"))?;
    client.next_publication("room:1")?;
    let wrong = format!("{good}canary");
    drop(Client::connect(gateway.main_addr(), &wrong));
    let query = format!("/connection/websocket?token={good}");
    drop(http::get(
        gateway.main_addr(),
        &query,
        &[("Authorization", &format!("Bearer {good}"))],
    ));
    drop(client);
    // Whatever was still on its way to the log is there when the process has ended.
    gateway.terminate()?;
    gateway.wait_exit(PATIENCE)?;
    let log = gateway.log().text();
    assert!(log.contains("DEBUG"), "the log tells less than asked for");
    for secret in [good.as_str(), token::SECRET, "canary"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    Ok(())
}

fn revoke(gateway: &Gateway, operator: &str, what: &Value) -> anyhow::Result<()> {
    let authorization = format!("Bearer {operator}");
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Content-Type", "application/json"),
    ];
    let body = what.to_string();
    let answer = http::post(
        gateway.admin_addr(),
        "/admin/revocations",
        &headers,
        body.as_bytes(),
    )?;
    anyhow::ensure!(answer.status == 201, "{}: {}", answer.status, answer.text());
    Ok(())
}
