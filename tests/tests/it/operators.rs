//! The admin listener of a running gateway: health, metrics, server API.

use e2e::config::config;
use serde_json::{Value, json};
use testkit::{Client, Gateway, PATIENCE, http, token};

#[test]
fn server_api_reaches_clients() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(API))?;
    let mut anna = Client::connect(gateway.main_addr(), &token::user("anna")?)?;
    anna.subscribe("room:1")?;
    let published = api(
        &gateway,
        "publish",
        &json!({ "channel": "room:1", "data": { "n": 1 } }),
    )?;
    assert_eq!(published["result"]["offset"], 1);
    assert_eq!(anna.next_publication("room:1")?["data"], json!({ "n": 1 }));

    let history = api(
        &gateway,
        "history",
        &json!({ "channel": "room:1", "limit": -1 }),
    )?;
    assert_eq!(
        history["result"]["publications"][0]["data"],
        json!({ "n": 1 })
    );
    let presence = api(&gateway, "presence_stats", &json!({ "channel": "room:1" }))?;
    assert_eq!(
        presence["result"],
        json!({ "num_clients": 1, "num_users": 1 })
    );
    let channels = api(&gateway, "channels", &json!({}))?;
    assert_eq!(
        channels["result"]["channels"],
        json!({ "room:1": { "num_clients": 1 } })
    );

    api(
        &gateway,
        "subscribe",
        &json!({ "user": "anna", "channel": "room:2" }),
    )?;
    let push = anna.next_push(PATIENCE)?;
    assert!(
        push.get("subscribe").is_some() && push["channel"] == "room:2",
        "{push}"
    );
    api(
        &gateway,
        "unsubscribe",
        &json!({ "user": "anna", "channel": "room:2" }),
    )?;
    let push = anna.next_push(PATIENCE)?;
    assert_eq!(push["unsubscribe"]["code"], 2000, "{push}");

    api(&gateway, "disconnect", &json!({ "user": "anna" }))?;
    assert_eq!(anna.wait_close(PATIENCE)?.code, Some(3503));
    Ok(())
}

#[test]
fn idempotency_key_publishes_once() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(API))?;
    let publish = json!({ "channel": "room:1", "data": 1, "idempotency_key": "k" });
    let first = api(&gateway, "publish", &publish)?;
    assert_eq!(api(&gateway, "publish", &publish)?, first);
    let history = api(
        &gateway,
        "history",
        &json!({ "channel": "room:1", "limit": -1 }),
    )?;
    assert_eq!(
        history["result"]["publications"].as_array().map(Vec::len),
        Some(1)
    );
    Ok(())
}

#[test]
fn server_api_without_its_key_answers_401_and_does_nothing() -> anyhow::Result<()> {
    for (config, key) in [(config(""), KEY), (config(API), "wrong"), (config(API), "")] {
        let gateway = Gateway::start(&config)?;
        let body = json!({ "channel": "room:1", "data": 1 }).to_string();
        let headers = [("X-API-Key", key), ("Content-Type", "application/json")];
        let answer = http::post(
            gateway.admin_addr(),
            "/api/publish",
            &headers,
            body.as_bytes(),
        )?;
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (401, b"".as_slice())
        );
        let mut anna = Client::connect(gateway.main_addr(), &token::user("anna")?)?;
        assert!(
            anna.subscribe("room:1")?
                .get("offset")
                .is_none_or(|offset| offset == 0)
        );
    }
    Ok(())
}

#[test]
fn healthy_gateway_says_so_and_shows_what_it_counts() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(
            http::get(gateway.admin_addr(), path, &[])?.status,
            200,
            "{path}"
        );
    }
    let _client = Client::connect(gateway.main_addr(), &token::user("anna")?)?;
    for series in [
        "gateway_websocket_connections_active",
        "gateway_websocket_connections_total",
        "tidegate_connections{transport=\"websocket\",encoding=\"json\"}",
    ] {
        gateway.wait_metric(series, |value| (value - 1.0).abs() < f64::EPSILON)?;
    }
    gateway.wait_metric("tidegate_memory_resident_bytes", |bytes| bytes > 0.0)?;
    Ok(())
}

#[test]
fn admin_paths_are_not_on_the_clients_listener() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(API))?;
    for path in [
        "/metrics",
        "/healthz",
        "/readyz",
        "/admin/connections",
        "/api/info",
    ] {
        assert_eq!(
            http::get(gateway.main_addr(), path, &[])?.status,
            404,
            "{path}"
        );
    }
    Ok(())
}

fn api(gateway: &Gateway, method: &str, request: &Value) -> anyhow::Result<Value> {
    let headers = [("X-API-Key", KEY), ("Content-Type", "application/json")];
    let path = format!("/api/{method}");
    let answer = http::post(
        gateway.admin_addr(),
        &path,
        &headers,
        request.to_string().as_bytes(),
    )?;
    anyhow::ensure!(
        answer.status == 200,
        "{method}: {} {}",
        answer.status,
        answer.text()
    );
    let answer = answer.json()?;
    anyhow::ensure!(answer.get("error").is_none(), "{method}: {answer}");
    Ok(answer)
}

const KEY: &str = "an API key for tests";
const API: &str = "http_api: { key: \"an API key for tests\" }";
