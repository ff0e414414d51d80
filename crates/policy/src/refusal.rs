//! What a policy says before anything is sent.

use std::time::Duration;

/// Why a call was not let through, in the order in which it is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It was too late.
    #[error("deadline had passed")]
    DeadlinePassed,
    /// The upstream failed too often and is left alone.
    #[error("breaker was open for another {retry_after:?}")]
    BreakerOpen {
        /// Until it is tried again.
        retry_after: Duration,
    },
    /// The upstream is being probed by somebody else.
    #[error("breaker was half-open and its probe taken")]
    ProbeTaken,
    /// All slots were taken, and the queue was full.
    #[error("concurrency limit was reached and the queue full")]
    Concurrency,
    /// All slots were taken, and none came free in time.
    #[error("no slot came free within {waited:?}")]
    QueueTimeout {
        /// How long it queued.
        waited: Duration,
    },
    /// The rate was reached.
    #[error("rate limit was reached; the next call is allowed in {retry_after:?}")]
    Rate {
        /// Until the next call is allowed.
        retry_after: Duration,
    },
    /// The upstream has just recovered and gets only a part of its calls.
    #[error("upstream was recovering for another {retry_after:?}")]
    Recovering {
        /// Until it gets all of them.
        retry_after: Duration,
    },
}

impl Refusal {
    /// When it is worth to ask again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match *self {
            Self::BreakerOpen { retry_after }
            | Self::Rate { retry_after }
            | Self::Recovering { retry_after } => Some(retry_after),
            Self::DeadlinePassed
            | Self::ProbeTaken
            | Self::Concurrency
            | Self::QueueTimeout { .. } => None,
        }
    }
}
