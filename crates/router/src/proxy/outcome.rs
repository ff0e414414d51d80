//! What a request came to, for metrics and log.

use std::time::Duration;

use upstream::http_service::Miss;

use super::ai::Usage;

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Of the answer; 0 if the client left before there was one.
    pub status: u16,
    /// Whose word the answer is.
    pub decided_by: Decider,
    /// How it ended.
    pub ended: Ended,
    /// On which connection it went upstream; `None` if it never did.
    pub connection: Option<Connection>,
    /// From the request's head to the answer's last byte.
    pub duration: Duration,
    /// From sending to the head of the answer that was used; `None` without an answer.
    pub upstream: Option<Duration>,
    /// What the gateway itself took: neither upstream, queue nor client were waited for.
    pub overhead: Duration,
    /// In the queue for a slot; `None` if there was no wait.
    pub queued: Option<Duration>,
    /// To connect; `None` on a connection that rested.
    pub connect: Option<Duration>,
    /// From the request's head to the first part of an event stream or, from a model, to
    /// its first content.
    pub first_content: Option<Duration>,
    /// Requests sent or tried to be sent upstream.
    pub tries: u32,
    /// Those of them that were sent beside another one.
    pub hedges: u32,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// What a model used, and what that costs in millionths of the prices' unit.
    pub usage: Option<(Usage, u64)>,
}

/// Whose word an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decider {
    /// No route, or one that refuses such a request: a body too large, an upgrade.
    Route,
    /// The access rule.
    Access,
    /// Every upstream's breaker is open.
    Breaker,
    /// No slot, and no queue for one.
    Limiter,
    /// No slot while it waited in the queue, or the queue was full.
    Queue,
    /// Too many requests per second.
    Rate,
    /// Tokens or money are used up.
    Budget,
    /// No connection was to be had.
    Connect,
    /// A phase took too long.
    Phase(Phase),
    /// The upstream: its answer was passed on, or it broke off.
    Upstream,
    /// The client: it left, or its request was malformed.
    Client,
}

/// A part of a request that has a limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// To connect.
    Dial,
    /// To send the request.
    Write,
    /// To the answer's head.
    Headers,
    /// From there to the first content.
    FirstByte,
    /// Between two parts of the answer.
    Gap,
    /// All of it.
    Total,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The upstream's answer was written to its last byte.
    Complete,
    /// The gateway gave an answer of its own.
    Refused,
    /// The client left before.
    ClientLeft,
    /// The upstream broke off within the answer.
    UpstreamBroke,
    /// A phase took too long within the answer.
    TimedOut(Phase),
}

/// On which connection a request went upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// One that had served before.
    Reused,
    /// A new one, and why.
    Fresh(Miss),
}

impl Decider {
    /// Its name in metrics and log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Access => "access",
            Self::Breaker => "breaker",
            Self::Limiter => "limiter",
            Self::Queue => "queue",
            Self::Rate => "rate",
            Self::Budget => "budget",
            Self::Connect => "connect",
            Self::Phase(Phase::Dial) => "phase:dial",
            Self::Phase(Phase::Write) => "phase:write",
            Self::Phase(Phase::Headers) => "phase:headers",
            Self::Phase(Phase::FirstByte) => "phase:first_byte",
            Self::Phase(Phase::Gap) => "phase:gap",
            Self::Phase(Phase::Total) => "phase:total",
            Self::Upstream => "upstream",
            Self::Client => "client",
        }
    }
}

impl Phase {
    /// Its name in metrics and log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dial => "dial",
            Self::Write => "write",
            Self::Headers => "headers",
            Self::FirstByte => "first_byte",
            Self::Gap => "gap",
            Self::Total => "total",
        }
    }
}

impl Ended {
    /// Its name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Refused => "refused",
            Self::ClientLeft => "client_left",
            Self::UpstreamBroke => "upstream_broke",
            Self::TimedOut(Phase::Dial) => "timeout:dial",
            Self::TimedOut(Phase::Write) => "timeout:write",
            Self::TimedOut(Phase::Headers) => "timeout:headers",
            Self::TimedOut(Phase::FirstByte) => "timeout:first_byte",
            Self::TimedOut(Phase::Gap) => "timeout:gap",
            Self::TimedOut(Phase::Total) => "timeout:total",
        }
    }
}

impl Connection {
    /// Its name in metrics and log: `reused`, or why it was not.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reused => "reused",
            Self::Fresh(miss) => miss.name(),
        }
    }
}

impl Outcome {
    /// An answer of the gateway's own, before anything went upstream.
    pub fn refused(status: u16, decided_by: Decider, duration: Duration) -> Self {
        Self {
            status,
            decided_by,
            ended: Ended::Refused,
            connection: None,
            duration,
            upstream: None,
            overhead: duration,
            queued: None,
            connect: None,
            first_content: None,
            tries: 0,
            hedges: 0,
            request_bytes: 0,
            response_bytes: 0,
            usage: None,
        }
    }
}
