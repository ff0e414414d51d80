//! Settings of the relay: which agents there are, how messages are kept and delivered.

use std::path::{Path, PathBuf};
use std::time::Duration;

use auth::SignatureSettings;
use auth::settings::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod buffer;
mod route;
mod table;
mod validate;

pub use buffer::{Buffer, BufferKind, NatsBuffer, Overflow, RedisBuffer, Sync};
pub use route::{AgentAuth, AgentProtocol, AuthMode, DataEncoding, Route};
pub use table::Table;

pub(super) use table::settle;
pub(super) use validate::check;

/// The relay: messages of clients, delivered durably to agents, and their answers back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Relay {
    /// Serves `/relay/…`. Unset means: on while there are routes or the demo is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// `token`: a client shows a token whose `sub` is its client id. `none`: anybody may
    /// claim any client id.
    pub auth: ClientAuth,
    /// Signatures of messages (HMAC-SHA256).
    pub signatures: SignatureSettings,
    /// Which client belongs to which agent. Exact ids come first, then ranges, then the
    /// longest prefix; see each key.
    pub routes: Vec<Route>,
    /// A `route.json` (JSON): its routes follow those of `routes`, and its other keys
    /// are defaults for keys of this file; read again when it changes. Empty means none.
    pub routes_file: PathBuf,
    /// When a message counts as acknowledged, where its sender does not say.
    pub ack: Ack,
    /// Where messages wait for their agents.
    pub buffer: Buffer,
    /// How often and when a message is tried again.
    pub retries: Retries,
    /// When an agent that fails is left alone.
    pub breaker: Breaker,
    /// How long a message id of a client is remembered: the same id again is acknowledged
    /// but not delivered a second time. 0 means not at all.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub dedup_window: Duration,
    /// Most message ids remembered, over all clients; the oldest go first.
    pub dedup_max: usize,
    /// How many messages may come in.
    pub rate: Rates,
    /// Longest message in bytes, put together from its chunks (1009).
    #[schemars(range(min = 1, max = 1_073_741_824))]
    pub message_size_max: usize,
    /// What is kept for clients that ask for their history.
    pub history: History,
    /// Most connections to agents; the one that rests longest makes room for another.
    #[schemars(range(min = 1))]
    pub connections_max: usize,
    /// How often a client is sent a WebSocket ping.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub ping_interval: Duration,
    /// How long a ping may go without anything from the client before its connection is
    /// closed.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub pong_timeout: Duration,
    /// Most messages queued for one client; above it the oldest is dropped and counted.
    #[schemars(range(min = 1))]
    pub queue: usize,
    /// How often the figures are logged; 0 means never.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub metrics_log_interval: Duration,
    /// The routes of both places, ready for use; made when the configuration is loaded.
    #[serde(skip)]
    #[schemars(skip)]
    pub table: Table,
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            enabled: None,
            auth: ClientAuth::default(),
            signatures: SignatureSettings::default(),
            routes: Vec::new(),
            routes_file: PathBuf::new(),
            ack: Ack::default(),
            buffer: Buffer::default(),
            retries: Retries::default(),
            breaker: Breaker::default(),
            dedup_window: Duration::from_secs(300),
            dedup_max: 1_000_000,
            rate: Rates::default(),
            message_size_max: 50 * 1024 * 1024,
            history: History::default(),
            connections_max: 10_000,
            ping_interval: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(30),
            queue: 256,
            metrics_log_interval: Duration::from_secs(10),
            table: Table::default(),
        }
    }
}

impl Relay {
    /// Whether the relay is on; after loading, the question is settled.
    pub fn is_on(&self) -> bool {
        self.enabled == Some(true)
    }

    /// The folder of the buffer.
    pub fn folder(&self, data_dir: &Path) -> PathBuf {
        match self.buffer.folder.as_os_str().is_empty() {
            true => data_dir.join("relay"),
            false => self.buffer.folder.clone(),
        }
    }

    /// The secrets, each with its key.
    pub(super) fn secrets(&mut self) -> Vec<(String, &mut Secret)> {
        let buffer = &mut self.buffer;
        let mut secrets = vec![(
            "relay.buffer.redis.password".to_owned(),
            &mut buffer.redis.password,
        )];
        secrets.extend(buffer.nats.server.secrets("relay.buffer.nats"));
        for (index, key) in self.signatures.keys.iter_mut().enumerate() {
            let name = format!("relay.signatures.keys[{index}].secret");
            secrets.push((name, &mut key.secret));
        }
        for (index, route) in self.routes.iter_mut().enumerate() {
            let key = format!("relay.routes[{index}].auth.secret");
            secrets.push((key, &mut route.auth.secret));
        }
        secrets
    }
}

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// By a token whose `sub` is its client id (401).
    #[default]
    Token,
    /// Not at all.
    None,
}

/// When a message counts as acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ack {
    /// It is in the gateway's memory.
    Accepted,
    /// It is in the buffer and synced.
    #[default]
    Durable,
    /// Its agent has acknowledged it.
    Delivered,
}

/// How often and when a message is tried again. Waiting while an agent is away is no try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retries {
    /// Tries after the first one; then the message becomes a dead letter.
    #[schemars(range(max = 1000))]
    pub attempts: u32,
    /// Wait before the first of them.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub base: Duration,
    /// By how much each wait is longer than the one before; at least 1.
    pub factor: f64,
    /// Longest wait.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub max: Duration,
    /// Share of a wait that is left to chance, up and down, from 0 to 1.
    pub jitter: f64,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 3,
            base: Duration::from_secs(1),
            factor: 2.0,
            max: Duration::from_secs(30),
            jitter: 0.2,
        }
    }
}

/// When an agent that fails is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Failures in a row after which nothing is sent for a while; 0 means never.
    pub failures: u32,
    /// How long nothing is sent before one message is let through to see.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub open: Duration,
    /// Longest such time; it doubles each time the message let through fails.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub open_max: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 5,
            open: Duration::from_secs(30),
            open_max: Duration::from_secs(300),
        }
    }
}

/// How many messages may come in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// From one client.
    pub per_client: ClientRate,
    /// For one agent, from all clients.
    pub per_agent: AgentRate,
}

/// How many messages may come from one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClientRate {
    /// Messages per second, sustained; 0 means no limit. More are refused, and the client
    /// is told.
    pub rate: u32,
    /// Messages taken in a burst above `rate`.
    pub burst: u32,
}

impl Default for ClientRate {
    fn default() -> Self {
        Self {
            rate: 100,
            burst: 200,
        }
    }
}

/// How many messages may come for one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AgentRate {
    /// Messages per second, sustained; 0 means no limit. More are refused, and their
    /// client is told.
    pub rate: u32,
    /// Messages taken in a burst above `rate`.
    pub burst: u32,
}

impl Default for AgentRate {
    fn default() -> Self {
        Self {
            rate: 0,
            burst: 1_000,
        }
    }
}

/// What is kept for clients that ask for their history; in memory, gone with the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Most messages kept per client; 0 means no history.
    pub per_client: usize,
    /// Longest payload kept, in bytes; of longer messages only the rest is kept.
    pub message_size_max: usize,
    /// How long a message is kept.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub ttl: Duration,
    /// Most bytes kept over all clients; above it the oldest messages go first.
    pub bytes_max: usize,
}

impl Default for History {
    fn default() -> Self {
        Self {
            per_client: 500,
            message_size_max: 65_536,
            ttl: Duration::from_secs(24 * 3600),
            bytes_max: 268_435_456,
        }
    }
}

#[cfg(test)]
mod tests;
