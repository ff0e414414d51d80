//! Upstreams that fail: when they are left alone, and how they come back.

use std::time::{Duration, Instant};

use e2e::proxy::origin::{Origin, by_path};
use e2e::proxy::wire::{Wire, eventually};
use e2e::proxy::{gateway, route};
use serde_json::{Value, json};
use testkit::{Gateway, PATIENCE};

use super::{before, get, post};

/// A breaker that opens after three failures, for so many seconds.
fn breaker(recovery: f64, ramp: f64) -> Value {
    json!({
        "circuitBreaker": {
            "enabled": true,
            "failureThreshold": 3,
            "recoveryTimeout": recovery,
            "halfOpenRequests": 1,
            "ramp": ramp,
        },
        "retry": { "attempts": 0 },
    })
}

fn open_state(gateway: &Gateway) -> anyhow::Result<f64> {
    gateway.metric("gateway_circuit_breaker_state")
}

#[test]
fn a_failing_upstream_is_left_alone() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &breaker(30.0, 0.0))?;
    for _ in 0..3 {
        let response = get(&gateway, "/-/a/status/500", &[])?;
        assert_eq!(response.status, 500);
        assert_eq!(response.header("x-circuit-breaker"), None);
    }
    let response = get(&gateway, "/-/a/x", &[])?;
    assert_eq!(response.status, 503);
    assert_eq!(response.header("x-circuit-breaker"), Some("open"));
    assert_eq!(
        response.json()?,
        json!({
            "error": "Service Unavailable",
            "details": "Circuit breaker is open, upstream service is experiencing issues",
        })
    );
    let after: u64 = response.header("retry-after").unwrap_or_default().parse()?;
    assert!((1..=30).contains(&after), "{after}");
    assert_eq!(origin.seen().requests.len(), 3);
    assert!((open_state(&gateway)? - 1.0).abs() < f64::EPSILON);
    Ok(())
}

#[test]
fn one_success_between_failures_keeps_it_closed() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &breaker(30.0, 0.0))?;
    for _ in 0..4 {
        for path in ["/-/a/status/500", "/-/a/status/503", "/-/a/status/404"] {
            assert_ne!(
                get(&gateway, path, &[])?.header("x-circuit-breaker"),
                Some("open")
            );
        }
    }
    Ok(())
}

#[test]
fn a_trial_is_marked_and_only_one_runs_at_a_time() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &breaker(0.3, 0.0))?;
    for _ in 0..3 {
        get(&gateway, "/-/a/status/500", &[])?;
    }
    origin.hold();
    let seen = origin.seen().requests.len();
    // Whoever comes first after the break is the trial.
    let mut trial = loop {
        let mut wire = Wire::connect(gateway.main_addr())?;
        wire.ask("GET", "/-/a/hold", &[], b"")?;
        if let Ok(_seen) = origin.wait(Duration::from_millis(50), |it| it.requests.len() > seen) {
            break wire;
        }
        assert_eq!(wire.answer()?.status, 503);
    };
    assert!((open_state(&gateway)? - 2.0).abs() < f64::EPSILON);
    for _ in 0..5 {
        let refused = get(&gateway, "/-/a/x", &[])?;
        assert_eq!(refused.status, 503);
        assert_eq!(refused.header("x-circuit-breaker"), Some("open"));
    }
    assert_eq!(origin.seen().requests.len(), seen + 1);
    origin.release();
    let answered = trial.answer()?;
    assert_eq!(answered.status, 200);
    assert_eq!(answered.header("x-circuit-breaker"), Some("half-open"));
    let response = get(&gateway, "/-/a/x", &[])?;
    assert_eq!(
        (response.status, response.header("x-circuit-breaker")),
        (200, None)
    );
    assert!(open_state(&gateway)?.abs() < f64::EPSILON);
    Ok(())
}

#[test]
fn a_trial_that_fails_opens_it_again() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &breaker(0.2, 0.0))?;
    for _ in 0..3 {
        get(&gateway, "/-/a/status/500", &[])?;
    }
    let is_trial = |it: &testkit::http::Response| it.status == 500;
    let trial = eventually(|| get(&gateway, "/-/a/status/500", &[]), is_trial)?;
    assert_eq!(trial.header("x-circuit-breaker"), Some("half-open"));
    assert_eq!(get(&gateway, "/-/a/x", &[])?.status, 503);
    let opened = gateway.metric("tidegate_proxy_breaker_opened_total")?;
    assert!((opened - 2.0).abs() < f64::EPSILON, "{opened}");
    Ok(())
}

