//! Live data over a real NATS server: gateways that are one cluster, the aggregator, and
//! who may have what.

mod cluster;
mod flags;
mod guarded;
mod market;
mod moving;
mod slow;

use serde_json::json;
use testkit::token;

/// A token whose `subjects` are these.
fn limited(user: &str, subjects: &[&str]) -> anyhow::Result<String> {
    let mut claims = token::claims(user);
    claims["subjects"] = json!(subjects);
    token::hs256(token::SECRET.as_bytes(), &claims)
}
