//! One request: admitted, sent, tried again, answered.

mod hedge;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::Method;
use http1::{Chunk, Framing, Gone, Inflow, Known, RequestHead, ResponseHead};
use policy::{Deadline, Verdict};
use upstream::guard::Permit;
use upstream::http_service::{DialError, Exchange, ExchangeError, Link};

use super::ai::{Meter, Prices, Shape, Usage, micro_cost};
use super::answer::{Answer, Body};
use super::endpoints::{Endpoint, Picked};
use super::grpc;
use super::metered::Metered;
use super::outbound::{self, Origin};
use super::outcome::{Connection, Ended, Phase};
use super::refusal::Refusal;
use super::replay::{Replay, Replaying};
use super::route::Route;
use super::story::{Held, Story, millis};
use super::streaming::Streaming;
use super::trace::Trace;
use super::tunnel::Tunnel;
use super::upgrade::{self, Upgrade};
use super::{Caller, ConcurrencyMode, Proxy};
use crate::services::GUUID_KEY;

/// A request as the edge hands it in.
#[derive(Debug)]
pub struct Asked {
    /// Its head.
    pub head: RequestHead,
    /// Where it comes from.
    pub from: Origin,
    /// Who asks.
    pub caller: Caller,
    /// `Authorization` holds a token of ours, which is nobody else's business.
    pub has_our_token: bool,
}

/// A request under way.
pub(super) struct Call<'a> {
    pub(super) held: Box<Held>,
    pub(super) head: RequestHead,
    pub(super) replay: Replay,
    pub(super) inflow: &'a mut dyn Inflow,
    upgrade: Option<Upgrade>,
    /// The target as the client sent it.
    asked: http1::Target,
    /// When all of it is over, unless the answer turns out to be a stream.
    deadline_ms: Option<u64>,
}

/// An answer, up to its head; of a model's stream, up to its first part.
#[derive(Debug)]
pub(super) struct Answered {
    exchange: Exchange,
    head: ResponseHead,
    first: Option<Chunk>,
}

/// Why a try brought no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// There was no connection: nothing was sent.
    Dial(DialError),
    /// The exchange failed. `is_unprocessed`: the upstream can't have acted.
    Exchange {
        error: ExchangeError,
        is_stale: bool,
    },
    /// A phase took too long.
    Phase(Phase),
    /// It answered that it can't now; the answer, should there be no other.
    Overloaded(Box<Answered>),
}

impl Proxy {
    /// Answers a request on a route. The future may be dropped at any moment: whatever
    /// it holds goes with it, and the upstream is told.
    pub async fn answer(
        self: &Arc<Self>,
        route: &Arc<Route>,
        asked: Asked,
        inflow: &mut dyn Inflow,
    ) -> Answer {
        let Asked {
            head,
            from,
            caller,
            has_our_token,
        } = asked;
        let trace = Trace::of(&head.fields, || self.draw());
        let begun = self.clock.elapsed();
        let story = Story::new(begun, &head, from, caller, trace);
        route.figures.begin();
        let mut call = Call {
            replay: Replay::new(route.record.retry.body_max as usize, route.record.max_body),
            deadline_ms: deadline(route, &head, millis(begun)),
            asked: head.target.clone(),
            upgrade: None,
            head,
            inflow,
            held: Box::new(Held {
                proxy: Arc::clone(self),
                route: Arc::clone(route),
                story,
                picked: None,
                permit: None,
                metered: None,
                is_over: false,
            }),
        };
        match call.run(has_our_token).await {
            Ok(answered) => call.pass_on(answered),
            Err(refusal) => call.refuse(&refusal),
        }
    }
}

