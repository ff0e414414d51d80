//! What an operator may set, as it stands in the file.
//!
//! Every struct refuses unknown keys and has a default for each field. Field docs become
//! the reference page and the JSON Schema, so they say unit, scope and what happens at
//! the limit.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use auth::settings::{Secret, TokenSettings};
use protocol::settings::{ChannelSettings, ClientSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bus::Bus;
use super::feature_flags::FeatureFlags;
use super::grpc::Grpc;
use super::listen::{Access, Listeners};
use super::live::Live;
use super::proxy::Proxy;
use super::quantum::Quantum;
use super::relay::Relay;
use super::rpc::Rpc;
use super::store::Store;

/// Tidegate's configuration file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder for what outlives a restart: revocations, administrator tokens, feature
    /// flags, the routes of the proxy, the messages of the relay, the demo's secret. Created
    /// with mode 0700 when first needed; relative to the working folder.
    pub data_dir: PathBuf,
    /// Threads that hold client connections; 0 means one per core.
    pub workers: usize,
    /// What is logged, and how.
    pub log: Log,
    /// The sockets that are bound.
    pub listeners: Listeners,
    /// Who may come in, by page and by address.
    pub access: Access,
    /// Limits on handshakes, connections and memory.
    pub limits: Limits,
    /// The WebSocket endpoint, `/connection/websocket`.
    pub websocket: WebSocket,
    /// The HTTP-streaming endpoint, `/connection/http_stream`.
    pub http_stream: HttpStream,
    /// The server-sent events endpoint, `/connection/sse`.
    pub sse: Sse,
    /// The endpoint through which clients of the two HTTP transports send, `/emulation`;
    /// on while either of them is.
    pub emulation: Emulation,
    /// Limits, timers and tokens of clients.
    pub client: Client,
    /// Channels and namespaces.
    pub channel: ChannelSettings,
    /// Remote procedures clients may call.
    pub rpc: Rpc,
    /// The server API, `/api/…` on the admin listener.
    pub http_api: HttpApi,
    /// The administrator's API, `/admin/…` on the admin listener.
    pub admin: Admin,
    /// What carries messages between publishers and subscribers.
    pub bus: Bus,
    /// The dialect for live data: `/live/ws` on the main listener, `/ws` on one of its own.
    pub live: Live,
    /// The aggregator of market data: ticks in, batches and snapshots out.
    pub market: market::Settings,
    /// Switches that operators set while the gateway runs, pushed to clients.
    pub feature_flags: FeatureFlags,
    /// Messages of clients, delivered durably to agents, and their answers back.
    pub relay: Relay,
    /// Where routes and their secrets are kept that operators change while the gateway
    /// runs.
    pub store: Store,
    /// The HTTP proxy: requests below `/-/`, passed on to services and models.
    pub proxy: Proxy,
    /// gRPC services that the gateway calls.
    pub grpc: Grpc,
    /// Quantum, the transport over UDP towards services.
    pub quantum: Quantum,
    /// How the gateway leaves.
    pub drain: Drain,
    /// The playground and its tokens.
    pub demo: Demo,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./data"),
            workers: 0,
            log: Log::default(),
            listeners: Listeners::default(),
            access: Access::default(),
            limits: Limits::default(),
            websocket: WebSocket::default(),
            http_stream: HttpStream::default(),
            sse: Sse::default(),
            emulation: Emulation::default(),
            client: Client::default(),
            channel: ChannelSettings::default(),
            rpc: Rpc::default(),
            http_api: HttpApi::default(),
            admin: Admin::default(),
            bus: Bus::default(),
            live: Live::default(),
            market: market::Settings::default(),
            feature_flags: FeatureFlags::default(),
            relay: Relay::default(),
            store: Store::default(),
            proxy: Proxy::default(),
            grpc: Grpc::default(),
            quantum: Quantum::default(),
            drain: Drain::default(),
            demo: Demo::default(),
        }
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least severe level that is written.
    pub level: Level,
    /// Levels of single parts, by log target (`edge: debug`); the longest match counts.
    pub targets: BTreeMap<String, Level>,
    /// How a line looks; `auto` is `human` on a terminal and `json` elsewhere.
    pub format: LogFormat,
}

