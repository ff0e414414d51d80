//! The API of routes, as an operator's program calls it.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use testkit::Gateway;
use testkit::http::Response;

use super::wire::Wire;

/// An administrator at the admin listener.
#[derive(Debug, Clone)]
pub struct Api {
    address: SocketAddr,
    token: String,
}

impl Api {
    /// One with a new token.
    pub fn of(gateway: &Gateway) -> anyhow::Result<Self> {
        Ok(Self {
            address: gateway.admin_addr(),
            token: gateway.command(&["admin-token", "--name", "ops"])?,
        })
    }

    /// The token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The same administrator at another address.
    pub fn at(&self, address: SocketAddr) -> Self {
        Self {
            address,
            token: self.token.clone(),
        }
    }

    /// Sends a request; `If-Match` is `version`, if there is one.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        version: Option<u64>,
        body: Option<&Value>,
    ) -> anyhow::Result<Response> {
        let bearer = format!("Bearer {}", self.token);
        let version = version.map(|version| format!("\"{version}\""));
        let mut headers = vec![
            ("Connection", "close"),
            ("Authorization", &bearer),
            ("Content-Type", "application/json"),
        ];
        headers.extend(version.as_deref().map(|version| ("If-Match", version)));
        let body = body.map(Value::to_string).unwrap_or_default();
        Wire::once(self.address, method, path, &headers, body.as_bytes())
    }

    /// Creates a route, which gets what it lacks to be open to everybody here.
    pub fn create(&self, record: &Value) -> anyhow::Result<Value> {
        good(&self.call("POST", RECORDS, None, Some(record))?)
    }

    /// Changes a route.
    pub fn patch(&self, id: &str, change: &Value) -> anyhow::Result<Value> {
        good(&self.call("PATCH", &record(id), None, Some(change))?)
    }

    /// Deletes a route.
    pub fn delete(&self, id: &str) -> anyhow::Result<()> {
        let response = self.call("DELETE", &record(id), None, None)?;
        ensure!(response.status == 204, "delete answered {response:?}");
        Ok(())
    }

    /// Shows a route.
    pub fn get(&self, id: &str) -> anyhow::Result<Value> {
        good(&self.call("GET", &record(id), None, None)?)
    }

    /// Shows all routes.
    pub fn list(&self) -> anyhow::Result<Value> {
        good(&self.call("GET", &format!("{RECORDS}?perPage=1000"), None, None)?)
    }

    /// Changes of a route, the last one first; at most a hundred.
    pub fn history(&self, id: &str) -> anyhow::Result<Vec<Value>> {
        let path = format!("/admin/proxies/{id}/history?limit=100");
        let mut body = good(&self.call("GET", &path, None, None)?)?;
        match body["history"].take() {
            Value::Array(history) => Ok(history),
            other => anyhow::bail!("history is {other}"),
        }
    }

    /// Goes back to a version.
    pub fn rollback(&self, id: &str, version: u64) -> anyhow::Result<Value> {
        let path = format!("/admin/proxies/{id}/rollback");
        let body = json!({ "version": version });
        good(&self.call("POST", &path, None, Some(&body))?)
    }

    /// Sets a secret.
    pub fn put_secret(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let path = format!("/admin/secrets/{name}");
        let response = self.call("PUT", &path, None, Some(&json!({ "value": value })))?;
        ensure!(
            response.status == 204,
            "secret was answered by {response:?}"
        );
        Ok(())
    }
}

/// The path of a route's record.
pub fn record(id: &str) -> String {
    format!("{RECORDS}/{id}")
}

/// The id of a record.
pub fn id(record: &Value) -> anyhow::Result<String> {
    let id = record["id"].as_str().context("record without id")?;
    Ok(id.to_owned())
}

fn good(response: &Response) -> anyhow::Result<Value> {
    let text = response.text();
    ensure!(
        response.status == 200,
        "answered {} {text}",
        response.status
    );
    response.json()
}

/// Where the records are.
pub const RECORDS: &str = "/api/collections/_proxies/records";
