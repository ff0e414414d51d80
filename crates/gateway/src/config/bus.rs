//! Settings of the bus: what carries messages between publishers and subscribers.

use std::time::Duration;

use auth::settings::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::nats::NatsServer;

mod validate;

pub(super) use validate::check;

/// What carries messages between publishers and subscribers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bus {
    /// Within this process, or over NATS (2.12 or later), on which several gateways are
    /// one cluster.
    pub kind: BusKind,
    /// The bus within the process.
    pub memory: MemoryBus,
    /// NATS, where `kind` is `nats`.
    pub nats: NatsBus,
}

impl Bus {
    /// The secrets, each with its key.
    pub(super) fn secrets(&mut self) -> [(String, &mut Secret); 3] {
        self.nats.server.secrets("bus.nats")
    }
}

/// Which bus there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BusKind {
    /// Within this process; other gateways are other worlds.
    #[default]
    Memory,
    /// NATS: all gateways on it are one cluster.
    Nats,
}

impl BusKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Nats => "nats",
        }
    }
}

/// The bus within the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryBus {
    /// Most bytes of history over all channels. Above it the publishing channel's oldest
    /// publications go first; what still does not fit is delivered but not kept.
    pub history_bytes_max: usize,
    /// Most channels with a history, presence or subscribers; more are refused
    /// (error 108). On NATS it holds for the channels that this gateway's clients are on.
    pub channels_max: usize,
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self {
            history_bytes_max: 268_435_456,
            channels_max: 1_000_000,
        }
    }
}

/// The bus over NATS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NatsBus {
    /// How the server is reached.
    #[serde(flatten)]
    pub server: NatsServer,
    /// Speaks without TLS to servers beyond this machine. Whoever is on the way can then
    /// read and change everything; it is told in the log at each start.
    pub insecure: bool,
    /// How long the server is tried at the start before the gateway gives up.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub connect_within: Duration,
    /// What the gateways' own subjects begin with, and in capitals their streams and
    /// buckets. Gateways with another prefix are another cluster.
    pub prefix: String,
    /// Channels that are subjects of NATS as they stand (patterns with `*` and `>`):
    /// whoever may publishes there, and positions are its publisher's. All other channels
    /// are the gateways' own and live below `prefix`.
    pub subjects: Vec<String>,
    /// Streams that are to exist. One that does is left as it is, and the log tells what
    /// differs.
    pub streams: Vec<NatsStream>,
    /// Creates streams and buckets that are absent; otherwise their absence is an error at
    /// the start.
    pub create: bool,
    /// The stream in which channels with history are kept.
    pub history: NatsHistory,
    /// How long a subject is still listened to after its last subscriber has gone.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub linger: Duration,
}

impl Default for NatsBus {
    fn default() -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            server: NatsServer::default(),
            insecure: false,
            connect_within: Duration::from_secs(10),
            prefix: "tidegate".to_owned(),
            subjects: texts(&["xy.md.>", "xy.exec.>", "xy.src.>", "xy.ref.>"]),
            streams: vec![
                NatsStream {
                    name: "XY_MD_TICK".to_owned(),
                    subjects: texts(&["xy.md.tick.>"]),
                    max_age: Duration::from_secs(3 * 86_400),
                    ..NatsStream::default()
                },
                NatsStream {
                    name: "XY_MD_SNAPSHOT".to_owned(),
                    subjects: texts(&["xy.md.snapshot.>"]),
                    max_msgs_per_subject: 1,
                    storage: StreamStorage::Memory,
                    max_bytes: 268_435_456,
                    ..NatsStream::default()
                },
            ],
            create: true,
            history: NatsHistory::default(),
            linger: Duration::from_secs(5),
        }
    }
}

/// A stream that is to exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NatsStream {
    /// Its name: letters, digits, `-` and `_`, at most 32.
    pub name: String,
    /// What it keeps (patterns with `*` and `>`).
    pub subjects: Vec<String>,
    /// How long a message is kept; 0 means as long as there is room.
    #[serde(default, with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub max_age: Duration,
    /// Most bytes; above it the oldest messages go. 0 means the smaller of 200 GiB and a
    /// tenth of what the server has to give, said in the log.
    #[serde(default)]
    pub max_bytes: u64,
    /// Most messages per subject; above it the subject's oldest go. 0 means no limit.
    #[serde(default)]
    pub max_msgs_per_subject: u64,
    /// Where the messages are kept.
    #[serde(default)]
    pub storage: StreamStorage,
}

impl Default for NatsStream {
    fn default() -> Self {
        Self {
            name: String::new(),
            subjects: Vec::new(),
            max_age: Duration::ZERO,
            max_bytes: 0,
            max_msgs_per_subject: 0,
            storage: StreamStorage::default(),
        }
    }
}

/// Where a stream's messages are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamStorage {
    /// On the servers' disks.
    #[default]
    File,
    /// In the servers' memory; gone with it.
    Memory,
}

/// The stream in which channels with history are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NatsHistory {
    /// Where the publications are kept.
    pub storage: StreamStorage,
    /// Most bytes over all channels; above it the oldest publications go.
    #[schemars(range(min = 1_048_576))]
    pub max_bytes: u64,
    /// Most publications per channel that the stream keeps: at least the largest
    /// `history_size` of the namespaces.
    #[schemars(range(min = 1))]
    pub size_max: u64,
    /// How many servers keep each publication, and each message of the streams that are
    /// created.
    #[schemars(range(min = 1, max = 5))]
    pub replicas: u8,
}

impl Default for NatsHistory {
    fn default() -> Self {
        Self {
            storage: StreamStorage::File,
            max_bytes: 1_073_741_824,
            size_max: 10_000,
            replicas: 1,
        }
    }
}
