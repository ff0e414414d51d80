//! Reads `config/route.json` of the Stratix gateway as it stands.
//!
//! Its `routes` become routes; its other keys become defaults for keys of our own file.
//! Durations are a text with a unit or an integer of nanoseconds; a number that is 0, a text
//! that is empty and a `null` count as not set, as they do there.
//!
//! | key there | key here |
//! |---|---|
//! | `gateway.listen` | `listeners.relay.address` |
//! | `gateway.maxConnections` | `limits.connections` |
//! | `gateway.connectionTimeout` | `relay.pong_timeout` |
//! | `gateway.heartbeatInterval` | `relay.ping_interval` |
//! | `gateway.maxMessageSize` | `relay.message_size_max` |
//! | `gateway.rateLimit.*` | `limits.handshake_rate_per_address`, `…_burst_per_address` |
//! | `gateway.security.allowedOrigins` | `access.allowed_origins`; an empty list there is `*` here |
//! | `gateway.security.enableCompression` | `websocket.compression.enabled` |
//! | `gateway.history.*` | `relay.history.per_client`, `.message_size_max`, `.ttl` |
//! | `buffer.size`, `buffer.persistFile` | `relay.buffer.size`, `.folder` (without the ending) |
//! | `metrics.*` | `relay.metrics_log_interval` |
//! | `memory.maxMemoryMB` | `limits.memory` |
//!
//! Sizes of buffers, of control frames, and what steers a garbage collector have no
//! counterpart. A route may have more than the two keys of the original, named as in our
//! file but in camel case.

mod routes;
mod settings;

pub use routes::{key_in_file, routes};
pub use settings::{Setting, Value, settings};

/// Longest `route.json`, in bytes.
pub const FILE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Why a file is not a `route.json`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteJsonError {
    /// It is not JSON, or its parts are of other kinds.
    #[error("{line}:{column}: {problem}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        problem: String,
    },
    /// A key has a value of another type.
    #[error("{key}: expected {expected}, found {found}")]
    Type {
        /// The key as a path.
        key: String,
        /// What is accepted.
        expected: &'static str,
        /// What stands there.
        found: &'static str,
    },
}

impl From<serde_json::Error> for RouteJsonError {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let problem = error.to_string();
        // The place is told in our own form.
        let end = problem.find(" at line ").unwrap_or(problem.len());
        let problem = problem.get(..end).unwrap_or(&problem).to_owned();
        Self::Syntax {
            line,
            column,
            problem,
        }
    }
}

/// What kind of value this is, for "found …".
fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a text",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
