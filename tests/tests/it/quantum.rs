//! gRPC services behind the built gateway, over TCP and over Quantum: methods that clients of
//! the native protocol call, and calls that pass through as they are.

mod commands;
mod failures;
mod passthrough;
mod reload;
mod rpc;
mod seen;

use e2e::config::with_client_keys;
use e2e::desk::{Desk, Way};
use serde_json::{Value, json};
use testkit::{Client, ClientError, Gateway, token};

/// A gateway before the service, which is reached this way and answers `desk.say`; `more` has
/// further settings of the service.
fn before(desk: &Desk, way: Way, more: &Value) -> anyhow::Result<Gateway> {
    Gateway::start(&config(&settings(&[service(desk, way, more)], &json!({}))))
}

/// A configuration with these lines; clients may ask as often as they like.
fn config(lines: &str) -> String {
    with_client_keys("  command_rate: 0", lines)
}

/// The service among `grpc.services`.
fn service(desk: &Desk, way: Way, more: &Value) -> Value {
    let mut service = json!({ "name": "desk", "endpoints": [desk.url(way)] });
    if way != Way::Tcp {
        service["tls"] = desk.tls();
    }
    merge(&mut service, more);
    service
}

/// Lines of a configuration file with these services, of which `desk` answers `desk.say`;
/// `more` has further sections.
fn settings(services: &[Value], more: &Value) -> String {
    let mut sections = json!({
        "grpc": { "services": services },
        "rpc": { "grpc": [ { "method": "desk.say", "service": "desk", "call": SAY } ] },
        "limits": { "handshake_rate": 0 },
    });
    merge(&mut sections, more);
    let lines = sections.as_object().into_iter().flatten();
    // JSON is YAML.
    lines
        .map(|(key, value)| format!("{key}: {value}\n"))
        .collect()
}

/// Members of `more` go into `into`; maps in both are merged.
fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

/// What a client of the native protocol hears.
fn say(client: &mut Client, data: &Value) -> Result<Value, ClientError> {
    let answer = client.request("rpc", json!({ "method": "desk.say", "data": data }))?;
    Ok(answer["data"].clone())
}

/// The code and the words with which a client is refused.
fn refusal(answer: Result<Value, ClientError>) -> anyhow::Result<(u64, String)> {
    match answer {
        Err(ClientError::Reply { code, message }) => Ok((code, message)),
        other => anyhow::bail!("expected a refusal, got {other:?}"),
    }
}

fn anna(gateway: &Gateway) -> anyhow::Result<Client> {
    Ok(Client::connect(gateway.main_addr(), &token::user("anna")?)?)
}

/// The call behind `desk.say`.
const SAY: &str = "e2e.v1.DeskService/Say";