/// How severe a log line must be to be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing is written.
    Off,
    /// Data may be lost, or the gateway cannot serve.
    Error,
    /// Unexpected, but recovered.
    Warn,
    /// Start, stop, reload, drain.
    #[default]
    Info,
    /// For reading while one part is debugged.
    Debug,
    /// Every message.
    Trace,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// `human` on a terminal, `json` elsewhere.
    #[default]
    Auto,
    /// One JSON object per line.
    Json,
    /// Text with colors.
    Human,
}

/// Limits on handshakes, connections and memory; all hold per process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most client connections; 0 means no limit. More are refused with 503.
    pub connections: usize,
    /// Most client connections from one address; 0 means no limit. More are refused with
    /// 429.
    pub connections_per_address: usize,
    /// Handshakes per second, sustained; 0 means no limit. More are refused with 429 and
    /// `Retry-After`.
    pub handshake_rate: u32,
    /// Handshakes taken in a burst above `handshake_rate`.
    pub handshake_burst: u32,
    /// Handshakes per second from one address; 0 means no limit (429).
    pub handshake_rate_per_address: u32,
    /// Handshakes from one address taken in a burst above `handshake_rate_per_address`.
    pub handshake_burst_per_address: u32,
    /// How long a peer may take from the first byte to the end of its request head, TLS
    /// included (408).
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub handshake_timeout: Duration,
    /// Most handshakes under way at once; more wait in the kernel's queue.
    pub handshakes_pending: usize,
    /// Longest request head in bytes (431).
    #[schemars(range(min = 1024, max = 1_048_576))]
    pub header_size: usize,
    /// Most header fields of a request (431).
    #[schemars(range(min = 16, max = 256))]
    pub headers: usize,
    /// Bytes of memory above which new connections and publications are refused (503);
    /// 0 means 80 % of what the machine or the control group offers.
    pub memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 0,
            connections_per_address: 0,
            handshake_rate: 1_000,
            handshake_burst: 2_000,
            handshake_rate_per_address: 0,
            handshake_burst_per_address: 50,
            handshake_timeout: Duration::from_secs(10),
            handshakes_pending: 1_024,
            header_size: 16_384,
            headers: 64,
            memory: 0,
        }
    }
}

/// The WebSocket endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocket {
    /// Serves `/connection/websocket`.
    pub enabled: bool,
    /// Longest message in bytes a client may send, in one frame or many (1009).
    #[schemars(range(min = 1, max = 1_073_741_824))]
    pub message_size_limit: usize,
    /// How long a client may take nothing of what is queued for it (3009). Does not act
    /// where only publications wait that `slow_client` drops or conflates.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub write_timeout: Duration,
    /// WebSocket pings, pongs and other control frames per second a client may send,
    /// sustained; 0 means no limit (1008).
    pub control_frame_rate: u32,
    /// Control frames a client may send in a burst above `control_frame_rate`.
    pub control_frame_burst: u32,
    /// Bytes that the system may hold for a client without having sent them; what comes
    /// beyond waits in the client's queue, where newer publications may take the place of
    /// older ones. 0 leaves it to the system. Linux only. The feature flag
    /// `gateway.unsent_limit`, where there is one, says for which users.
    pub unsent_max: u32,
    /// Compression of messages (permessage-deflate).
    pub compression: Compression,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            enabled: true,
            message_size_limit: 65_536,
            write_timeout: Duration::from_secs(1),
            control_frame_rate: 10,
            control_frame_burst: 50,
            unsent_max: 2_048,
            compression: Compression::default(),
        }
    }
}

/// Compression of messages, without context takeover: each message for itself, once per
/// broadcast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Compression {
    /// Takes clients' offers of permessage-deflate.
    pub enabled: bool,
    /// From 1, fastest, to 9, smallest.
    #[schemars(range(min = 1, max = 9))]
    pub level: u32,
    /// Messages shorter than this many bytes are sent as they are.
    pub min_size: usize,
    /// Longest message in bytes after decompression; 0 means ten times
    /// `websocket.message_size_limit` (1009).
    pub inflated_size_limit: usize,
    /// Most bytes one compressed byte may turn into, on the whole of a message (1009).
    #[schemars(range(min = 2, max = 1100))]
    pub inflate_ratio_limit: u32,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            enabled: false,
            level: 1,
            min_size: 256,
            inflated_size_limit: 0,
            inflate_ratio_limit: 100,
        }
    }
}

