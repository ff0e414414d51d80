//! What clients send.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

messages! {
    /// One command of a client; a command with nothing set answers a ping.
    ///
    /// If several requests are set, the first in the order of the fields counts.
    Command {
        /// Repeated in the reply; 0 only for `send` and the answer to a ping.
        [uint32, tag = "1"] id: u32,
        /// Opens the session.
        [message, optional, boxed, tag = "4"] connect: Option<Box<ConnectRequest>>,
        /// Joins a channel.
        [message, optional, boxed, tag = "5"] subscribe: Option<Box<SubscribeRequest>>,
        /// Leaves a channel.
        [message, optional, tag = "6"] unsubscribe: Option<UnsubscribeRequest>,
        /// Publishes into a channel.
        [message, optional, tag = "7"] publish: Option<PublishRequest>,
        /// Asks who is in a channel.
        [message, optional, tag = "8"] presence: Option<PresenceRequest>,
        /// Asks how many are in a channel.
        [message, optional, tag = "9"] presence_stats: Option<PresenceStatsRequest>,
        /// Asks for a channel's stream.
        [message, optional, tag = "10"] history: Option<HistoryRequest>,
        /// A ping by command; not offered.
        [message, optional, tag = "11"] ping: Option<PingRequest>,
        /// A message without answer.
        [message, optional, tag = "12"] send: Option<SendRequest>,
        /// A call.
        [message, optional, tag = "13"] rpc: Option<RpcRequest>,
        /// Brings a new connection token.
        [message, optional, tag = "14"] refresh: Option<RefreshRequest>,
        /// Brings a new subscription token.
        [message, optional, tag = "15"] sub_refresh: Option<SubRefreshRequest>,
    }

    /// Opens the session (11.5).
    #[prost(skip_debug)]
    ConnectRequest {
        /// A connection token (JWT); empty for none.
        [string, tag = "1"] token: String,
        /// For the application.
        [bytes = "bytes", tag = "2"] data: Bytes,
        /// Server-side channels the client knows, each with its position.
        [btree_map = "string, message", tag = "3"] subs: BTreeMap<String, SubscribeRequest>,
        /// Of the client, for statistics.
        [string, tag = "4"] name: String,
        /// Of the client, for statistics.
        [string, tag = "5"] version: String,
        /// What a client that can't set headers would have set; not trustworthy.
        [btree_map = "string, string", tag = "6"] headers: BTreeMap<String, String>,
    }

    /// Joins a channel, perhaps from a known position (11.5).
    #[prost(skip_debug)]
    SubscribeRequest {
        /// The channel.
        [string, tag = "1"] channel: String,
        /// A subscription token (JWT); empty for none.
        [string, tag = "2"] token: String,
        /// Asks for what was missed since `epoch` and `offset`.
        [bool, tag = "3"] recover: bool,
        /// Which stream `offset` is in.
        [string, tag = "6"] epoch: String,
        /// The last publication seen.
        [uint64, tag = "7"] offset: u64,
        /// For the application.
        [bytes = "bytes", tag = "8"] data: Bytes,
        /// Asks the server to watch the position.
        [bool, tag = "9"] positioned: bool,
        /// Asks for a position to recover from later.
        [bool, tag = "10"] recoverable: bool,
        /// Asks for join and leave pushes.
        [bool, tag = "11"] join_leave: bool,
        /// The kind of delta asked for; not offered, but its name is checked.
        [string, tag = "12"] delta: String,
        /// A filter by tags; seen only to be refused.
        [message, optional, tag = "13"] tf: Option<FilterNode>,
        /// Bits; 2 turns "not recovered" into error 112, 1 has no meaning here.
        [int64, tag = "14"] flag: i64,
        /// The kind of subscription; seen only to refuse all but 0.
        [int32, tag = "15"] r#type: i32,
    }

    /// A filter by tags; what it says is not looked at.
    #[derive(Copy)]
    FilterNode {}

    /// Leaves a channel.
    UnsubscribeRequest {
        /// The channel.
        [string, tag = "1"] channel: String,
    }

    /// Publishes into a channel.
    PublishRequest {
        /// The channel.
        [string, tag = "1"] channel: String,
        /// What is published.
        [bytes = "bytes", tag = "2"] data: Bytes,
    }

    /// Asks who is in a channel.
    PresenceRequest {
        /// The channel.
        [string, tag = "1"] channel: String,
    }

    /// Asks how many are in a channel.
    PresenceStatsRequest {
        /// The channel.
        [string, tag = "1"] channel: String,
    }

    /// Asks for a channel's stream (11.5).
    HistoryRequest {
        /// The channel.
        [string, tag = "1"] channel: String,
        /// Most publications wanted: 0 for the position only, -1 for all.
        [int32, tag = "7"] limit: i32,
        /// Where to start, exclusive in either direction.
        [message, optional, tag = "8"] since: Option<StreamPosition>,
        /// From new to old.
        [bool, tag = "9"] reverse: bool,
    }

    /// A place in a channel's stream.
    StreamPosition {
        /// Rises by one with each publication, from 1.
        [uint64, tag = "1"] offset: u64,
        /// Which stream it is; a stream made anew has another.
        [string, tag = "2"] epoch: String,
    }

    /// A ping by command.
    #[derive(Copy)]
    PingRequest {}

    /// A message without answer.
    SendRequest {
        /// For the application.
        [bytes = "bytes", tag = "1"] data: Bytes,
    }

    /// A call.
    RpcRequest {
        /// For the method.
        [bytes = "bytes", tag = "1"] data: Bytes,
        /// Which method.
        [string, tag = "2"] method: String,
    }

    /// Brings a new connection token.
    #[prost(skip_debug)]
    RefreshRequest {
        /// The token.
        [string, tag = "1"] token: String,
    }

    /// Brings a new subscription token.
    #[prost(skip_debug)]
    SubRefreshRequest {
        /// The channel.
        [string, tag = "1"] channel: String,
        /// The token.
        [string, tag = "2"] token: String,
    }
}

