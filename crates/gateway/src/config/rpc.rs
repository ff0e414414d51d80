//! Settings of remote procedures.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::calls::{CallSettings, Calls};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use upstream::grpc::MetadataKey;

use super::grpc::Grpc;

/// Remote procedures clients may call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rpc {
    /// The built-in method `ping`, which answers with its own data.
    pub ping: RpcPing,
    /// Methods that are answered by whoever serves a subject on the bus.
    pub requests: Vec<CallSettings>,
    /// Methods that gRPC services answer.
    pub grpc: Vec<GrpcMethod>,
}

/// A method that a gRPC service answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrpcMethod {
    /// The method that clients call.
    pub method: String,
    /// The name of the service, among `grpc.services`.
    pub service: String,
    /// What is called: `package.Service/Method`, which must be unary.
    pub call: String,
    /// How long it may take with all its tries.
    #[serde(default = "timeout", with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub timeout: Duration,
    /// Doing it twice is the same as doing it once: it is tried again even if it may have
    /// been carried out.
    #[serde(default)]
    pub idempotent: bool,
    /// How messages look to clients, whatever the encoding of their connection.
    #[serde(default)]
    pub form: MessageForm,
    /// Metadata that goes with each call: keys in lower case, values in ASCII.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// The metadata key under which the service is told the user who calls; empty tells it
    /// nothing.
    #[serde(default = "user_metadata")]
    pub user_metadata: String,
    /// The channel that a caller must be allowed to subscribe to; tokens may be `{name}`,
    /// taken from the member of that name of the call's data. Empty asks for none.
    #[serde(default)]
    pub channel: String,
    /// Clients without a user may call.
    #[serde(default)]
    pub anonymous: bool,
    /// Clients hear the service's own words when it refuses. They may tell of its inside.
    #[serde(default)]
    pub pass_messages: bool,
}

/// How messages look to clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageForm {
    /// JSON, by the service's schema; on connections that speak Protobuf too.
    #[default]
    Json,
    /// Protobuf as it stands; from and to clients that speak JSON as `{"base64":"…"}`.
    Protobuf,
}

impl GrpcMethod {
    /// The path of the call: `/package.Service/Method`.
    pub fn path(&self) -> String {
        format!("/{}", self.call)
    }
}

fn timeout() -> Duration {
    Duration::from_secs(5)
}

fn user_metadata() -> String {
    "x-user-id".to_owned()
}

/// The built-in method `ping`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RpcPing {
    /// Answers `ping`; otherwise that method is unknown (error 104).
    pub enabled: bool,
}

impl Default for RpcPing {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// The methods, ready to be asked, or the key that is wrong (below `rpc`) and why.
pub(crate) fn calls(rpc: &Rpc) -> Result<Calls, (String, String)> {
    let mut calls = Calls::new(&rpc.requests).map_err(|error| (error.key, error.problem))?;
    for (index, one) in rpc.grpc.iter().enumerate() {
        let bound = calls.bind_service(&one.method, &one.channel, one.anonymous);
        bound.map_err(|error| (format!("grpc[{index}].{}", error.key), error.problem))?;
    }
    Ok(calls)
}

/// Tells each key that is wrong, and why.
pub(super) fn check(rpc: &Rpc, grpc: &Grpc, refuse: &mut dyn FnMut(&str, String)) {
    if let Err((key, problem)) = calls(rpc) {
        refuse(&format!("rpc.{key}"), problem);
    }
    let taken = "\"ping\" is taken by rpc.ping, which can be disabled";
    if rpc.ping.enabled {
        if let Some(index) = rpc.requests.iter().position(|it| it.method == "ping") {
            refuse(&format!("rpc.requests[{index}].method"), taken.into());
        }
        if let Some(index) = rpc.grpc.iter().position(|it| it.method == "ping") {
            refuse(&format!("rpc.grpc[{index}].method"), taken.into());
        }
    }
    for (index, one) in rpc.grpc.iter().enumerate() {
        check_method(one, grpc, &mut |field, problem| {
            refuse(&format!("rpc.grpc[{index}].{field}"), problem);
        });
    }
}

fn check_method(one: &GrpcMethod, grpc: &Grpc, refuse: &mut dyn FnMut(&str, String)) {
    if one.timeout.is_zero() {
        refuse("timeout", "must be above 0".to_owned());
    }
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._".contains(&byte);
    let is_call = one.call.split_once('/').is_some_and(|(service, method)| {
        let parts = [service, method];
        parts
            .iter()
            .all(|it| !it.is_empty() && it.bytes().all(is_word))
    });
    if !is_call {
        refuse(
            "call",
            format!("{:?} is not package.Service/Method", one.call),
        );
    }
    match grpc.services.iter().find(|it| it.name == one.service) {
        None => {
            let known: Vec<_> = grpc.services.iter().map(|it| it.name.as_str()).collect();
            let problem = format!(
                "{:?} is not among grpc.services; accepted: {}",
                one.service,
                if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                }
            );
            refuse("service", problem);
        }
        Some(service) => {
            if is_call
                && let Some(descriptors) = service.descriptors()
                && let Err(error) = descriptors.check(&one.path())
            {
                refuse(
                    "call",
                    format!("{}: {error}", service.descriptors.display()),
                );
            }
        }
    }
    let key_problem = |key: &str| {
        let is_reserved = key.starts_with("grpc-") || RESERVED.contains(&key);
        if is_reserved {
            Some(format!("{key:?} is the gateway's or gRPC's own"))
        } else if key.chars().any(char::is_uppercase)
            || key.ends_with("-bin")
            || MetadataKey::from_bytes(key.as_bytes()).is_err()
        {
            Some(format!(
                "{key:?} is no metadata key of text: lower case, not ending in -bin"
            ))
        } else {
            None
        }
    };
    for (key, value) in &one.metadata {
        if let Some(problem) = key_problem(key) {
            refuse("metadata", problem);
        }
        if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            refuse("metadata", format!("value of {key:?} is not plain ASCII"));
        }
    }
    if !one.user_metadata.is_empty() {
        if let Some(problem) = key_problem(&one.user_metadata) {
            refuse("user_metadata", problem);
        } else if one.metadata.contains_key(&one.user_metadata) {
            let problem = format!("{:?} is in metadata too", one.user_metadata);
            refuse("user_metadata", problem);
        }
    }
}

/// Metadata keys that are not the operator's.
const RESERVED: &[&str] = &[
    "connection",
    "content-length",
    "content-type",
    "host",
    "te",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-guuid",
];