impl Call<'_> {
    /// Up to an answer that can go to the client.
    async fn run(&mut self, has_our_token: bool) -> Result<Answered, Refusal> {
        let route = Arc::clone(&self.held.route);
        route.admits(&self.held.story.caller)?;
        if let (Framing::Length(length), most @ 1..) = (self.head.framing, route.record.max_body)
            && length > most
        {
            return Err(Gone::TooLarge.into());
        }
        if route.is_grpc && !grpc::is_call(&self.head) {
            return Err(Refusal::NoCall);
        }
        self.upgrade = Upgrade::asked(&self.head, &route)?;
        route.check_identity(&self.held)?;
        // Before the limiter, as the seed draws it.
        route.endpoints.check(millis(self.held.story.begun))?;
        self.reserve_tokens().await?;
        self.take_slot().await?;
        self.prepare(has_our_token);
        let mut avoid = None;
        let mut fresh = false;
        loop {
            let tried = match self.hedge_after_ms(fresh) {
                Some(after_ms) => self.hedged_try(avoid, after_ms).await?,
                None => self.one_try(avoid, fresh).await?,
            };
            let failure = match tried {
                Ok(answered) => return self.checked(answered),
                Err(failure) => failure,
            };
            if let Failure::Exchange {
                error: ExchangeError::Client(gone),
                ..
            } = failure
            {
                return Err(gone.into());
            }
            // A connection that had been closed while it rested says nothing about the
            // upstream: the same request goes once more, on a fresh one, for free.
            let is_stale = matches!(failure, Failure::Exchange { is_stale: true, .. });
            if is_stale && !fresh && self.replay.is_whole() {
                self.wait_is_over();
                fresh = true;
                self.replay.rewind();
                continue;
            }
            let (verdict, after) = judge(&failure);
            self.held.settle(verdict, after);
            if !self.may_try_again(&failure) {
                return self.last_word(failure);
            }
            avoid = self.held.picked.take().map(|picked| picked.index());
            if !self.wait_before_next(after).await? {
                return self.last_word(failure);
            }
            self.wait_is_over();
            self.replay.rewind();
            fresh = false;
        }
    }

    /// What comes of a failure after which there is no other try.
    fn last_word(&mut self, failure: Failure) -> Result<Answered, Refusal> {
        match failure {
            Failure::Overloaded(answered) => Ok(*answered),
            failure => {
                self.wait_is_over();
                Err(refusal_of(&failure))
            }
        }
    }

    /// What was waited for since the last try began is not the gateway's own time.
    fn wait_is_over(&mut self) {
        let now = self.held.proxy.clock.elapsed();
        self.held.story.wait_is_over(now);
    }

    /// Reads what is asked of a model, and takes the most that this can cost out of its
    /// caller's budgets. It comes before the slot: a slow body holds none.
    async fn reserve_tokens(&mut self) -> Result<(), Refusal> {
        let route = Arc::clone(&self.held.route);
        let Some(ai) = &route.record.ai else {
            return Ok(());
        };
        if self.head.framing != Framing::Empty {
            self.held.story.try_begun = Some(self.held.proxy.clock.elapsed());
            let deadline = self.deadline_ms;
            let (replay, inflow) = (&mut self.replay, &mut *self.inflow);
            poll_fn(|cx| {
                if let Poll::Ready(read) = replay.poll_ahead(cx, inflow) {
                    return Poll::Ready(read);
                }
                match deadline {
                    Some(at) => inflow.poll_deadline(cx, at).map(|()| Err(Gone::TooSlow)),
                    None => Poll::Pending,
                }
            })
            .await?;
            self.wait_is_over();
        }
        let ask = self.replay.ask();
        let (input, output) = ask.tokens_max(u64::from(ai.output_reserve));
        let proxy = Arc::clone(&self.held.proxy);
        let most = Usage {
            input,
            output,
            ..Usage::default()
        };
        let charge = proxy.spending.reserve(
            &self.held.story.caller,
            &ai.budget,
            input.saturating_add(output),
            micro_cost(&most, Prices::of(ai)),
        )?;
        let spending = Arc::clone(&proxy.spending);
        self.held.metered = Some(Box::new(Metered::new(ai, ask, Some(charge), spending)));
        Ok(())
    }

    /// Waits for a slot, as long as the route's queue allows.
    async fn take_slot(&mut self) -> Result<(), Refusal> {
        let route = Arc::clone(&self.held.route);
        let deadline = self.deadline_ms.map_or(Deadline::NEVER, Deadline::at);
        let clock = self.held.proxy.clock;
        let came = (route.record.queue.max > 0).then(|| clock.elapsed());
        self.held.story.try_begun = came;
        let permit = self.unless_gone(route.guard.admit(deadline)).await??;
        if let Some(came) = came {
            self.held.story.try_begun = None;
            let waited = clock.elapsed().saturating_sub(came);
            self.held.story.queued = Some(waited).filter(|waited| *waited >= QUEUED_MIN);
        }
        self.held.permit = Some(permit);
        Ok(())
    }

    /// What all tries have in common: the head without what ends here.
    fn prepare(&mut self, has_our_token: bool) {
        let held = &mut *self.held;
        outbound::rewrite(&mut self.head, held.story.from, has_our_token);
        held.story.trace.put(&mut self.head.fields);
        held.route.inject(&mut self.head.fields, &held.story.caller);
        if held.route.is_grpc {
            // What the client says there is not believed: by the id of the trace the service's
            // log and ours are brought together.
            let id = held.story.trace.guuid().to_string();
            let put = self.head.fields.set(GUUID_KEY, id.as_bytes());
            debug_assert!(put.is_ok(), "digits and dashes are a valid value");
            held.proxy.note_call(&held.route, &held.story);
        }
        self.head.upgrade = self.upgrade.as_ref().map(Upgrade::protocol);
    }

    /// Sends the request to one upstream, up to its answer's head.
    async fn one_try(
        &mut self,
        avoid: Option<usize>,
        fresh: bool,
    ) -> Result<Result<Answered, Failure>, Refusal> {
        let route = Arc::clone(&self.held.route);
        let begun = self.held.proxy.clock.elapsed();
        let now = millis(begun);
        if self.held.picked.is_none() {
            let picked = route.endpoints.pick(now, self.held.proxy.draw(), avoid)?;
            self.held.picked = Some(picked);
        }
        let Some(endpoint) = self.held.picked.as_ref().and_then(Picked::endpoint) else {
            return Err(no_upstream());
        };
        let endpoint = Arc::clone(endpoint);
        address(&mut self.head, &self.asked, &route, &endpoint);
        let story = &mut self.held.story;
        story.tries += u32::from(!fresh);
        story.breaker = endpoint.breaker_state(now);
        story.try_begun = Some(begun);
        story.endpoint = Some(Arc::clone(&endpoint));
        let proxy = Arc::clone(&self.held.proxy);
        let origin = match &self.upgrade {
            None => &endpoint.spec.origin,
            Some(_) => &endpoint.upgrade_origin,
        };
        let link = match self.in_time(proxy.pool.take(origin, fresh)).await? {
            Some(Ok(link)) => link,
            Some(Err(error)) => return Ok(Err(Failure::Dial(error))),
            None => return Ok(Err(Failure::Phase(Phase::Total))),
        };
        let story = &mut self.held.story;
        let connection = connection_of(&link);
        story.connection = Some(connection);
        story.connected = Some(match connection {
            // It was at hand.
            Connection::Reused => begun,
            Connection::Fresh(_) => proxy.clock.elapsed(),
        });
        let exchange = Exchange::new(link, &self.head);
        let answered = match self.head_of(exchange).await {
            Ok(answered) => answered,
            Err(failure) => return Ok(Err(failure)),
        };
        Ok(self.first_of(answered).await)
    }

    /// Waits for the first part of a model's stream while there is another upstream to
    /// ask instead: once the head has gone to the client there is no way back.
    async fn first_of(&mut self, mut answered: Answered) -> Result<Answered, Failure> {
        let route = Arc::clone(&self.held.route);
        let Some(ai) = &route.record.ai else {
            return Ok(answered);
        };
        if answered.head.status != 200
            || !is_event_stream(&answered.head)
            || !self.can_try_again()
            || route.limits.heartbeat_ms.is_some()
        {
            return Ok(answered);
        }
        let clock = self.held.proxy.clock;
        let limits = &route.limits;
        let due_in = limits
            .first_byte_ms
            .or(limits.gap_ms)
            .or(limits.stream_total_ms);
        let due_at = due_in.map(|due_in| clock.mono_ms() + due_in);
        let (replay, inflow) = (&mut self.replay, &mut *self.inflow);
        let exchange = &mut answered.exchange;
        let first = poll_fn(|cx| {
            let mut body = Replaying {
                replay: &mut *replay,
                inflow: &mut *inflow,
            };
            if let Poll::Ready(first) = exchange.poll_chunk(cx, &mut body) {
                return Poll::Ready(first.map_err(|error| Failure::Exchange {
                    error,
                    is_stale: false,
                }));
            }
            match due_at {
                Some(at) if inflow.poll_deadline(cx, at).is_ready() => {
                    Poll::Ready(Err(Failure::Phase(Phase::FirstByte)))
                }
                _ => Poll::Pending,
            }
        })
        .await?;
        let Chunk::Data(data) = &first else {
            // It ended before it began.
            return Err(Failure::Exchange {
                error: ExchangeError::Unanswered,
                is_stale: false,
            });
        };
        let mut meter = Meter::new(ai.dialect, Shape::EventStream);
        meter.push(data);
        answered.first = Some(first);
        if meter.has_error() {
            return Err(Failure::Overloaded(Box::new(answered)));
        }
        Ok(answered)
    }

    /// Waits for an answer's head, phase by phase.
    async fn head_of(&mut self, mut exchange: Exchange) -> Result<Answered, Failure> {
        let clock = self.held.proxy.clock;
        let header_ms = self.held.route.limits.header_ms;
        let total = self.deadline_ms;
        let is_repeatable = self.is_repeatable();
        let mut metered = self.held.metered.as_mut();
        let (replay, inflow) = (&mut self.replay, &mut *self.inflow);
        let mut header_at = None;
        // What goes out at once went out now.
        let mut now = self.held.story.connected.map(millis);
        let answered = poll_fn(|cx| {
            let mut body = Replaying {
                replay: &mut *replay,
                inflow: &mut *inflow,
            };
            let polled_at = now.take();
            if let Poll::Ready(answered) = exchange.poll_head(cx, &mut body) {
                return Poll::Ready(
                    answered.map_err(|error| lost(&exchange, error, is_repeatable)),
                );
            }
            if header_at.is_none() && exchange.is_sent() {
                let now = polled_at.unwrap_or_else(|| clock.mono_ms());
                header_at = header_ms.map(|header_ms| now + header_ms);
                if let Some(metered) = &mut metered {
                    metered.asked(true);
                }
            }
            for (at, phase) in [(header_at, Phase::Headers), (total, Phase::Total)] {
                if let Some(at) = at
                    && inflow.poll_deadline(cx, at).is_ready()
                {
                    // Who is late is the client, if all that it sent has been passed on.
                    let is_late = phase == Phase::Total && replay.is_waiting();
                    return Poll::Ready(Err(if is_late && !exchange.is_sent() {
                        Failure::Exchange {
                            error: Gone::TooSlow.into(),
                            is_stale: false,
                        }
                    } else {
                        Failure::Phase(phase)
                    }));
                }
            }
            Poll::Pending
        })
        .await;
        self.heard(exchange, answered)
    }

    /// Takes note of an answer's head, or that there is none.
    fn heard(
        &mut self,
        exchange: Exchange,
        answered: Result<ResponseHead, Failure>,
    ) -> Result<Answered, Failure> {
        let now = self.held.proxy.clock.elapsed();
        self.held.story.received = self.replay.seen_bytes();
        self.sample(now, &answered);
        let is_turned_down = match &answered {
            Ok(head) => head.status >= 400,
            Err(Failure::Phase(_)) => false,
            Err(Failure::Exchange { error, .. }) => !matches!(error, ExchangeError::Client(_)),
            Err(_) => true,
        };
        if is_turned_down && let Some(metered) = &mut self.held.metered {
            metered.asked(false);
        }
        let head = answered?;
        self.held.story.answered = Some(now);
        if let Some(picked) = &mut self.held.picked {
            picked.heard(millis(now));
        }
        let status = head.status;
        let answered = Answered {
            exchange,
            head,
            first: None,
        };
        let is_grpc = self.held.route.is_grpc;
        let is_overload = match status {
            200 if is_grpc && grpc::is_overload(grpc::status(&answered.head.fields)) => {
                self.held.route.record.retry.on_overload
            }
            502..=504 => self.held.route.record.retry.on_overload,
            429 | 529 => self.held.route.record.ai.is_some() && self.held.route.endpoints.len() > 1,
            _ => false,
        };
        if is_overload {
            return Err(Failure::Overloaded(Box::new(answered)));
        }
        Ok(answered)
    }

    /// Shows the adaptive limit how long the upstream took, if there is one.
    fn sample(&mut self, now: Duration, answered: &Result<ResponseHead, Failure>) {
        let held = &mut *self.held;
        if held.route.record.concurrency_mode != ConcurrencyMode::Adaptive {
            return;
        }
        let verdict = match answered {
            Ok(head) if head.status < 500 => Verdict::Success,
            Ok(_) => Verdict::Failure,
            Err(failure) => judge(failure).0,
        };
        let took = now.saturating_sub(held.story.connected.unwrap_or(now));
        if let Some(permit) = &mut held.permit {
            permit.sample(took, verdict);
        }
    }

    /// Whether another try would do no harm, and may be afforded.
    fn may_try_again(&mut self, failure: &Failure) -> bool {
        if !self.can_try_again() {
            return false;
        }
        let is_harmless = match failure {
            // It would be refused again.
            Failure::Dial(DialError::Forbidden(_)) if self.held.route.endpoints.len() < 2 => false,
            Failure::Dial(_) => true,
            Failure::Exchange { error, .. } if error.is_unprocessed() => true,
            // Only with another upstream, or asking again is what overloads it.
            Failure::Overloaded(_) if self.held.route.endpoints.len() < 2 => false,
            Failure::Overloaded(answered)
                if self.held.route.is_grpc && grpc::asks_again(&answered.head.fields) =>
            {
                true
            }
            // Of a model another one may be asked before it has spoken.
            Failure::Exchange { .. } | Failure::Phase(_) | Failure::Overloaded(_)
                if self.held.route.endpoints.len() < 2 =>
            {
                self.is_idempotent()
            }
            Failure::Exchange { .. } | Failure::Phase(_) | Failure::Overloaded(_) => {
                self.is_repeatable()
            }
        };
        if !is_harmless {
            return false;
        }
        // Decided and paid for before the wait.
        self.held.permit.as_mut().is_some_and(Permit::charge)
    }

    /// Doing it twice does no harm, or the operator says so.
    fn is_idempotent(&self) -> bool {
        self.held.route.record.retry.unsafe_methods || is_idempotent(&self.head)
    }

    /// The same, or it is a question to a model, which may cost twice but changes nothing.
    fn is_repeatable(&self) -> bool {
        self.is_idempotent() || self.held.route.record.ai.is_some()
    }

    /// Whether there is another try left, and something to send again.
    fn can_try_again(&self) -> bool {
        self.held.story.tries <= self.held.route.record.retry.attempts
            && self.replay.is_whole()
            && self.upgrade.is_none()
    }

    /// Waits a little where the same upstream would be asked again; `false` if there is
    /// no time for it.
    async fn wait_before_next(&mut self, after: Option<Duration>) -> Result<bool, Refusal> {
        let deadline = self.deadline_ms.map_or(Deadline::NEVER, Deadline::at);
        if self.held.route.endpoints.len() < 2 {
            let proxy = Arc::clone(&self.held.proxy);
            let retries = self.held.route.guard.policy().settings().retries;
            let Some(wait) = retries.wait(self.held.story.tries - 1, after, proxy.draw()) else {
                return Ok(false);
            };
            let until = self.now() + u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            if deadline.passed(until) {
                return Ok(false);
            }
            let (clock, inflow) = (proxy.clock, &mut *self.inflow);
            poll_fn(|cx| {
                if let Poll::Ready(gone) = inflow.poll_gone(cx) {
                    return Poll::Ready(Err(gone));
                }
                if clock.mono_ms() >= until || inflow.poll_deadline(cx, until).is_ready() {
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending
            })
            .await?;
        }
        let Some(permit) = &mut self.held.permit else {
            return Ok(false);
        };
        Ok(permit.again(deadline).is_ok())
    }

    /// Waits for something that needs nothing of the client, unless the client goes or the
    /// time for all of it is over (`None`).
    async fn in_time<T>(&mut self, wanted: impl Future<Output = T>) -> Result<Option<T>, Gone> {
        let mut wanted = pin!(wanted);
        let (inflow, deadline) = (&mut *self.inflow, self.deadline_ms);
        poll_fn(|cx| {
            if let Poll::Ready(value) = wanted.as_mut().poll(cx) {
                return Poll::Ready(Ok(Some(value)));
            }
            if let Some(at) = deadline
                && inflow.poll_deadline(cx, at).is_ready()
            {
                return Poll::Ready(Ok(None));
            }
            inflow.poll_gone(cx).map(Err)
        })
        .await
    }

    /// Waits for something that needs nothing of the client, unless the client goes.
    async fn unless_gone<T>(&mut self, wanted: impl Future<Output = T>) -> Result<T, Gone> {
        let mut wanted = pin!(wanted);
        let inflow = &mut *self.inflow;
        poll_fn(|cx| {
            if let Poll::Ready(value) = wanted.as_mut().poll(cx) {
                return Poll::Ready(Ok(value));
            }
            inflow.poll_gone(cx).map(Err)
        })
        .await
    }

    /// An upstream that switches protocols must have been asked to, and mean it.
    fn checked(&mut self, answered: Answered) -> Result<Answered, Refusal> {
        if answered.head.status == 101 {
            let verified = match &self.upgrade {
                Some(upgrade) => upgrade.verify(&answered.head),
                None => Err("upstream switched protocols unasked"),
            };
            if let Err(what) = verified {
                self.held.settle(Verdict::Failure, None);
                return Err(Refusal::Upstream(format!("connection error: {what}")));
            }
        }
        Ok(answered)
    }

    /// The answer that goes to the client.
    fn pass_on(mut self, answered: Answered) -> Answer {
        let Answered {
            exchange,
            mut head,
            first,
        } = answered;
        // To HEAD there is nothing to put a word of our own into.
        let is_stream = is_event_stream(&head) && head.framing != Framing::Empty;
        let status = head.status;
        // A model's stream says with its first word whether it is well, if there is a limit
        // until when.
        let has_yet_to_speak =
            self.held.metered.is_some() && self.held.route.limits.first_byte_ms.is_some();
        match head.status {
            500.. => self.held.settle(Verdict::Failure, retry_after(&head)),
            429 if self.held.metered.is_some() => {
                self.held.settle(Verdict::Soft, retry_after(&head));
            }
            200 if self.held.route.is_grpc => {
                // Without it, the status comes at the end.
                if let Some(status) = grpc::status(&head.fields) {
                    self.held.settle(grpc::verdict(Some(status)), None);
                }
            }
            // Its end may be hours away.
            101 => self.held.settle(Verdict::Success, None),
            _ if is_stream && !has_yet_to_speak => self.held.settle(Verdict::Success, None),
            _ => {}
        }
        if let Some(permit) = &mut self.held.permit {
            permit.uncharge();
        }
        self.replay.let_go();
        self.held.story.received = self.replay.seen_bytes();
        self.held.story.status = head.status;
        answer_fields(&mut head, is_stream);
        if self.held.route.is_grpc && head.framing == Framing::Empty {
            // A head that says how the call went, and nothing else: clients want to see that
            // nothing follows it.
            self.held.ends(Ended::Complete);
            return Answer {
                status: head.status,
                framing: head.framing,
                fields: head.fields,
                upgrade: None,
                body: Body::Empty,
            };
        }
        if is_stream && matches!(head.framing, Framing::Length(_)) {
            // A word of our own may have to be put in.
            head.fields.remove(Known::ContentLength);
            head.framing = Framing::Chunked;
        }
        if self.held.picked.as_ref().is_some_and(Picked::is_probe) {
            put(&mut head, "x-circuit-breaker", "half-open");
        }
        let mut answer = Answer {
            status: head.status,
            framing: head.framing,
            fields: head.fields,
            upgrade: None,
            body: Body::Empty,
        };
        if head.status == 101 {
            answer.upgrade = Some(upgrade::NAME);
            answer.body = match exchange.into_tunnel() {
                Some(tunnel) => Body::Tunnel(Box::new(Tunnel::new(tunnel, self.held))),
                None => Body::Empty,
            };
            return answer;
        }
        let deadline_ms = if is_stream {
            let total = self.held.route.limits.stream_total_ms;
            total.map(|total| self.now() + total)
        } else {
            self.deadline_ms
        };
        if status < 400
            && let Some(metered) = &mut self.held.metered
        {
            metered.begins(is_stream);
        }
        let streaming = Streaming::new(
            exchange,
            first,
            self.replay,
            self.held,
            is_stream,
            deadline_ms,
        );
        answer.body = Body::Stream(Box::new(streaming));
        answer
    }

    /// Our own answer instead of an upstream's.
    fn refuse(mut self, refusal: &Refusal) -> Answer {
        let ai = self.held.route.record.ai.as_ref();
        let is_call = grpc::is_call(&self.head);
        let said = if is_call {
            grpc::refused(refusal)
        } else {
            refusal.said(ai.map(|ai| ai.dialect))
        };
        // Nobody is there to read it.
        let is_unread = matches!(refusal, Refusal::Client(Gone::Left));
        self.held.story.status = if is_unread { 0 } else { refusal.status() };
        self.held.story.decided_by = refusal.decided_by();
        if matches!(refusal, Refusal::NoConnection(_) | Refusal::Upstream(_)) {
            self.held.story.error = Some(refusal.to_string().into());
        }
        self.held.story.sent = said.body.len() as u64;
        self.held.story.received = self.replay.seen_bytes();
        self.held.ends(match refusal {
            Refusal::Client(Gone::Left) => Ended::ClientLeft,
            _ => Ended::Refused,
        });
        if is_call {
            return grpc::answer(said);
        }
        Answer::said(said)
    }

    fn now(&self) -> u64 {
        self.held.proxy.clock.mono_ms()
    }
}

