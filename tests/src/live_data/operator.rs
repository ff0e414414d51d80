//! What backends and operators ask of a gateway.

use anyhow::ensure;
use serde_json::Value;
use testkit::Gateway;
use testkit::http::{self, Response};

/// Calls a method of the server API; the result of the answer.
pub fn api(gateway: &Gateway, method: &str, request: &Value) -> anyhow::Result<Value> {
    let headers = [
        ("X-API-Key", "an API key for tests"),
        ("Content-Type", "application/json"),
    ];
    let path = format!("/api/{method}");
    let body = request.to_string();
    let answer = http::post(gateway.admin_addr(), &path, &headers, body.as_bytes())?;
    ensure!(
        answer.status == 200,
        "{method}: {} {}",
        answer.status,
        answer.text()
    );
    let mut answer = answer.json()?;
    ensure!(answer.get("error").is_none(), "{method}: {answer}");
    Ok(answer["result"].take())
}

/// Somebody with an administrator's token.
#[derive(Debug)]
pub struct Administrator {
    token: String,
}

impl Administrator {
    /// Makes a token for a gateway.
    pub fn of(gateway: &Gateway) -> anyhow::Result<Self> {
        let token = gateway.command(&["admin-token", "--name", "ops"])?;
        Ok(Self { token })
    }

    /// Sends a request with a body of JSON.
    pub fn send(
        &self,
        gateway: &Gateway,
        method: &str,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Response> {
        let (body, address) = (body.to_string(), gateway.admin_addr());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        http::exchange(address, request.as_bytes())
    }

    /// Sends a GET.
    pub fn get(&self, gateway: &Gateway, path: &str) -> anyhow::Result<Response> {
        let authorization = format!("Bearer {}", self.token);
        let headers = [("Authorization", authorization.as_str())];
        http::get(gateway.admin_addr(), path, &headers)
    }
}
