//! Settings of remote procedures.

use protocol::calls::{CallSettings, Calls};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Remote procedures clients may call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rpc {
    /// The built-in method `ping`, which answers with its own data.
    pub ping: RpcPing,
    /// Methods that are answered by whoever serves a subject on the bus.
    pub requests: Vec<CallSettings>,
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

/// Tells each key that is wrong, and why.
pub(super) fn check(rpc: &Rpc, refuse: &mut dyn FnMut(&str, String)) {
    if let Err(error) = Calls::new(&rpc.requests) {
        refuse(&format!("rpc.{}", error.key), error.problem);
    }
    let ping = rpc.requests.iter().position(|it| it.method == "ping");
    if let Some(index) = ping.filter(|_| rpc.ping.enabled) {
        let problem = "\"ping\" is taken by rpc.ping, which can be disabled";
        refuse(&format!("rpc.requests[{index}].method"), problem.into());
    }
}
