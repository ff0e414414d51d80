//! Publish and subscribe by subject, streams with positions, presence.
//!
//! The bus carries messages between whoever publishes on a channel and the workers
//! whose clients are subscribed to it. It knows *sinks* (one per worker), not clients:
//! the router counts sessions and registers a sink once per channel.
//!
//! What every bus promises, and `tests/conformance.rs` checks:
//!
//! - **Order.** On one channel every sink sees the same order, and with history that is
//!   the order of offsets: from 1, rising by exactly one.
//! - **Identity.** A stream has an [`Epoch`] that is new whenever the stream is recreated,
//!   so that an offset of another stream is never mistaken for one of this.
//! - **Honesty.** What cannot be kept is not pretended to be kept: [`History::holds_all_after`]
//!   is true only if every publication up to the top is there. A sink that has no room
//!   makes [`MemoryBus::publish`] fail as a whole ([`BusError::Busy`]); nothing is stored
//!   and nobody is told half.
//! - **Bounds.** Every collection has a limit in [`MemoryConfig`], and each says what
//!   happens at it.
//!
//! [`MemoryBus`] does no I/O and reads no clock: [`Now`] is an argument.
//! [`NatsBus`] is the bus of all gateways on one NATS; what it does otherwise stands there.
//! [`NatsConnection`] is the process's one connection to NATS.
#![warn(missing_docs)]

mod apps;
mod cluster;
mod face;
mod memory;
mod message;
mod nats;
mod position;

pub use apps::{Asked, Emit, Requests, Tap};
pub use cluster::{Keep, Kept, Told, WatchKept, Word};
pub use face::{Answer, Bus};
pub use memory::{MemoryBus, MemoryConfig, SinkId, Stats};
pub use message::{Kind, Message, Publication};
pub use nats::fuzzing;
pub use nats::{
    LATENCY_BOUNDS_MS, NatsBus, NatsBusConfig, NatsBusError, NatsConfig, NatsConnection,
    NatsCredentials, NatsError, NatsState, NatsStats, StreamConfig, StreamStorage,
};
pub use position::{Epoch, Position};
/// The moment of a call: `mono_ms` decides what has expired, `unix_ms` dates publications.
pub use protocol::session::Now;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use protocol::channel::Channel;
use protocol::message::ClientInfo;

/// Where messages go: in practice, the inbox of one worker.
pub trait Sink: Send + Sync {
    /// Whether the sink takes more. Asked before a publication is stored; "no" refuses it.
    ///
    /// Publications on different channels are published concurrently, so after the last
    /// "yes" as many messages may follow as there are publishing threads: keep that slack.
    fn has_room(&self) -> bool;

    /// Takes a message. Called while the channel's order is held: it must only enqueue,
    /// must not block and must not call the bus.
    fn deliver(&self, message: Arc<Message>);
}

/// A publication as its publisher hands it in.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Where it goes.
    pub channel: Channel,
    /// The payload. Must own its memory: a slice of a large buffer would keep all of the
    /// buffer alive while history counts the slice only.
    pub data: Bytes,
    /// Who publishes, if it is a client.
    pub info: Option<Arc<ClientInfo>>,
    /// Free labels, delivered with the publication.
    pub tags: Option<Box<BTreeMap<String, String>>>,
    /// How the channel keeps publications; without it the publication has no position.
    pub history: Option<HistoryPolicy>,
    /// A second publication with this key on this channel within five minutes is not
    /// published; the answer to the first is repeated (contract centrifuge 11.14).
    pub idempotency_key: Option<String>,
    /// Version of the document that the payload is; 0 means unversioned. A version that
    /// is not newer than the stream's last is not published. Remembered with the stream,
    /// so it has no effect on a channel without history.
    pub version: u64,
    /// Versions of different non-empty epochs are not compared.
    pub version_epoch: String,
}

impl Publish {
    /// A publication without publisher, labels, history or conditions.
    pub fn new(channel: Channel, data: Bytes) -> Self {
        Self {
            channel,
            data,
            info: None,
            tags: None,
            history: None,
            idempotency_key: None,
            version: 0,
            version_epoch: String::new(),
        }
    }
}

/// What became of an accepted [`Publish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The position it was given; of the first one if it is a duplicate, the stream's top
    /// if its version is outdated; `None` on a channel without history.
    pub position: Option<Position>,
    /// Why it was not sent to anybody, if it was not.
    pub suppressed: Option<Suppression>,
}

/// Why a publication was accepted but not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suppression {
    /// Its idempotency key has been used.
    Duplicate,
    /// Its version is not newer than the last.
    Outdated,
}

/// How long a channel's publications and position are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryPolicy {
    /// Most publications kept; 0 keeps the position only.
    pub size: usize,
    /// How long a publication is kept, in milliseconds.
    pub ttl_ms: u64,
    /// How long epoch and top position outlive the last use of the stream, in
    /// milliseconds; 0 means for ever. Less than `ttl_ms` counts as `ttl_ms`. A stream
    /// that never had a publication is forgotten after `ttl_ms` (at least a minute): it
    /// proves nothing, and clients can create it at will.
    pub meta_ttl_ms: u64,
}

/// Which part of a stream to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Start beyond this offset, exclusive in either direction; `None` starts at the end
    /// from which the direction comes.
    pub since: Option<u64>,
    /// How many publications at most.
    pub limit: HistoryLimit,
    /// Newest first.
    pub reverse: bool,
}

/// How many publications to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryLimit {
    /// The position only.
    PositionOnly,
    /// At most so many.
    AtMost(usize),
    /// All that are kept.
    All,
}

/// What a stream holds, as far as it was asked for.
#[derive(Debug, Clone)]
pub struct History {
    /// In the order asked for. All of kind [`Kind::Publication`] and with a position.
    pub publications: Vec<Arc<Message>>,
    /// Lowest offset that the stream still holds; one beyond the top if it holds none. Where
    /// the position alone was asked for it may be too high.
    pub first: u64,
    /// Epoch of the stream and offset of its last publication, 0 before the first.
    pub top: Position,
}

impl History {
    /// Whether the stream holds every publication after `offset` up to its top, so that
    /// somebody who has seen `offset` can be brought up to date without a gap.
    pub fn holds_all_after(&self, offset: u64) -> bool {
        offset <= self.top.offset && offset.saturating_add(1) >= self.first
    }
}

/// How many are present on a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PresenceStats {
    /// Connections.
    pub clients: usize,
    /// Distinct users among them; all anonymous connections are one user.
    pub users: usize,
}

/// Why the bus did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// An interested worker is behind; nothing was stored or sent, and a later try may
    /// succeed.
    #[error("a receiver had no room")]
    Busy,
    /// A limit of [`MemoryConfig`] is reached; the name is that of its field.
    #[error("limit {limit} of the bus was reached")]
    LimitExceeded {
        /// Which one.
        limit: &'static str,
    },
    /// The servers behind the bus did not answer in time, or said that they can't; whether
    /// a publication was taken is unknown.
    #[error("bus is not available")]
    Unavailable,
    /// Nobody answers requests for this subject.
    #[error("nobody answers this subject")]
    NoResponder,
    /// Whoever was asked refused to answer.
    #[error("request was refused")]
    Refused,
    /// The servers behind the bus do not allow it to us.
    #[error("bus does not allow this subject")]
    Denied,
    /// History or positions of a subject of others that no stream keeps.
    #[error("no stream keeps this subject")]
    NotKept,
    /// What is to be replaced is no longer what it was.
    #[error("revision is outdated")]
    Outdated,
    /// The sink was never attached, or is detached.
    #[error("sink is not attached")]
    SinkDetached,
}
