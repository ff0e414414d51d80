//! What a gRPC status says: may the call be made again, and how is the endpoint?
//!
//! | status | may be made again | health |
//! |---|---|---|
//! | the endpoint said `UNAVAILABLE` and when to ask again | yes: it did nothing | failure |
//! | the endpoint said `UNAVAILABLE` | if idempotent | failure |
//! | the endpoint said `RESOURCE_EXHAUSTED` | yes: it did nothing | asks for less |
//! | no connection, stream refused | yes: nothing left | failure |
//! | connection lost, `DEADLINE_EXCEEDED`, `CANCELLED` by the endpoint | if idempotent | failure |
//! | `INTERNAL`, `UNKNOWN`, `DATA_LOSS` | no | failure |
//! | `UNIMPLEMENTED`, `ABORTED` | no | says nothing |
//! | all others: the request's own fault | no | well |
//!
//! `UNAVAILABLE` alone is no promise: what stands between us and the service says it too when it
//! loses the service after it has handed on the call.

use std::error::Error;
use std::time::Duration;

use policy::{Class, Refusal, Verdict};
use tonic::{Code, Status};

use crate::guard::{CallError, Cause, Classify, Ending};

/// Why a try brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The breakers of all endpoints are open.
    #[error("no endpoint takes calls: {0}")]
    NoEndpoint(Refusal),
    /// Nothing left this process.
    #[error("endpoint could not be reached: {0}")]
    NotSent(String),
    /// The connection was lost, and nobody knows whether the call was carried out.
    #[error("connection to the endpoint was lost: {0}")]
    Lost(String),
    /// The endpoint took too long.
    #[error("endpoint did not answer in time")]
    TimedOut,
    /// The endpoint answered with a status other than `OK`.
    #[error("service said {code:?}: {message}")]
    Said {
        /// The status.
        code: Code,
        /// The service's own words.
        message: String,
        /// When it wants to be asked again (`grpc-retry-pushback-ms`).
        after: Option<Duration>,
    },
}

/// Why a call brought no answer, for whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The status: the service's own, or what comes nearest.
    pub code: Code,
    /// The service's own words; `None` if it said nothing. They may tell of its inside.
    pub said: Option<String>,
    /// The policy refused the call; when it is worth to ask again is told by it.
    pub refusal: Option<Refusal>,
    /// For the log.
    pub text: String,
}

impl Fault {
    /// What a status says. One that the endpoint sent has no cause; one that was made
    /// here, because the transport failed, has.
    pub fn of(status: &Status) -> Self {
        let Some(cause) = status.source() else {
            return Self::Said {
                code: status.code(),
                message: status.message().to_owned(),
                after: pushback(status),
            };
        };
        let mut text = cause.to_string();
        let mut next = Some(cause);
        while let Some(cause) = next {
            text = cause.to_string();
            if cause.is::<tonic::ConnectError>() {
                return Self::NotSent(innermost(cause));
            }
            if cause.is::<tonic::TimeoutExpired>() {
                return Self::TimedOut;
            }
            if let Some(error) = cause.downcast_ref::<quantum::grpc::CallError>() {
                let text = error.status().message().to_owned();
                return match error.status().code() {
                    _ if !error.may_have_reached() => Self::NotSent(text),
                    Code::DeadlineExceeded => Self::TimedOut,
                    _ => Self::Lost(text),
                };
            }
            if let Some(error) = cause.downcast_ref::<h2::Error>()
                && error.is_remote()
                && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
            {
                return Self::NotSent(error.to_string());
            }
            next = cause.source();
        }
        Self::Lost(text)
    }

    fn code(&self) -> Code {
        match self {
            Self::NoEndpoint(_) | Self::NotSent(_) | Self::Lost(_) => Code::Unavailable,
            Self::TimedOut => Code::DeadlineExceeded,
            Self::Said { code, .. } => *code,
        }
    }
}

