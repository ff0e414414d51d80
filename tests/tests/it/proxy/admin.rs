//! Routes as operators make and change them, and when that is in force.

use std::time::{Duration, Instant};

use anyhow::ensure;
use e2e::config::config;
use e2e::proxy::api::{Api, RECORDS, id, record};
use e2e::proxy::origin::Origin;
use e2e::proxy::route;
use serde_json::json;
use testkit::Gateway;

use super::{before, get};

/// How long a change may take to be in force.
const SOON: Duration = Duration::from_secs(1);

/// Waits until a path is answered with a status; the change was made at `since`.
fn wait_served(gateway: &Gateway, path: &str, status: u16, since: Instant) -> anyhow::Result<()> {
    loop {
        let answered = get(gateway, path, &[])?.status;
        let took = since.elapsed();
        if answered == status {
            return Ok(());
        }
        ensure!(
            took < SOON,
            "{path} is answered with {answered} after {took:?}"
        );
    }
}

#[test]
fn a_route_is_served_while_it_is_there() -> anyhow::Result<()> {
    let (one, other) = (Origin::start()?, Origin::start()?);
    let gateway = Gateway::start(&config(""))?;
    let api = Api::of(&gateway)?;
    assert_eq!(get(&gateway, "/-/new/x", &[])?.status, 404);
    // Written without `/-`, it gets it.
    let created = api.create(&route("/new", &one.url(), &json!({ "name": "New one" })))?;
    assert_eq!(created["path"], "/-/new");
    assert_eq!(created["version"], 1);
    // A change is in force here once it is answered.
    assert_eq!(get(&gateway, "/-/new/x", &[])?.status, 200);
    let id = id(&created)?;
    let patched = api.patch(&id, &json!({ "target_url": other.url() }))?;
    assert_eq!(patched["version"], 2);
    assert_eq!(patched["name"], "New one");
    assert_eq!(get(&gateway, "/-/new/x", &[])?.status, 200);
    assert_eq!(
        (one.seen().requests.len(), other.seen().requests.len()),
        (1, 1)
    );
    api.patch(&id, &json!({ "active": false }))?;
    assert_eq!(get(&gateway, "/-/new/x", &[])?.status, 404);
    api.rollback(&id, 1)?;
    assert_eq!(get(&gateway, "/-/new/x", &[])?.status, 200);
    assert_eq!(one.seen().requests.len(), 2);
    let history = api.history(&id)?;
    let told: Vec<_> = history
        .iter()
        .map(|change| (change["version"].as_u64(), change["author"].as_str()))
        .collect();
    assert_eq!(
        told,
        [4, 3, 2, 1].map(|version| (Some(version), Some("ops")))
    );
    api.delete(&id)?;
    assert_eq!(get(&gateway, "/-/new/x", &[])?.status, 404);
    Ok(())
}

#[test]
fn a_change_of_what_was_not_seen_is_refused() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = Gateway::start(&config(""))?;
    let api = Api::of(&gateway)?;
    let id = id(&api.create(&route("/-/a", &origin.url(), &json!({})))?)?;
    let response = api.call("GET", &record(&id), None, None)?;
    assert_eq!(response.header("etag"), Some("\"1\""));
    let change = json!({ "timeout": 10 });
    let response = api.call("PATCH", &record(&id), Some(1), Some(&change))?;
    assert_eq!(
        (response.status, response.header("etag")),
        (200, Some("\"2\""))
    );
    let response = api.call("PATCH", &record(&id), Some(1), Some(&change))?;
    assert_eq!(response.status, 412, "{}", response.text());
    assert_eq!(api.call("DELETE", &record(&id), Some(1), None)?.status, 412);
    assert_eq!(api.get(&id)?["version"], 2);
    assert_eq!(api.call("DELETE", &record(&id), Some(2), None)?.status, 204);
    Ok(())
}

#[test]
fn a_masked_value_is_not_saved() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = Gateway::start(&config(""))?;
    let api = Api::of(&gateway)?;
    let headers = json!({ "Authorization": "Bearer canary-literal" });
    let created = api.create(&route(
        "/-/a",
        &origin.url(),
        &json!({ "headers": headers }),
    ))?;
    let id = id(&created)?;
    assert_eq!(created["headers"]["Authorization"], "Bearer ********");
    // All of it sent back, as a form does.
    let response = api.call("PATCH", &record(&id), None, Some(&created))?;
    assert_eq!(response.status, 400);
    let problem = &response.json()?["data"]["headers.Authorization"];
    assert_eq!(problem["code"], "validation_masked", "{}", response.text());
    // Without its headers it keeps them.
    let mut rest = created;
    rest.as_object_mut().map(|rest| rest.remove("headers"));
    rest["timeout"] = json!(9);
    api.patch(&id, &rest)?;
    let told = get(&gateway, "/-/a", &[])?.text();
    assert!(told.contains("Bearer canary-literal"), "{told}");
    Ok(())
}

