//! What is sent a second time, and what is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::proxy::origin::{Asked, Origin};
use e2e::proxy::wire::Wire;
use e2e::proxy::{gateway, route};
use serde_json::json;
use testkit::PATIENCE;

use super::{before, get};

/// An upstream that closes the connection of its first `count` requests without a word.
fn silent_at_first(count: usize) -> anyhow::Result<Origin> {
    let asked_before = Arc::new(AtomicUsize::new(0));
    Origin::answering(move |asked: &mut Asked<'_>| {
        asked.body()?;
        if asked_before.fetch_add(1, Ordering::Relaxed) < count {
            asked.closes();
            return Ok(());
        }
        asked.answer(200, &[], b"at last")
    })
}

#[test]
fn only_what_does_no_harm_is_sent_again() -> anyhow::Result<()> {
    for (method, headers, expected) in [
        ("GET", &[][..], (200, 2)),
        ("PUT", &[][..], (200, 2)),
        ("DELETE", &[][..], (200, 2)),
        ("POST", &[][..], (502, 1)),
        ("PATCH", &[][..], (502, 1)),
        ("POST", &[("Idempotency-Key", "k1")][..], (200, 2)),
    ] {
        let origin = silent_at_first(1)?;
        let gateway = before(&origin, &json!({}))?;
        let main = gateway.main_addr();
        let response = Wire::once(main, method, "/-/a", headers, b"")?;
        let sent = origin.seen().requests.len();
        assert_eq!((response.status, sent), expected, "{method} {headers:?}");
    }
    Ok(())
}

#[test]
fn a_route_may_say_that_everything_can_be_sent_again_or_nothing() -> anyhow::Result<()> {
    for (retry, method, expected) in [
        (json!({ "unsafe_methods": true }), "POST", (200, 2)),
        (json!({ "attempts": 0 }), "GET", (502, 1)),
        (json!({ "attempts": 3 }), "GET", (502, 4)),
    ] {
        let origin = silent_at_first(if expected.0 == 200 { 1 } else { 9 })?;
        let gateway = before(&origin, &json!({ "retry": retry }))?;
        let response = Wire::once(gateway.main_addr(), method, "/-/a", &[], b"")?;
        let sent = origin.seen().requests.len();
        assert_eq!((response.status, sent), expected, "{retry}");
    }
    Ok(())
}

#[test]
fn a_body_is_sent_again_as_it_was() -> anyhow::Result<()> {
    let asked_before = Arc::new(AtomicUsize::new(0));
    let origin = Origin::answering(move |asked: &mut Asked<'_>| {
        let body = asked.body()?;
        if asked_before.fetch_add(1, Ordering::Relaxed) == 0 {
            asked.closes();
            return Ok(());
        }
        asked.answer(200, &[], &body)
    })?;
    let gateway = before(&origin, &json!({}))?;
    let body: Vec<u8> = (0..40_000).map(|at| (at % 251) as u8).collect();
    let response = Wire::once(gateway.main_addr(), "PUT", "/-/a", &[], &body)?;
    assert_eq!(response.status, 200);
    assert!(
        response.body == body,
        "the body was another one the second time"
    );
    Ok(())
}

#[test]
fn a_connection_that_was_closed_while_it_rested_is_not_noticed() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({ "retry": { "attempts": 0 } }))?;
    for method in ["GET", "POST"] {
        for round in 0..20 {
            let response = Wire::once(gateway.main_addr(), method, "/-/a/x", &[], b"")?;
            assert_eq!(
                response.status,
                200,
                "{method} {round}: {}",
                response.text()
            );
            origin.hang_up();
        }
    }
    // None of them was sent twice.
    assert_eq!(origin.seen().requests.len(), 40);
    Ok(())
}

#[test]
fn a_request_that_met_a_closing_connection_goes_once_more() -> anyhow::Result<()> {
    // It takes the second request of each connection, and closes: the gateway can't know
    // whether it was read.
    let before_on = std::sync::Mutex::new(0);
    let origin = Origin::answering(move |asked: &mut Asked<'_>| {
        asked.body()?;
        let mut last = before_on.lock().map_err(|_| std::io::ErrorKind::Other)?;
        if *last == asked.connection {
            asked.closes();
            return Ok(());
        }
        *last = asked.connection;
        asked.answer(200, &[], b"first of its connection")
    })?;
    let gateway = before(&origin, &json!({ "retry": { "attempts": 0 } }))?;
    for _ in 0..5 {
        assert_eq!(get(&gateway, "/-/a", &[])?.status, 200);
    }
    assert_eq!(origin.seen().connections, 5);
    // A POST may have been acted upon: it is not repeated.
    let sent = origin.seen().requests.len();
    let response = Wire::once(gateway.main_addr(), "POST", "/-/a", &[], b"once")?;
    assert_eq!(response.status, 502, "{}", response.text());
    assert_eq!(origin.seen().requests.len(), sent + 1);
    Ok(())
}

