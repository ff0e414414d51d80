//! What this crate asks of the gateway.
//!
//! Two faces with one implementation, in the assembly: [`Control`] is what backends may do
//! through the server API, [`Operator`] what people may do through `/admin`. Calls act on
//! every node. Implementations check channel names and namespaces; required fields,
//! Base64 and the shape of disconnect codes have been checked here.

mod console;
mod proxies;
mod relay;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use protocol::claims::Overrides;
use protocol::code::Disconnect;
use protocol::message::{ClientInfo, StreamPosition};

use crate::error::{ApiError, OperatorError};

pub use console::{
    BusOverview, Console, FlagChange, FlagRefusal, FlagRollout, FlagState, FlagValue, FlagsChanged,
    Overview, ProxyOverview, RelayOverview,
};
pub use proxies::{
    Proxies, ProxyAccess, ProxyChange, ProxyEndpoint, ProxyError, ProxyExplanation, ProxyLimiter,
    ProxyProblem, ProxyRecord, ProxyRouteMatch, ProxySecret, SecretValue,
};
pub use relay::{
    DeadLetter, RelayAgent, RelayAnswers, RelayClients, RelayDead, RelayHeld, RelayLinks,
    RelayMessages, RelayOperator, RelayOutbox, RelayRefused, RelayRoute, RelayRule, RelaySummary,
};

