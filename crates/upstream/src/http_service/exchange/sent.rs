//! How far a request has got on a stream of its own, and what follows for whoever waits.

use std::task::{Context, Poll};

use http1::Inflow;

use super::ExchangeError;

/// What sending waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    All,
    /// The client's next part.
    AwaitsClient,
    /// The upstream.
    Blocked,
}

/// Word of the client's leaving, unless its next part is waited for, which brings it too.
pub(super) fn poll_gone<T>(
    sent: Sent,
    cx: &mut Context<'_>,
    inflow: &mut dyn Inflow,
) -> Poll<Result<T, ExchangeError>> {
    if sent == Sent::AwaitsClient {
        return Poll::Pending;
    }
    inflow.poll_gone(cx).map(|gone| Err(gone.into()))
}