#[test]
fn an_upstream_that_is_overloaded_is_not_asked_again_but_another_is() -> anyhow::Result<()> {
    let busy = Origin::answering(|asked| asked.answer(503, &[("Retry-After", "1")], b"busy"))?;
    let well = Origin::start()?;
    let both = json!({ "upstreams": [busy.url(), well.url()] });
    let routes = json!([
        route("/-/one", &busy.url(), &json!({})),
        route("/-/both", "", &both),
    ]);
    let gateway = gateway(&routes, &json!({}))?;
    let response = get(&gateway, "/-/one", &[])?;
    assert_eq!((response.status, response.text()), (503, "busy".to_owned()));
    assert_eq!(busy.seen().requests.len(), 1);
    for _ in 0..20 {
        assert_eq!(get(&gateway, "/-/both", &[])?.status, 200);
    }
    Ok(())
}

#[test]
fn nothing_is_sent_again_once_the_client_has_heard_something() -> anyhow::Result<()> {
    let origin = Origin::answering(|asked| {
        asked.begin(200, &[])?;
        asked.chunk(b"half")?;
        asked.closes();
        Ok(())
    })?;
    let gateway = before(&origin, &json!({ "retry": { "attempts": 5 } }))?;
    let mut wire = Wire::connect(gateway.main_addr())?;
    wire.ask("GET", "/-/a", &[], b"")?;
    assert_eq!(wire.head()?.status(), 200);
    assert!(wire.rest().is_err(), "a cut answer looks complete");
    assert_eq!(origin.seen().requests.len(), 1);
    Ok(())
}

#[test]
fn further_tries_have_a_budget() -> anyhow::Result<()> {
    const CLIENTS: usize = 60;
    // All are asked at once, and then all fail at once.
    let origin = Origin::answering(|asked: &mut Asked<'_>| {
        asked.wait(PATIENCE)?;
        asked.closes();
        Ok(())
    })?;
    origin.hold();
    let gateway = before(&origin, &json!({ "retry": { "attempts": 1 } }))?;
    let mut wires = Vec::new();
    for _ in 0..CLIENTS {
        let mut wire = Wire::connect(gateway.main_addr())?;
        wire.ask("GET", "/-/a", &[], b"")?;
        wires.push(wire);
    }
    origin.wait(PATIENCE, |seen| seen.in_flight == CLIENTS)?;
    origin.release();
    for wire in &mut wires {
        assert_eq!(wire.answer()?.status, 502);
    }
    let sent = origin.seen().requests.len();
    // A fifth of what is under way, and what is under way grows less meanwhile.
    assert!(
        (CLIENTS + 3..CLIENTS + 30).contains(&sent),
        "{sent} were sent"
    );
    Ok(())
}

#[test]
fn a_second_try_is_sent_beside_a_slow_first_one() -> anyhow::Result<()> {
    let (slow, quick) = (Origin::start()?, Origin::start()?);
    slow.hold();
    let more = json!({
        "upstreams": [{ "url": slow.url(), "weight": 1000 }, { "url": quick.url(), "weight": 1 }],
        "retry": { "attempts": 1, "hedge_after": 0.1 },
    });
    let gateway = gateway(&json!([route("/-/a", "", &more)]), &json!({}))?;
    let begun = Instant::now();
    for _ in 0..5 {
        let response = get(&gateway, "/-/a/hold", &[])?;
        assert_eq!(
            (response.status, response.text()),
            (200, "released".to_owned())
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    let asked = slow.seen().requests.len();
    assert!(asked > 0, "the slow one was never asked");
    // The one that lost is not kept waiting.
    slow.wait(Duration::from_secs(1), |seen| seen.left == asked)?;
    let hedges = gateway.metric("tidegate_proxy_hedges_total")?;
    assert!(
        (hedges - asked as f64).abs() < f64::EPSILON,
        "{hedges} and {asked}"
    );
    // What must not be done twice is not.
    quick.hold();
    let mut wire = Wire::connect(gateway.main_addr())?;
    wire.ask("POST", "/-/a/hold", &[], b"once")?;
    let sent = || slow.seen().requests.len() + quick.seen().requests.len();
    let before = sent();
    slow.wait(Duration::from_millis(500), |seen| {
        seen.requests.len() > asked + 1
    })
    .ok();
    assert!(sent() <= before + 1, "a POST was sent twice");
    Ok(())
}
