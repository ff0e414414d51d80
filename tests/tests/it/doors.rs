//! Who gets in: caps, rates, address lists and the addresses that proxies report.

use std::io::{Read, Write};
use std::time::Instant;

use e2e::config::config;
use testkit::{Client, ClientError, Gateway, Handshake, PATIENCE, http, token};

#[test]
fn connection_cap_answers_503_until_somebody_leaves() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config("limits: { connections: 2 }"))?;
    let token = token::user("anna")?;
    let first = Client::connect(gateway.main_addr(), &token)?;
    let _second = Client::connect(gateway.main_addr(), &token)?;
    assert_eq!(refusal(&gateway, &[])?.status, 503);
    drop(first);
    gateway.wait_metric("tidegate_connections", |open| open < 1.5)?;
    Client::connect(gateway.main_addr(), &token)?;
    assert_refused(&gateway, "connection_limit", 1.0)
}

#[test]
fn cap_of_an_address_answers_429() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config("limits: { connections_per_address: 1 }"))?;
    let _first = Client::connect(gateway.main_addr(), &token::user("anna")?)?;
    assert_eq!(refusal(&gateway, &[])?.status, 429);
    assert_refused(&gateway, "connection_limit_per_address", 1.0)
}

#[test]
fn handshake_rate_answers_429_and_says_when_to_come_back() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config("limits: { handshake_rate: 1, handshake_burst: 2 }"))?;
    let begun = Instant::now();
    let mut admitted = 0;
    let refused = loop {
        match Client::open(gateway.main_addr(), &Handshake::default()) {
            Ok(_) => admitted += 1,
            Err(ClientError::Refused(response)) => break response,
            Err(other) => return Err(other.into()),
        }
        // However slow this machine is, no more than the burst and the rate come in.
        let earned = 2 + begun.elapsed().as_secs() + 1;
        assert!(admitted <= earned, "{admitted} came in, {earned} may");
        assert!(begun.elapsed() < PATIENCE, "nobody was refused");
    };
    assert!(admitted >= 2, "the burst is {admitted}");
    assert_eq!(refused.status, 429);
    let after = refused.header("retry-after");
    let after = after.and_then(|after| after.parse::<u32>().ok());
    assert!(after.is_some_and(|after| after >= 1), "{refused:?}");
    assert_refused(&gateway, "handshake_rate", 1.0)
}

#[test]
fn denied_and_unlisted_addresses_are_refused_with_403() -> anyhow::Result<()> {
    for access in [
        "access: { deny: [\"127.0.0.0/8\"] }",
        "access: { allow: [\"10.0.0.0/8\"] }",
        "access: { allow: [\"127.0.0.0/8\"], deny: [\"127.0.0.1\"] }",
    ] {
        let gateway = Gateway::start(&config(access))?;
        assert_eq!(refusal(&gateway, &[])?.status, 403, "{access}");
        assert_refused(&gateway, "address", 1.0)?;
    }
    let gateway = Gateway::start(&config("access: { allow: [\"127.0.0.1\"] }"))?;
    Client::connect(gateway.main_addr(), &token::user("anna")?)?;
    Ok(())
}

#[test]
fn forwarded_address_counts_only_from_a_trusted_network() -> anyhow::Result<()> {
    let deny = "deny: [\"203.0.113.0/24\"]";
    let forged = [("X-Forwarded-For", "203.0.113.9")];
    let trusting = Gateway::start(&config(&format!(
        "access: {{ {deny}, trusted_networks: [\"127.0.0.0/8\"] }}"
    )))?;
    assert_eq!(refusal(&trusting, &forged)?.status, 403);
    // The right-most untrusted hop counts; what the client wrote to its left does not.
    let hops = [("X-Forwarded-For", "203.0.113.9, 198.51.100.7, 127.0.0.9")];
    open(&trusting, &hops)?;
    let hops = [("X-Forwarded-For", "198.51.100.7, 203.0.113.9, 127.0.0.9")];
    assert_eq!(refusal(&trusting, &hops)?.status, 403);
    let plain = Gateway::start(&config(&format!("access: {{ {deny} }}")))?;
    open(&plain, &forged)?;
    Ok(())
}

#[test]
fn proxy_protocol_is_required_where_it_is_on_and_refused_elsewhere() -> anyhow::Result<()> {
    let with_proxy =
        config("access: { trusted_networks: [\"127.0.0.0/8\"], deny: [\"203.0.113.0/24\"] }")
            .replace(
                "main: { address: \"127.0.0.1:0\" }",
                "main: { address: \"127.0.0.1:0\", proxy_protocol: on }",
            );
    let gateway = Gateway::start(&with_proxy)?;
    let good = b"PROXY TCP4 198.51.100.7 192.0.2.1 5000 443\r\n".as_slice();
    assert_eq!(status_after(&gateway, good)?, Some(200));
    let denied = b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 443\r\n".as_slice();
    assert_eq!(status_after(&gateway, denied)?, Some(403));
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    v2.extend([198, 51, 100, 7, 192, 0, 2, 1, 0x13, 0x88, 1, 0xbb]);
    assert_eq!(status_after(&gateway, &v2)?, Some(200));
    assert_eq!(
        status_after(&gateway, b"")?,
        None,
        "a connection without the header"
    );
    assert_eq!(status_after(&gateway, b"PROXY TCP4 nonsense\r\n")?, None);

    let plain = Gateway::start(&config(""))?;
    let status = status_after(&plain, good)?;
    assert!(status.is_none_or(|status| status == 400), "{status:?}");
    Ok(())
}

/// The status of a request for the HTTP-streaming endpoint's options, sent after `prefix`;
/// `None` if the connection is closed without an answer.
fn status_after(gateway: &Gateway, prefix: &[u8]) -> anyhow::Result<Option<u16>> {
    let mut stream = http::connect(gateway.main_addr())?;
    let body = r#"{"id":1,"connect":{}}"#;
    let request = format!(
        "POST /connection/http_stream HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    drop(stream.write_all(&[prefix, request.as_bytes()].concat()));
    let mut head = [0; 12];
    match stream.read_exact(&mut head) {
        Ok(()) => Ok(std::str::from_utf8(&head[9..])?.parse().ok()),
        Err(_) => Ok(None),
    }
}

fn open(gateway: &Gateway, headers: &[(&str, &str)]) -> Result<Client, ClientError> {
    Client::open(
        gateway.main_addr(),
        &Handshake {
            headers,
            ..Handshake::default()
        },
    )
}

fn refusal(gateway: &Gateway, headers: &[(&str, &str)]) -> anyhow::Result<http::Response> {
    match open(gateway, headers) {
        Err(ClientError::Refused(response)) => Ok(response),
        Err(other) => Err(other.into()),
        Ok(_) => anyhow::bail!("handshake was accepted"),
    }
}

fn assert_refused(gateway: &Gateway, reason: &str, times: f64) -> anyhow::Result<()> {
    let series = format!("tidegate_handshakes_refused_total{{reason=\"{reason}\"}}");
    let counted = gateway.wait_metric(&series, |value| value >= times)?;
    assert!(
        (counted - times).abs() < f64::EPSILON,
        "{series} is {counted}, not {times}"
    );
    Ok(())
}