/// Carries commands over HTTP, for transports that only push (11.15).
///
/// In JSON `data` is a text that holds the commands, not a JSON value: read it with
/// [`crate::codec::decode_emulation`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct EmulationRequest {
    /// The node that holds the session.
    #[prost(string, tag = "1")]
    pub node: String,
    /// The session's secret.
    #[prost(string, tag = "2")]
    pub session: String,
    /// A frame of commands.
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
}

// Tokens, and headers that may carry them, are never printed.

impl fmt::Debug for ConnectRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ConnectRequest")
            .field("token", &Redacted::of(&self.token))
            .field("data", &self.data)
            .field("subs", &self.subs)
            .field("name", &self.name)
            .field("version", &self.version)
            .field("headers", &self.headers.keys())
            .finish()
    }
}

impl fmt::Debug for SubscribeRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SubscribeRequest")
            .field("channel", &self.channel)
            .field("token", &Redacted::of(&self.token))
            .field("recover", &self.recover)
            .field("epoch", &self.epoch)
            .field("offset", &self.offset)
            .field("data", &self.data)
            .field("positioned", &self.positioned)
            .field("recoverable", &self.recoverable)
            .field("join_leave", &self.join_leave)
            .field("delta", &self.delta)
            .field("tf", &self.tf)
            .field("flag", &self.flag)
            .field("type", &self.r#type)
            .finish()
    }
}

impl fmt::Debug for RefreshRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RefreshRequest")
            .field("token", &Redacted::of(&self.token))
            .finish()
    }
}

impl fmt::Debug for SubRefreshRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SubRefreshRequest")
            .field("channel", &self.channel)
            .field("token", &Redacted::of(&self.token))
            .finish()
    }
}

impl fmt::Debug for EmulationRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EmulationRequest")
            .field("node", &self.node)
            .field("session", &Redacted::of(&self.session))
            .field("data_len", &self.data.len())
            .finish()
    }
}

/// Stands for a secret in debug output: whether there is one, not what it is.
pub(super) enum Redacted {
    Absent,
    Present,
}

impl Redacted {
    pub(super) fn of(secret: &str) -> Self {
        if secret.is_empty() {
            Self::Absent
        } else {
            Self::Present
        }
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Absent => "\"\"",
            Self::Present => "[redacted]",
        })
    }
}
