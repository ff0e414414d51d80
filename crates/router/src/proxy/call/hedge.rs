//! A second try beside the first, when that is slow.
//!
//! Only for requests without a body that may be done twice, only with another upstream, and
//! only if the budget of extra tries has room. Whichever answers first is used; the other is
//! dropped, which tells its upstream.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http1::{Framing, Inflow, RequestHead, ResponseHead, Target};
use lifecycle::Clock;
use policy::{BreakerState, Deadline, Verdict};
use upstream::http_service::{DialError, Exchange, ExchangeError, Link};

use super::super::endpoints::{Endpoint, Picked};
use super::super::outcome::{Connection, Phase};
use super::super::refusal::Refusal;
use super::super::story::Held;
use super::{Answered, Call, Failure, address, connection_of, judge, lost, no_upstream};

/// One of the two.
struct Attempt {
    picked: Picked,
    endpoint: Arc<Endpoint>,
    breaker: BreakerState,
    head: RequestHead,
    step: Step,
    begun: Duration,
    connected: Option<(Duration, Connection)>,
    header_at: Option<u64>,
}

enum Step {
    Dialling(Pin<Box<dyn Future<Output = Result<Link, DialError>> + Send>>),
    Asking(Exchange),
    /// There was no connection.
    Over,
}

/// The two under way.
struct Race {
    leading: Option<Attempt>,
    beside: Option<Attempt>,
    /// When the second one is due.
    hedge_at: Option<u64>,
    clock: Clock,
    header_ms: Option<u64>,
    /// An answer that the upstream is overloaded is a failure.
    on_overload: bool,
}

/// Which one ended the race, and how.
type Won = (Attempt, Result<ResponseHead, Failure>);

impl Call<'_> {
    /// After how long a second try is sent beside the first; `None` if none is.
    pub(super) fn hedge_after_ms(&self, fresh: bool) -> Option<u64> {
        let after_ms = self.held.route.limits.hedge_ms?;
        let may = !fresh
            && !self.held.story.was_hedged
            && self.head.framing == Framing::Empty
            && self.upgrade.is_none()
            && self.is_idempotent()
            && self.held.route.endpoints.len() > 1;
        may.then_some(after_ms)
    }

    /// Sends the request to one upstream and, if that is slow, to another, up to the head of
    /// the first answer.
    pub(super) async fn hedged_try(
        &mut self,
        avoid: Option<usize>,
        after_ms: u64,
    ) -> Result<Result<Answered, Failure>, Refusal> {
        let first = launch(&mut self.held, &self.head, &self.asked, avoid)?;
        self.held.story.try_begun = Some(first.begun);
        self.held.story.endpoint = Some(Arc::clone(&first.endpoint));
        let (attempt, answered) = self.race(first, after_ms).await;
        let story = &mut self.held.story;
        story.endpoint = Some(attempt.endpoint);
        story.breaker = attempt.breaker;
        story.try_begun = Some(attempt.begun);
        story.connected = attempt.connected.map(|(at, _)| at);
        story.connection = attempt.connected.map(|(_, connection)| connection);
        self.held.picked = Some(attempt.picked);
        match (attempt.step, answered) {
            (Step::Asking(exchange), answered) => match self.heard(exchange, answered) {
                Ok(answered) => Ok(self.first_of(answered).await),
                Err(failure) => Ok(Err(failure)),
            },
            (_, Err(failure)) => Ok(Err(failure)),
            (_, Ok(_)) => Err(no_upstream()),
        }
    }

    async fn race(&mut self, first: Attempt, after_ms: u64) -> Won {
        let total = self.deadline_ms;
        let (held, inflow) = (&mut *self.held, &mut *self.inflow);
        let (head, asked) = (&self.head, &self.asked);
        let clock = held.proxy.clock;
        let mut race = Race {
            leading: Some(first),
            beside: None,
            hedge_at: Some(clock.mono_ms() + after_ms),
            clock,
            header_ms: held.route.limits.header_ms,
            on_overload: held.route.record.retry.on_overload,
        };
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(won) = race.poll(cx, inflow, held.proxy.draw()) {
                    return Poll::Ready(won);
                }
                if let Some(at) = total
                    && inflow.poll_deadline(cx, at).is_ready()
                    && let Some(attempt) = race.leading.take()
                {
                    return Poll::Ready((attempt, Err(Failure::Phase(Phase::Total))));
                }
                match race.hedge_at {
                    Some(at) if inflow.poll_deadline(cx, at).is_ready() => race.hedge_at = None,
                    _ => return Poll::Pending,
                }
                let deadline = total.map_or(Deadline::NEVER, Deadline::at);
                let index = race.leading.as_ref().map(|one| one.picked.index());
                race.beside = launch_beside(held, head, asked, index, deadline);
                if race.beside.is_none() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}

