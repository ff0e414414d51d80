//! Slots, the queue for them, and rates.

use std::time::{Duration, Instant};

use e2e::proxy::origin::{Asked, Origin};
use e2e::proxy::wire::Wire;
use serde_json::json;
use testkit::{PATIENCE, token};

use super::{before, get};

const FULL: &str =
    r#"{"details":"AI Engine is at capacity, please retry later","error":"Too Many Requests"}"#;

#[test]
fn never_more_than_the_limit_are_in_flight() -> anyhow::Result<()> {
    const LIMIT: usize = 7;
    let origin = Origin::answering(|asked: &mut Asked<'_>| {
        asked.pause(Duration::from_millis(2));
        asked.answer(200, &[], b"done")
    })?;
    let gateway = before(&origin, &json!({ "maxConcurrent": LIMIT }))?;
    let main = gateway.main_addr();
    let results = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..200)
            .map(|_| {
                scope.spawn(move || -> anyhow::Result<(usize, usize)> {
                    let mut wire = Wire::connect(main)?;
                    let (mut served, mut refused) = (0, 0);
                    for _ in 0..10 {
                        wire.ask("GET", "/-/a", &[], b"")?;
                        let response = wire.answer()?;
                        match response.status {
                            200 => served += 1,
                            _ => {
                                assert_eq!(response.status, 429);
                                assert_eq!(response.text(), FULL);
                                assert_eq!(response.header("retry-after"), Some("30"));
                                refused += 1;
                            }
                        }
                    }
                    Ok((served, refused))
                })
            })
            .collect();
        let joined = clients.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined.collect::<Vec<_>>()
    });
    let (mut served, mut refused) = (0, 0);
    for result in results {
        let (one, other) = result.map_err(|_| anyhow::anyhow!("client panicked"))??;
        served += one;
        refused += other;
    }
    let seen = origin.seen();
    assert_eq!(served + refused, 2_000);
    assert_eq!(seen.requests.len(), served);
    assert!(
        seen.in_flight_max <= LIMIT,
        "{} in flight",
        seen.in_flight_max
    );
    assert!(
        served >= LIMIT && refused > 0,
        "{served} served, {refused} refused"
    );
    // All slots are free again.
    origin.hold();
    let counted = gateway.metric("tidegate_proxy_refused_total{by=\"limiter\"}")?;
    assert!(
        (counted - refused as f64).abs() < f64::EPSILON,
        "{counted} counted"
    );
    Ok(())
}

#[test]
fn a_stream_holds_its_slot_until_it_ends() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({ "maxConcurrent": 2 }))?;
    origin.hold();
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::connect(gateway.main_addr())?;
        wire.ask("GET", "/-/a/events", &[], b"")?;
        wire.head()?;
        assert_eq!(wire.event()?.as_deref(), Some("data: first"));
        streams.push(wire);
    }
    assert_eq!(get(&gateway, "/-/a/x", &[])?.status, 429);
    // A client that leaves makes room, and so does the end of a stream.
    streams.remove(0).leave();
    origin.wait(PATIENCE, |seen| seen.left == 1)?;
    e2e::proxy::wire::eventually(|| get(&gateway, "/-/a/x", &[]), |it| it.status == 200)?;
    origin.release();
    let mut last = streams.remove(0);
    assert_eq!(last.event()?.as_deref(), Some("data: last"));
    assert_eq!(last.event()?, None);
    for _ in 0..4 {
        assert_eq!(get(&gateway, "/-/a/x", &[])?.status, 200);
    }
    Ok(())
}

#[test]
fn a_request_waits_for_its_slot_if_there_is_a_queue() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let queue = json!({ "maxConcurrent": 1, "queue": { "max": 1, "timeout": 20 } });
    let gateway = before(&origin, &queue)?;
    origin.hold();
    let ask = || -> anyhow::Result<Wire> {
        let mut wire = Wire::connect(gateway.main_addr())?;
        wire.ask("GET", "/-/a/hold", &[], b"")?;
        Ok(wire)
    };
    let mut first = ask()?;
    origin.wait(PATIENCE, |seen| seen.in_flight == 1)?;
    let mut second = ask()?;
    gateway.wait_metric("tidegate_proxy_queued", |queued| queued == 1.0)?;
    let refused = ask()?.answer()?;
    assert_eq!((refused.status, refused.text()), (429, FULL.to_owned()));
    assert_eq!(origin.seen().requests.len(), 1);
    origin.release();
    assert_eq!(first.answer()?.status, 200);
    assert_eq!(second.answer()?.status, 200);
    assert_eq!(origin.seen().in_flight_max, 1);
    Ok(())
}

#[test]
fn a_wait_in_the_queue_ends_with_429_or_with_its_client() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let queue = json!({ "maxConcurrent": 1, "queue": { "max": 5, "timeout": 0.2 } });
    let gateway = before(&origin, &queue)?;
    origin.hold();
    let mut first = Wire::connect(gateway.main_addr())?;
    first.ask("GET", "/-/a/hold", &[], b"")?;
    origin.wait(PATIENCE, |seen| seen.in_flight == 1)?;
    let begun = Instant::now();
    let refused = get(&gateway, "/-/a/hold", &[])?;
    assert_eq!((refused.status, refused.text()), (429, FULL.to_owned()));
    assert!(begun.elapsed() >= Duration::from_millis(190));
    let mut impatient = Wire::connect(gateway.main_addr())?;
    impatient.ask("GET", "/-/a/hold", &[], b"")?;
    impatient.leave();
    gateway.wait_metric("tidegate_proxy_queued", |queued| queued == 0.0)?;
    origin.release();
    assert_eq!(first.answer()?.status, 200);
    assert_eq!(origin.seen().requests.len(), 1);
    Ok(())
}

#[test]
fn each_caller_has_its_own_rate_if_the_route_says_so() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let rate = json!({ "rate": { "per_second": 0.01, "burst": 2, "by": "identity" } });
    let gateway = before(&origin, &rate)?;
    for user in ["anna", "ben"] {
        let bearer = format!("Bearer {}", token::user(user)?);
        let statuses: Vec<u16> = (0..3)
            .map(|_| get(&gateway, "/-/a", &[("Authorization", &bearer)]).map(|it| it.status))
            .collect::<anyhow::Result<_>>()?;
        assert_eq!(statuses, [200, 200, 429], "{user}");
    }
    Ok(())
}

#[test]
fn a_rate_of_the_route_is_shared() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(
        &origin,
        &json!({ "rate": { "per_second": 0.02, "burst": 3 } }),
    )?;
    for expected in [200, 200, 200, 429] {
        let response = get(&gateway, "/-/a", &[])?;
        assert_eq!(response.status, expected);
        if expected == 429 {
            let after: u64 = response.header("retry-after").unwrap_or_default().parse()?;
            assert!((1..=50).contains(&after), "{after}");
        }
    }
    Ok(())
}
