//! What the gateway itself says instead of an upstream (`contracts`: http-proxy 5.3).

use std::time::Duration;

use bytes::Bytes;
use http1::{Fields, Gone};
use serde_json::json;

use super::ai::in_band;
use super::outcome::{Decider, Phase};
use super::record::AiDialect;

/// Why a request gets no answer of an upstream.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// No token, where one is needed.
    #[error("authentication required")]
    Unauthenticated,
    /// The rule of the route does not let this caller pass.
    #[error("access denied")]
    Denied,
    /// No active route has this path.
    #[error("no matching proxy found")]
    NoRoute,
    /// Two servers might read the path differently.
    #[error("path is ambiguous: {0}")]
    Path(&'static str),
    /// The route lets no upgrades through.
    #[error("upgrades are not let through")]
    NoUpgrade,
    /// It is no WebSocket handshake, though it says so.
    #[error("not a valid websocket handshake")]
    Handshake,
    /// Slots, queue or rate.
    #[error("{} limit was reached", by.name())]
    Busy {
        /// Which policy: limiter, queue or rate.
        by: Decider,
        /// When to ask again, where that is known.
        retry_after: Option<Duration>,
    },
    /// Tokens or money.
    #[error("budget is spent: {which}")]
    Budget {
        /// Which window.
        which: &'static str,
        /// When it opens again.
        retry_after: Duration,
    },
    /// The breaker of each upstream is open.
    #[error("breaker is open")]
    BreakerOpen {
        /// Until the next trial, where that is known.
        retry_after: Option<Duration>,
    },
    /// The route carries calls of gRPC, and this is none.
    #[error("route takes calls of gRPC: POST over HTTP/2 with content-type application/grpc")]
    NoCall,
    /// There was no connection to the upstream.
    #[error("connection error: {0}")]
    NoConnection(String),
    /// The upstream failed.
    #[error("{0}")]
    Upstream(String),
    /// A phase took too long.
    #[error("upstream request timed out: {}", phase.name())]
    TimedOut {
        /// Which.
        phase: Phase,
    },
    /// The client's side ended it.
    #[error(transparent)]
    Client(#[from] Gone),
}

/// A short answer of our own.
#[derive(Debug)]
pub struct Said {
    /// Status.
    pub status: u16,
    /// `content-type` and whatever the status wants beside it.
    pub fields: Fields,
    /// JSON.
    pub body: Bytes,
}

impl Refusal {
    /// Its status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Path(_) | Self::Handshake | Self::Client(Gone::Left | Gone::Malformed) => 400,
            Self::Unauthenticated => 401,
            Self::Denied => 403,
            Self::NoRoute => 404,
            Self::Client(Gone::TooSlow) => 408,
            Self::Client(Gone::TooLarge) => 413,
            Self::NoCall => 415,
            Self::Busy { .. } | Self::Budget { .. } => 429,
            Self::NoUpgrade => 501,
            Self::NoConnection(_) | Self::Upstream(_) => 502,
            Self::BreakerOpen { .. } => 503,
            Self::TimedOut { .. } => 504,
        }
    }

    /// Who decided, for metrics and the access log.
    pub fn decided_by(&self) -> Decider {
        match self {
            Self::Unauthenticated | Self::Denied => Decider::Access,
            Self::NoRoute | Self::Path(_) | Self::NoUpgrade | Self::Handshake | Self::NoCall => {
                Decider::Route
            }
            Self::Busy { by, .. } => *by,
            Self::Budget { .. } => Decider::Budget,
            Self::BreakerOpen { .. } => Decider::Breaker,
            Self::NoConnection(_) => Decider::Connect,
            Self::Upstream(_) => Decider::Upstream,
            Self::TimedOut { phase } => Decider::Phase(*phase),
            Self::Client(Gone::TooLarge) => Decider::Route,
            Self::Client(_) => Decider::Client,
        }
    }

    /// When it is worth to ask again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            // The contract's own figure where nothing better is known.
            Self::Busy { retry_after, .. } => Some(retry_after.unwrap_or(BUSY_RETRY_AFTER)),
            Self::Budget { retry_after, .. } => Some(*retry_after),
            Self::BreakerOpen { retry_after } => *retry_after,
            _ => None,
        }
    }

    /// The answer: in the words of the API that the caller speaks, if that is a model's,
    /// and else in the contract's.
    pub fn said(&self, dialect: Option<AiDialect>) -> Said {
        let status = self.status();
        let error = |error: &str, details: &str| json!({"error": error, "details": details});
        let plain = |message: &str| json!({"data": {}, "message": message, "status": status});
        let body = match self {
            Self::Unauthenticated => plain("Authentication required."),
            Self::Denied => plain("Access denied."),
            Self::NoRoute => plain("No matching proxy found."),
            Self::Client(Gone::TooLarge) => error("Payload Too Large", &self.to_string()),
            Self::Client(Gone::TooSlow) => error("Request Timeout", &self.to_string()),
            Self::Path(_) | Self::Handshake | Self::Client(_) => {
                error("Bad Request", &self.to_string())
            }
            Self::NoCall => error("Unsupported Media Type", &self.to_string()),
            Self::NoUpgrade => error(
                "WebSocket Not Supported",
                "This gateway does not support WebSocket connections",
            ),
            Self::Busy { .. } => error(
                "Too Many Requests",
                "AI Engine is at capacity, please retry later",
            ),
            Self::Budget { which, .. } => {
                error("Too Many Requests", &format!("budget is spent: {which}"))
            }
            Self::BreakerOpen { .. } => error(
                "Service Unavailable",
                "Circuit breaker is open, upstream service is experiencing issues",
            ),
            Self::NoConnection(_) | Self::Upstream(_) => {
                error("Upstream Unavailable", &self.to_string())
            }
            Self::TimedOut { .. } => error("Gateway Timeout", &self.to_string()),
        };
        let body = match dialect {
            None => Bytes::from(body.to_string()),
            Some(dialect) => {
                let fault = in_band::Fault::of_status(status);
                in_band::error_body(dialect, fault, self.decided_by().name(), &self.to_string())
            }
        };
        let mut said = Said {
            status,
            fields: Fields::new(),
            body,
        };
        said.put("content-type", "application/json");
        if let Some(after) = self.retry_after() {
            // Whole seconds, and not too early.
            let seconds = after.as_millis().div_ceil(1_000).max(1);
            said.put("retry-after", &seconds.to_string());
        }
        if matches!(self, Self::BreakerOpen { .. }) {
            said.put("x-circuit-breaker", "open");
        }
        said
    }
}

impl Said {
    /// Adds a field of our own making.
    pub(super) fn put(&mut self, name: &str, value: &str) {
        let put = self.fields.push(name, value.as_bytes());
        debug_assert!(put.is_ok(), "our own fields are valid");
    }
}

/// When to come back to a gateway that is at capacity (5.3).
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(30);

impl From<policy::Refusal> for Refusal {
    fn from(refusal: policy::Refusal) -> Self {
        let retry_after = refusal.retry_after();
        match refusal {
            policy::Refusal::DeadlinePassed => Self::TimedOut {
                phase: Phase::Total,
            },
            policy::Refusal::BreakerOpen { .. }
            | policy::Refusal::ProbeTaken
            | policy::Refusal::Recovering { .. } => Self::BreakerOpen { retry_after },
            policy::Refusal::Concurrency => Self::Busy {
                by: Decider::Limiter,
                retry_after,
            },
            policy::Refusal::QueueTimeout { .. } => Self::Busy {
                by: Decider::Queue,
                retry_after,
            },
            policy::Refusal::Rate { .. } => Self::Busy {
                by: Decider::Rate,
                retry_after,
            },
        }
    }
}
