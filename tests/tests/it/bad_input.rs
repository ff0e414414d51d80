//! Bad input: each kind is refused with its documented code, counted by reason, and costs
//! bounded memory; the gateway serves on.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use e2e::config::{config, with_client_keys};
use serde_json::json;
use testkit::{Client, ClientError, Close, Gateway, Handshake, PATIENCE, http, token};
use websocket::OpCode;

#[test]
fn wrong_token_closes_with_3500() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    let wrong = token::hs256(
        b"another secret, also 32 characters",
        &token::claims("anna"),
    )?;
    for token in [wrong.as_str(), "not a token", "a.b.c", &"x".repeat(9_000)] {
        assert_invalid_token(&gateway, token);
    }
    assert_counted(&gateway, INVALID_TOKEN, 4.0)
}

#[test]
fn token_without_signature_closes_with_3500() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        assert_invalid_token(&gateway, &token::unsigned(alg, &token::claims("anna")));
    }
    // And with the signature of a good token cut off.
    let good = token::user("anna")?;
    let (unsigned, _) = good.rsplit_once('.').unwrap_or_default();
    assert_invalid_token(&gateway, &format!("{unsigned}."));
    assert_counted(&gateway, INVALID_TOKEN, 6.0)
}

#[test]
fn public_key_used_as_hmac_secret_closes_with_3500() -> anyhow::Result<()> {
    let pair = token::Pair::rs256()?;
    let pem = pair.public_pem();
    let keys = format!(
        "    rsa_public_key: |\n      {}\n",
        pem.replace('\n', "\n      ")
    );
    let gateway = Gateway::start(&with_client_keys(&keys, ""))?;
    Client::connect(gateway.main_addr(), &pair.sign(&token::claims("anna"))?)?;
    for secret in [pem.as_str(), pem.trim_end()] {
        let confused = token::hs256(secret.as_bytes(), &token::claims("anna"))?;
        assert_invalid_token(&gateway, &confused);
    }
    assert_counted(&gateway, INVALID_TOKEN, 2.0)
}

#[test]
fn expired_token_is_error_109() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    let claims = json!({ "sub": "anna", "exp": token::unix_s() - 3_600 });
    let expired = token::hs256(token::SECRET.as_bytes(), &claims)?;
    let refused = Client::connect(gateway.main_addr(), &expired);
    let Err(ClientError::Reply { code, .. }) = refused else {
        panic!("an expired token")
    };
    assert_eq!(code, 109);
    assert_counted(&gateway, EXPIRED_TOKEN, 1.0)
}

#[test]
fn wrong_token_over_http_streaming_is_told_in_the_stream() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    let connect = json!({ "id": 1, "connect": { "token": "not a token" } }).to_string();
    let answer = http::post(
        gateway.main_addr(),
        "/connection/http_stream",
        &[],
        connect.as_bytes(),
    )?;
    assert_eq!(answer.status, 200);
    let last: serde_json::Value = serde_json::from_str(
        answer
            .text()
            .trim_end()
            .rsplit('\n')
            .next()
            .unwrap_or_default(),
    )?;
    assert_eq!(last["push"]["disconnect"]["code"], 3500);
    assert_counted(&gateway, INVALID_TOKEN, 1.0)
}

#[test]
fn wrong_token_in_the_request_is_refused_with_401() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    let good = token::user("anna")?;
    let claims = json!({ "sub": "anna", "exp": token::unix_s() - 3_600 });
    let expired = token::hs256(token::SECRET.as_bytes(), &claims)?;
    let unsigned = token::unsigned("none", &token::claims("anna"));
    for token in ["nonsense", &expired, &unsigned] {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", authorization.as_str())];
        assert_refused(
            &gateway,
            &Handshake {
                headers: &headers,
                ..Handshake::default()
            },
            401,
        );
        let protocols = ["bearer", token];
        assert_refused(
            &gateway,
            &Handshake {
                protocols: &protocols,
                ..Handshake::default()
            },
            401,
        );
    }
    let target = format!("/connection/websocket?token={good}");
    assert_refused(
        &gateway,
        &Handshake {
            target: &target,
            ..Handshake::default()
        },
        400,
    );
    // A good one in the header stands for the one in the connect command.
    let authorization = format!("Bearer {good}");
    let headers = [("Authorization", authorization.as_str())];
    let handshake = Handshake {
        headers: &headers,
        ..Handshake::default()
    };
    let mut client = Client::open(gateway.main_addr(), &handshake)?;
    client.request("connect", json!({}))?;
    assert_counted(&gateway, INVALID_TOKEN, 4.0)?;
    assert_counted(&gateway, EXPIRED_TOKEN, 2.0)
}

