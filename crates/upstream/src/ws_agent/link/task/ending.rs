//! What becomes of everything when a connection is over, or could not be made.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::super::super::Outcome;
use super::super::super::dial::DialError;
use super::super::super::peer::{HoldReason, Input, Output};
use super::super::super::pool::{Cause, End, Hold};
use super::super::Phase;
use super::{Ended, Session};

impl Session<'_> {
    pub(super) fn not_dialled(&mut self, error: &DialError) -> End {
        if let DialError::Certificate(mismatch) = error {
            self.hold = Some(Hold {
                wait: CERTIFICATE_WAIT,
                reason: HoldReason::Certificate,
                text: mismatch.to_string(),
            });
        }
        End::new(Cause::Lost, error.to_string())
    }

    /// Gives everything its outcome.
    pub(super) fn finish(mut self, end: End) -> Ended {
        let (orders, outstanding) = {
            let mut state = self.link.state();
            state.phase = Phase::Closing;
            state.forgotten = Vec::new();
            state.last_error = Some(match &self.hold {
                Some(hold) if hold.reason != HoldReason::Retry => hold.text.as_str().into(),
                _ => end.reason.as_str().into(),
            });
            let outstanding = !state.waiting.is_empty();
            let orders: Vec<_> = std::iter::from_fn(|| state.next_order()).collect();
            (orders, outstanding)
        };
        if !self.ready && end.cause == Cause::Lost {
            self.link.counts.failures.fetch_add(1, Relaxed);
        }
        let outstanding = outstanding || self.peer.expects_answers();
        self.agents.listener().down(self.link.id, &end.reason);
        for order in orders {
            let reason = format!("connection was lost before: {}", end.reason);
            self.link.settle(order.tag, Outcome::NotSent { reason });
        }

        let now = self.agents.now();
        let closed = Input::Closed {
            code: end.code,
            reason: end.reason.clone(),
        };
        self.peer.handle(now, closed, &mut self.outputs);
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::Outcome { tag, outcome } => {
                    let outcome = self.as_sent(tag, outcome);
                    self.link.settle(tag, outcome);
                }
                Output::Answer(_) | Output::Hold { .. } | Output::StoreDevice(_) => {
                    self.carry_out(output);
                }
                // There is nothing to write to any more.
                Output::Frame(_)
                | Output::Watched { .. }
                | Output::Ready
                | Output::Close { .. } => {}
            }
        }
        self.settle_rest(&end);
        Ended {
            peer: self.peer,
            end,
            hold: self.hold,
            was_ready: self.ready,
            outstanding,
        }
    }

    /// What the peer does not know of any more can only be unknown.
    pub(super) fn settle_rest(&self, end: &End) {
        let left: Vec<u64> = self.link.state().waiting.keys().copied().collect();
        for tag in left {
            let reason = format!("connection was lost: {}", end.reason);
            let outcome = self.as_sent(tag, Outcome::Unknown { reason });
            self.link.settle(tag, outcome);
        }
    }

    /// The peer does not know how far the socket came: where it took no byte of a message,
    /// that message was not sent.
    pub(super) fn as_sent(&self, tag: u64, outcome: Outcome) -> Outcome {
        let unsent = |start: &u64| *start >= self.out.written();
        match outcome {
            Outcome::Unknown { reason } if self.starts.get(&tag).is_some_and(unsent) => {
                Outcome::NotSent { reason }
            }
            other => other,
        }
    }
}

/// How long until a certificate that was not the right one is looked at again.
const CERTIFICATE_WAIT: Duration = Duration::from_secs(300);
