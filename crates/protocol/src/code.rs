//! The numbers that clients act on, in one place: errors, disconnects, unsubscribes and
//! WebSocket close codes (`contracts`: centrifuge 11.8 to 11.10; RFC 6455 7.4.1).
//!
//! The tables are closed. The reference page is rendered from them
//! ([`reference_markdown`]), so that server and documentation cannot drift apart.

mod reference;

use std::borrow::Cow;

use crate::message;

pub use reference::reference_markdown;

/// Declares [`ErrorCode`] and what hangs on its variants.
macro_rules! errors {
    ($($(#[$about:meta])* $name:ident = $code:literal $message:literal $temporary:literal, $meaning:literal;)+) => {
        /// Why a command failed; carried by an error reply, the connection goes on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $(
                #[doc = concat!($code, " \"", $message, "\": ", $meaning, ".")]
                $name,
            )+
        }

        impl ErrorCode {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The number on the wire.
            pub const fn code(self) -> u32 {
                match self { $(Self::$name => $code),+ }
            }

            /// The text on the wire.
            pub const fn message(self) -> &'static str {
                match self { $(Self::$name => $message),+ }
            }

            /// Whether SDKs may try again without being told.
            pub const fn temporary(self) -> bool {
                match self { $(Self::$name => $temporary),+ }
            }

            const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning),+ }
            }
        }
    };
}

errors! {
    Internal = 100 "internal server error" true, "the server failed, not the client";
    Unauthorized = 101 "unauthorized" false, "reserved by the protocol and never sent";
    UnknownChannel = 102 "unknown channel" false, "the channel's namespace is not configured";
    PermissionDenied = 103 "permission denied" false, "the client may not do this";
    MethodNotFound = 104 "method not found" false, "no such rpc method";
    AlreadySubscribed = 105 "already subscribed" false,
        "the connection is in the channel already, by itself or by the server";
    LimitExceeded = 106 "limit exceeded" false, "the connection is in as many channels as it may be";
    BadRequest = 107 "bad request" false, "the command makes no sense, or its data is not allowed";
    NotAvailable = 108 "not available" false, "the feature is not enabled for the channel or the server";
    TokenExpired = 109 "token expired" false, "the token was good, but its time has passed or not come";
    Expired = 110 "expired" false, "the expiry given lies in the past, no token involved";
    TooManyRequests = 111 "too many requests" true, "a rate limit was reached";
    UnrecoverablePosition = 112 "unrecoverable position" false,
        "the stream no longer holds what the position asks for, or is another one";
    ConcurrentPagination = 113 "concurrent pagination" true,
        "reserved by the protocol for map subscriptions and never sent";
    ServiceCancelled = 1001 "service: cancelled" true, "gRPC `CANCELLED`: the service gave the call up";
    ServiceUnknown = 1002 "service: unknown" false, "gRPC `UNKNOWN`: the service failed and did not say how";
    ServiceInvalidArgument = 1003 "service: invalid argument" false,
        "gRPC `INVALID_ARGUMENT`: the service does not accept what it was asked";
    ServiceDeadlineExceeded = 1004 "service: deadline exceeded" true,
        "gRPC `DEADLINE_EXCEEDED`: no answer in time; the service may have acted";
    ServiceNotFound = 1005 "service: not found" false, "gRPC `NOT_FOUND`";
    ServiceAlreadyExists = 1006 "service: already exists" false, "gRPC `ALREADY_EXISTS`";
    ServicePermissionDenied = 1007 "service: permission denied" false,
        "gRPC `PERMISSION_DENIED`: the service does not let this user do it";
    ServiceResourceExhausted = 1008 "service: resource exhausted" true,
        "gRPC `RESOURCE_EXHAUSTED`, by the service or by the policy before it";
    ServiceFailedPrecondition = 1009 "service: failed precondition" false,
        "gRPC `FAILED_PRECONDITION`: the service is not in the state that this needs";
    ServiceAborted = 1010 "service: aborted" false, "gRPC `ABORTED`: a conflict with another call";
    ServiceOutOfRange = 1011 "service: out of range" false, "gRPC `OUT_OF_RANGE`";
    ServiceUnimplemented = 1012 "service: unimplemented" false,
        "gRPC `UNIMPLEMENTED`: the service has no such method";
    ServiceInternal = 1013 "service: internal" false, "gRPC `INTERNAL`: the service failed";
    ServiceUnavailable = 1014 "service: unavailable" true,
        "gRPC `UNAVAILABLE`: the service could not be reached, or takes no calls for now";
    ServiceDataLoss = 1015 "service: data loss" false, "gRPC `DATA_LOSS`";
    ServiceUnauthenticated = 1016 "service: unauthenticated" false,
        "gRPC `UNAUTHENTICATED`: the service wants to know who asks";
}

