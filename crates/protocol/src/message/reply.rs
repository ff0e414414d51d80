//! What the server answers.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::json::Structure;
use super::push::{ClientInfo, Publication, Push};
use super::request::Redacted;

messages! {
    /// One message of the server: the answer to a command, a push (no `id`), or a ping
    /// (nothing set).
    Reply {
        /// That of the command it answers; 0 for pushes and pings.
        [uint32, tag = "1"] id: u32,
        /// The command failed.
        [message, optional, tag = "2"] error: Option<Error>,
        /// Something happened that was not asked for.
        [message, optional, boxed, tag = "4"] push: Option<Box<Push>>,
        /// Answer to connect.
        [message, optional, boxed, tag = "5"] connect: Option<Box<ConnectResult>>,
        /// Answer to subscribe.
        [message, optional, boxed, tag = "6"] subscribe: Option<Box<SubscribeResult>>,
        /// Answer to unsubscribe.
        [message, optional, tag = "7"] unsubscribe: Option<UnsubscribeResult>,
        /// Answer to publish.
        [message, optional, tag = "8"] publish: Option<PublishResult>,
        /// Answer to presence.
        [message, optional, tag = "9"] presence: Option<PresenceResult>,
        /// Answer to presence_stats.
        [message, optional, tag = "10"] presence_stats: Option<PresenceStatsResult>,
        /// Answer to history.
        [message, optional, tag = "11"] history: Option<HistoryResult>,
        /// Answer to a ping by command.
        [message, optional, tag = "12"] ping: Option<PingResult>,
        /// Answer to rpc.
        [message, optional, tag = "13"] rpc: Option<RpcResult>,
        /// Answer to refresh.
        [message, optional, tag = "14"] refresh: Option<RefreshResult>,
        /// Answer to sub_refresh.
        [message, optional, tag = "15"] sub_refresh: Option<SubRefreshResult>,
    }

    /// Why a command failed; [`crate::code::ErrorCode`] has the codes.
    Error {
        /// The code.
        [uint32, tag = "1"] code: u32,
        /// What it means.
        [string, tag = "2"] message: String,
        /// Whether it may work if tried again.
        [bool, tag = "3"] temporary: bool,
    }

    /// The session is open (11.5).
    #[prost(skip_debug)]
    ConnectResult {
        /// The connection's id.
        [string, tag = "1"] client: String,
        /// Of the server.
        [string, tag = "2"] version: String,
        /// Whether the client must refresh its token.
        [bool, tag = "3"] expires: bool,
        /// Until then, in seconds.
        [uint32, tag = "4"] ttl: u32,
        /// For the application.
        [bytes = "bytes", tag = "5"] data: Bytes,
        /// All server-side subscriptions, by channel.
        [btree_map = "string, message", tag = "6"] subs: BTreeMap<String, SubscribeResult>,
        /// How often the server pings, in seconds; 0 for never.
        [uint32, tag = "7"] ping: u32,
        /// Whether the client must answer pings.
        [bool, tag = "8"] pong: bool,
        /// The session's secret, for emulation (11.15).
        [string, tag = "9"] session: String,
        /// The node's id, for emulation.
        [string, tag = "10"] node: String,
        /// The server's clock in Unix milliseconds, if configured.
        [int64, tag = "11"] time: i64,
    }

    /// The client is in the channel (11.5, 11.11).
    SubscribeResult {
        /// Whether the client must refresh the subscription token.
        [bool, tag = "1"] expires: bool,
        /// Until then, in seconds.
        [uint32, tag = "2"] ttl: u32,
        /// Whether the position can be recovered from later.
        [bool, tag = "3"] recoverable: bool,
        /// Which stream `offset` is in.
        [string, tag = "6"] epoch: String,
        /// What was missed, oldest first.
        [message, repeated, tag = "7"] publications: Vec<Publication>,
        /// Whether nothing is missing.
        [bool, tag = "8"] recovered: bool,
        /// The request's if recovered, else the stream's top.
        [uint64, tag = "9"] offset: u64,
        /// Whether the server watches the position.
        [bool, tag = "10"] positioned: bool,
        /// For the application.
        [bytes = "bytes", tag = "11"] data: Bytes,
        /// Whether recovery was asked for.
        [bool, tag = "12"] was_recovering: bool,
    }

    /// The client is not in the channel.
    #[derive(Copy)]
    UnsubscribeResult {}

    /// The publication was accepted.
    #[derive(Copy)]
    PublishResult {}

    /// Answers a ping by command.
    #[derive(Copy)]
    PingResult {}

    /// What the method answered.
    RpcResult {
        /// For the application.
        [bytes = "bytes", tag = "1"] data: Bytes,
    }

    /// The connection goes on.
    RefreshResult {
        /// The connection's id.
        [string, tag = "1"] client: String,
        /// Of the server.
        [string, tag = "2"] version: String,
        /// Whether the client must refresh again.
        [bool, tag = "3"] expires: bool,
        /// Until then, in seconds.
        [uint32, tag = "4"] ttl: u32,
    }

    /// The subscription goes on.
    #[derive(Copy)]
    SubRefreshResult {
        /// Whether the client must refresh again.
        [bool, tag = "1"] expires: bool,
        /// Until then, in seconds.
        [uint32, tag = "2"] ttl: u32,
    }
}

// The answers below are written in full in JSON: SDKs and applications read their
// fields without asking whether they are there (11.2).

/// Who is in a channel.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct PresenceResult {
    /// By connection id.
    #[prost(btree_map = "string, message", tag = "1")]
    pub presence: BTreeMap<String, ClientInfo>,
}

/// How many are in a channel.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct PresenceStatsResult {
    /// Connections.
    #[prost(uint32, tag = "1")]
    pub num_clients: u32,
    /// Users.
    #[prost(uint32, tag = "2")]
    pub num_users: u32,
}

/// A channel's stream, or a part of it.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryResult {
    /// In the order asked for.
    #[prost(message, repeated, tag = "1")]
    pub publications: Vec<Publication>,
    /// Which stream it is.
    #[prost(string, tag = "2")]
    pub epoch: String,
    /// The stream's top.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
}

impl Structure for PresenceResult {}
impl Structure for PresenceStatsResult {}
impl Structure for HistoryResult {}

impl fmt::Debug for ConnectResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ConnectResult")
            .field("client", &self.client)
            .field("version", &self.version)
            .field("expires", &self.expires)
            .field("ttl", &self.ttl)
            .field("data", &self.data)
            .field("subs", &self.subs)
            .field("ping", &self.ping)
            .field("pong", &self.pong)
            .field("session", &Redacted::of(&self.session))
            .field("node", &self.node)
            .field("time", &self.time)
            .finish()
    }
}
