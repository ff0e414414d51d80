//! What a session asks of its owner, and the answers.

use std::sync::Arc;

use bytes::Bytes;

use super::{Subscription, Via};
use crate::channel::Channel;
use crate::claims::{ConnectionClaims, SubscriptionClaims, TokenError};
use crate::code::{Disconnect, ErrorCode};
use crate::message::{
    ClientInfo, Error, HistoryResult, PresenceResult, PresenceStatsResult, Publication, Reply,
    StreamPosition,
};
use crate::settings::{RecoveryMode, ResolvedOptions};

/// What the owner has to do, in order.
#[derive(Debug)]
pub enum Output {
    /// Encode it and put it in the control lane.
    Reply(Reply),
    /// Carry it out and call `resume` with the answer.
    Request(Request),
    /// Send a WebSocket ping.
    Ping,
    /// The session of a client that was known before the upgrade has begun.
    Begun,
    /// Hand a message to the client's agent and call `told` with what became of it. The
    /// session goes on meanwhile.
    Submit {
        /// The command to be answered.
        via: Via,
        /// The message object, or a JSON string.
        data: Bytes,
    },
    /// Publish that this client joined.
    Join {
        /// Where.
        channel: Channel,
        /// Who, as others see it.
        info: Arc<ClientInfo>,
    },
    /// Leave a channel: routing, queued publications, presence, leave message.
    Leave(Subscription),
    /// Send what is queued, then close with this code.
    Close(Disconnect),
}

/// A question that may take a while.
#[derive(Debug)]
pub enum Request {
    /// Check a connection token.
    Authenticate {
        /// The token.
        token: String,
    },
    /// Check a subscription token.
    AuthorizeSubscription {
        /// The token.
        token: String,
    },
    /// Make the connection known under its user, if the user's limit allows.
    Register {
        /// Closes the user's other connections with 3504.
        single_connection: bool,
    },
    /// Subscribe, and recover if asked to.
    Subscribe(SubscribeAsk),
    /// Publish.
    Publish {
        /// Where.
        channel: Channel,
        /// What.
        data: Bytes,
        /// By whom.
        info: Arc<ClientInfo>,
        /// Channel options, for history.
        options: Arc<ResolvedOptions>,
    },
    /// Ask whoever serves a subject.
    Call {
        /// The subject, written as a channel.
        subject: Channel,
        /// What is asked.
        data: Bytes,
    },
    /// Ask the service that a method is bound to.
    CallService {
        /// The method.
        method: Arc<str>,
        /// What is asked, as the client's encoding has it.
        data: Bytes,
    },
    /// Read history.
    History(HistoryAsk),
    /// Read who is there.
    Presence {
        /// Where.
        channel: Channel,
    },
    /// Count who is there.
    PresenceStats {
        /// Where.
        channel: Channel,
    },
}

/// Details of [`Request::Subscribe`].
#[derive(Debug, Clone)]
pub struct SubscribeAsk {
    /// The channel, or a pattern if `wildcard`.
    pub channel: Channel,
    /// The channel is a subject pattern.
    pub wildcard: bool,
    /// Positions are checked, and a gap is reported.
    pub positioned: bool,
    /// Join and leave are pushed to this subscriber.
    pub join_leave_pushes: bool,
    /// Kept in presence under this information.
    pub presence: Option<Arc<ClientInfo>>,
    /// What was missed is wanted.
    pub recover: Option<Recover>,
    /// Channel options.
    pub options: Arc<ResolvedOptions>,
    /// Most publications recovered.
    pub recovery_max: usize,
}

/// From where to recover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recover {
    /// The last position the client has seen.
    pub since: StreamPosition,
    /// How.
    pub mode: RecoveryMode,
}

/// Details of [`Request::History`].
#[derive(Debug, Clone)]
pub struct HistoryAsk {
    /// The channel.
    pub channel: Channel,
    /// Channel options.
    pub options: Arc<ResolvedOptions>,
    /// Exclusive start.
    pub since: Option<StreamPosition>,
    /// Most publications returned; 0 means the position only.
    pub limit: usize,
    /// Newest first.
    pub reverse: bool,
}

/// The answer to a [`Request`], of the same kind.
#[derive(Debug)]
pub enum Response {
    /// To [`Request::Authenticate`].
    Authenticated(Result<ConnectionClaims, TokenError>),
    /// To [`Request::AuthorizeSubscription`].
    SubscriptionAuthorized(Result<SubscriptionClaims, TokenError>),
    /// To [`Request::Register`]; `false` means the user's limit is reached.
    Registered(bool),
    /// To [`Request::Subscribe`].
    Subscribed(Result<Subscribed, ErrorCode>),
    /// To [`Request::Publish`].
    Published(Result<Published, ErrorCode>),
    /// To [`Request::Call`] and [`Request::CallService`].
    Called(Result<Bytes, Error>),
    /// To [`Request::History`].
    History(Result<HistoryResult, ErrorCode>),
    /// To [`Request::Presence`].
    Presence(Result<PresenceResult, ErrorCode>),
    /// To [`Request::PresenceStats`].
    PresenceStats(Result<PresenceStatsResult, ErrorCode>),
}

/// What subscribing came to.
#[derive(Debug, Clone, Default)]
pub struct Subscribed {
    /// The stream's position; `None` without one.
    pub top: Option<StreamPosition>,
    /// The publications after the position asked for, ascending, at most one more
    /// than `recovery_max`; in cache mode the latest only.
    pub publications: Vec<Publication>,
}

/// The bus has accepted a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published;