/// The server API's view of the gateway (`contracts`: centrifuge 11.14).
///
/// "No connection matches" is success. Channel permissions do not apply.
pub trait Control: Send + Sync + 'static {
    /// Publishes; the position is `None` where the channel keeps no history, the option
    /// says to skip it, or the version was not newer (then nothing was sent).
    fn publish(
        &self,
        channel: &str,
        data: Bytes,
        options: PublishOptions,
    ) -> impl Future<Output = Result<Option<StreamPosition>, ApiError>> + Send;

    /// Subscribes the selected connections, server-side. One that is subscribed already
    /// stays so, without an error.
    fn subscribe(
        &self,
        selector: Selector,
        channel: &str,
        options: SubscribeOptions,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// Unsubscribes the selected connections with 2000.
    fn unsubscribe(
        &self,
        selector: Selector,
        channel: &str,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// Closes the selected connections, but not those whose client id is in `whitelist`.
    fn disconnect(
        &self,
        selector: Selector,
        whitelist: Vec<String>,
        disconnect: Disconnect,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// Sets when the selected connections expire.
    fn refresh(
        &self,
        selector: Selector,
        options: RefreshOptions,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// Who is in the channel, by client id.
    fn presence(
        &self,
        channel: &str,
    ) -> impl Future<Output = Result<BTreeMap<String, ClientInfo>, ApiError>> + Send;

    /// How many are in the channel.
    fn presence_stats(
        &self,
        channel: &str,
    ) -> impl Future<Output = Result<PresenceStats, ApiError>> + Send;

    /// Reads the channel's stream.
    fn history(
        &self,
        channel: &str,
        query: HistoryQuery,
    ) -> impl Future<Output = Result<History, ApiError>> + Send;

    /// Removes the stream's publications; its position stays.
    fn history_remove(&self, channel: &str) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// Channels with subscribers whose name matches the glob, with their number of
    /// clients. An empty pattern matches all.
    fn channels(
        &self,
        pattern: &str,
    ) -> impl Future<Output = Result<BTreeMap<String, u64>, ApiError>> + Send;

    /// The nodes that make up the gateway.
    fn info(&self) -> impl Future<Output = Result<Vec<Node>, ApiError>> + Send;
}

/// The operators' view of the gateway.
pub trait Operator: Send + Sync + 'static {
    /// The operators' view of the relay.
    type Relay: RelayOperator;

    /// The relay; `None` where it is off.
    fn relay(&self) -> Option<Self::Relay>;

    /// The operators' view of the HTTP proxy.
    type Proxies: Proxies;

    /// The HTTP proxy; `None` where it is off.
    fn proxies(&self) -> Option<Self::Proxies>;

    /// What the console asks beside.
    type Console: Console;

    /// The gateway as the console sees it.
    fn console(&self) -> Self::Console;

    /// Open connections in the order of their client id: those after `page.after` that the
    /// filter lets through, at most `page.limit`.
    fn connections(
        &self,
        filter: ConnectionFilter,
        page: Page,
    ) -> impl Future<Output = Result<Vec<Connection>, OperatorError>> + Send;

    /// One connection, with its channels.
    fn connection(
        &self,
        client: &str,
    ) -> impl Future<Output = Result<Option<ConnectionDetail>, OperatorError>> + Send;

    /// Closes one connection; `false` if there is none of that id.
    fn close(
        &self,
        client: &str,
        disconnect: Disconnect,
    ) -> impl Future<Output = Result<bool, OperatorError>> + Send;

    /// What is revoked now.
    fn revocations(&self) -> impl Future<Output = Result<Vec<Revocation>, OperatorError>> + Send;

    /// Revokes, and closes the live connections concerned within 2 s.
    fn revoke(
        &self,
        request: RevocationRequest,
    ) -> impl Future<Output = Result<Revocation, OperatorError>> + Send;

    /// Takes a revocation back; `false` if there was none.
    fn reinstate(
        &self,
        subject: RevokedSubject,
    ) -> impl Future<Output = Result<bool, OperatorError>> + Send;

    /// Reads the configuration again; whole or not at all.
    fn reload(&self) -> impl Future<Output = Result<Reloaded, OperatorError>> + Send;

    /// Starts the drain and returns; asking twice changes nothing.
    fn drain(&self) -> impl Future<Output = Result<(), OperatorError>> + Send;

    /// The configuration in force, secrets redacted.
    fn config(&self) -> impl Future<Output = Result<serde_json::Value, OperatorError>> + Send;
}

/// Which connections a call means: all of a user, or fewer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// The user; empty means the anonymous connections.
    pub user: String,
    /// Only the connection of this client id.
    pub client: Option<String>,
    /// Only the connection of this session id.
    pub session: Option<String>,
}

/// How to publish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublishOptions {
    /// Sends without keeping.
    pub skip_history: bool,
    /// Delivered with the publication.
    pub tags: BTreeMap<String, String>,
    /// The same key in the same channel within 5 minutes publishes once and answers with
    /// the first position.
    pub idempotency_key: Option<String>,
    /// A publication whose version is not above the last one's is dropped; 0 is no version.
    pub version: u64,
    /// Versions are compared within one epoch.
    pub version_epoch: String,
}

/// How to subscribe.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubscribeOptions {
    /// What others see about the subscriber in this channel; empty means nothing.
    pub info: Bytes,
    /// Given to the client with the subscription; empty means nothing.
    pub data: Bytes,
    /// Publications after this position are sent after the subscribe push.
    pub recover_since: Option<StreamPosition>,
    /// When the subscription expires, in Unix seconds; `None` means never.
    pub expire_at: Option<u64>,
    /// Channel options this subscription sets for itself.
    pub overrides: Overrides,
}

/// What to change about a connection's life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefreshOptions {
    /// Closes the connection as expired (3005).
    pub expired: bool,
    /// When it expires, in Unix seconds; `None` means never.
    pub expire_at: Option<u64>,
    /// Replaces what others see about the connection; `None` leaves it.
    pub info: Option<Bytes>,
}

/// How many are in a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PresenceStats {
    /// Connections.
    pub clients: u64,
    /// Different users among them.
    pub users: u64,
}

/// Which part of a stream to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryQuery {
    /// How many publications at most.
    pub limit: HistoryLimit,
    /// Only what comes after (before, if `reverse`) this position. A position of another
    /// epoch, or one that has left the stream, is [`ApiError::UnrecoverablePosition`].
    pub since: Option<StreamPosition>,
    /// Newest first.
    pub reverse: bool,
}

