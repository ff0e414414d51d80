//! What a kind of upstream says about its errors, and what a call came to.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use policy::{Class, Refusal, Verdict};

/// Errors of one kind of upstream, as the guard must know them.
pub trait Classify {
    /// What may be done after it.
    fn class(&self) -> Class;

    /// What it says about the upstream's health.
    fn verdict(&self) -> Verdict {
        self.class().verdict()
    }
}

/// A call that did not succeed.
#[derive(Debug)]
pub struct CallError<E> {
    /// How it ended.
    pub ending: Ending,
    /// Tries that left this process, those of [`super::CallOptions::attempts_made`]
    /// included.
    pub attempts: u32,
    /// At least one try of this call had no answer, so that the upstream may have acted.
    /// Tries of earlier calls are not counted in.
    pub may_have_acted: bool,
    /// What the last try came to; `None` if this call made none.
    pub last: Option<Cause<E>>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The policy refused the first try or a further one; the call can be made again.
    Refused(Refusal),
    /// Nothing left this process in the last try; the call can be made again.
    NotSent,
    /// The upstream's answer stands: trying again is of no use.
    Final,
    /// The upstream may have acted, and the call must not be repeated.
    Unknown,
    /// It might have been tried again, but something was used up.
    Exhausted(Spent),
}

/// What was used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// The tries.
    Attempts,
    /// The share of retries in the load.
    Budget,
    /// The time: the next try would have begun after the deadline.
    Deadline,
}

/// What a try came to.
#[derive(Debug)]
pub enum Cause<E> {
    /// The kind's own error.
    Upstream(E),
    /// No answer in time.
    TimedOut {
        /// How long it was waited for.
        waited: Duration,
    },
}

impl<E: Classify> Classify for Cause<E> {
    fn class(&self) -> Class {
        match self {
            Self::Upstream(error) => error.class(),
            Self::TimedOut { .. } => Class::Unknown,
        }
    }

    fn verdict(&self) -> Verdict {
        match self {
            Self::Upstream(error) => error.verdict(),
            Self::TimedOut { .. } => Verdict::Failure,
        }
    }
}

impl<E> fmt::Display for CallError<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempts = self.attempts;
        match self.ending {
            Ending::Refused(refusal) => {
                write!(
                    formatter,
                    "call was refused after {attempts} tries: {refusal}"
                )
            }
            Ending::NotSent => write!(formatter, "call was not sent after {attempts} tries"),
            Ending::Final => write!(formatter, "call failed for good after {attempts} tries"),
            Ending::Unknown => write!(
                formatter,
                "call had no answer after {attempts} tries, and may have been carried out"
            ),
            Ending::Exhausted(spent) => write!(
                formatter,
                "call failed after {attempts} tries: {}",
                match spent {
                    Spent::Attempts => "no try was left",
                    Spent::Budget => "too many calls were being retried",
                    Spent::Deadline => "no time was left",
                }
            ),
        }
    }
}

impl<E: Error + 'static> Error for CallError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.last
            .as_ref()
            .map(|cause| cause as &(dyn Error + 'static))
    }
}

impl<E> fmt::Display for Cause<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(_) => formatter.write_str("upstream failed"),
            Self::TimedOut { waited } => write!(formatter, "no answer within {waited:?}"),
        }
    }
}

impl<E: Error + 'static> Error for Cause<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Upstream(error) => Some(error),
            Self::TimedOut { .. } => None,
        }
    }
}