/// What a failure says about the upstream.
fn judge(failure: &Failure) -> (Verdict, Option<Duration>) {
    match failure {
        Failure::Dial(DialError::Forbidden(_) | DialError::Stopping) => (Verdict::Neutral, None),
        Failure::Exchange {
            error: ExchangeError::Unspeakable(_) | ExchangeError::Client(_),
            ..
        } => (Verdict::Neutral, None),
        Failure::Dial(_) | Failure::Exchange { .. } | Failure::Phase(_) => (Verdict::Failure, None),
        Failure::Overloaded(answered) if answered.head.status == 429 => {
            (Verdict::Soft, retry_after(&answered.head))
        }
        Failure::Overloaded(answered) => (Verdict::Failure, retry_after(&answered.head)),
    }
}

fn refusal_of(failure: &Failure) -> Refusal {
    match failure {
        Failure::Dial(error) if error.is_timeout() => Refusal::TimedOut { phase: Phase::Dial },
        Failure::Dial(error) => Refusal::NoConnection(error.to_string()),
        Failure::Exchange { error, .. } => Refusal::Upstream(format!("connection error: {error}")),
        Failure::Phase(phase) => Refusal::TimedOut { phase: *phase },
        Failure::Overloaded(_) => Refusal::Upstream("upstream is overloaded".to_owned()),
    }
}