/// How many publications to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HistoryLimit {
    /// None: only the stream's position.
    #[default]
    PositionOnly,
    /// At most so many; the client limits of the configuration do not apply.
    AtMost(u32),
    /// All.
    All,
}

/// A part of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// In the order asked for.
    pub publications: Vec<Publication>,
    /// The stream's top position.
    pub top: StreamPosition,
}

/// One kept publication.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publication {
    /// JSON or any bytes.
    pub data: Bytes,
    /// Who published, if a client did.
    pub info: Option<ClientInfo>,
    /// Its offset in the stream.
    pub offset: u64,
    /// Tags given by the publisher.
    pub tags: BTreeMap<String, String>,
}

/// One process of the gateway.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// Unique, and new with every start.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Connections.
    pub clients: u64,
    /// Different users among them.
    pub users: u64,
    /// Channels with subscribers.
    pub channels: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Time since the start.
    pub uptime: Duration,
}

/// Where a page of connections begins and how long it may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The last client id of the page before; `None` for the first page.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// Which connections to list; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionFilter {
    /// Of this user; `Some("")` means anonymous.
    pub user: Option<String>,
    /// From this address, without port.
    pub address: Option<std::net::IpAddr>,
    /// Subscribed to this channel.
    pub channel: Option<String>,
    /// With this text in client id, user or address, whatever its case.
    pub search: Option<String>,
}

/// One open connection. It holds no token, and no payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The client id.
    pub client: String,
    /// The user; empty means anonymous.
    pub user: String,
    /// The client's address, as the access rules see it.
    pub address: std::net::IpAddr,
    /// `websocket`, `http_stream` or `sse`.
    pub transport: &'static str,
    /// `json` or `protobuf`.
    pub encoding: &'static str,
    /// What the client speaks: `centrifuge`, `stratix` or `live`.
    pub dialect: &'static str,
    /// When it was accepted, in Unix seconds.
    pub connected_at: u64,
    /// How many channels it is subscribed to.
    pub channels: usize,
    /// Bytes waiting to be sent to it.
    pub queue_bytes: usize,
}

/// One open connection and more about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionDetail {
    /// What the list shows.
    pub connection: Connection,
    /// When it expires, in Unix seconds; `None` means never.
    pub expires_at: Option<u64>,
    /// The channels it is subscribed to.
    pub channels: Vec<String>,
}

/// Whose tokens are revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevokedSubject {
    /// All tokens of a user issued before the revocation.
    User(String),
    /// One token by its id (`jti`).
    TokenId(String),
}

impl std::fmt::Display for RevokedSubject {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(user) => write!(formatter, "user {user:?}"),
            Self::TokenId(id) => write!(formatter, "token {id:?}"),
        }
    }
}

/// A revocation to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationRequest {
    /// Whose tokens.
    pub subject: RevokedSubject,
    /// How long it is kept; it should outlast the longest token.
    pub expiry: RevocationExpiry,
    /// Why, for whoever reads the list.
    pub reason: Option<String>,
}

/// How long a revocation is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationExpiry {
    /// 30 days.
    Default,
    /// So long from now.
    In(Duration),
    /// Until a time in Unix seconds; one in the past is [`OperatorError::Refused`].
    At(u64),
}

/// A revocation in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Whose tokens.
    pub subject: RevokedSubject,
    /// For a user: tokens issued before this time, in Unix seconds, are refused, and
    /// those that don't say when they were issued.
    pub issued_before: Option<u64>,
    /// When the entry goes away, in Unix seconds.
    pub expires_at: u64,
    /// Why, if somebody said so.
    pub reason: Option<String>,
}

/// What a reload did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys whose new value is in force, and files whose new content is.
    pub changed: Vec<String>,
    /// Keys that changed in the file but need a restart; the old value stays.
    pub restart_needed: Vec<String>,
}