#[test]
fn connection_errors_and_timeouts_count() -> anyhow::Result<()> {
    let gone = Origin::start()?;
    let url = gone.url();
    drop(gone);
    let slow = Origin::start()?;
    slow.hold();
    let mut hasty = breaker(30.0, 0.0);
    hasty["timeoutConfig"] = json!({ "responseHeader": 0.05 });
    let routes = json!([
        route("/-/gone", &url, &breaker(30.0, 0.0)),
        route("/-/slow", &slow.url(), &hasty),
    ]);
    let gateway = gateway(&routes, &json!({}))?;
    for (path, status) in [("/-/gone", 502), ("/-/slow/hold", 504)] {
        for _ in 0..3 {
            assert_eq!(get(&gateway, path, &[])?.status, status, "{path}");
        }
        assert_eq!(get(&gateway, path, &[])?.status, 503, "{path}");
    }
    Ok(())
}

#[test]
fn a_body_that_breaks_off_counts() -> anyhow::Result<()> {
    let origin = Origin::answering(|asked| {
        asked.closes();
        asked.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    })?;
    let gateway = before(&origin, &breaker(30.0, 0.0))?;
    for _ in 0..3 {
        let mut wire = Wire::connect(gateway.main_addr())?;
        wire.ask("GET", "/-/a", &[], b"")?;
        assert_eq!(wire.head()?.status(), 200);
        assert!(wire.rest().is_err(), "a cut answer looks complete");
    }
    assert_eq!(get(&gateway, "/-/a", &[])?.status, 503);
    Ok(())
}

#[test]
fn clients_that_leave_do_not_count() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &breaker(30.0, 0.0))?;
    origin.hold();
    for nth in 1..=10 {
        let mut wire = Wire::connect(gateway.main_addr())?;
        wire.ask("GET", "/-/a/hold", &[], b"")?;
        origin.wait(PATIENCE, |seen| seen.requests.len() == nth)?;
        wire.leave();
        origin.wait(PATIENCE, |seen| seen.left == nth)?;
    }
    assert_eq!(get(&gateway, "/-/a/x", &[])?.status, 200);
    // Nor does a wrong route to an address that is forbidden count as the upstream's fault.
    assert!(open_state(&gateway)?.abs() < f64::EPSILON);
    Ok(())
}

#[test]
fn recovery_is_gradual() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &breaker(0.2, 2.0))?;
    for _ in 0..3 {
        get(&gateway, "/-/a/status/500", &[])?;
    }
    let is_well = |it: &testkit::http::Response| it.status == 200;
    eventually(|| get(&gateway, "/-/a/x", &[]), is_well)?;
    let begun = Instant::now();
    let mut shares = [(0_u32, 0_u32); 4];
    while let Some(share) = shares.get_mut((begun.elapsed().as_millis() / 500) as usize) {
        let status = get(&gateway, "/-/a/x", &[])?.status;
        assert!(matches!(status, 200 | 503), "{status}");
        share.0 += u32::from(status == 200);
        share.1 += 1;
    }
    let share = |(good, all): (u32, u32)| f64::from(good) / f64::from(all.max(1));
    assert!(share(shares[0]) < share(shares[3]), "{shares:?}");
    assert!(share(shares[0]) < 0.6, "{shares:?}");
    for _ in 0..20 {
        assert_eq!(get(&gateway, "/-/a/x", &[])?.status, 200);
    }
    Ok(())
}

#[test]
fn traffic_moves_from_a_dead_upstream_and_comes_back() -> anyhow::Result<()> {
    let (one, other) = (Origin::start()?, Origin::start()?);
    let address = one.address();
    let mut more = breaker(0.5, 0.5);
    more["retry"] = json!({ "attempts": 1 });
    more["upstreams"] = json!([one.url(), { "url": other.url(), "weight": 1 }]);
    let gateway = gateway(&json!([route("/-/a", "", &more)]), &json!({}))?;
    let counts = |one: &Origin| (one.seen().requests.len(), other.seen().requests.len());
    for _ in 0..60 {
        assert_eq!(get(&gateway, "/-/a/x", &[])?.status, 200);
    }
    let (first, second) = counts(&one);
    assert!(first >= 10 && second >= 10, "{first} and {second}");
    drop(one);
    // Nobody notices, as a GET is tried at the other one.
    for _ in 0..60 {
        assert_eq!(get(&gateway, "/-/a/x", &[])?.status, 200);
    }
    // Nor is a POST lost that could not be sent.
    for _ in 0..20 {
        assert_eq!(post(&gateway, "/-/a/x", &[], b"once")?.status, 200);
    }
    let opened = gateway.metric("tidegate_proxy_breaker_opened_total")?;
    assert!(opened >= 1.0, "breaker did not open");
    let one = Origin::at(address, by_path)?;
    let deadline = Instant::now() + PATIENCE;
    while one.seen().requests.len() < 20 {
        assert_eq!(get(&gateway, "/-/a/x", &[])?.status, 200);
        assert!(Instant::now() < deadline, "traffic does not come back");
    }
    Ok(())
}
