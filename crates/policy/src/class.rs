//! What an upstream's kind says about an outcome.

use std::time::Duration;

/// What may be done after an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It worked.
    Success,
    /// Nothing left this process: it can be sent again, and no attempt was spent.
    NotSent,
    /// The upstream refused for now and did nothing.
    Retryable {
        /// When it wants to be asked again.
        after: Option<Duration>,
    },
    /// No answer: the upstream may have acted. Repeated only where that does no harm.
    Unknown,
    /// The upstream failed for good: trying again is of no use, and it looks ill.
    Final,
    /// Ends the call and says nothing about the upstream's health: the request was
    /// wrong, or the caller went away.
    Neutral,
}

/// What an outcome says about the upstream's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is well.
    Success,
    /// It failed.
    Failure,
    /// It asked for less: counts for the failure rate, not as a consecutive failure.
    Soft,
    /// Nothing.
    Neutral,
}

impl Class {
    /// What it means for the breaker unless the kind knows better. A connection that
    /// could not be made counts as a failure.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Success => Verdict::Success,
            Self::NotSent | Self::Retryable { .. } | Self::Unknown | Self::Final => {
                Verdict::Failure
            }
            Self::Neutral => Verdict::Neutral,
        }
    }

    /// When the upstream wants to be asked again.
    pub fn after(self) -> Option<Duration> {
        match self {
            Self::Retryable { after } => after,
            Self::Success | Self::NotSent | Self::Unknown | Self::Final | Self::Neutral => None,
        }
    }
}
