//! Where messages wait for their agents.

use std::path::PathBuf;
use std::time::Duration;

use auth::settings::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::nats::NatsServer;

/// Where messages wait for their agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Buffer {
    /// What keeps them: files of the gateway's own, Redis Streams, or NATS JetStream.
    pub kind: BufferKind,
    /// Most messages that wait, dead letters not counted; see `overflow`.
    #[schemars(range(min = 1))]
    pub size: u64,
    /// Most bytes they take; see `overflow`.
    #[schemars(range(min = 1_048_576))]
    pub bytes_max: u64,
    /// Folder of the files; empty means `relay` in `data_dir`.
    pub folder: PathBuf,
    /// When what was written is synced to the disk. Anything but `always` loses
    /// acknowledged messages at a power failure.
    pub sync: Sync,
    /// Time between two syncs, where `sync` is `interval`.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub sync_interval: Duration,
    /// What happens to a message for which there is no room.
    pub overflow: Overflow,
    /// Most dead letters kept; above it the oldest go first.
    pub dead_max: u64,
    /// How long a dead letter is kept.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub dead_retention: Duration,
    /// Redis, where `kind` is `redis`.
    pub redis: RedisBuffer,
    /// NATS, where `kind` is `nats`.
    pub nats: NatsBuffer,
    /// Starts with files that are damaged before their end: what is damaged is put aside
    /// and lost. Otherwise the gateway refuses to start and names the damage.
    pub accept_loss: bool,
}

impl Default for Buffer {
    fn default() -> Self {
        Self {
            kind: BufferKind::default(),
            size: 1_000_000,
            bytes_max: 8 * 1024 * 1024 * 1024,
            folder: PathBuf::new(),
            sync: Sync::default(),
            sync_interval: Duration::from_millis(100),
            overflow: Overflow::default(),
            dead_max: 10_000,
            dead_retention: Duration::from_secs(7 * 24 * 3600),
            redis: RedisBuffer::default(),
            nats: NatsBuffer::default(),
            accept_loss: false,
        }
    }
}

/// What keeps the messages that wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BufferKind {
    /// Files in `folder`.
    #[default]
    Disk,
    /// A stream of a Redis server.
    Redis,
    /// A stream of a NATS server (JetStream).
    Nats,
}

/// When what was written is synced to the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sync {
    /// Before a message is acknowledged as durable.
    #[default]
    Always,
    /// Every `sync_interval`.
    Interval,
    /// When the system likes to.
    None,
}

/// What happens to a message for which there is no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// The oldest message makes room, becomes a dead letter, and its client is told.
    #[default]
    DropOldest,
    /// The new message is refused, and its client is told.
    Reject,
}

/// A Redis server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedisBuffer {
    /// `redis://host:port/database`, or `rediss://…` for TLS; without user and password.
    pub url: String,
    /// User (ACL); empty means the default one.
    pub user: String,
    /// Password.
    pub password: Secret,
    /// Name of the stream; other keys begin with it.
    pub stream: String,
}

impl Default for RedisBuffer {
    fn default() -> Self {
        Self {
            url: String::new(),
            user: String::new(),
            password: Secret::default(),
            stream: "tidegate:outbox".to_owned(),
        }
    }
}

/// A NATS server or cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NatsBuffer {
    /// How the server is reached.
    #[serde(flatten)]
    pub server: NatsServer,
    /// Name of the stream.
    pub stream: String,
    /// How many servers keep each message.
    #[schemars(range(min = 1, max = 5))]
    pub replicas: u8,
}

impl Default for NatsBuffer {
    fn default() -> Self {
        Self {
            server: NatsServer::default(),
            stream: "TIDEGATE_OUTBOX".to_owned(),
            replicas: 1,
        }
    }
}
