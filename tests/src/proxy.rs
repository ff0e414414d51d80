//! What tests of the HTTP proxy need: upstreams that do as they are told, a client that sees
//! every byte, the API of routes.

pub mod api;
pub mod kills;
pub mod message;
pub mod model;
pub mod origin;
pub mod reload;
pub mod wire;

use serde_json::{Value, json};
use testkit::Gateway;

use crate::config::config;

/// A gateway whose file declares these routes; `extra` goes beside them into `proxy`.
pub fn gateway(routes: &Value, extra: &Value) -> anyhow::Result<Gateway> {
    Gateway::start(&config(&settings(routes, extra)))
}

/// The lines of a configuration file that declare routes.
pub fn settings(routes: &Value, extra: &Value) -> String {
    let mut proxy = json!({ "routes": routes });
    if let (Some(proxy), Some(extra)) = (proxy.as_object_mut(), extra.as_object()) {
        proxy.extend(extra.clone());
    }
    // JSON is YAML.
    format!("proxy: {proxy}\nlimits: {{ handshake_rate: 0 }}")
}

/// A route to one upstream that everybody may use; `more` has further fields.
pub fn route(path: &str, upstream: &str, more: &Value) -> Value {
    let mut record = json!({
        "path": path,
        "upstream": upstream,
        "accessRule": "true",
        "allowPrivate": true,
    });
    if let (Some(record), Some(more)) = (record.as_object_mut(), more.as_object()) {
        if more.contains_key("upstreams") {
            record.remove("upstream");
        }
        record.extend(more.clone());
    }
    record
}
