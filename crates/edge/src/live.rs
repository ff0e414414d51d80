//! What may change while connections live; replaced whole on reload.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use auth::{Signatures, Verifier};
use ipnet::IpNet;
use protocol::session::Settings;
use protocol::stratix;
use router::services::Services;
use websocket::{DeflateConfig, Limits};

/// The settings in force, shared by front and workers.
pub type Current = Arc<ArcSwap<Live>>;

/// Everything about clients that a reload may change.
pub struct Live {
    /// For sessions.
    pub session: Settings,
    /// The rpc methods that services answer.
    pub services: Arc<Services>,
    /// Which pages may connect.
    pub origins: OriginCheck,
    /// By address.
    pub addresses: Addresses,
    /// Caps and rates at the door.
    pub door: Door,
    /// WebSocket connections.
    pub websocket: WebSocket,
    /// Most bytes of a body, for http_stream, sse and emulation; `None` is off.
    pub http_stream_body_max: Option<usize>,
    /// As for `http_stream_body_max`.
    pub sse_body_max: Option<usize>,
    /// As for `http_stream_body_max`; on whenever one of those is.
    pub emulation_body_max: usize,
    /// Checks tokens.
    pub verifier: Arc<Verifier>,
    /// Clients that speak HTTP.
    pub proxy: Http,
    /// The relay's own dialect and REST, if the relay is on.
    pub relay: Option<Relay>,
    /// The live-data dialect, if it is on.
    pub live_data: Option<LiveDialect>,
    /// Which changes of behaviour hold for whom.
    pub flags: FlagCheck,
    /// Mints tokens for the playground, if the demo is on.
    pub demo: Option<DemoTokens>,
}

/// Whether a feature flag is on for a user; `None` if there is none of the name.
pub type FlagCheck = Arc<dyn Fn(&str, &str) -> Option<bool> + Send + Sync>;

/// The flag by which `unsent_max` is rolled out; where there is none it holds for all.
pub const UNSENT_FLAG: &str = "gateway.unsent_limit";

/// Whether a page of this origin may connect.
pub type OriginCheck = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Makes a token for the demo: for the user of the token that is shown, if it was made here
/// not long ago, and else for a new one.
pub type DemoTokens = Box<dyn Fn(Option<&str>) -> DemoToken + Send + Sync>;

/// A token for the playground.
#[derive(Clone)]
pub struct DemoToken {
    /// The user it names.
    pub user: String,
    /// The token.
    pub token: String,
    /// Its life in seconds.
    pub expires_in: u64,
}

/// Who may come in, by address.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// Proxies whose word about the client's address is believed.
    pub trusted: Vec<IpNet>,
    /// If not empty, only these.
    pub allow: Vec<IpNet>,
    /// Never these.
    pub deny: Vec<IpNet>,
}

impl Addresses {
    /// Whether the address is a trusted proxy's.
    pub fn trusts(&self, address: IpAddr) -> bool {
        contains(&self.trusted, address)
    }

    /// Whether a client with this address may connect.
    pub fn admits(&self, address: IpAddr) -> bool {
        !contains(&self.deny, address) && (self.allow.is_empty() || contains(&self.allow, address))
    }
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// The relay's own clients.
pub struct Relay {
    /// Anybody may claim any client id.
    pub is_open: bool,
    /// For the decoder; the message size is the relay's own.
    pub websocket: Limits,
    /// Messages in pieces.
    pub chunks: stratix::Limits,
    /// Most bytes of a message.
    pub message_size_max: usize,
    /// Most messages of a history that are replayed.
    pub history_max: usize,
    /// Most messages that wait for one client; the oldest is dropped for one more.
    pub queue: usize,
    /// How long a client may be too slow for what it is sent (3008).
    pub slow_patience: Duration,
    /// Checks the signatures of messages; `None` asks for none and reads none.
    pub signatures: Option<Arc<Signatures>>,
}

/// Clients of the live-data dialect (`contracts`: live-data 6.2). What they may subscribe
/// to stands in the session's settings.
pub struct LiveDialect {
    /// Checks their tokens; `None` leaves that to who checks all others.
    pub verifier: Option<Arc<Verifier>>,
    /// Whoever shows no token is let in as nobody.
    pub optional_token: bool,
    /// The subject stands before each payload even if that was not asked for.
    pub envelope: bool,
    /// For the decoder.
    pub websocket: Limits,
    /// Most subjects of one message.
    pub subjects_per_message_max: usize,
    /// Most messages that wait for one client.
    pub queue: usize,
    /// Bytes of which more may wait for `slow_patience` only (3008).
    pub slow_bytes: usize,
    /// See `slow_bytes`.
    pub slow_patience: Duration,
    /// Networks beside this machine that may read `/metrics.json`.
    pub metrics_networks: Vec<IpNet>,
    /// Tells how the bus is.
    pub bus: BusCheck,
}

/// Tells how the bus is.
pub type BusCheck = Arc<dyn Fn() -> BusHealth + Send + Sync>;

/// How the bus is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusHealth {
    /// It is within reach; one within the process always is.
    pub is_up: bool,
    /// How often it was lost and found again.
    pub reconnects: u64,
    /// Seconds in which very many subjects were subscribed at it.
    pub storms: u64,
}

