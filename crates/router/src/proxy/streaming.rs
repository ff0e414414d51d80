//! An answer on its way to the client.

use std::task::{Context, Poll};

use bytes::Bytes;
use http1::{Chunk, Inflow};
use policy::Verdict;
use upstream::http_service::{Exchange, ExchangeError};

use super::ai::in_band;
use super::grpc;
use super::outcome::{Ended, Phase};
use super::replay::{Replay, Replaying};
use super::story::Held;

/// An answer's body. Its slot is taken until it is dropped; dropping it before its end
/// tells the upstream that the client has left.
#[derive(Debug)]
pub struct Streaming {
    exchange: Exchange,
    replay: Replay,
    held: Box<Held>,
    next: Next,
    is_event_stream: bool,
    /// When all of it is over.
    deadline_ms: Option<u64>,
    /// When the next part is due, and which phase that is.
    due_ms: Option<u64>,
    has_begun: bool,
    heartbeat_ms: Option<u64>,
    beat_at_ms: Option<u64>,
}

/// The upstream broke off, or took too long: the client's answer is incomplete, and it
/// must be able to see that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("answer was broken off")]
pub struct Broken;

/// What comes next.
#[derive(Debug)]
enum Next {
    /// A part that was read before its head was passed on.
    Early(Chunk),
    /// What the upstream says.
    Upstream,
    /// The end, after a word of our own about what went wrong.
    End,
    /// Nothing.
    Over,
}

impl Streaming {
    pub(super) fn new(
        exchange: Exchange,
        early: Option<Chunk>,
        replay: Replay,
        held: Box<Held>,
        is_event_stream: bool,
        deadline_ms: Option<u64>,
    ) -> Self {
        let limits = &held.route.limits;
        let heartbeat_ms = limits.heartbeat_ms.filter(|_| is_event_stream);
        let due_in = limits.first_byte_ms.or(limits.gap_ms);
        let now = if due_in.is_some() || heartbeat_ms.is_some() {
            held.proxy.clock.mono_ms()
        } else {
            0
        };
        Self {
            exchange,
            replay,
            next: early.map_or(Next::Upstream, Next::Early),
            is_event_stream,
            deadline_ms,
            due_ms: due_in.map(|due_in| now + due_in),
            has_begun: false,
            heartbeat_ms,
            beat_at_ms: heartbeat_ms.map(|beat| now + beat),
            held,
        }
    }

