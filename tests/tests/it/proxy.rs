//! The HTTP proxy of the built gateway, between clients and upstreams that watch.

mod access;
mod admin;
mod breaker;
mod changes;
mod forwarding;
mod limits;
mod mixture;
mod models;
mod retries;
mod secure;
mod seen;
mod timeouts;
mod upgrade;

use serde_json::{Value, json};
use testkit::Gateway;
use testkit::http::Response;

use e2e::proxy::origin::Origin;
use e2e::proxy::wire::Wire;
use e2e::proxy::{gateway, route};

/// A gateway with one route, `/-/a`, to this upstream.
fn before(origin: &Origin, more: &Value) -> anyhow::Result<Gateway> {
    gateway(&json!([route("/-/a", &origin.url(), more)]), &json!({}))
}

/// A GET on a connection of its own.
fn get(gateway: &Gateway, target: &str, headers: &[(&str, &str)]) -> anyhow::Result<Response> {
    Wire::once(gateway.main_addr(), "GET", target, headers, b"")
}

/// A POST on a connection of its own.
fn post(
    gateway: &Gateway,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> anyhow::Result<Response> {
    Wire::once(gateway.main_addr(), "POST", target, headers, body)
}
