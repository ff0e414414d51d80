//! TLS on the clients' listener.

use std::io::{Read, Write};

use e2e::config::config;
use e2e::reload::RELOADED;
use serde_json::json;
use testkit::certificate::Certificate;
use testkit::{Client, ClientError, Gateway, Handshake, PATIENCE, http, token};

#[test]
fn new_certificate_is_shown_and_old_connections_stay() -> anyhow::Result<()> {
    let (old, new) = (Certificate::for_localhost()?, Certificate::for_localhost()?);
    let gateway = start(&old)?;
    let mut before = open(&gateway, &old)?;
    before.authenticate(&token::user("anna")?)?;
    before.subscribe("room:1")?;

    let mark = gateway.log().mark();
    new.write(gateway.folder())?;
    gateway.hangup()?;
    gateway.log().wait_for_message(mark, PATIENCE, RELOADED)?;
    assert!(
        open(&gateway, &old).is_err(),
        "the old certificate is still shown"
    );
    let mut after = open(&gateway, &new)?;
    after.authenticate(&token::user("ben")?)?;
    after.publish("room:1", &json!("hello"))?;
    assert_eq!(before.next_publication("room:1")?["data"], "hello");
    Ok(())
}

#[test]
fn broken_certificate_changes_nothing_and_says_why() -> anyhow::Result<()> {
    let good = Certificate::for_localhost()?;
    let gateway = start(&good)?;
    let mark = gateway.log().mark();
    std::fs::write(gateway.folder().join("certificate.pem"), "nonsense")?;
    gateway.hangup()?;
    let line = gateway
        .log()
        .wait_for(mark, PATIENCE, |line| line["level"] == "ERROR")?;
    assert!(line.to_string().contains("certificate"), "{line}");
    open(&gateway, &good)?.authenticate(&token::user("anna")?)?;
    Ok(())
}

#[test]
fn large_publications_travel_through_tls_both_ways() -> anyhow::Result<()> {
    let certificate = Certificate::for_localhost()?;
    let gateway = start(&certificate)?;
    let mut client = open(&gateway, &certificate)?;
    client.authenticate(&token::user("anna")?)?;
    client.subscribe("room:1")?;
    // More than one TLS record each.
    for n in 0..50 {
        let data = json!([n, "x".repeat(60_000)]);
        client.publish("room:1", &data)?;
        assert_eq!(client.next_publication("room:1")?["data"], data);
    }
    Ok(())
}

#[test]
fn what_is_not_tls_is_refused_and_counted() -> anyhow::Result<()> {
    let gateway = start(&Certificate::for_localhost()?)?;
    let mut stream = http::connect(gateway.main_addr())?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    assert!(
        !answer.starts_with(b"HTTP/"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let series = r#"tidegate_handshakes_refused_total{reason="tls"}"#;
    gateway.wait_metric(series, |refused| refused > 0.5)?;
    Ok(())
}

fn start(certificate: &Certificate) -> anyhow::Result<Gateway> {
    let with_tls = config("").replace(
        r#"main: { address: "127.0.0.1:0" }"#,
        r#"main: { address: "127.0.0.1:0", tls: { certificate: certificate.pem, key: key.pem } }"#,
    );
    Gateway::start_with(&with_tls, |folder| certificate.write(folder))
}

fn open(gateway: &Gateway, certificate: &Certificate) -> Result<Client, ClientError> {
    let handshake = Handshake {
        trust: Some(certificate),
        ..Handshake::default()
    };
    Client::open(gateway.main_addr(), &handshake)
}
