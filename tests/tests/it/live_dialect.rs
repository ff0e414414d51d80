//! Live-data clients from outside (`contracts`: live-data 6.2, 6.3).

use std::net::SocketAddr;

use e2e::config::config;
use e2e::live_client::{LiveClient, PATIENCE, Refused, Said};
use serde_json::{Value, json};
use testkit::{Client, Gateway, http, token};

/// Whoever is logged in may publish below `xy`.
const LIVE: &str = r#"
    - name: md
      pattern: "xy.>"
      allow_publish_for_client: true
live:
  enabled: true
  subjects: ["xy.md.>", "xy.exec.health"]
access:
  allowed_origins: ["https://app.example.com"]
"#;

fn gateway(extra: &str) -> anyhow::Result<Gateway> {
    Gateway::start(&config(&format!("{LIVE}{extra}")))
}

fn publish(client: &mut Client, subject: &str, data: Value) -> anyhow::Result<()> {
    Ok(client.publish(subject, &data)?)
}

fn limited(subjects: &[&str]) -> anyhow::Result<String> {
    let mut claims = token::claims("ann");
    claims["subjects"] = json!(subjects);
    token::hs256(token::SECRET.as_bytes(), &claims)
}

#[test]
fn subscriptions_add_up_until_they_are_replaced() -> anyhow::Result<()> {
    let gateway = gateway("")?;
    let mut publisher = Client::connect(gateway.main_addr(), &token::user("bob")?)?;
    let mut client = LiveClient::connect(gateway.main_addr(), &token::user("ann")?, "")?;
    client.subscribe(&["xy.md.tick.a"], false)?;
    client.subscribe(&["xy.md.snapshot.*", "xy.exec.health"], false)?;
    for subject in ["xy.md.tick.a", "xy.md.tick.b", "xy.md.snapshot.a"] {
        publish(&mut publisher, subject, json!(subject))?;
    }
    assert_eq!(client.payload()?, br#""xy.md.tick.a""#);
    assert_eq!(client.payload()?, br#""xy.md.snapshot.a""#);
    client.subscribe(&["xy.md.tick.b", "xy.exec.health"], true)?;
    client.unsubscribe(&["xy.exec.health"])?;
    for subject in [
        "xy.md.tick.a",
        "xy.md.snapshot.a",
        "xy.exec.health",
        "xy.md.tick.b",
    ] {
        publish(&mut publisher, subject, json!(subject))?;
    }
    assert_eq!(client.payload()?, br#""xy.md.tick.b""#);
    Ok(())
}

#[test]
fn list_and_token_must_both_allow_a_subject() -> anyhow::Result<()> {
    let gateway = gateway("")?;
    let mut publisher = Client::connect(gateway.main_addr(), &token::user("bob")?)?;
    let bearer = limited(&["xy.md.tick.a", "xy.risk.>"])?;
    let mut client = LiveClient::connect(gateway.main_addr(), &bearer, "")?;
    let refused = [
        "xy.md.tick.b",
        "xy.md.tick.*",
        "xy.md.>",
        "xy.risk.a",
        "md:a",
    ];
    client.send(&json!({ "type": "subscribe", "subjects": refused }))?;
    for subject in refused {
        let notice = json!({ "type": "error", "code": "XYW002", "subject": subject });
        assert_eq!(client.hear()?, Said::Notice(notice));
    }
    client.subscribe(&["xy.md.tick.a"], false)?;
    publish(&mut publisher, "xy.md.tick.b", json!("b"))?;
    publish(&mut publisher, "xy.md.tick.a", json!("a"))?;
    assert_eq!(client.payload()?, br#""a""#);
    Ok(())
}

#[test]
fn a_token_limits_clients_of_the_native_protocol_alike() -> anyhow::Result<()> {
    let gateway = gateway("")?;
    let mut client = Client::connect(gateway.main_addr(), &limited(&["room:a"])?)?;
    client.subscribe("room:a")?;
    for refused in [
        client.subscribe("room:b").map(drop),
        client.publish("room:b", &json!(1)),
        client
            .request("history", json!({ "channel": "room:b" }))
            .map(drop),
        client
            .request("presence", json!({ "channel": "room:b" }))
            .map(drop),
    ] {
        assert!(
            matches!(refused, Err(testkit::ClientError::Reply { code: 103, .. })),
            "{refused:?}"
        );
    }
    let mut claims = token::claims("ann");
    claims["subjects"] = json!(["room..b"]);
    let malformed = token::hs256(token::SECRET.as_bytes(), &claims)?;
    let refused = Client::connect(gateway.main_addr(), &malformed);
    assert!(refused.is_err(), "a malformed claim is no claim at all");
    Ok(())
}

#[test]
fn the_subject_comes_with_the_payload_if_asked_for() -> anyhow::Result<()> {
    let gateway = gateway("")?;
    let bearer = token::user("ann")?;
    let offered = format!("bearer, {bearer}, xy.v1");
    let headers = [("sec-websocket-protocol", offered.as_str())];
    let by_protocol = LiveClient::open(gateway.main_addr(), "/live/ws", &headers)?;
    let by_protocol = by_protocol.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
    assert_eq!(by_protocol.protocol.as_deref(), Some("xy.v1"));
    let by_query = LiveClient::connect(gateway.main_addr(), &bearer, "?envelope=1")?;
    let mut publisher = Client::connect(gateway.main_addr(), &bearer)?;
    for mut client in [by_protocol, by_query] {
        client.subscribe(&["xy.md.>"], false)?;
        publish(&mut publisher, "xy.md.tick.a", json!(1))?;
        assert_eq!(client.payload()?, b"\x00\x0cxy.md.tick.a1");
    }
    Ok(())
}

#[test]
fn handshakes_are_refused_before_the_upgrade() -> anyhow::Result<()> {
    let gateway = gateway("")?;
    let bearer = token::user("ann")?;
    let open = |target: &str, headers: &[(&str, &str)]| {
        LiveClient::open(gateway.main_addr(), target, headers)
    };
    let refused = |status, code: &str| Refused {
        status,
        code: code.to_owned(),
    };
    let is_refused = |target: &str, headers: &[(&str, &str)], status, code: &str| {
        let answer = open(target, headers)?;
        assert_eq!(answer.err(), Some(refused(status, code)), "{target}");
        anyhow::Ok(())
    };
    let own_page = ("origin", "https://app.example.com");
    is_refused("/live/ws", &[], 401, "XYW001")?;
    is_refused("/live/ws?token=", &[], 401, "XYW001")?;
    is_refused("/live/ws?token=none", &[], 401, "XYW005")?;
    is_refused(
        "/live/ws",
        &[("authorization", "Bearer none")],
        401,
        "XYW005",
    )?;
    is_refused(
        "/live/ws",
        &[("sec-websocket-protocol", "bearer, none")],
        401,
        "XYW005",
    )?;
    let query = format!("/live/ws?token={bearer}");
    is_refused(&query, &[("origin", "https://evil.example")], 403, "XYW001")?;
    is_refused(
        &format!("/live/wss?token={bearer}"),
        &[own_page],
        404,
        "XYW003",
    )?;
    let mut claims = token::claims("ann");
    claims["exp"] = json!(token::unix_s() - 10);
    let expired = token::hs256(token::SECRET.as_bytes(), &claims)?;
    is_refused(&format!("/live/ws?token={expired}"), &[], 401, "XYW005")?;
    // The first token found counts, and it is never said back.
    assert!(open(&query, &[own_page])?.is_ok());
    let offered = format!("bearer, {bearer}");
    let by_protocol = open("/live/ws", &[("sec-websocket-protocol", &offered)])?;
    let by_protocol = by_protocol.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
    assert_eq!(by_protocol.protocol.as_deref(), Some("bearer"));
    is_refused(&query, &[("authorization", "Bearer none")], 401, "XYW005")?;
    Ok(())
}

#[test]
fn keys_of_its_own_are_the_only_ones() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(
        r#"
live:
  enabled: true
  token: { enabled: true, hmac_secret_key: "another secret, of 32 characters" }
"#,
    ))?;
    let own = token::hs256(b"another secret, of 32 characters", &token::claims("ann"))?;
    LiveClient::connect(gateway.main_addr(), &own, "")?;
    assert!(LiveClient::connect(gateway.main_addr(), &token::user("ann")?, "").is_err());
    Ok(())
}

#[test]
fn whoever_shows_no_token_comes_in_only_if_that_is_wanted() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config("\nlive: { enabled: true, optional_token: true }\n"))?;
    let open = |target: &str| LiveClient::open(gateway.main_addr(), target, &[]);
    let nobody = open("/live/ws")?;
    let mut nobody = nobody.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
    nobody.subscribe(&["xy.md.a"], false)?;
    assert!(open("/live/ws?token=none")?.is_err());
    Ok(())
}