/// When all of a request is over: what the route says, or a call's client if that is sooner.
fn deadline(route: &Route, head: &RequestHead, begun_ms: u64) -> Option<u64> {
    let own = route.limits.total_ms.map(|total| begun_ms + total);
    let asked = match route.is_grpc {
        true => grpc::timeout(&head.fields),
        false => None,
    };
    let asked = asked.map(|span| begun_ms.saturating_add(millis(span).max(1)));
    match (own, asked) {
        (Some(own), Some(asked)) => Some(own.min(asked)),
        (own, asked) => own.or(asked),
    }
}

/// Writes where the request goes on this upstream.
fn address(head: &mut RequestHead, asked: &http1::Target, route: &Route, endpoint: &Endpoint) {
    // Under its plain path there is no prefix.
    let is_plain = route.is_grpc && !asked.path().starts_with(&route.prefix);
    head.target = outbound::target(
        asked,
        &route.prefix,
        route.record.strip_path && !is_plain,
        &endpoint.spec.base_path,
    );
    head.authority = endpoint.authority.clone();
}

fn no_upstream() -> Refusal {
    Refusal::Upstream("route has no upstream".to_owned())
}

fn connection_of(link: &Link) -> Connection {
    let miss = match link {
        Link::Http1(link) => link.miss,
        Link::Http2(link) => link.miss,
        Link::Quantum(link) => link.miss,
    };
    miss.map_or(Connection::Reused, Connection::Fresh)
}

