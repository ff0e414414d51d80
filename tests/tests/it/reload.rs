//! Reload: what changes, changes under running connections; what is broken changes nothing.

use e2e::config::config;
use e2e::reload::{RELOADED, Size, reload, under_load};
use serde_json::json;
use testkit::{Client, ClientError, Gateway, Handshake, PATIENCE, token};

#[test]
fn reloads_under_load_cost_nobody_a_message() -> anyhow::Result<()> {
    under_load(Size {
        clients: 300,
        reloads: 50,
    })
    .map(drop)
}

#[test]
fn new_rule_holds_at_once_and_old_connections_stay() -> anyhow::Result<()> {
    let allow = |origin: &str| format!("access: {{ allowed_origins: [\"{origin}\"] }}");
    let gateway = Gateway::start(&config(&allow("https://old.example")))?;
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
    let mut old = open("https://old.example")?;
    assert!(open("https://new.example").is_err());
    reload(&gateway, &allow("https://new.example"))?;
    open("https://new.example")?;
    let Err(ClientError::Refused(response)) = open("https://old.example") else {
        panic!("the old origin is still admitted")
    };
    assert_eq!(response.status, 403);
    old.authenticate(&token::user("anna")?)?;
    old.subscribe("room:1")?;
    Ok(())
}

#[test]
fn new_key_is_accepted_and_the_old_one_refused() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    let mut connected = Client::connect(gateway.main_addr(), &token::user("anna")?)?;
    let rotated = "rotated secret of at least 32 chars";
    let mark = gateway.log().mark();
    gateway.rewrite_config(&config("").replace(token::SECRET, rotated))?;
    gateway.hangup()?;
    gateway.log().wait_for_message(mark, PATIENCE, RELOADED)?;
    Client::connect(
        gateway.main_addr(),
        &token::hs256(rotated.as_bytes(), &token::claims("ben"))?,
    )?;
    let Err(ClientError::Closed(close)) =
        Client::connect(gateway.main_addr(), &token::user("carl")?)
    else {
        panic!("the old key is still accepted")
    };
    assert_eq!(close.code, Some(3500));
    connected.subscribe("room:1")?;
    Ok(())
}

#[test]
fn broken_file_changes_nothing_and_says_why() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    let token = token::user("anna")?;
    let mut client = Client::connect(gateway.main_addr(), &token)?;
    client.subscribe("room:1")?;
    let broken = [
        (config("limitz: { connections: 1 }"), "limitz"),
        (
            config("limits: { connections: many }"),
            "limits.connections",
        ),
        (config("client: ["), "tidegate.yaml:"),
        (config("drain: { rate: 0 }"), "drain.rate"),
    ];
    for (text, why) in broken {
        let mark = gateway.log().mark();
        gateway.rewrite_config(&text)?;
        gateway.hangup()?;
        gateway.log().wait_for(mark, PATIENCE, |line| {
            line["level"] == "ERROR" && line.to_string().contains(why)
        })?;
        client.publish("room:1", &json!(why))?;
        assert_eq!(client.next_publication("room:1")?["data"], why);
        Client::connect(gateway.main_addr(), &token)?;
    }
    // And a good file is taken again after that.
    reload(&gateway, "limits: { connections: 1 }")?;
    let Err(ClientError::Refused(response)) = Client::connect(gateway.main_addr(), &token) else {
        panic!("the limit does not hold")
    };
    assert_eq!(response.status, 503);
    Ok(())
}

#[test]
fn what_cannot_be_reloaded_is_named() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    let mark = gateway.log().mark();
    gateway.rewrite_config(&config("workers: 7"))?;
    gateway.hangup()?;
    gateway.log().wait_for(mark, PATIENCE, |line| {
        line["level"] == "WARN" && line.to_string().contains("workers")
    })?;
    Ok(())
}

#[test]
fn changed_file_is_noticed_without_a_signal() -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(""))?;
    let mark = gateway.log().mark();
    gateway.rewrite_config(&config("limits: { connections: 5 }"))?;
    gateway.log().wait_for_message(mark, PATIENCE, RELOADED)?;
    Ok(())
}