impl Race {
    /// Each has its turn. One that fails while the other is under way is out.
    fn poll(&mut self, cx: &mut Context<'_>, inflow: &mut dyn Inflow, random: u64) -> Poll<Won> {
        for _ in 0..2 {
            if let Some(mut attempt) = self.leading.take() {
                match attempt.poll(cx, inflow, self.clock, self.header_ms) {
                    Poll::Pending => self.leading = Some(attempt),
                    Poll::Ready(answered) => {
                        let now = self.clock.mono_ms();
                        let failed = self.failed(&answered);
                        match (failed, &mut self.beside) {
                            (Some((verdict, after)), Some(_)) => {
                                attempt.picked.settle(verdict, after, now, random);
                            }
                            (_, other) => {
                                if let Some(other) = other {
                                    // It takes at least as long as it took so far.
                                    let verdict = Verdict::Neutral;
                                    other.picked.settle(verdict, None, now, random);
                                }
                                return Poll::Ready((attempt, answered));
                            }
                        }
                    }
                }
            }
            std::mem::swap(&mut self.leading, &mut self.beside);
        }
        if self.leading.is_none() {
            self.leading = self.beside.take();
        }
        Poll::Pending
    }

    /// What it says about an upstream that it is better to wait for the other one.
    fn failed(
        &self,
        answered: &Result<ResponseHead, Failure>,
    ) -> Option<(Verdict, Option<Duration>)> {
        match answered {
            Ok(head) if self.on_overload && matches!(head.status, 502..=504) => {
                Some((Verdict::Failure, super::retry_after(head)))
            }
            Ok(_)
            | Err(Failure::Exchange {
                error: ExchangeError::Client(_),
                ..
            }) => None,
            Err(Failure::Exchange { is_stale: true, .. }) => Some((Verdict::Neutral, None)),
            Err(failure) => Some(judge(failure)),
        }
    }
}

impl Attempt {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
        clock: Clock,
        header_ms: Option<u64>,
    ) -> Poll<Result<ResponseHead, Failure>> {
        loop {
            match &mut self.step {
                Step::Dialling(dialling) => match dialling.as_mut().poll(cx) {
                    Poll::Ready(Ok(link)) => {
                        self.connected = Some((clock.elapsed(), connection_of(&link)));
                        self.step = Step::Asking(Exchange::new(link, &self.head));
                    }
                    Poll::Ready(Err(error)) => {
                        self.step = Step::Over;
                        return Poll::Ready(Err(Failure::Dial(error)));
                    }
                    Poll::Pending => {
                        return inflow.poll_gone(cx).map(|gone| {
                            Err(Failure::Exchange {
                                error: gone.into(),
                                is_stale: false,
                            })
                        });
                    }
                },
                Step::Asking(exchange) => {
                    if let Poll::Ready(answered) = exchange.poll_head(cx, inflow) {
                        // Only what may be done twice is tried like this.
                        let failed = |error| lost(exchange, error, true);
                        return Poll::Ready(answered.map_err(failed));
                    }
                    if self.header_at.is_none() && exchange.is_sent() {
                        self.header_at = header_ms.map(|header_ms| clock.mono_ms() + header_ms);
                    }
                    return match self.header_at {
                        Some(at) => inflow
                            .poll_deadline(cx, at)
                            .map(|()| Err(Failure::Phase(Phase::Headers))),
                        None => Poll::Pending,
                    };
                }
                Step::Over => return Poll::Pending,
            }
        }
    }
}

/// Begins a try with an upstream.
fn launch(
    held: &mut Held,
    head: &RequestHead,
    asked: &Target,
    avoid: Option<usize>,
) -> Result<Attempt, Refusal> {
    let (proxy, route) = (Arc::clone(&held.proxy), Arc::clone(&held.route));
    let now = proxy.clock.mono_ms();
    let picked = route.endpoints.pick(now, proxy.draw(), avoid)?;
    let endpoint = Arc::clone(picked.endpoint().ok_or_else(no_upstream)?);
    let mut head = head.clone();
    address(&mut head, asked, &route, &endpoint);
    let begun = proxy.clock.elapsed();
    held.story.tries += 1;
    let origin = Arc::clone(&endpoint.spec.origin);
    Ok(Attempt {
        breaker: endpoint.breaker_state(now),
        picked,
        endpoint,
        head,
        step: Step::Dialling(Box::pin(
            async move { proxy.pool.take(&origin, false).await },
        )),
        begun,
        connected: None,
        header_at: None,
    })
}

/// Begins a try with another upstream than that one, if there is one and the budget allows.
fn launch_beside(
    held: &mut Held,
    head: &RequestHead,
    asked: &Target,
    first: Option<usize>,
    deadline: Deadline,
) -> Option<Attempt> {
    let permit = held.permit.as_mut()?;
    if !permit.charge() {
        return None;
    }
    if permit.again(deadline).is_ok() {
        let tries = held.story.tries;
        match launch(held, head, asked, first) {
            Ok(other) if Some(other.picked.index()) != first => {
                held.story.was_hedged = true;
                return Some(other);
            }
            // There is no other one to be asked.
            _ => held.story.tries = tries,
        }
    }
    if let Some(permit) = &mut held.permit {
        permit.uncharge();
    }
    None
}
