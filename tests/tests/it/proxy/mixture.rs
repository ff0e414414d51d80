//! One connection for everything, many requests at once, other versions, and the end.

use std::time::Duration;

use e2e::config::config;
use e2e::proxy::api::Api;
use e2e::proxy::origin::Origin;
use e2e::proxy::wire::{Wire, eventually};
use e2e::proxy::{route, settings};
use serde_json::json;
use testkit::{Gateway, PATIENCE, http, token};

use super::{before, get};

#[test]
fn one_connection_carries_requests_for_all_parts_of_the_gateway() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let routes = json!([route("/-/a", &origin.url(), &json!({}))]);
    let settings = settings(&routes, &json!({}));
    let gateway = Gateway::start(&config(&format!(
        "{settings}\nplayground: {{ enabled: true }}"
    )))
    .or_else(|_| Gateway::start(&config(&settings)))?;
    let mut wire = Wire::connect(gateway.main_addr())?;
    let mut others = Vec::new();
    for round in 0..5 {
        wire.ask("GET", "/-/a/x", &[], b"")?;
        assert_eq!(wire.answer()?.status, 200, "round {round}");
        wire.ask("POST", "/-/a/x", &[], b"12345")?;
        assert_eq!(wire.answer()?.json()?["length"], 5);
        for path in ["/", "/nothing/here", "/connection/nothing"] {
            wire.ask("GET", path, &[], b"")?;
            others.push(wire.answer()?.status);
        }
        // A body that hyper is given ends where it ends.
        wire.ask(
            "POST",
            "/nothing/here",
            &[],
            b"GET /-/a/smuggled HTTP/1.1\r\n\r\n",
        )?;
        wire.answer()?;
        wire.ask("GET", "/-/nothing", &[], b"")?;
        assert_eq!(wire.answer()?.status, 404);
    }
    assert_eq!(others.len(), 15);
    assert!(
        others
            .iter()
            .all(|status| matches!(status, 200 | 301..=308 | 404)),
        "{others:?}"
    );
    let seen = origin.seen();
    assert_eq!(seen.requests.len(), 10);
    assert_eq!(seen.connections, 1);
    Ok(())
}

#[test]
fn requests_in_a_row_are_answered_in_their_order() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({}))?;
    let mut wire = Wire::connect(gateway.main_addr())?;
    let mut bytes = Vec::new();
    for nth in 0..50 {
        let path = match nth % 5 {
            4 => "/nothing".to_owned(),
            _ => format!("/-/a/{nth}"),
        };
        let body = format!("body {nth}");
        let request = match nth % 3 {
            0 => format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"),
            1 => format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
            _ => format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            ),
        };
        bytes.extend_from_slice(request.as_bytes());
    }
    wire.send(&bytes)?;
    for nth in 0..50 {
        let response = wire.answer()?;
        if nth % 5 == 4 {
            assert!(
                matches!(response.status, 404 | 405),
                "{nth}: {}",
                response.status
            );
            continue;
        }
        let told = response.json()?;
        assert_eq!(told["target"], format!("/{nth}"));
        let body = if nth % 3 == 0 {
            String::new()
        } else {
            format!("body {nth}")
        };
        assert_eq!(told["body"], body.as_str(), "{nth}");
    }
    Ok(())
}

#[test]
fn clients_of_http_1_0_are_answered_as_they_understand_it() -> anyhow::Result<()> {
    let origin = Origin::answering(|asked| {
        asked.begin(200, &[])?;
        asked.chunk(b"in ")?;
        asked.chunk(b"chunks")?;
        asked.end(&[])
    })?;
    let gateway = before(&origin, &json!({}))?;
    let mut wire = Wire::connect(gateway.main_addr())?;
    wire.send(b"GET /-/a HTTP/1.0\r\nHost: x\r\n\r\n")?;
    let response = wire.answer()?;
    assert_eq!(response.text(), "in chunks");
    assert_eq!(response.header("transfer-encoding"), None);
    wire.wait_closed(PATIENCE)
}

#[test]
fn http2_serves_many_requests_on_one_connection() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({}))?;
    let url = format!("http://{}/-/a/x", gateway.main_addr());
    let output = std::process::Command::new("h2load")
        .args(["-n", "2000", "-c", "4", "-m", "20", "-T", "20"])
        .arg(&url)
        .output()?;
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains("status codes: 2000 2xx"), "{report}");
    let output = std::process::Command::new("curl")
        .args([
            "-sS",
            "--http2-prior-knowledge",
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{http_code} %{num_connects}\n",
        ])
        .args([&url, "-o", "/dev/null", &url])
        .output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.starts_with("2 200 1\n"), "{told}");
    Ok(())
}

