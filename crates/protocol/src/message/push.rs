//! What the server sends without being asked.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::json::Structure;
use super::reply::SubscribeResult;
use super::request::Redacted;

messages! {
    /// Something happened: the one field that is set says what (11.6).
    Push {
        /// Where; empty if it is about the connection.
        [string, tag = "2"] channel: String,
        /// A publication.
        #[serde(rename = "pub")]
        [message, optional, boxed, tag = "4"] publication: Option<Box<Publication>>,
        /// Somebody came.
        [message, optional, boxed, tag = "5"] join: Option<Box<Join>>,
        /// Somebody went.
        [message, optional, boxed, tag = "6"] leave: Option<Box<Leave>>,
        /// The server ended the subscription.
        [message, optional, tag = "7"] unsubscribe: Option<Unsubscribe>,
        /// A message without a channel.
        [message, optional, tag = "8"] message: Option<Message>,
        /// The server subscribed the client.
        [message, optional, boxed, tag = "9"] subscribe: Option<Box<Subscribe>>,
        /// The session is open; for transports that only push.
        [message, optional, boxed, tag = "10"] connect: Option<Box<Connect>>,
        /// The server closes the connection; not sent over WebSocket.
        [message, optional, tag = "11"] disconnect: Option<Disconnect>,
        /// The expiry changed.
        [message, optional, tag = "12"] refresh: Option<Refresh>,
    }

    /// What was published.
    Publication {
        /// As it was published.
        [bytes = "bytes", tag = "4"] data: Bytes,
        /// Who published, if it was a client.
        [message, optional, tag = "5"] info: Option<ClientInfo>,
        /// Its place in the channel's stream; 0 without history.
        [uint64, tag = "6"] offset: u64,
        /// Set by the publisher.
        [btree_map = "string, string", tag = "7"] tags: BTreeMap<String, String>,
        /// The channel, where it is not that of the push (a subscription to a pattern).
        [string, tag = "10"] channel: String,
        /// Which stream `offset` is in; given with offset 1.
        [string, tag = "14"] epoch: String,
    }

    /// Somebody came.
    Join {
        /// Who.
        [message, optional, tag = "1"] info: Option<ClientInfo>,
    }

    /// Somebody went.
    Leave {
        /// Who.
        [message, optional, tag = "1"] info: Option<ClientInfo>,
    }

    /// The server ended a subscription; [`crate::code::UnsubscribeCode`] has the codes.
    Unsubscribe {
        /// The code.
        [uint32, tag = "2"] code: u32,
        /// What it means.
        [string, tag = "3"] reason: String,
    }

    /// A message without a channel.
    Message {
        /// For the application.
        [bytes = "bytes", tag = "1"] data: Bytes,
    }

    /// The server subscribed the client to a channel.
    Subscribe {
        /// Whether the position can be recovered from later.
        [bool, tag = "1"] recoverable: bool,
        /// Which stream `offset` is in.
        [string, tag = "4"] epoch: String,
        /// The stream's top.
        [uint64, tag = "5"] offset: u64,
        /// Whether the server watches the position.
        [bool, tag = "6"] positioned: bool,
        /// For the application.
        [bytes = "bytes", tag = "7"] data: Bytes,
    }

    /// The session is open; the fields are those of
    /// [`ConnectResult`](super::ConnectResult) under other numbers.
    #[prost(skip_debug)]
    Connect {
        /// The connection's id.
        [string, tag = "1"] client: String,
        /// Of the server.
        [string, tag = "2"] version: String,
        /// For the application.
        [bytes = "bytes", tag = "3"] data: Bytes,
        /// All server-side subscriptions, by channel.
        [btree_map = "string, message", tag = "4"] subs: BTreeMap<String, SubscribeResult>,
        /// Whether the token expires.
        [bool, tag = "5"] expires: bool,
        /// Until then, in seconds.
        [uint32, tag = "6"] ttl: u32,
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

    /// The server closes the connection; [`crate::code::Disconnect`] has the codes.
    Disconnect {
        /// The code.
        [uint32, tag = "1"] code: u32,
        /// What it means.
        [string, tag = "2"] reason: String,
        /// Unused by SDKs, which go by the code.
        [bool, tag = "3"] reconnect: bool,
    }

    /// The connection's expiry changed.
    #[derive(Copy)]
    Refresh {
        /// Whether it expires.
        [bool, tag = "1"] expires: bool,
        /// Until then, in seconds.
        [uint32, tag = "2"] ttl: u32,
    }
}

/// Who a client is, as others may see it.
///
/// In JSON `user` and `client` are always written: an anonymous user is `""` (11.2).
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientInfo {
    /// The user; empty means anonymous.
    #[prost(string, tag = "1")]
    pub user: String,
    /// The connection's id.
    #[prost(string, tag = "2")]
    pub client: String,
    /// About the connection.
    #[prost(bytes = "bytes", tag = "3")]
    #[serde(
        serialize_with = "super::json::write",
        deserialize_with = "super::json::read",
        skip_serializing_if = "super::json::is_absent"
    )]
    pub conn_info: Bytes,
    /// About the connection in this channel.
    #[prost(bytes = "bytes", tag = "4")]
    #[serde(
        serialize_with = "super::json::write",
        deserialize_with = "super::json::read",
        skip_serializing_if = "super::json::is_absent"
    )]
    pub chan_info: Bytes,
}

impl Structure for ClientInfo {}

impl fmt::Debug for Connect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connect")
            .field("client", &self.client)
            .field("version", &self.version)
            .field("data", &self.data)
            .field("subs", &self.subs)
            .field("expires", &self.expires)
            .field("ttl", &self.ttl)
            .field("ping", &self.ping)
            .field("pong", &self.pong)
            .field("session", &Redacted::of(&self.session))
            .field("node", &self.node)
            .field("time", &self.time)
            .finish()
    }
}
