//! What happened to one request, and what it holds until it ends.

use std::sync::Arc;
use std::time::Duration;

use http1::RequestHead;
use policy::{BreakerState, Verdict};
use upstream::guard::Permit;

use super::access_log::Line;
use super::endpoints::{Endpoint, Picked};
use super::metered::{Metered, Spent};
use super::outbound::Origin;
use super::outcome::{Connection, Decider, Ended, Outcome};
use super::route::Route;
use super::trace::Trace;
use super::{Caller, Proxy};

/// What happened to one request.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) begun: Duration,
    pub(super) method: http::Method,
    pub(super) target: http1::Target,
    pub(super) from: Origin,
    pub(super) caller: Caller,
    pub(super) trace: Trace,
    pub(super) status: u16,
    pub(super) received: u64,
    pub(super) sent: u64,
    /// Tries made; to repeat one whose connection had been closed is none.
    pub(super) tries: u32,
    pub(super) was_hedged: bool,
    pub(super) endpoint: Option<Arc<Endpoint>>,
    /// On which connection the last try went upstream.
    pub(super) connection: Option<Connection>,
    /// How long it queued for its slot.
    pub(super) queued: Option<Duration>,
    /// What was waited for upstream and the client before the last try, and between two.
    pub(super) waited: Duration,
    /// When the last try began, or what else is waited for; when it had its connection, had its answer's head, its first
    /// content.
    pub(super) try_begun: Option<Duration>,
    pub(super) connected: Option<Duration>,
    pub(super) answered: Option<Duration>,
    pub(super) first_content: Option<Duration>,
    pub(super) breaker: BreakerState,
    pub(super) decided_by: Decider,
    /// What was wrong with the upstream, if we answered for that.
    pub(super) error: Option<Box<str>>,
}

/// What a request holds until it ends: its slot, its place at the upstream, its part of
/// the budgets. Dropping it without a word means that the client has left.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) proxy: Arc<Proxy>,
    pub(super) route: Arc<Route>,
    pub(super) story: Story,
    pub(super) picked: Option<Picked>,
    pub(super) permit: Option<Permit>,
    pub(super) metered: Option<Box<Metered>>,
    pub(super) is_over: bool,
}

impl Story {
    pub(super) fn new(
        begun: Duration,
        head: &RequestHead,
        from: Origin,
        caller: Caller,
        trace: Trace,
    ) -> Self {
        Self {
            begun,
            method: head.method.clone(),
            target: head.target.clone(),
            from,
            caller,
            trace,
            status: 0,
            received: 0,
            sent: 0,
            tries: 0,
            was_hedged: false,
            endpoint: None,
            connection: None,
            queued: None,
            waited: Duration::ZERO,
            try_begun: None,
            connected: None,
            answered: None,
            first_content: None,
            breaker: BreakerState::Closed,
            decided_by: Decider::Upstream,
            error: None,
        }
    }

    /// What was waited for since a try began is over, and was no answer.
    pub(super) fn wait_is_over(&mut self, now: Duration) {
        if let Some(begun) = self.try_begun.take() {
            self.waited += now.saturating_sub(begun);
        }
        self.connected = None;
        self.answered = None;
    }

    /// What it has come to, now that it is over.
    fn outcome(&self, now: Duration, ended: Ended, spent: Option<&Spent>) -> Outcome {
        let since = |from: Option<Duration>, to: Option<Duration>| Some(to?.saturating_sub(from?));
        let upstream = since(self.connected, self.answered);
        let connect = since(self.try_begun, self.connected)
            .filter(|_| matches!(self.connection, Some(Connection::Fresh(_))));
        // Up to the answer's head, what was waited for is taken off.
        let last = match (self.answered, self.connected) {
            (Some(_), _) => upstream,
            // It was broken off.
            (None, Some(_)) => since(self.connected, Some(now)),
            (None, None) => since(self.try_begun, Some(now)),
        };
        let waited = [last, connect, self.queued].into_iter().flatten().sum();
        let overhead = self
            .answered
            .unwrap_or(now)
            .saturating_sub(self.begun)
            .saturating_sub(self.waited)
            .saturating_sub(waited);
        Outcome {
            status: self.status,
            decided_by: self.decided_by,
            ended,
            connection: self.connection,
            duration: now.saturating_sub(self.begun),
            upstream,
            overhead,
            queued: self.queued,
            connect,
            first_content: since(Some(self.begun), self.first_content),
            tries: self.tries,
            hedges: u32::from(self.was_hedged),
            request_bytes: self.received,
            response_bytes: self.sent,
            usage: spent.map(|spent| (spent.usage, spent.micro_cost)),
        }
    }
}

impl Held {
    /// Settles what the answer says about the upstream.
    pub(super) fn settle(&mut self, verdict: Verdict, after: Option<Duration>) {
        let now = self.proxy.clock.mono_ms();
        let random = self.proxy.draw();
        if let Some(picked) = &mut self.picked {
            picked.settle(verdict, after, now, random);
        }
    }

    /// The answer breaks off: a failure, also if its beginning was a success.
    pub(super) fn breaks(&mut self) {
        let now = self.proxy.clock.mono_ms();
        let random = self.proxy.draw();
        if let Some(picked) = &mut self.picked {
            picked.broke(now, random);
        }
    }

    /// Bytes of the answer that went to the client.
    pub(super) fn passed(&mut self, bytes: usize) {
        self.story.sent += bytes as u64;
    }

    /// How long a tunnel may stand, and how long it may be silent, in milliseconds.
    pub(super) fn tunnel_limits(&self) -> (Option<u64>, Option<u64>) {
        (self.route.limits.stream_total_ms, self.route.limits.gap_ms)
    }

    /// It is over; what was held is given back, and the request is counted and logged.
    pub(super) fn ends(&mut self, how: Ended) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let now = self.proxy.clock.elapsed();
        let is_well = how == Ended::Complete && self.story.decided_by == Decider::Upstream;
        let verdict = if is_well {
            Verdict::Success
        } else {
            Verdict::Neutral
        };
        if let Some(picked) = &mut self.picked {
            // What was told before stands.
            picked.settle(verdict, None, millis(now), self.proxy.draw());
        }
        self.picked = None;
        self.permit = None;
        let spent = self.metered.take().map(|metered| metered.settle());
        let outcome = self.story.outcome(now, how, spent.as_ref());
        if self.route.is_grpc {
            self.proxy.note_end(&self.story, &outcome);
        }
        self.route.figures.finish(&outcome);
        if let Some(log) = &*self.proxy.log.load() {
            let story = &self.story;
            log.write(&Line {
                unix_ms: self.proxy.clock.unix_ms(),
                proxy_name: &self.route.label,
                method: story.method.as_str(),
                path: story.target.path(),
                upstream: story
                    .endpoint
                    .as_ref()
                    .map_or("", |endpoint| &endpoint.name),
                // Itself included.
                concurrent: self.route.figures.active() + 1,
                circuit_state: match story.breaker {
                    BreakerState::Closed => "closed",
                    BreakerState::Open { .. } => "open",
                    BreakerState::HalfOpen => "half-open",
                },
                trace: &story.trace,
                caller: story.caller.id(),
                model: spent.as_ref().and_then(|spent| spent.model.as_deref()),
                error: story.error.as_deref(),
                outcome: &outcome,
            });
        }
    }
}

/// A moment of the clock in milliseconds, as policies count.
pub(super) fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ends(Ended::ClientLeft);
    }
}
