//! What the operators' console asks of the gateway, beside what others ask.

use std::collections::BTreeMap;

use serde::Serialize;

/// The console's view of the gateway.
pub trait Console: Send + Sync + 'static {
    /// Where everything stands. Asked for once a second by each open page, so an answer may
    /// be up to a second old.
    fn overview(&self) -> impl Future<Output = Overview> + Send;

    /// The feature flags; `None` where they are off.
    fn flags(&self) -> Option<FlagState>;

    /// Changes flags, if they are at the version `expected`; `None` expects none.
    fn change_flags(
        &self,
        change: FlagChange,
        expected: Option<u64>,
    ) -> impl Future<Output = Result<FlagsChanged, FlagRefusal>> + Send;
}

/// Where everything stands. Counters count since the start.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Overview {
    /// The process; new with every start.
    pub node: String,
    /// Its version.
    pub version: String,
    /// Time since the start, in seconds.
    pub uptime_seconds: u64,
    /// When this was true, in Unix ms.
    pub time_ms: u64,
    /// `starting`, `ready`, `draining` or `failed`.
    pub stage: String,
    /// Client connections, those still in the handshake included.
    pub connections: u64,
    /// Different users among them; anonymous ones do not count.
    pub users: u64,
    /// Channels about which anything is known.
    pub channels: u64,
    /// Subscriptions of clients.
    pub subscriptions: u64,
    /// Frames received from clients (counter).
    pub messages_in: u64,
    /// Replies, pushes and publications sent to clients (counter).
    pub messages_out: u64,
    /// Bytes read from clients (counter).
    pub bytes_in: u64,
    /// Bytes written to clients (counter).
    pub bytes_out: u64,
    /// Publications not delivered to a slow client, by what was done about it (counters).
    pub drops: BTreeMap<String, u64>,
    /// Processor time used, in seconds (counter); 0 where that can't be told.
    pub cpu_seconds: f64,
    /// Processors that this process may use.
    pub cores: u64,
    /// Memory that is resident, in bytes.
    pub resident_bytes: u64,
    /// Memory above which new work is refused, in bytes; 0 means no limit.
    pub limit_bytes: u64,
    /// What carries messages.
    pub bus: BusOverview,
    /// The relay; `null` where it is off.
    pub relay: Option<RelayOverview>,
    /// The HTTP proxy; `null` where it is off.
    pub proxy: Option<ProxyOverview>,
}

/// What carries messages between publishers and subscribers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BusOverview {
    /// `memory` or `nats`.
    pub kind: String,
    /// `connected` or `disconnected`; a bus in memory is always connected.
    pub state: String,
    /// Publications accepted and sent (counter).
    pub published: u64,
    /// Times that the connection was lost (counter).
    pub losses: u64,
}

/// The relay in short; more stands at `/admin/relay`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RelayOverview {
    /// Messages that wait for their agents or are on their way.
    pub pending: u64,
    /// Messages given up.
    pub dead_letters: u64,
    /// Messages received from clients (counter).
    pub received: u64,
    /// Messages that agents have acknowledged (counter).
    pub delivered: u64,
    /// Agents with a connection.
    pub agents_up: u64,
}

/// The HTTP proxy in short; more stands in its records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ProxyOverview {
    /// Routes in force.
    pub routes: u64,
    /// Requests under way.
    pub in_flight: u64,
}

/// Feature flags as they stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FlagState {
    /// By name.
    pub flags: BTreeMap<String, FlagValue>,
    /// Rises by one with every change.
    pub version: u64,
}

/// A flag: a boolean, or more where there is more to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum FlagValue {
    /// On or off for everybody.
    Plain(bool),
    /// On for a part of the users.
    Rollout(FlagRollout),
}

/// A flag that is on for a part of the users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FlagRollout {
    /// Off means off for everybody.
    pub enabled: bool,
    /// For how many of a hundred users it is on; `None` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentage: Option<u8>,
}

/// What somebody wants to be different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlagChange {
    /// These flags and no others.
    Replace(BTreeMap<String, FlagValue>),
    /// These are set, and those with `None` are removed; the others stay.
    Merge(BTreeMap<String, Option<FlagValue>>),
}

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagsChanged {
    /// The flags as they are now.
    pub state: FlagState,
    /// What differs, for the log.
    pub differences: Vec<String>,
}

/// Why flags were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagRefusal {
    /// Feature flags are off.
    #[error("feature flags are off")]
    Off,
    /// Somebody was faster; these are the flags.
    #[error("the flags are at version {}", .0.version)]
    Changed(FlagState),
    /// They can't be like that.
    #[error("{0}")]
    Invalid(String),
    /// They can't be kept at the moment.
    #[error("{0}")]
    Unavailable(String),
}