#[test]
fn health_and_figures_have_the_fields_of_the_contract() -> anyhow::Result<()> {
    let gateway = gateway("")?;
    let health = http::get(gateway.main_addr(), "/live/healthz", &[])?.json()?;
    assert_eq!(health["lastErrorCode"], Value::Null);
    let mut client = LiveClient::connect(gateway.main_addr(), &token::user("ann")?, "")?;
    client.subscribe(&[], false)?;
    let answer = http::get(gateway.main_addr(), "/live/healthz", &[])?;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let health = answer.json()?;
    assert_eq!(
        (&health["natsConnected"], &health["clients"]),
        (&json!(true), &json!(1))
    );
    for key in ["subscriptions", "uptimeSeconds"] {
        assert!(health[key].is_u64(), "{key} is {}", health[key]);
    }
    assert_eq!(health["lastErrorCode"], "XYW002");
    assert_eq!(http::get(gateway.main_addr(), "/live/ws", &[])?.status, 401);
    let health = http::get(gateway.main_addr(), "/live/healthz", &[])?.json()?;
    assert_eq!(health["lastErrorCode"], "XYW001");
    let figures = http::get(gateway.main_addr(), "/live/metrics.json", &[])?.json()?;
    for key in [
        "latency_p50",
        "latency_p95",
        "latency_p99",
        "slow_consumers",
        "ws_active",
        "ws_msgs_rate",
        "xy_nats_reconnects_total",
        "xy_sub_storms_total",
        "timestamp",
    ] {
        assert!(figures[key].is_number(), "{key} is {}", figures[key]);
    }
    Ok(())
}

#[test]
fn a_listener_of_its_own_has_the_bare_paths_and_nothing_else() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config("\nlive: { enabled: true }\n").replace(
        "listeners:\n",
        "listeners:\n  live: { address: \"127.0.0.1:0\" }\n",
    ))?;
    let own = gateway.log().wait_for(0, PATIENCE, |line| {
        line["message"] == "listening" && line["listener"] == "live"
    })?;
    let own: SocketAddr = own["address"].as_str().unwrap_or_default().parse()?;
    let bearer = token::user("ann")?;
    let client = LiveClient::open(own, &format!("/ws?token={bearer}"), &[])?;
    client
        .map_err(|refused| anyhow::anyhow!("{refused:?}"))?
        .subscribe(&["xy.md.a"], false)?;
    assert_eq!(http::get(own, "/healthz", &[])?.status, 200);
    for path in ["/", "/connection/websocket", "/live/ws", "/metrics"] {
        let answer = http::get(own, path, &[])?;
        assert_eq!(
            (answer.status, &answer.json()?["code"]),
            (404, &json!("XYW003")),
            "{path}"
        );
    }
    Ok(())
}
