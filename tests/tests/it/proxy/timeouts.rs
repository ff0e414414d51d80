//! How long what may take.

use std::time::{Duration, Instant};

use e2e::proxy::origin::Origin;
use e2e::proxy::wire::Wire;
use e2e::proxy::{gateway, route};
use serde_json::json;
use testkit::PATIENCE;

use super::{before, get};

#[test]
fn an_upstream_that_does_not_answer_is_504() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    origin.hold();
    let header = json!({ "timeoutConfig": { "response_header": 0.2 } });
    let gateway = before(&origin, &header)?;
    let begun = Instant::now();
    let response = get(&gateway, "/-/a/hold", &[])?;
    let took = begun.elapsed();
    assert_eq!(response.status, 504);
    assert_eq!(
        response.text(),
        r#"{"details":"upstream request timed out: headers","error":"Gateway Timeout"}"#
    );
    // A GET may be tried twice.
    let bounds = Duration::from_millis(190)..Duration::from_secs(2);
    assert!(bounds.contains(&took), "{took:?}");
    // It is not kept waiting for nothing.
    origin.wait(Duration::from_secs(1), |seen| seen.left >= 1)?;
    Ok(())
}

#[test]
fn all_of_it_has_a_limit_too() -> anyhow::Result<()> {
    let origin = Origin::answering(|asked| {
        asked.begin(200, &[])?;
        for _ in 0..40 {
            asked.chunk(b"drip ")?;
            asked.pause(Duration::from_millis(100));
        }
        asked.end(&[])
    })?;
    let gateway = before(&origin, &json!({ "timeout": 1 }))?;
    let mut wire = Wire::connect(gateway.main_addr())?;
    wire.ask("GET", "/-/a", &[], b"")?;
    assert_eq!(wire.head()?.status(), 200);
    let begun = Instant::now();
    assert!(wire.rest().is_err(), "a cut answer looks complete");
    assert!(begun.elapsed() < Duration::from_secs(3));
    Ok(())
}

#[test]
fn event_streams_outlive_the_limit_of_requests() -> anyhow::Result<()> {
    let origin = Origin::answering(|asked| {
        asked.begin_events()?;
        for nth in 0..15 {
            asked.chunk(format!("data: {nth}\n\n").as_bytes())?;
            asked.pause(Duration::from_millis(100));
        }
        asked.end(&[])
    })?;
    let gateway = before(&origin, &json!({ "timeout": 1 }))?;
    let mut wire = Wire::connect(gateway.main_addr())?;
    wire.ask("GET", "/-/a", &[], b"")?;
    let head = wire.head()?;
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    for nth in 0..15 {
        assert_eq!(wire.event()?, Some(format!("data: {nth}")));
    }
    assert_eq!(wire.event()?, None);
    Ok(())
}

#[test]
fn an_address_that_does_not_answer_is_504_after_the_dial_timeout() -> anyhow::Result<()> {
    // A listener whose queue is full takes no further connection.
    let full = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = full.local_addr()?;
    let mut waiting = Vec::new();
    while let Ok(stream) =
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200))
    {
        waiting.push(stream);
        assert!(waiting.len() < 10_000, "the queue has no end");
    }
    let dial = json!({ "timeoutConfig": { "dial": 0.3 }, "retry": { "attempts": 0 } });
    let routes = json!([route("/-/a", &format!("http://{address}"), &dial)]);
    let gateway = gateway(&routes, &json!({}))?;
    let begun = Instant::now();
    let response = get(&gateway, "/-/a", &[])?;
    assert_eq!(response.status, 504, "{}", response.text());
    assert_eq!(
        response.json()?["details"],
        "upstream request timed out: dial"
    );
    assert!(begun.elapsed() < Duration::from_secs(2));
    Ok(())
}

#[test]
fn nobody_there_is_502() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let url = origin.url();
    drop(origin);
    let routes = json!([
        route("/-/closed", &url, &json!({})),
        route("/-/unknown", "http://no-such-host.invalid", &json!({})),
    ]);
    let gateway = gateway(&routes, &json!({}))?;
    for path in ["/-/closed", "/-/unknown"] {
        let response = get(&gateway, path, &[])?;
        assert_eq!(response.status, 502, "{path}: {}", response.text());
        let told = response.json()?;
        assert_eq!(told["error"], "Upstream Unavailable");
        let details = told["details"].as_str().unwrap_or_default();
        assert!(details.starts_with("connection error: "), "{told}");
    }
    Ok(())
}

#[test]
fn an_answer_that_is_no_http_is_502() -> anyhow::Result<()> {
    for nonsense in [
        "SSH-2.0-server\r\n\r\n",
        "HTTP/1.1 999 No\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ] {
        let origin = Origin::answering(move |asked| {
            asked.closes();
            asked.raw(nonsense.as_bytes())
        })?;
        let gateway = before(&origin, &json!({}))?;
        assert_eq!(get(&gateway, "/-/a", &[])?.status, 502, "{nonsense:?}");
    }
    Ok(())
}

#[test]
fn a_client_that_stops_sending_is_not_waited_for() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let routes = json!([route("/-/a", &origin.url(), &json!({}))]);
    let gateway = gateway(&routes, &json!({ "body_timeout": "300ms" }))?;
    let mut wire = Wire::connect(gateway.main_addr())?;
    wire.send(b"POST /-/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")?;
    let response = wire.answer()?;
    assert_eq!(response.status, 408);
    wire.wait_closed(PATIENCE)?;
    origin.wait(PATIENCE, |seen| seen.in_flight == 0)?;
    Ok(())
}

#[test]
fn a_connection_that_rests_too_long_is_closed() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let routes = json!([route("/-/a", &origin.url(), &json!({}))]);
    let gateway = gateway(&routes, &json!({ "keep_alive": "300ms" }))?;
    let mut wire = Wire::connect(gateway.main_addr())?;
    wire.ask("GET", "/-/a", &[], b"")?;
    assert_eq!(wire.answer()?.status, 200);
    wire.wait_closed(Duration::from_secs(3))
}
