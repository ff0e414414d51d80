//! What a verified token says, whoever verified it.

use bytes::Bytes;

use crate::subjects::Subjects;

/// What a connection token says (`contracts`: centrifuge 11.12).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConnectionClaims {
    /// The user; empty means anonymous.
    pub user: String,
    /// When the *connection* expires, in Unix seconds; `None` means never.
    pub expires_at: Option<u64>,
    /// When the token was issued, in Unix seconds, if it says so.
    pub issued_at: Option<u64>,
    /// The token's id (`jti`), for revocation.
    pub token_id: Option<String>,
    /// What others may see about the connection: JSON or any bytes.
    pub info: Bytes,
    /// Server-side subscriptions, in the token's order.
    pub subs: Vec<ServerSubscription>,
    /// All that the connection may have; `None` leaves that to the namespaces alone.
    pub subjects: Option<Subjects>,
}

/// A server-side subscription that a token grants.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerSubscription {
    /// The channel.
    pub channel: String,
    /// What others may see about the subscriber in this channel.
    pub info: Bytes,
    /// Given to the client with the subscription.
    pub data: Bytes,
    /// Channel options this subscription sets for itself.
    pub overrides: Overrides,
}

/// What a subscription token says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubscriptionClaims {
    /// The user it was issued to.
    pub user: String,
    /// The channel it is for.
    pub channel: String,
    /// The client id it is bound to, if any.
    pub client: Option<String>,
    /// When the subscription expires, in Unix seconds; `None` means never.
    pub expires_at: Option<u64>,
    /// When the token was issued, in Unix seconds, if it says so.
    pub issued_at: Option<u64>,
    /// The token's id (`jti`), for revocation.
    pub token_id: Option<String>,
    /// What others may see about the subscriber in this channel.
    pub info: Bytes,
    /// Given to the client with the subscription.
    pub data: Bytes,
    /// Channel options this subscription sets for itself.
    pub overrides: Overrides,
}

/// Channel options that a token may set for one subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Replaces `presence`.
    pub presence: Option<bool>,
    /// Replaces `join_leave`.
    pub join_leave: Option<bool>,
    /// Replaces `force_push_join_leave`.
    pub force_push_join_leave: Option<bool>,
    /// Replaces `force_positioning`.
    pub force_positioning: Option<bool>,
    /// Replaces `force_recovery`.
    pub force_recovery: Option<bool>,
}

/// Why a token was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Its time has passed, or has not come yet (`nbf`).
    #[error("token has expired or is not valid yet")]
    Expired,
    /// It is not a token we accept; the text says why, for the log.
    #[error("token is not valid: {0}")]
    Invalid(String),
    /// It was revoked by an operator.
    #[error("token was revoked")]
    Revoked,
    /// The keys to check it with can't be had at the moment.
    #[error("keys to check the token are not available: {0}")]
    Unavailable(String),
}