impl ErrorCode {
    /// The error of a service that answered with this gRPC status other than `OK`: 1000 more.
    pub fn of_service(status: u8) -> Self {
        let code = 1_000 + u32::from(status);
        let found = Self::ALL.iter().find(|error| error.code() == code);
        found.copied().unwrap_or(Self::ServiceUnknown)
    }

    /// The error with words of its own behind the usual ones.
    pub fn with(self, words: &str) -> message::Error {
        message::Error {
            message: format!("{}: {words}", self.message()),
            ..self.to_error()
        }
    }

    /// The error as it stands in a reply.
    pub fn to_error(self) -> message::Error {
        message::Error {
            code: self.code(),
            message: self.message().to_owned(),
            temporary: self.temporary(),
        }
    }
}

/// Why the server closes a connection: close code and reason over WebSocket, a
/// disconnect push over other transports.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Disconnect {
    /// The number on the wire, 3000 to 4999; its range tells SDKs whether to reconnect.
    pub code: u16,
    /// The text on the wire: 1 to 123 bytes that are not JSON.
    pub reason: Cow<'static, str>,
}

/// A disconnect that clients would misread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DisconnectError {
    /// SDKs give codes below 3000 and from 5000 on meanings of their own.
    #[error("disconnect code {code} is not in 3000..=4999")]
    Code {
        /// The code.
        code: u32,
    },
    /// A close frame has no room for more (RFC 6455 5.5), and on an empty reason the
    /// JavaScript SDK reconnects even if the code is final.
    #[error(
        "disconnect reason has {bytes} bytes, but must have 1 to {}",
        REASON_BYTES_MAX
    )]
    ReasonLength {
        /// Its length in bytes.
        bytes: usize,
    },
    /// SDKs read a reason that is JSON as advice in an older protocol.
    #[error("disconnect reason is valid JSON, which clients misread")]
    ReasonIsJson,
}

/// Declares the constants of [`Disconnect`] and their table.
macro_rules! disconnects {
    ($($name:ident = $code:literal $reason:literal, $meaning:literal;)+) => {
        impl Disconnect {
            $(
                #[doc = concat!($code, " \"", $reason, "\": ", $meaning, ".")]
                pub const $name: Self = Self { code: $code, reason: Cow::Borrowed($reason) };
            )+

            /// All that the server itself sends, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
        }

        const DISCONNECT_MEANINGS: &[&str] = &[$($meaning),+];
    };
}

disconnects! {
    CONNECTION_CLOSED = 3000 "connection closed", "internal: the client closed the connection; never sent";
    SHUTDOWN = 3001 "shutdown", "the node stops";
    INTERNAL_SERVER_ERROR = 3004 "internal server error", "the server failed, not the client";
    CONNECTION_EXPIRED = 3005 "connection expired",
        "the connection was not refreshed within the grace, or with an expired token";
    SUBSCRIPTION_EXPIRED = 3006 "subscription expired", "a server-side subscription expired";
    SLOW = 3008 "slow", "the client reads more slowly than the server has to send";
    WRITE_ERROR = 3009 "write error", "a write failed or took too long";
    INSUFFICIENT_STATE = 3010 "insufficient state",
        "a gap or a new epoch on a server-side subscription, or a refresh that changes the channels";
    FORCE_RECONNECT = 3011 "force reconnect", "an operator wants the client to connect again";
    NO_PONG = 3012 "no pong", "the client did not answer a ping in time";
    TOO_MANY_REQUESTS = 3013 "too many requests", "the client sends more commands than it may";
    STATE_INVALIDATED = 3014 "state invalidated",
        "the client must connect again without its token and positions";
    INVALID_TOKEN = 3500 "invalid token", "the token is not one the server accepts";
    BAD_REQUEST = 3501 "bad request", "the client does not follow the protocol";
    STALE = 3502 "stale", "no successful connect command in time";
    FORCE_DISCONNECT = 3503 "force disconnect", "an operator wants the client to stay away";
    CONNECTION_LIMIT = 3504 "connection limit", "the user has as many connections as it may";
    CHANNEL_LIMIT = 3505 "channel limit", "more server-side channels than a connection may have";
    INAPPROPRIATE_PROTOCOL = 3506 "inappropriate protocol",
        "data that is not JSON was to be sent to a client that speaks JSON";
    PERMISSION_DENIED = 3507 "permission denied", "the client may not connect";
    NOT_AVAILABLE = 3508 "not available", "nobody receives what the client sends";
    TOO_MANY_ERRORS = 3509 "too many errors", "the client causes more errors than it may";
    REPLACED = 4500 "replaced by a newer connection", "the session continues on another connection";
}