#[test]
fn mistakes_are_told_field_by_field() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    let api = Api::of(&gateway)?;
    for (wrong, field) in [
        (json!({ "path": "/" }), "path"),
        (json!({ "path": "no-slash" }), "path"),
        (json!({ "path": "/api/x" }), "path"),
        (json!({ "path": "/_/x" }), "path"),
        (json!({ "upstream": "ftp://x" }), "upstream"),
        (
            json!({ "accessRule": "@request.auth.role = 'x'" }),
            "accessRule",
        ),
        (json!({ "timeout": 301 }), "timeout"),
        (json!({ "maxConcurrent": -1 }), "maxConcurrent"),
        (
            json!({ "circuitBreaker": { "half_open_requests": 0 } }),
            "circuitBreaker.half_open_requests",
        ),
        (
            json!({ "headers": { "X": "{env.TIDEGATE_SECRET}" } }),
            "headers.X",
        ),
        (json!({ "nonsense": 1 }), "nonsense"),
    ] {
        let response = api.call(
            "POST",
            RECORDS,
            None,
            Some(&route("/-/a", "http://x.example", &wrong)),
        )?;
        assert_eq!(response.status, 400, "{wrong}");
        let told = response.json()?;
        assert!(told["data"].get(field).is_some(), "{wrong}: {told}");
    }
    let good = route("/-/a", "http://x.example", &json!({}));
    api.create(&good)?;
    let response = api.call("POST", RECORDS, None, Some(&good))?;
    assert_eq!(
        response.json()?["data"]["path"]["code"],
        "validation_not_unique"
    );
    assert_eq!(api.list()?["totalItems"], 1);
    Ok(())
}

#[test]
fn only_administrators_change_routes() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    let user = format!("Bearer {}", testkit::token::user("anna")?);
    for headers in [&[][..], &[("Authorization", user.as_str())]] {
        let response = testkit::http::get(gateway.admin_addr(), RECORDS, headers)?;
        assert_eq!(response.status, 401, "{}", response.text());
    }
    Ok(())
}

#[test]
fn a_route_of_the_file_is_read_only_and_follows_the_file() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({}))?;
    let api = Api::of(&gateway)?;
    let listed = api.list()?;
    let id = id(&listed["items"][0])?;
    assert_eq!(listed["items"][0]["readOnly"], true);
    let response = api.call("PATCH", &record(&id), None, Some(&json!({ "timeout": 9 })))?;
    assert_eq!(response.status, 403);
    assert_eq!(get(&gateway, "/-/a", &[])?.status, 200);
    let routes = json!([route("/-/b", &origin.url(), &json!({}))]);
    let mark = gateway.log().mark();
    gateway.rewrite_config(&config(&e2e::proxy::settings(&routes, &json!({}))))?;
    gateway.hangup()?;
    gateway
        .log()
        .wait_for_message(mark, testkit::PATIENCE, e2e::reload::RELOADED)?;
    wait_served(&gateway, "/-/b", 200, Instant::now())?;
    assert_eq!(get(&gateway, "/-/a", &[])?.status, 404);
    Ok(())
}

#[test]
fn another_gateway_on_the_same_store_follows_within_a_second() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let shared = |name: &str| format!("\"{}\"", folder.path().join(name).display());
    let key = folder.path().join("key");
    std::fs::write(&key, "00112233445566778899aabbccddeeff".repeat(2))?;
    let store = format!(
        "store: {{ url: {}, key: \"file:{}\" }}",
        shared("store.db"),
        key.display()
    );
    two_gateways_follow(&store)
}

#[test]
fn gateways_on_one_postgresql_follow_each_other_within_a_second() -> anyhow::Result<()> {
    let server = testkit::services::Postgres::start()?;
    let url = server.database("routes")?;
    let key = "00112233445566778899aabbccddeeff".repeat(2);
    two_gateways_follow(&format!("store: {{ url: \"{url}\", key: \"{key}\" }}"))
}

fn two_gateways_follow(store: &str) -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let first = Gateway::start(&config(store))?;
    let second = Gateway::start(&config(store))?;
    let api = Api::of(&first)?;
    let headers = json!({ "headers": { "X-Secret": "{secret.SHARED}" } });
    let record = route("/-/a", &origin.url(), &headers);
    api.put_secret("SHARED", "canary-shared")?;
    let id = id(&api.create(&record)?)?;
    wait_served(&second, "/-/a", 200, Instant::now())?;
    let told = get(&second, "/-/a", &[])?.text();
    assert!(told.contains("canary-shared"), "{told}");
    api.patch(&id, &json!({ "accessRule": "false" }))?;
    wait_served(&second, "/-/a", 403, Instant::now())?;
    api.delete(&id)?;
    wait_served(&second, "/-/a", 404, Instant::now())
}

#[test]
fn a_dry_run_tells_what_a_request_would_meet() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({ "accessRule": "", "maxConcurrent": 3 }))?;
    let api = Api::of(&gateway)?;
    let id = id(&api.list()?["items"][0])?;
    let path = format!("/admin/proxies/{id}/explain?path=/-/a/x");
    let told = api.call("GET", &path, None, None)?.json()?;
    assert_eq!(told["route"]["prefix"], "/-/a", "{told}");
    assert_eq!(told["access"]["guest"], false);
    assert_eq!(told["access"]["superuser"], true);
    assert_eq!(told["limiter"]["limit"], 3);
    assert_eq!(
        told["upstreams"][0]["target"],
        format!("{}/x", origin.url())
    );
    assert_eq!(origin.seen().connections, 0);
    Ok(())
}