#[test]
fn http2_is_spoken_with_an_upstream_that_wants_it() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({}))?;
    // A gateway is such an upstream.
    let url = format!("http://{}/-/a", gateway.main_addr());
    let more = json!({ "upstreamHttp": "2" });
    let outer = e2e::proxy::gateway(&json!([route("/-/b", &url, &more)]), &json!({}))?;
    let main = outer.main_addr();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let clients: Vec<_> = (0..20)
            .map(|nth| {
                scope.spawn(move || -> anyhow::Result<()> {
                    let body = vec![b'x'; nth * 10_000];
                    let response = Wire::once(main, "POST", "/-/b/x", &[], &body)?;
                    assert_eq!(response.json()?["length"], body.len());
                    Ok(())
                })
            })
            .collect();
        for client in clients {
            client
                .join()
                .map_err(|_| anyhow::anyhow!("client panicked"))??;
        }
        Ok(())
    })?;
    let open = outer.metric("tidegate_proxy_pool_http2")?;
    assert!((1.0..=4.0).contains(&open), "{open}");
    let via = origin.last()?;
    assert_eq!(via.header("via"), Some("1.1 tidegate, 2.0 tidegate"));
    Ok(())
}

#[test]
fn what_is_under_way_is_finished_before_the_end() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let mut gateway = before(&origin, &json!({}))?;
    origin.hold();
    let ask = |path: &str| -> anyhow::Result<Wire> {
        let mut wire = Wire::connect(gateway.main_addr())?;
        wire.ask("GET", path, &[], b"")?;
        Ok(wire)
    };
    let mut waits = ask("/-/a/hold")?;
    let mut streams = ask("/-/a/events")?;
    let (mut rests, mut asks_again) = (ask("/-/a/x")?, ask("/-/a/x")?);
    rests.answer()?;
    asks_again.answer()?;
    assert_eq!(streams.head()?.status(), 200);
    streams.event()?;
    origin.wait(PATIENCE, |seen| seen.requests.len() == 4)?;
    gateway.terminate()?;
    gateway.wait_status("/readyz", 503)?;
    // A client that did not hear of it is served, and told to go.
    let ask_again = || {
        asks_again.ask("GET", "/-/a/x", &[], b"")?;
        asks_again.answer()
    };
    let is_last = |it: &http::Response| it.header("connection") == Some("close");
    assert_eq!(eventually(ask_again, is_last)?.status, 200);
    asks_again.wait_closed(PATIENCE)?;
    origin.release();
    let response = waits.answer()?;
    assert_eq!(
        (response.status, response.text()),
        (200, "released".to_owned())
    );
    assert_eq!(streams.event()?.as_deref(), Some("data: last"));
    assert_eq!(streams.event()?, None);
    // One that rests has nothing to finish, and holds nobody up.
    rests.wait_closed(PATIENCE)?;
    assert!(gateway.wait_exit(PATIENCE)?.success());
    Ok(())
}

#[test]
fn edge_clients_and_the_proxy_live_together() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({}))?;
    let mut anna = testkit::Client::connect(gateway.main_addr(), &token::user("anna")?)?;
    anna.subscribe("room:1")?;
    for nth in 0..20 {
        assert_eq!(get(&gateway, "/-/a", &[])?.status, 200);
        anna.publish("room:1", &json!(nth))?;
        assert_eq!(anna.next_publication("room:1")?["data"], nth);
    }
    // A route can't take what is the gateway's own.
    let api = Api::of(&gateway)?;
    let taken =
        json!({ "path": "/connection/websocket", "upstream": origin.url(), "accessRule": "true" });
    assert_eq!(api.create(&taken)?["path"], "/-/connection/websocket");
    anna.publish("room:1", &json!("still"))?;
    assert_eq!(anna.next_publication("room:1")?["data"], "still");
    Ok(())
}

#[test]
fn connections_to_the_upstream_are_reused() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({}))?;
    let mut wires = Vec::new();
    for _ in 0..10 {
        wires.push(Wire::connect(gateway.main_addr())?);
    }
    for _ in 0..50 {
        for wire in &mut wires {
            wire.ask("GET", "/-/a/x", &[], b"")?;
        }
        for wire in &mut wires {
            assert_eq!(wire.answer()?.status, 200);
        }
    }
    let seen = origin.seen();
    assert_eq!(seen.requests.len(), 500);
    assert!(seen.connections <= 10, "{} connections", seen.connections);
    // One that the upstream closed is not used.
    origin.hang_up();
    origin.wait(Duration::from_secs(1), |seen| seen.open == 0)?;
    gateway.wait_metric("tidegate_proxy_pool_idle", |idle| idle == 0.0)?;
    Ok(())
}