/// There is no answer. What must not be done twice is taken to be stale only where it can't
/// have been read (RFC 9110, 9.2.2).
fn lost(exchange: &Exchange, error: ExchangeError, is_repeatable: bool) -> Failure {
    let is_stale =
        is_loss(&error) && (exchange.was_stale() || is_repeatable && exchange.may_be_stale());
    Failure::Exchange { error, is_stale }
}

/// The connection was lost, as opposed to something having been said on it.
fn is_loss(error: &ExchangeError) -> bool {
    matches!(error, ExchangeError::Unanswered | ExchangeError::Io(_))
}

/// Doing it twice is the same as doing it once (RFC 9110, 9.2.2), or it carries a key
/// that makes it so.
fn is_idempotent(head: &RequestHead) -> bool {
    matches!(
        head.method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
    ) || head.fields.get_named("idempotency-key").is_some()
}

/// An answer that goes on until somebody leaves.
pub(super) fn is_event_stream(head: &ResponseHead) -> bool {
    head.fields.get(Known::ContentType).is_some_and(|kind| {
        kind.get(..EVENT_STREAM.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM))
    })
}

/// What is shorter was no wait.
const QUEUED_MIN: Duration = Duration::from_micros(500);

const EVENT_STREAM: &[u8] = b"text/event-stream";

/// `Retry-After` in seconds, or the milliseconds that model APIs say beside it.
fn retry_after(head: &ResponseHead) -> Option<Duration> {
    let number = |value: &[u8]| str::from_utf8(value).ok()?.trim().parse::<f64>().ok();
    let from = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
    if let Some(ms) = head.fields.get_named("retry-after-ms").and_then(number) {
        return from(ms / 1_000.0);
    }
    head.fields
        .get(Known::RetryAfter)
        .and_then(number)
        .and_then(from)
}

/// Takes out what ends here, and says of event streams that nobody may hold them up.
fn answer_fields(head: &mut ResponseHead, is_stream: bool) {
    http1::strip_hop_by_hop(&mut head.fields);
    if is_stream {
        put(head, "x-accel-buffering", "no");
        if head.fields.get(Known::CacheControl).is_none() {
            put(head, "cache-control", "no-cache, no-transform");
        }
    }
}

fn put(head: &mut ResponseHead, name: &str, value: &str) {
    let put = head.fields.set(name, value.as_bytes());
    debug_assert!(put.is_ok(), "our own fields are valid");
}