impl Disconnect {
    /// A disconnect of the application's choice.
    pub fn new(code: u32, reason: impl Into<Cow<'static, str>>) -> Result<Self, DisconnectError> {
        let reason = reason.into();
        let Ok(code @ 3000..=4999) = u16::try_from(code) else {
            return Err(DisconnectError::Code { code });
        };
        if reason.is_empty() || reason.len() > REASON_BYTES_MAX {
            return Err(DisconnectError::ReasonLength {
                bytes: reason.len(),
            });
        }
        if serde_json::from_str::<serde::de::IgnoredAny>(&reason).is_ok() {
            return Err(DisconnectError::ReasonIsJson);
        }
        Ok(Self { code, reason })
    }

    /// Whether SDKs connect again by themselves.
    pub const fn may_reconnect(&self) -> bool {
        !matches!(self.code, 3500..=3999 | 4500..=4999)
    }

    /// The push that ends a connection which has no close frames.
    pub fn to_push(&self) -> message::Push {
        message::Push {
            disconnect: Some(message::Disconnect {
                code: u32::from(self.code),
                reason: self.reason.clone().into_owned(),
                reconnect: false,
            }),
            ..message::Push::default()
        }
    }
}

/// Why the server ends a subscription; the connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnsubscribeCode {
    /// The number on the wire, 2000 to 2999; its range tells SDKs whether to resubscribe.
    pub code: u32,
    /// The text on the wire.
    pub reason: &'static str,
}

/// Declares the constants of [`UnsubscribeCode`] and their table.
macro_rules! unsubscribes {
    ($($name:ident = $code:literal $reason:literal, $meaning:literal;)+) => {
        impl UnsubscribeCode {
            $(
                #[doc = concat!($code, " \"", $reason, "\": ", $meaning, ".")]
                pub const $name: Self = Self { code: $code, reason: $reason };
            )+

            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
        }

        const UNSUBSCRIBE_MEANINGS: &[&str] = &[$($meaning),+];
    };
}

unsubscribes! {
    SERVER_UNSUBSCRIBE = 2000 "server unsubscribe", "the server API ended the subscription";
    INSUFFICIENT_STATE = 2500 "insufficient state",
        "a gap or a new epoch was found, so that the client must recover";
    SUBSCRIPTION_EXPIRED = 2501 "subscription expired",
        "the subscription was not refreshed within the grace";
    STATE_INVALIDATED = 2502 "state invalidated",
        "the client must subscribe again without its token and position";
}

impl UnsubscribeCode {
    /// Whether SDKs subscribe again by themselves, if the subscription is theirs.
    pub const fn may_resubscribe(self) -> bool {
        self.code >= 2500
    }

    /// The push that tells the client.
    pub fn to_push(self, channel: &str) -> message::Push {
        message::Push {
            channel: channel.to_owned(),
            unsubscribe: Some(message::Unsubscribe {
                code: self.code,
                reason: self.reason.to_owned(),
            }),
            ..message::Push::default()
        }
    }
}

/// Most bytes of a disconnect's reason: what a close frame has room for (RFC 6455 5.5).
pub const REASON_BYTES_MAX: usize = 123;

/// Close codes of the WebSocket layer that the server sends, for a connection whose
/// frames cannot be read on (RFC 6455 7.4.1); each with its meaning and whether SDKs
/// connect again.
const WEBSOCKET_CLOSES: &[(u16, &str, &str)] = &[
    (
        1000,
        "answers a close frame of the client that says the same",
        "nothing: it closed itself",
    ),
    (
        1002,
        "the client breaks the WebSocket protocol",
        "reconnects",
    ),
    (
        1007,
        "a text frame is not UTF-8, or compressed data is damaged",
        "reconnects",
    ),
    (
        1008,
        "the client breaks a rule of the server, such as the rate of control frames",
        "reconnects",
    ),
    (
        1009,
        "a message is longer than `websocket.message_size_limit`",
        "JavaScript: stays away; Go: reconnects",
    ),
    (
        1011,
        "the server failed before there was a session",
        "reconnects",
    ),
];

#[cfg(test)]
mod tests;
