use super::*;
use crate::handshake::server;

fn handshake() -> ClientHandshake {
    let mut handshake = ClientHandshake::new(*b"the sample nonce");
    handshake.protocols = vec!["a".to_owned(), "b".to_owned()];
    handshake.deflate = Some(DeflateConfig::default());
    handshake
}

const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

fn parse(more: &str) -> Result<Option<(usize, Accepted)>, ResponseError> {
    handshake().parse(format!("{GOOD}{more}\r\n").as_bytes())
}

#[test]
fn request_passes_our_own_server() {
    let request = handshake()
        .request("tide.example:80", "/ws?x=1", &[("Origin", "null")])
        .unwrap();
    let mut storage = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Request::new(&mut storage);
    assert!(parsed.parse(&request).unwrap().is_complete());
    assert_eq!(parsed.path, Some("/ws?x=1"));
    let headers = parsed
        .headers
        .iter()
        .map(|header| (header.name, header.value));
    let upgrade = server::validate("GET", 1, headers.clone()).unwrap();
    assert_eq!(upgrade.host, b"tide.example:80");
    assert_eq!(upgrade.key, "dGhlIHNhbXBsZSBub25jZQ==");
    let offered = header_values(headers, "sec-websocket-protocol").collect::<Vec<_>>();
    assert_eq!(
        server::select_protocol(offered.into_iter(), &["b"]),
        Some("b")
    );
}

#[test]
fn request_cannot_be_split_by_its_arguments() {
    let request = |host, target, headers: &[(&str, &str)]| {
        handshake().request(host, target, headers).map(drop)
    };
    assert_eq!(request("h", "/a\r\nX: y", &[]), Err(RequestError::Target));
    assert_eq!(request("h", "a", &[]), Err(RequestError::Target));
    assert_eq!(request("h\r\n", "/", &[]), Err(RequestError::Host));
    assert_eq!(request("", "/", &[]), Err(RequestError::Host));
    assert_eq!(
        request("h", "/", &[("a b", "c")]),
        Err(RequestError::Header)
    );
    assert_eq!(
        request("h", "/", &[("a", "b\nc")]),
        Err(RequestError::Header)
    );
    let mut odd = handshake();
    odd.protocols.push("a,b".to_owned());
    assert_eq!(
        odd.request("h", "/", &[]).map(drop),
        Err(RequestError::Protocol)
    );
}

#[test]
fn response_is_complete_at_its_last_byte() {
    let whole = format!("{GOOD}\r\n\x01\x02");
    let len = whole.len() - 2;
    for cut in 0..len {
        assert_eq!(
            handshake().parse(&whole.as_bytes()[..cut]),
            Ok(None),
            "cut at {cut}"
        );
    }
    let (used, accepted) = handshake().parse(whole.as_bytes()).unwrap().unwrap();
    assert_eq!(used, len);
    assert_eq!(
        accepted,
        Accepted {
            protocol: None,
            deflate: None
        }
    );
}

#[test]
fn protocol_and_extension_have_to_be_offered() {
    let (_, accepted) = parse(
        "Sec-WebSocket-Protocol: b\r\nSec-WebSocket-Extensions: permessage-deflate; \
         server_no_context_takeover; client_max_window_bits=10\r\n",
    )
    .unwrap()
    .unwrap();
    assert_eq!(accepted.protocol.as_deref(), Some("b"));
    assert_eq!(accepted.deflate, Some(DeflateParams { window_bits: 10 }));
    assert_eq!(
        parse("Sec-WebSocket-Protocol: c\r\n"),
        Err(ResponseError::Protocol)
    );
    let twice = "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n";
    assert_eq!(parse(twice), Err(ResponseError::Protocol));
    assert_eq!(
        parse("Sec-WebSocket-Extensions: x\r\n"),
        Err(ResponseError::Extension)
    );
    let mut plain = handshake();
    plain.deflate = None;
    let answer = format!(
        "{GOOD}Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n"
    );
    assert_eq!(
        plain.parse(answer.as_bytes()),
        Err(ResponseError::Extension)
    );
}

#[test]
fn other_responses_are_refused() {
    let refused = |text: &str| handshake().parse(text.as_bytes()).unwrap_err();
    assert_eq!(
        refused("HTTP/1.1 503 Busy\r\n\r\n"),
        ResponseError::Status(503)
    );
    assert_eq!(refused("SSH-2.0\r\n\r\n"), ResponseError::Malformed);
    let changed = |from, to| refused(&format!("{GOOD}\r\n").replace(from, to));
    assert_eq!(changed("HTTP/1.1", "HTTP/1.0"), ResponseError::Malformed);
    assert_eq!(
        changed("Upgrade: websocket", "Upgrade: h2c"),
        ResponseError::NotUpgrade
    );
    assert_eq!(
        changed("Connection: Upgrade", "Connection: close"),
        ResponseError::NotUpgrade
    );
    assert_eq!(changed("s3pP", "s3pp"), ResponseError::Accept);
    let twice = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    assert_eq!(
        refused(&format!("{GOOD}{twice}\r\n")),
        ResponseError::Accept
    );
    let endless = format!("HTTP/1.1 101 x\r\nA: {}", "a".repeat(RESPONSE_MAX));
    assert_eq!(refused(&endless), ResponseError::TooLarge);
    let many = format!("HTTP/1.1 101 x\r\n{}\r\n", "A: b\r\n".repeat(65));
    assert_eq!(refused(&many), ResponseError::TooLarge);
}