#[test]
fn what_is_no_websocket_handshake_is_refused() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    let upgrade = |version, key| {
        let headers = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", version),
            ("Sec-WebSocket-Key", key),
        ];
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let request =
            format!("GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
        http::exchange(gateway.main_addr(), request.as_bytes())
    };
    let good_key = "dGhlIHNhbXBsZSBub25jZQ==";
    assert_eq!(upgrade("13", good_key)?.status, 101);
    let other_version = upgrade("12", good_key)?;
    assert_eq!(other_version.status, 426);
    assert_eq!(other_version.header("sec-websocket-version"), Some("13"));
    for key in ["", "short", "dGhlIHNhbXBsZSBub25jZQ"] {
        assert_eq!(upgrade("13", key)?.status, 400, "{key:?}");
    }
    let plain = http::get(gateway.main_addr(), "/connection/websocket", &[])?;
    assert_eq!(plain.status, 426);
    assert_eq!(
        http::exchange(gateway.main_addr(), b"NONSENSE\r\n\r\n")?.status,
        400
    );
    assert_counted(&gateway, OTHER_VERSION, 1.0)?;
    assert_counted(&gateway, WRONG_KEY, 3.0)?;
    assert_counted(&gateway, NOT_UPGRADE, 1.0)?;
    assert_counted(&gateway, MALFORMED_HEAD, 1.0)
}

#[test]
fn command_before_connect_closes_with_3501() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    for frame in [
        r#"{"id":1,"subscribe":{"channel":"room:1"}}"#,
        "not json",
        "",
        "{\"id\":1}\n\n{}",
    ] {
        let mut client = Client::open(gateway.main_addr(), &Handshake::default())?;
        client.send_text(frame)?;
        assert_close(&client.wait_close(PATIENCE)?, 3501);
    }
    assert_serves(&gateway)
}

#[test]
fn foreign_page_is_refused_with_403() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(
        "access: { allowed_origins: [\"https://app.example.com\"] }",
    ))?;
    let open = |origin| {
        let headers = [("Origin", origin)];
        Client::open(
            gateway.main_addr(),
            &Handshake {
                headers: &headers,
                ..Handshake::default()
            },
        )
    };
    open("https://app.example.com")?;
    for origin in [
        "https://evil.example",
        "http://app.example.com",
        "https://app.example.com.evil.example",
        "https://app.example.com:8443",
        "null",
    ] {
        let Err(ClientError::Refused(response)) = open(origin) else {
            panic!("{origin}")
        };
        assert_eq!(response.status, 403, "{origin}");
    }
    assert_counted(&gateway, FOREIGN_ORIGIN, 5.0)
}

#[test]
fn oversized_head_is_refused_with_431() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    let long = "x".repeat(20_000);
    let headers = [("X-Long", long.as_str())];
    let answer = http::get(gateway.main_addr(), "/connection/websocket", &headers)?;
    assert_eq!(answer.status, 431);
    let many: Vec<_> = (0..100).map(|n| format!("X-{n}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "x")).collect();
    let answer = http::get(gateway.main_addr(), "/connection/websocket", &many)?;
    assert_eq!(answer.status, 431);
    assert_counted(&gateway, OVERSIZED_HEAD, 2.0)
}

#[test]
fn slow_head_is_refused_with_408() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config("limits: { handshake_timeout: 1s }"))?;
    let mut stream = http::connect(gateway.main_addr())?;
    stream.write_all(b"GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\n")?;
    // One header line each 100 ms keeps the connection busy, but does not win time.
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let begun = Instant::now();
    let mut answer = Vec::new();
    let mut chunk = [0; 1024];
    while begun.elapsed() < PATIENCE {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&chunk[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                drop(stream.write_all(b"X-Slow: yes\r\n"));
            }
            Err(_) => break,
        }
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "took {:?}",
        begun.elapsed()
    );
    assert!(
        answer.starts_with(b"HTTP/1.1 408"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert_counted(&gateway, SLOW_HEAD, 1.0)
}

#[test]
fn frame_over_the_limit_closes_with_1009() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    let mut client = Client::connect(gateway.main_addr(), &token::user("anna")?)?;
    let data = "x".repeat(1 << 20);
    // The gateway refuses on seeing the header, so the rest may not be taken any more.
    drop(client.send_text(&data));
    assert_close(&client.wait_close(PATIENCE)?, 1009);
    assert_counted(&gateway, OVERSIZED_FRAME, 1.0)
}

#[test]
fn message_at_the_limit_passes_and_one_byte_more_closes() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    let command = |size: usize| {
        let frame = |data: &str| {
            json!({ "id": 9, "publish": { "channel": "room:1", "data": data } }).to_string()
        };
        frame(&"x".repeat(size - frame("").len()))
    };
    let mut client = Client::connect(gateway.main_addr(), &token::user("anna")?)?;
    client.subscribe("room:1")?;
    client.send_text(&command(65_536))?;
    client.next_publication("room:1")?;
    client.send_text(&command(65_537))?;
    assert_close(&client.wait_close(PATIENCE)?, 1009);
    Ok(())
}

