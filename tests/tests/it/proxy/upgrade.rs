//! WebSocket connections through the proxy.

use std::net::TcpStream;
use std::time::Duration;

use e2e::proxy::origin::Origin;
use e2e::proxy::wire::Wire;
use serde_json::json;
use testkit::{Gateway, PATIENCE, http};
use tungstenite::{Message, WebSocket};

use super::{before, get};

const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

fn open(gateway: &Gateway, path: &str) -> anyhow::Result<WebSocket<TcpStream>> {
    let stream = http::connect(gateway.main_addr())?;
    let url = format!("ws://{}{path}", gateway.main_addr());
    let (socket, _) = tungstenite::client(url, stream)?;
    Ok(socket)
}

#[test]
fn upgrades_are_501_unless_the_route_lets_them_through() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({}))?;
    let response = get(&gateway, "/-/a/websocket", &UPGRADE)?;
    assert_eq!(response.status, 501);
    assert_eq!(
        response.json()?,
        json!({
            "error": "WebSocket Not Supported",
            "details": "This gateway does not support WebSocket connections",
        })
    );
    assert_eq!(origin.seen().connections, 0);
    Ok(())
}

#[test]
fn a_websocket_passes_both_ways() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({ "websocket": true, "maxConcurrent": 1 }))?;
    let mut socket = open(&gateway, "/-/a/websocket")?;
    for length in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        let message = Message::binary(vec![length as u8; length]);
        socket.send(message.clone())?;
        assert_eq!(socket.read()?, message);
    }
    // It holds its slot as long as it is open.
    assert_eq!(get(&gateway, "/-/a/x", &[])?.status, 429);
    socket.close(None)?;
    while socket.read().is_ok() {}
    origin.wait(PATIENCE, |seen| seen.in_flight == 0)?;
    let is_served = |it: &http::Response| it.status == 200;
    e2e::proxy::wire::eventually(|| get(&gateway, "/-/a/x", &[]), is_served)?;
    Ok(())
}

#[test]
fn a_client_that_goes_takes_its_tunnel_along() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({ "websocket": true }))?;
    let mut socket = open(&gateway, "/-/a/websocket")?;
    socket.send(Message::text("hello"))?;
    socket.read()?;
    drop(socket);
    origin.wait(Duration::from_secs(1), |seen| seen.open == 0)?;
    let mut socket = open(&gateway, "/-/a/websocket")?;
    origin.hang_up();
    assert!(socket.read().is_err());
    Ok(())
}

#[test]
fn only_a_verified_101_opens_a_tunnel() -> anyhow::Result<()> {
    for said in [
        // The key of another request.
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    ] {
        let origin = Origin::answering(move |asked| {
            asked.closes();
            asked.raw(said.as_bytes())
        })?;
        let gateway = before(&origin, &json!({ "websocket": true }))?;
        assert_eq!(get(&gateway, "/-/a", &UPGRADE)?.status, 502, "{said:?}");
    }
    Ok(())
}

#[test]
fn what_follows_a_refused_upgrade_is_a_request_of_its_own() -> anyhow::Result<()> {
    let origin = Origin::answering(|asked| match asked.path() {
        "/no" => asked.answer(403, &[], b"no"),
        path => {
            let path = path.to_owned();
            asked.answer(200, &[], path.as_bytes())
        }
    })?;
    let gateway = before(&origin, &json!({ "websocket": true }))?;
    let mut wire = Wire::connect(gateway.main_addr())?;
    wire.ask("GET", "/-/a/no", &UPGRADE, b"")?;
    wire.ask("GET", "/-/b/smuggled", &[], b"")?;
    assert_eq!(wire.answer()?.status, 403);
    // If the connection goes on, the second request went through the gateway's routes.
    if let Ok(second) = wire.answer() {
        assert_eq!(second.status, 404);
    }
    assert_eq!(origin.seen().requests.len(), 1);
    Ok(())
}

#[test]
fn handshakes_that_are_none_are_refused() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({ "websocket": true }))?;
    let [connection, upgrade, version, _] = UPGRADE;
    let short = ("Sec-WebSocket-Key", "c2hvcnQ=");
    for headers in [
        &[connection, upgrade, version][..],
        &[connection, upgrade, version, short],
    ] {
        assert_eq!(get(&gateway, "/-/a/websocket", headers)?.status, 400);
    }
    let posted = Wire::once(gateway.main_addr(), "POST", "/-/a/websocket", &UPGRADE, b"")?;
    assert_eq!(posted.status, 400);
    assert_eq!(origin.seen().requests.len(), 0);
    Ok(())
}
