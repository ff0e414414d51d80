//! What the relay checks before it takes anything (`contracts`: relay 1.2, 1.7).

use std::time::Duration;

use e2e::config::config;
use e2e::stratix::StratixClient;
use serde_json::Value;
use testkit::{Gateway, http, token};

const ACK_WITHIN: Duration = Duration::from_secs(20);

/// A relay whose only agent is away.
fn gateway(extra: &str) -> anyhow::Result<Gateway> {
    Gateway::start(&config(&format!(
        r#"
relay:
  routes:
    - {{ client_id_prefix: "c", agent: "ws://127.0.0.1:9/", protocol: stratix }}
{extra}
"#
    )))
}

#[test]
fn a_request_without_an_upgrade_hears_first_what_its_client_id_lacks() -> anyhow::Result<()> {
    let gateway = gateway("")?;
    let asked = |path: &str| -> anyhow::Result<(u16, Value)> {
        let answer = http::get(gateway.main_addr(), path, &[])?;
        Ok((answer.status, answer.json().unwrap_or_default()))
    };
    let (status, body) = asked("/relay/ws")?;
    assert_eq!((status, &body["error"]), (400, &"clientId required".into()));
    let (status, body) = asked("/relay/ws?clientId=c-1")?;
    assert_eq!((status, &body["error"]), (401, &"unauthorized".into()));
    assert_eq!(asked("/relay/ws?clientId=c%0A1")?.0, 400);
    let bearer = token::user("c-1")?;
    let path = format!("/relay/ws?clientId=c-1&token={bearer}");
    assert_eq!(asked(&path)?.0, 426, "only then that it is no upgrade");
    Ok(())
}

#[test]
fn figures_have_all_keys_of_the_contract_and_are_integers() -> anyhow::Result<()> {
    let gateway = gateway("")?;
    let figures = http::get(gateway.main_addr(), "/relay/metrics", &[])?.json()?;
    for key in [
        "connectionsTotal",
        "connectionsActive",
        "messagesReceived",
        "messagesSent",
        "messagesFailed",
        "bytesReceived",
        "bytesSent",
        "uptimeSeconds",
        "largeMessages",
        "largeMessageBytes",
        "rateLimitExceeded",
        "currentConnections",
        "openclawConnections",
        "memoryUsedMB",
        "memoryLimitMB",
        "memoryPercent",
        "heapAllocMB",
        "heapSysMB",
        "numGoroutine",
        "rateLimitClients",
        "rateLimitAvgTokens",
        "rateLimitQPS",
        "historyClients",
        "historyMessages",
    ] {
        assert!(figures[key].is_u64(), "{key} is {}", figures[key]);
    }
    Ok(())
}

#[test]
fn a_stranger_is_refused_before_its_body_is_read() -> anyhow::Result<()> {
    let gateway = gateway("")?;
    // The body that is announced never comes.
    let request = format!(
        "POST /relay/v1/messages HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000\r\n\r\n",
        gateway.main_addr()
    );
    let answer = http::exchange(gateway.main_addr(), request.as_bytes())?;
    assert_eq!(answer.status, 401);
    Ok(())
}

#[test]
fn bytes_can_not_be_signed_and_are_refused_where_signatures_are_needed() -> anyhow::Result<()> {
    let gateway = gateway(
        r#"  signatures:
    mode: required
    keys: [{ id: k, secret: "a secret of more than thirty-two bytes" }]"#,
    )?;
    let mut client = StratixClient::connect(gateway.main_addr(), "c-1", &token::user("c-1")?, "")?;
    client.send_bytes(b"raw")?;
    let refused = client.wait(ACK_WITHIN, |told| told["action"] == "error")?;
    assert_eq!(
        (&refused["code"], &refused["final"]),
        (&103.into(), &true.into())
    );
    // Half a signature is none.
    client.send_json(&serde_json::json!({
        "type": 0, "messageId": "1", "data": "x", "keyId": "k",
    }))?;
    let refused = client.wait(ACK_WITHIN, |told| told["messageId"] == "1")?;
    assert_eq!(refused["code"], 103);
    Ok(())
}

#[test]
fn binary_data_that_is_no_base64_is_refused_and_not_acknowledged() -> anyhow::Result<()> {
    let gateway = gateway("")?;
    let mut client = StratixClient::connect(gateway.main_addr(), "c-1", &token::user("c-1")?, "")?;
    client.send_json(&serde_json::json!({ "type": 1, "messageId": "1", "data": "no base64" }))?;
    let refused = client.wait(ACK_WITHIN, |told| told["messageId"] == "1")?;
    assert_eq!(
        (&refused["action"], &refused["final"]),
        (&"error".into(), &true.into())
    );
    client.send_bytes(b"raw")?;
    let taken = client.wait(ACK_WITHIN, |told| told["action"] == "ack")?;
    assert_eq!(taken["level"], "durable");
    Ok(())
}

#[test]
fn a_token_that_names_its_subjects_has_to_name_the_agent() -> anyhow::Result<()> {
    let gateway = gateway("")?;
    let asked = |subjects: &[&str]| -> anyhow::Result<u16> {
        let mut claims = token::claims("c-1");
        claims["subjects"] = subjects.into();
        let bearer = token::hs256(token::SECRET.as_bytes(), &claims)?;
        let path = format!("/relay/ws?clientId=c-1&token={bearer}");
        Ok(http::get(gateway.main_addr(), &path, &[])?.status)
    };
    assert_eq!(asked(&["xy.md.>"])?, 403);
    assert_eq!(asked(&["xy.md.>", "agent.c-1"])?, 426);
    Ok(())
}