impl Classify for Fault {
    fn class(&self) -> Class {
        match self {
            Self::NoEndpoint(_) | Self::NotSent(_) => Class::NotSent,
            Self::Lost(_) | Self::TimedOut => Class::Unknown,
            Self::Said { code, after, .. } => match code {
                Code::Unavailable if after.is_none() => Class::Unknown,
                Code::Unavailable | Code::ResourceExhausted => Class::Retryable { after: *after },
                Code::DeadlineExceeded | Code::Cancelled => Class::Unknown,
                Code::Internal | Code::Unknown | Code::DataLoss => Class::Final,
                Code::Ok
                | Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::FailedPrecondition
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unimplemented
                | Code::Unauthenticated => Class::Neutral,
            },
        }
    }

    fn verdict(&self) -> Verdict {
        match self {
            Self::NoEndpoint(_) => Verdict::Neutral,
            Self::Said { code, .. } => match code {
                Code::ResourceExhausted => Verdict::Soft,
                Code::Unimplemented | Code::Aborted => Verdict::Neutral,
                Code::Ok
                | Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::FailedPrecondition
                | Code::OutOfRange
                | Code::Unauthenticated => Verdict::Success,
                Code::Unavailable
                | Code::DeadlineExceeded
                | Code::Cancelled
                | Code::Internal
                | Code::Unknown
                | Code::DataLoss => Verdict::Failure,
            },
            Self::NotSent(_) | Self::Lost(_) | Self::TimedOut => Verdict::Failure,
        }
    }
}

impl From<CallError<Fault>> for Failure {
    fn from(error: CallError<Fault>) -> Self {
        let text = chain(&error);
        let (mut code, mut said, mut refusal) = (Code::Unavailable, None, None);
        match error.last {
            Some(Cause::Upstream(Fault::NoEndpoint(why))) => refusal = Some(why),
            Some(Cause::Upstream(fault)) => {
                code = fault.code();
                if let Fault::Said { message, .. } = fault {
                    said = Some(message);
                }
            }
            Some(Cause::TimedOut { .. }) => code = Code::DeadlineExceeded,
            None => {}
        }
        if let Ending::Refused(why) = error.ending
            && said.is_none()
        {
            code = match why {
                Refusal::DeadlinePassed => Code::DeadlineExceeded,
                Refusal::Rate { .. } | Refusal::Concurrency | Refusal::QueueTimeout { .. } => {
                    Code::ResourceExhausted
                }
                Refusal::BreakerOpen { .. } | Refusal::ProbeTaken | Refusal::Recovering { .. } => {
                    Code::Unavailable
                }
            };
            refusal = Some(why);
        }
        Self {
            code,
            said,
            refusal,
            text,
        }
    }
}

/// A server's wish, which gRPC retries honour: 0 or more milliseconds.
fn pushback(status: &Status) -> Option<Duration> {
    let value = status.metadata().get("grpc-retry-pushback-ms")?;
    value.to_str().ok()?.parse().ok().map(Duration::from_millis)
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_refused_for_now_may_be_asked_again() {
        let mut status = Status::unavailable("later");
        let pushback = "250".parse().unwrap();
        status
            .metadata_mut()
            .insert("grpc-retry-pushback-ms", pushback);
        let fault = Fault::of(&status);
        let after = Some(Duration::from_millis(250));
        assert_eq!(fault.class(), Class::Retryable { after });
        assert_eq!(fault.verdict(), Verdict::Failure);
        let fault = Fault::of(&Status::unavailable("lost it"));
        assert_eq!(
            (fault.class(), fault.verdict()),
            (Class::Unknown, Verdict::Failure)
        );
    }

    #[test]
    fn the_callers_own_mistakes_say_that_the_endpoint_is_well() {
        for code in [Code::InvalidArgument, Code::NotFound, Code::Unauthenticated] {
            let fault = Fault::of(&Status::new(code, "no"));
            assert_eq!(
                (fault.class(), fault.verdict()),
                (Class::Neutral, Verdict::Success)
            );
        }
    }

    #[test]
    fn a_transport_that_broke_may_have_carried_the_call() {
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let status = Status::from_error(Box::new(broken));
        assert_eq!(Fault::of(&status).class(), Class::Unknown);
    }

    #[test]
    fn what_could_not_be_connected_was_not_sent() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let status = Status::from_error(Box::new(tonic::ConnectError(Box::new(refused))));
        assert_eq!(Fault::of(&status).class(), Class::NotSent);
    }
}