/// Clients that speak HTTP.
#[derive(Debug, Clone, Copy)]
pub struct Http {
    /// How long a connection may rest between two requests.
    pub keep_alive: Duration,
    /// How long a request's body may make no progress, in milliseconds.
    pub body_patience_ms: u64,
    /// HTTP/2, if it is spoken.
    pub http2: Option<Http2>,
}

/// Limits of a connection of HTTP/2.
#[derive(Debug, Clone, Copy)]
pub struct Http2 {
    /// Streams at once.
    pub streams: u32,
    /// Bytes of a request's fields.
    pub header_list: u32,
    /// Streams that were reset before they were served, and wait to be forgotten.
    pub pending_resets: usize,
    /// Streams that we reset because of the client's mistakes; one more ends the
    /// connection.
    pub local_resets: usize,
    /// After how much silence a client is asked whether it is still there.
    pub ping_after: Duration,
    /// How long the answer to that may take.
    pub ping_timeout: Duration,
}

/// Caps and rates at the door; 0 means no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Door {
    /// Client connections of this process.
    pub connections: usize,
    /// Client connections of one address (of one /64 for IPv6).
    pub connections_per_address: usize,
    /// Handshakes per second, sustained.
    pub handshake_rate: u32,
    /// Handshakes in a burst.
    pub handshake_burst: u32,
    /// Handshakes per second of one address.
    pub handshake_rate_per_address: u32,
    /// Handshakes of one address in a burst.
    pub handshake_burst_per_address: u32,
    /// Bytes of resident memory beyond which no new work is accepted.
    pub memory: u64,
    /// TLS handshake, request head, the time to the upgrade, and how long an HTTP
    /// client may take nothing of its answer.
    pub handshake_timeout: Duration,
    /// Bytes of a request head.
    pub header_size: usize,
    /// Headers of a request.
    pub headers: usize,
}

/// WebSocket connections.
#[derive(Debug, Clone)]
pub struct WebSocket {
    /// Whether there are any.
    pub enabled: bool,
    /// For the decoder.
    pub limits: Limits,
    /// Compression, if it may be negotiated.
    pub deflate: Option<DeflateConfig>,
    /// How long a write may make no progress (3009); zero means for ever.
    pub write_timeout: Duration,
    /// Control frames per second, sustained (1008); 0 means no limit.
    pub control_frame_rate: u32,
    /// Control frames in a burst.
    pub control_frame_burst: u32,
    /// Bytes that the system may hold for a client without having sent them; what comes
    /// beyond waits here, where newer publications take the place of older ones. 0 leaves
    /// it to the system.
    pub unsent_max: u32,
}

/// What a reload does not change.
#[derive(Debug, Clone, Copy)]
pub struct Fixed {
    /// Worker threads.
    pub workers: usize,
    /// Handshakes under way at once.
    pub handshakes_pending: usize,
    /// Compression level, 1 to 9.
    pub deflate_level: u32,
    /// Bytes from which on messages are compressed.
    pub deflate_min: usize,
}