#[test]
fn flood_of_websocket_pings_closes_with_1008() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(
        "websocket: { control_frame_rate: 10, control_frame_burst: 50 }",
    ))?;
    let mut client = Client::connect(gateway.main_addr(), &token::user("anna")?)?;
    for _ in 0..40 {
        client.send_frame(OpCode::Ping, false, b"fine")?;
    }
    client.subscribe("room:1")?;
    for _ in 0..1_000 {
        // It may be closed while we still send.
        if client.send_frame(OpCode::Ping, false, b"flood").is_err() {
            break;
        }
    }
    assert_close(&client.wait_close(PATIENCE)?, 1008);
    assert_counted(&gateway, CONTROL_FLOOD, 1.0)
}

#[test]
fn deflate_bomb_closes_with_1009_and_costs_little() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config("websocket: { compression: { enabled: true } }"))?;
    let token = token::user("anna")?;
    let bomb = bomb(32 << 20);
    assert!(
        bomb.len() < 65_536,
        "the bomb must pass the limit on the wire: {}",
        bomb.len()
    );
    assert_serves(&gateway)?;
    let before = resident_bytes(&gateway)?;
    for _ in 0..20 {
        let handshake = Handshake {
            deflate: true,
            ..Handshake::default()
        };
        let mut client = Client::open(gateway.main_addr(), &handshake)?;
        assert!(client.deflates, "compression is negotiated");
        client.authenticate(&token)?;
        drop(client.send_frame(OpCode::Text, true, &bomb));
        assert_close(&client.wait_close(PATIENCE)?, 1009);
    }
    let grown = resident_bytes(&gateway)?.saturating_sub(before);
    assert!(grown < 16 << 20, "resident memory grew by {grown} bytes");
    assert_counted(&gateway, DEFLATE_BOMB, 20.0)
}

/// Where refusals are counted.
const INVALID_TOKEN: &str = r#"tidegate_tokens_refused_total{reason="invalid"}"#;
const EXPIRED_TOKEN: &str = r#"tidegate_tokens_refused_total{reason="expired"}"#;
const FOREIGN_ORIGIN: &str = r#"tidegate_handshakes_refused_total{reason="origin"}"#;
const OVERSIZED_HEAD: &str = r#"tidegate_handshakes_refused_total{reason="header_size"}"#;
const SLOW_HEAD: &str = r#"tidegate_handshakes_refused_total{reason="handshake_timeout"}"#;
const OVERSIZED_FRAME: &str = r#"tidegate_frame_errors_total{reason="frame_too_large"}"#;
const CONTROL_FLOOD: &str = r#"tidegate_frame_errors_total{reason="control_frame_rate"}"#;
const DEFLATE_BOMB: &str = r#"tidegate_frame_errors_total{reason="inflated_too_large"}"#;
const OTHER_VERSION: &str = r#"tidegate_handshakes_refused_total{reason="version"}"#;
const WRONG_KEY: &str = r#"tidegate_handshakes_refused_total{reason="key"}"#;
const NOT_UPGRADE: &str = r#"tidegate_handshakes_refused_total{reason="not_upgrade"}"#;
const MALFORMED_HEAD: &str = r#"tidegate_handshakes_refused_total{reason="request"}"#;

#[track_caller]
fn assert_invalid_token(gateway: &Gateway, token: &str) {
    let outcome = Client::connect(gateway.main_addr(), token).err();
    let is_right = matches!(&outcome, Some(ClientError::Closed(close)) if close.code == Some(3500));
    assert!(is_right, "{token:?} came to {outcome:?}");
}

#[track_caller]
fn assert_refused(gateway: &Gateway, handshake: &Handshake<'_>, status: u16) {
    let outcome = Client::open(gateway.main_addr(), handshake).err();
    let is_right =
        matches!(&outcome, Some(ClientError::Refused(response)) if response.status == status);
    assert!(is_right, "{handshake:?} came to {outcome:?}");
}

/// SDKs reconnect on an empty reason even after a final code (contract centrifuge 11.9).
#[track_caller]
fn assert_close(close: &Close, code: u16) {
    assert_eq!(close.code, Some(code), "{close:?}");
    assert!(code < 3000 || !close.reason.is_empty(), "{close:?}");
}

#[track_caller]
fn assert_counted(gateway: &Gateway, series: &str, times: f64) -> anyhow::Result<()> {
    let counted = gateway.wait_metric(series, |value| value >= times)?;
    assert!(
        (counted - times).abs() < f64::EPSILON,
        "{series} is {counted}, not {times}"
    );
    assert_serves(gateway)
}

/// Whatever happened before, a good client is served.
#[track_caller]
fn assert_serves(gateway: &Gateway) -> anyhow::Result<()> {
    let mut client = Client::connect(gateway.main_addr(), &token::user("good")?)?;
    client.subscribe("room:good")?;
    client.publish("room:good", &json!("still here"))?;
    assert_eq!(client.next_publication("room:good")?["data"], "still here");
    Ok(())
}

fn resident_bytes(gateway: &Gateway) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.process_id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.unwrap_or_default().trim().parse::<u64>()? * 1024)
}

/// A compressed message that inflates to so many zeros.
fn bomb(size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    websocket::Deflater::new(9).compress(15, &vec![b'0'; size], &mut out);
    out
}
