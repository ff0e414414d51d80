//! Settings of the HTTP proxy: its routes in this file, its connections, its log.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod routes;
mod validate;
mod variables;

pub use routes::{FileRoutes, WrittenRoute};
pub use variables::Variables;

pub(super) use routes::settle;
pub(super) use validate::check;

/// The HTTP proxy: requests below `/-/`, passed on to services and models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Proxy {
    /// Serves `/-/…`, and the API of routes on the admin listener.
    pub enabled: bool,
    /// Lets everybody who reaches the admin listener read `/api/gateway/metrics`, not
    /// administrators only.
    pub metrics_public: bool,
    /// Routes that are declared here: fields as in the API of routes, which can't change
    /// them. Where the store has a route with the same path, this one counts.
    pub routes: Vec<WrittenRoute>,
    /// Connections to upstreams that rest.
    pub pool: ProxyPool,
    /// A line for each request.
    pub access_log: AccessLog,
    /// How long a client's connection may rest between two requests.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub keep_alive: Duration,
    /// How long a client may send nothing of a body that it began, and take nothing of an
    /// answer.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub body_timeout: Duration,
    /// HTTP/2 of clients.
    pub http2: ProxyHttp2,
    /// The routes, ready for use; made when the configuration is loaded.
    #[serde(skip)]
    #[schemars(skip)]
    pub file_routes: FileRoutes,
    /// The environment variables that routes may name; taken when the configuration is
    /// loaded.
    #[serde(skip)]
    #[schemars(skip)]
    pub variables: Variables,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            enabled: true,
            metrics_public: false,
            routes: Vec::new(),
            pool: ProxyPool::default(),
            access_log: AccessLog::default(),
            keep_alive: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            http2: ProxyHttp2::default(),
            file_routes: FileRoutes::default(),
            variables: Variables::default(),
        }
    }
}

/// Connections to upstreams that rest; how long is each route's `timeoutConfig.idle`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyPool {
    /// Most of them, to all upstreams together; the one that rested longest makes room.
    pub idle: usize,
    /// Most to one upstream.
    pub idle_per_host: usize,
    /// Most HTTP/2 connections to one upstream, in use or not.
    #[schemars(range(min = 1, max = 1024))]
    pub http2_per_host: usize,
    /// How old a connection may become; the gateway spreads it by a tenth.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub lifetime: Duration,
}

impl Default for ProxyPool {
    fn default() -> Self {
        Self {
            idle: 1_000,
            idle_per_host: 100,
            http2_per_host: 32,
            lifetime: Duration::from_secs(600),
        }
    }
}

/// A line of JSON for each request that the proxy answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLog {
    /// Writes it.
    pub enabled: bool,
    /// The file; empty means standard output.
    pub path: PathBuf,
}

/// HTTP/2 of clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyHttp2 {
    /// Speaks it, over TLS by ALPN and without TLS by prior knowledge.
    pub enabled: bool,
    /// Most requests at once on one connection.
    #[schemars(range(min = 1, max = 100_000))]
    pub streams: u32,
    /// Longest list of header fields in bytes, as HTTP/2 counts them.
    #[schemars(range(min = 1024, max = 1_048_576))]
    pub header_list_size: u32,
    /// Most requests of one connection that their client has given up and that still wait
    /// to be served; above it the connection is closed.
    #[schemars(range(min = 1))]
    pub resets_pending: usize,
    /// Most requests of one connection that the gateway has given up for its client's
    /// mistakes; above it the connection is closed.
    #[schemars(range(min = 1))]
    pub resets_by_error: usize,
}

impl Default for ProxyHttp2 {
    fn default() -> Self {
        Self {
            enabled: true,
            streams: 100,
            header_list_size: 16_384,
            resets_pending: 20,
            resets_by_error: 100,
        }
    }
}

#[cfg(test)]
mod tests;