    /// The next part of the answer. After the end or an error it is not polled again.
    pub fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Poll<Result<Chunk, Broken>> {
        let polled = match std::mem::replace(&mut self.next, Next::Upstream) {
            Next::Early(chunk) => Poll::Ready(Ok(chunk)),
            Next::Upstream => self.exchange.poll_chunk(
                cx,
                &mut Replaying {
                    replay: &mut self.replay,
                    inflow: &mut *inflow,
                },
            ),
            Next::End => {
                self.next = Next::Over;
                return Poll::Ready(Ok(Chunk::End(None)));
            }
            Next::Over => return Poll::Ready(Err(Broken)),
        };
        self.held.story.received = self.replay.seen_bytes();
        match polled {
            Poll::Ready(Ok(Chunk::Data(data))) => {
                self.note(&data);
                Poll::Ready(Ok(Chunk::Data(data)))
            }
            Poll::Ready(Ok(Chunk::End(trailers))) => {
                if self.held.route.is_grpc {
                    self.judge(trailers.as_deref());
                }
                let metered = self.held.metered.as_ref();
                if self.is_event_stream && metered.is_some_and(|it| !it.is_terminated()) {
                    // It ended without its last event: to a client that would look complete.
                    return self.break_off(Ended::UpstreamBroke);
                }
                self.next = Next::Over;
                self.held.ends(Ended::Complete);
                Poll::Ready(Ok(Chunk::End(trailers)))
            }
            Poll::Ready(Err(ExchangeError::Client(_))) => {
                self.next = Next::Over;
                self.held.ends(Ended::ClientLeft);
                Poll::Ready(Err(Broken))
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, route = %self.held.route.label, "answer broke off");
                self.break_off(Ended::UpstreamBroke)
            }
            Poll::Pending => self.poll_phases(cx, inflow),
        }
    }

    /// Sends on what is left of the request, while the client takes nothing of the answer.
    ///
    /// # Errors
    ///
    /// As [`poll_chunk`](Self::poll_chunk); neither is polled again then.
    pub fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Result<(), Broken> {
        if !matches!(self.next, Next::Upstream) {
            return Ok(());
        }
        let sent = self.exchange.poll_request(
            cx,
            &mut Replaying {
                replay: &mut self.replay,
                inflow,
            },
        );
        sent.map_err(|error| {
            self.next = Next::Over;
            if matches!(error, ExchangeError::Client(_)) {
                self.held.ends(Ended::ClientLeft);
            } else {
                tracing::debug!(%error, route = %self.held.route.label, "answer broke off");
                self.held.breaks();
                self.held.ends(Ended::UpstreamBroke);
            }
            Broken
        })
    }

    /// The upstream is silent: is anything due?
    fn poll_phases(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Poll<Result<Chunk, Broken>> {
        let phase = if self.has_begun {
            Phase::Gap
        } else {
            Phase::FirstByte
        };
        for (at, phase) in [(self.due_ms, phase), (self.deadline_ms, Phase::Total)] {
            if let Some(at) = at
                && inflow.poll_deadline(cx, at).is_ready()
            {
                return self.break_off(Ended::TimedOut(phase));
            }
        }
        // Only between two events, and without moving what is due upstream.
        while let (Some(at), Some(beat_ms)) = (self.beat_at_ms, self.heartbeat_ms) {
            if inflow.poll_deadline(cx, at).is_pending() {
                break;
            }
            self.beat_at_ms = Some(self.held.proxy.clock.mono_ms() + beat_ms);
            if self.held.metered.as_ref().is_none_or(|it| it.at_boundary()) {
                let beat = Bytes::from_static(in_band::HEARTBEAT);
                self.held.passed(beat.len());
                return Poll::Ready(Ok(Chunk::Data(beat)));
            }
        }
        Poll::Pending
    }

    /// What the status at the end of a call says about the upstream.
    fn judge(&mut self, trailers: Option<&http1::Fields>) {
        let Some(trailers) = trailers else {
            return;
        };
        match grpc::verdict(grpc::status(trailers)) {
            Verdict::Failure => self.held.breaks(),
            verdict => self.held.settle(verdict, None),
        }
    }

    /// Takes note of a part that passes.
    fn note(&mut self, data: &Bytes) {
        self.held.passed(data.len());
        if let Some(metered) = &mut self.held.metered {
            metered.push(data);
        }
        if !self.has_begun {
            self.has_begun = self.held.metered.as_ref().is_none_or(|it| it.has_content());
            if self.has_begun {
                if self.is_event_stream || self.held.route.is_grpc {
                    // Its end may be hours away.
                    self.held.settle(Verdict::Success, None);
                }
                if self.is_event_stream || self.held.metered.is_some() {
                    self.held.story.first_content = Some(self.held.proxy.clock.elapsed());
                }
            }
        }
        let gap_ms = self.held.route.limits.gap_ms;
        if self.due_ms.is_none() && gap_ms.is_none() && self.beat_at_ms.is_none() {
            return;
        }
        let now = self.held.proxy.clock.mono_ms();
        if self.has_begun {
            self.due_ms = gap_ms.map(|gap| now + gap);
        }
        self.beat_at_ms = self.heartbeat_ms.map(|beat| now + beat);
    }

    /// The answer can't be completed. A stream of a model says so in its own words, as
    /// its end would look like a whole answer; any other is cut.
    fn break_off(&mut self, how: Ended) -> Poll<Result<Chunk, Broken>> {
        let is_own_limit = self.is_event_stream && how == Ended::TimedOut(Phase::Total);
        if !is_own_limit {
            self.held.breaks();
        }
        let said = self
            .held
            .metered
            .as_ref()
            .filter(|_| self.is_event_stream)
            .map(|metered| {
                let fault = match how {
                    Ended::TimedOut(_) => in_band::Fault::TimedOut,
                    _ => in_band::Fault::Upstream,
                };
                let message = "answer was broken off";
                metered.error_event(fault, how.name(), message)
            });
        let is_grpc = self.held.route.is_grpc;
        self.held.ends(how);
        if is_grpc {
            // Whoever calls hears of it in the words of gRPC.
            self.next = Next::Over;
            return Poll::Ready(Ok(Chunk::End(Some(Box::new(grpc::broken(how))))));
        }
        match said {
            Some(event) => {
                self.next = Next::End;
                Poll::Ready(Ok(Chunk::Data(event)))
            }
            None => {
                self.next = Next::Over;
                Poll::Ready(Err(Broken))
            }
        }
    }
}