/// The HTTP-streaming endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpStream {
    /// Serves `/connection/http_stream`.
    pub enabled: bool,
    /// Longest request body in bytes (413).
    pub max_request_body_size: usize,
}

impl Default for HttpStream {
    fn default() -> Self {
        Self {
            enabled: true,
            max_request_body_size: 65_536,
        }
    }
}

/// The server-sent events endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sse {
    /// Serves `/connection/sse`.
    pub enabled: bool,
    /// Longest request body in bytes (413).
    pub max_request_body_size: usize,
}

impl Default for Sse {
    fn default() -> Self {
        Self {
            enabled: true,
            max_request_body_size: 65_536,
        }
    }
}

/// The endpoint through which clients of the HTTP transports send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Emulation {
    /// Longest request body in bytes (413).
    pub max_request_body_size: usize,
}

impl Default for Emulation {
    fn default() -> Self {
        Self {
            max_request_body_size: 65_536,
        }
    }
}

/// Limits, timers and tokens of clients.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Client {
    /// Limits and timers, beside the tokens.
    #[serde(flatten)]
    pub settings: ClientSettings,
    /// Keys and rules for connection tokens; for subscription tokens too, unless these
    /// have their own.
    pub token: TokenSettings,
    /// Keys and rules for subscription tokens.
    pub subscription_token: SubscriptionToken,
}

/// Keys and rules for subscription tokens.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SubscriptionToken {
    /// Checks subscription tokens with the keys below instead of those of `client.token`.
    pub enabled: bool,
    /// Keys and rules, as in `client.token`.
    #[serde(flatten)]
    pub token: TokenSettings,
}

/// The server API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpApi {
    /// The key that callers show; without one every call is answered with 401.
    pub key: Secret,
    /// How errors are told: in the body with status 200, or by status too.
    pub error_mode: ErrorMode,
    /// Longest request body in bytes (413).
    pub max_request_body_size: usize,
}

impl Default for HttpApi {
    fn default() -> Self {
        Self {
            key: Secret::default(),
            error_mode: ErrorMode::default(),
            max_request_body_size: 1_048_576,
        }
    }
}

/// How the server API tells errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorMode {
    /// Status 200 and an `error` in the body.
    #[default]
    #[serde(rename = "")]
    Body,
    /// The error's own status, and the error as the body.
    Transport,
}

/// The administrator's API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Serves `/admin/…` to holders of an administrator token.
    pub enabled: bool,
    /// Puts `/metrics` behind an administrator token too; otherwise everybody who reaches
    /// the admin listener may read it.
    pub metrics_guarded: bool,
    /// Wrong tokens per minute and address before further tries are refused with 429.
    #[schemars(range(min = 1))]
    pub failed_tries_per_minute: u32,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            enabled: true,
            metrics_guarded: false,
            failed_tries_per_minute: 30,
        }
    }
}

/// How the gateway leaves when it is told to (SIGTERM).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// Time for clients to be told and to go; then the rest is cut.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub grace: Duration,
    /// Connections closed per second, per process.
    #[schemars(range(min = 1))]
    pub rate: u32,
    /// How long readiness is off before the first connection is closed, so that load
    /// balancers look elsewhere first. Part of the grace.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub delay: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(30),
            rate: 500,
            delay: Duration::ZERO,
        }
    }
}

/// The playground and its tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Demo {
    /// Serves the playground at `/`, mints short-lived tokens at `/demo/token` and opens
    /// the namespace `demo`. Unset means: on without a configuration file while every
    /// listener is on a loopback address, else off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

impl Demo {
    /// Whether the demo is on; after loading, the question is settled.
    pub fn is_on(&self) -> bool {
        self.enabled == Some(true)
    }
}
