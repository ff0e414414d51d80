//! What a change of routes leaves as it was (P13 of the contract's decisions).

use e2e::config::config;
use e2e::proxy::api::{Api, id};
use e2e::proxy::origin::Origin;
use e2e::proxy::route;
use e2e::proxy::wire::Wire;
use serde_json::json;
use testkit::{Gateway, PATIENCE};

use super::get;

#[test]
fn a_breaker_stays_as_it_is_while_others_and_other_fields_change() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = Gateway::start(&config(""))?;
    let api = Api::of(&gateway)?;
    let breaker = json!({
        "circuitBreaker": { "enabled": true, "failureThreshold": 2, "recoveryTimeout": 60 },
    });
    let id = id(&api.create(&route("/-/a", &origin.url(), &breaker))?)?;
    for _ in 0..2 {
        get(&gateway, "/-/a/status/500", &[])?;
    }
    assert_eq!(get(&gateway, "/-/a/x", &[])?.status, 503);
    api.create(&route("/-/b", &origin.url(), &breaker))?;
    for change in [
        json!({ "timeout": 7 }),
        json!({ "name": "another" }),
        json!({ "maxConcurrent": 5 }),
        json!({ "headers": { "X-New": "1" } }),
    ] {
        api.patch(&id, &change)?;
        assert_eq!(get(&gateway, "/-/a/x", &[])?.status, 503, "{change}");
    }
    assert_eq!(get(&gateway, "/-/b/x", &[])?.status, 200);
    // Its own settings changed: it begins anew. So does a route that was deleted.
    api.patch(
        &id,
        &json!({ "circuitBreaker": { "enabled": true, "failureThreshold": 3 } }),
    )?;
    assert_eq!(get(&gateway, "/-/a/x", &[])?.status, 200);
    Ok(())
}

#[test]
fn requests_under_way_count_on_after_a_change() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = Gateway::start(&config(""))?;
    let api = Api::of(&gateway)?;
    let limit = json!({ "maxConcurrent": 1 });
    let id = id(&api.create(&route("/-/a", &origin.url(), &limit))?)?;
    origin.hold();
    let mut stream = Wire::connect(gateway.main_addr())?;
    stream.ask("GET", "/-/a/events", &[], b"")?;
    stream.head()?;
    stream.event()?;
    api.patch(&id, &json!({ "timeout": 9 }))?;
    assert_eq!(get(&gateway, "/-/a/x", &[])?.status, 429);
    api.patch(&id, &json!({ "maxConcurrent": 2 }))?;
    assert_eq!(get(&gateway, "/-/a/x", &[])?.status, 200);
    api.patch(&id, &json!({ "maxConcurrent": 1 }))?;
    assert_eq!(get(&gateway, "/-/a/x", &[])?.status, 429);
    // It goes on even if its route is no more.
    api.delete(&id)?;
    assert_eq!(get(&gateway, "/-/a/x", &[])?.status, 404);
    origin.release();
    assert_eq!(stream.event()?.as_deref(), Some("data: last"));
    assert_eq!(stream.event()?, None);
    Ok(())
}

#[test]
fn connections_to_upstreams_outlive_changes() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = Gateway::start(&config(""))?;
    let api = Api::of(&gateway)?;
    let id = id(&api.create(&route("/-/a", &origin.url(), &json!({})))?)?;
    for nth in 1..=20 {
        assert_eq!(get(&gateway, "/-/a/x", &[])?.status, 200);
        api.patch(&id, &json!({ "timeout": nth }))?;
    }
    assert_eq!(origin.seen().connections, 1);
    Ok(())
}

#[test]
fn what_waits_in_the_queue_is_served_after_a_change() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = Gateway::start(&config(""))?;
    let api = Api::of(&gateway)?;
    let queue = json!({ "maxConcurrent": 1, "queue": { "max": 10, "timeout": 20 } });
    let id = id(&api.create(&route("/-/a", &origin.url(), &queue))?)?;
    origin.hold();
    let mut wires = Vec::new();
    for nth in 1..=4 {
        let mut wire = Wire::connect(gateway.main_addr())?;
        wire.ask("GET", "/-/a/hold", &[], b"")?;
        wires.push(wire);
        let waiting = f64::from(nth - 1);
        gateway.wait_metric("gateway_active_connections", |it| it > waiting)?;
    }
    origin.wait(PATIENCE, |seen| seen.in_flight == 1)?;
    // More room: they need not wait any more.
    api.patch(&id, &json!({ "maxConcurrent": 3 }))?;
    origin.wait(PATIENCE, |seen| seen.in_flight == 3)?;
    origin.release();
    for wire in &mut wires {
        assert_eq!(wire.answer()?.status, 200);
    }
    Ok(())
}

#[test]
fn rates_and_figures_go_on() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = Gateway::start(&config(""))?;
    let api = Api::of(&gateway)?;
    let rate = json!({ "rate": { "per_second": 0.01, "burst": 2 }, "name": "rated" });
    let id = id(&api.create(&route("/-/a", &origin.url(), &rate))?)?;
    for expected in [200, 200, 429] {
        assert_eq!(get(&gateway, "/-/a", &[])?.status, expected);
        api.patch(&id, &json!({ "timeout": expected % 300 }))?;
    }
    assert_eq!(get(&gateway, "/-/a", &[])?.status, 429);
    let counted = gateway.metric("gateway_requests_total{proxy=\"rated\"}")?;
    assert!((counted - 4.0).abs() < f64::EPSILON, "{counted}");
    Ok(())
}
