use super::*;

type Headers = Vec<(&'static str, &'static str)>;

fn good() -> Headers {
    vec![
        ("Host", "tide.example"),
        ("Upgrade", "websocket"),
        ("Connection", "keep-alive, Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
        ("Origin", "https://tide.example"),
    ]
}

fn without(name: &str) -> Headers {
    good()
        .into_iter()
        .filter(|(other, _)| *other != name)
        .collect()
}

fn with(name: &'static str, value: &'static str) -> Headers {
    without(name).into_iter().chain([(name, value)]).collect()
}

fn and(name: &'static str, value: &'static str) -> Headers {
    good().into_iter().chain([(name, value)]).collect()
}

fn check(headers: &Headers) -> Result<Upgrade<'_>, HandshakeError> {
    validate(
        "GET",
        1,
        headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes())),
    )
}

#[test]
fn good_request_is_accepted() {
    let headers = good();
    let upgrade = check(&headers).unwrap();
    assert_eq!(upgrade.key, "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(upgrade.host, b"tide.example");
    assert_eq!(upgrade.origin, Some(&b"https://tide.example"[..]));
}

#[test]
fn variations_that_the_specification_permits_are_accepted() {
    for headers in [
        with("Upgrade", "h2c, WebSocket"),
        with("Connection", "UPGRADE"),
        and("Connection", "close"),
        without("Origin"),
        and("Content-Length", "0"),
        and("Sec-WebSocket-Protocol", "a"),
    ] {
        assert!(check(&headers).is_ok(), "{headers:?}");
    }
}

#[test]
fn each_fault_has_its_status() {
    for (headers, error, status) in [
        (without("Host"), HandshakeError::Host, 400),
        (with("Host", " "), HandshakeError::Host, 400),
        (without("Upgrade"), HandshakeError::NotUpgrade, 426),
        (
            with("Upgrade", "websocket2"),
            HandshakeError::NotUpgrade,
            426,
        ),
        (without("Connection"), HandshakeError::Connection, 400),
        (
            with("Connection", "keep-alive"),
            HandshakeError::Connection,
            400,
        ),
        (without("Sec-WebSocket-Key"), HandshakeError::Key, 400),
        (
            with("Sec-WebSocket-Key", "c2hvcnQ="),
            HandshakeError::Key,
            400,
        ),
        (
            with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ"),
            HandshakeError::Key,
            400,
        ),
        (
            with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZSE="),
            HandshakeError::Key,
            400,
        ),
        (
            with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZSEhISEhISEhISEh"),
            HandshakeError::Key,
            400,
        ),
        (
            without("Sec-WebSocket-Version"),
            HandshakeError::Version,
            426,
        ),
        (
            with("Sec-WebSocket-Version", "8"),
            HandshakeError::Version,
            426,
        ),
        (
            with("Sec-WebSocket-Version", "13, 8"),
            HandshakeError::Version,
            426,
        ),
        (and("host", "other"), HandshakeError::Duplicate("host"), 400),
        (
            and("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            HandshakeError::Duplicate("sec-websocket-key"),
            400,
        ),
        (
            and("Sec-Websocket-Version", "13"),
            HandshakeError::Duplicate("sec-websocket-version"),
            400,
        ),
        (
            and("origin", "null"),
            HandshakeError::Duplicate("origin"),
            400,
        ),
        (and("Content-Length", "5"), HandshakeError::Body, 400),
        (
            and("Transfer-Encoding", "chunked"),
            HandshakeError::Body,
            400,
        ),
    ] {
        assert_eq!(check(&headers), Err(error), "{headers:?}");
        assert_eq!(error.status(), status);
    }
}

#[test]
fn method_and_version_are_checked_first() {
    let nothing = || std::iter::empty::<(&str, &[u8])>();
    let method = validate("POST", 1, nothing()).unwrap_err();
    assert_eq!((method, method.status()), (HandshakeError::Method, 405));
    let version = validate("GET", 0, nothing()).unwrap_err();
    assert_eq!(
        (version, version.status()),
        (HandshakeError::HttpVersion, 505)
    );
}

#[test]
fn sub_protocol_follows_our_order() {
    let offered = [&b"json, centrifuge-json"[..], b"centrifuge-protobuf"];
    let select = |supported: &[&'static str]| select_protocol(offered.into_iter(), supported);
    assert_eq!(
        select(&["centrifuge-protobuf", "centrifuge-json"]),
        Some("centrifuge-protobuf")
    );
    assert_eq!(select(&["x", "centrifuge-json"]), Some("centrifuge-json"));
    assert_eq!(select(&["JSON"]), None);
    assert_eq!(select(&[]), None);
}

#[test]
fn response_answers_the_key() {
    let mut out = Vec::new();
    response(
        &mut out,
        "dGhlIHNhbXBsZSBub25jZQ==",
        Some("chat"),
        Some("permessage-deflate"),
    );
    let text = String::from_utf8(out).unwrap();
    assert_eq!(
        text,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    );
}
