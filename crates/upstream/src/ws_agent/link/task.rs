//! The task of a link: one connection from dialling to its end.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use websocket::{Decoder, Event, Inflater, Limits, OpCode, Role, close, close_payload};

use super::super::dial::{self, DialError, Dialled, Stream};
use super::super::peer::{HoldReason, Input, Output, PeerState};
use super::super::pool::{Agents, Cause, End, Hold};
use super::super::{Outcome, Peer};
use super::outgoing::Outgoing;
use super::{Link, Phase, scratch};

/// Makes a connection, lives as long as it does and reports its end to the pool.
pub(in crate::ws_agent) async fn run(agents: Arc<Agents>, link: Arc<Link>) {
    let peer = link.state().peer.take();
    let peer = peer.unwrap_or_else(|| agents.new_peer(&link.target));
    let mut session = Session::new(&agents, &link, peer);
    let dialling = tokio::time::timeout(
        link.target.dial_timeout,
        dial::open(&link.target, agents.tls()),
    );
    let end = tokio::select! {
        () = agents.draining() => End::new(Cause::Stopped, "gateway stops"),
        dialled = dialling => match dialled {
            Ok(Ok(dialled)) => session.live(dialled).await,
            Ok(Err(error)) => session.not_dialled(&error),
            Err(_) => {
                let after = link.target.dial_timeout;
                End::new(Cause::Lost, format!("no connection within {after:?}"))
            }
        }
    };
    let ended = session.finish(end);
    agents.ended(&link, ended);
}

/// What came of a connection, for the pool.
pub(in crate::ws_agent) struct Ended {
    pub(in crate::ws_agent) peer: PeerState,
    pub(in crate::ws_agent) end: End,
    pub(in crate::ws_agent) hold: Option<Hold>,
    /// It was ready at some time.
    pub(in crate::ws_agent) was_ready: bool,
    /// Deliveries or answers were expected at the end.
    pub(in crate::ws_agent) outstanding: bool,
}

/// One connection and the conversation on it.
struct Session<'a> {
    agents: &'a Agents,
    link: &'a Link,
    peer: PeerState,
    /// Of the peer, not carried out yet; kept for its room.
    outputs: Vec<Output>,
    hold: Option<Hold>,
    ready: bool,
    began_ms: u64,
    heard_ms: u64,
    /// When we asked for a sign of life.
    pinged_ms: Option<u64>,
    /// When the socket last took something, or had nothing to take.
    wrote_ms: u64,
    out: Outgoing,
    /// For each delivery the position of its first byte, or an earlier one.
    starts: HashMap<u64, u64>,
    /// The end is agreed on: our close frame is queued.
    closing: Option<Closing>,
    end: Option<End>,
}

struct Closing {
    /// When the other side has had enough time.
    due_ms: u64,
    /// Its close frame has come.
    heard: bool,
    end: End,
}

impl<'a> Session<'a> {
    fn new(agents: &'a Agents, link: &'a Link, peer: PeerState) -> Self {
        let now_ms = agents.now().mono_ms;
        Self {
            agents,
            link,
            peer,
            outputs: Vec::new(),
            hold: None,
            ready: false,
            began_ms: now_ms,
            heard_ms: now_ms,
            pinged_ms: None,
            wrote_ms: now_ms,
            out: Outgoing::default(),
            starts: HashMap::new(),
            closing: None,
            end: None,
        }
    }

    fn not_dialled(&mut self, error: &DialError) -> End {
        if let DialError::Certificate(mismatch) = error {
            self.hold = Some(Hold {
                wait: CERTIFICATE_WAIT,
                reason: HoldReason::Certificate,
                text: mismatch.to_string(),
            });
        }
        End::new(Cause::Lost, error.to_string())
    }

    /// From the open WebSocket to its end.
    async fn live(&mut self, dialled: Dialled) -> End {
        let Dialled { stream, mut rest } = dialled;
        let mut wire = Wire {
            stream,
            decoder: Decoder::new(Role::Client, None),
            limits: self.agents.limits(),
        };
        self.heard_ms = self.agents.now().mono_ms;
        self.used();
        self.feed(Input::Opened);
        if !rest.is_empty() {
            scratch::with(|room| self.received(&mut wire, &mut room.inflater, &mut rest));
        }
        drop(rest);

        let agents = self.agents;
        let link = self.link;
        let cut = agents.cut();
        tokio::pin!(cut);
        loop {
            self.turn();
            if let Some(end) = self.end.take() {
                return end;
            }
            let wait = self.due_ms().saturating_sub(agents.now().mono_ms);
            tokio::select! {
                () = &mut cut => {
                    self.close(close::GOING_AWAY, "gateway stops", Cause::Stopped);
                    self.write_once(&mut wire).await;
                    return End::new(Cause::Stopped, "gateway stops");
                }
                moved = poll_fn(|context| self.poll_socket(&mut wire, context)) => {
                    if let Err(error) = moved {
                        self.end(format!("connection failed: {error}"));
                    }
                }
                () = link.changed.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(wait.min(WAIT_MAX_MS))) => {}
            }
        }
    }

    /// Gives the socket what it takes at once.
    async fn write_once(&mut self, wire: &mut Wire) {
        poll_fn(|context| {
            // The connection is given up, whether this succeeds or not.
            drop(self.out.poll_write(context, &mut wire.stream));
            Poll::Ready(())
        })
        .await;
    }

    /// Does what is due, apart from reading and writing.
    fn turn(&mut self) {
        let now_ms = self.agents.now().mono_ms;
        while let Some(tag) = self.out.next_written() {
            self.feed(Input::Written { tag });
        }
        if self.closing.is_none() {
            self.take_orders();
            self.watch_time(now_ms);
            self.watch_need(now_ms);
        }
        let backlog = self.out.backlog();
        if backlog == 0 {
            self.wrote_ms = now_ms;
        } else if now_ms >= self.wrote_ms + WRITE_STALL_MS {
            self.end(format!("{backlog} bytes were not taken in time"));
        }
        if let Some(closing) = &self.closing
            && (now_ms >= closing.due_ms || (closing.heard && backlog == 0))
            && self.end.is_none()
        {
            self.end = self.closing.take().map(|closing| closing.end);
        }
        self.link.state().backlog_bytes = backlog;
    }

    /// Brings the peer what lies on the doorstep.
    fn take_orders(&mut self) {
        let forgotten = std::mem::take(&mut self.link.state().forgotten);
        for tag in forgotten {
            self.starts.remove(&tag);
            self.feed(Input::Forget { tag });
        }
        while self.closing.is_none() {
            let Some(order) = self.link.state().next_order() else {
                break;
            };
            self.used();
            self.starts.insert(order.tag, self.out.end());
            self.feed(Input::Send {
                tag: order.tag,
                delivery: order.delivery,
            });
        }
    }

    /// Timers of the peer and of the connection.
    fn watch_time(&mut self, now_ms: u64) {
        if self.peer.deadline_ms() <= now_ms {
            self.feed(Input::Time);
        }
        if !self.ready && now_ms >= self.began_ms + millis(self.link.target.dial_timeout) {
            let after = self.link.target.dial_timeout;
            self.close(close::POLICY, "handshake took too long", Cause::Lost);
            if let Some(closing) = &mut self.closing {
                closing.end.reason = format!("agent was not ready within {after:?}");
            }
        }
        if self.pings() && now_ms >= self.heard_ms + self.agents.keepalive_ms() {
            match self.pinged_ms {
                None => {
                    self.pinged_ms = Some(now_ms);
                    self.push(OpCode::Ping, b"");
                }
                Some(pinged_ms) if now_ms >= pinged_ms + self.agents.keepalive_ms() => {
                    self.end("no sign of life from the agent".to_owned());
                }
                Some(_) => {}
            }
        }
    }

    /// Ends the connection if nobody needs it.
    fn watch_need(&mut self, now_ms: u64) {
        if !self.ready || self.closing.is_some() {
            return;
        }
        let used_ms = self.link.used_ms.load(Relaxed);
        let expects = self.peer.expects_answers();
        if expects && std::mem::take(&mut self.link.state().evicted) {
            // Its turn to make room comes last.
            self.agents.stays(self.link, now_ms);
        }
        let cause = {
            let mut state = self.link.state();
            if !state.waiting.is_empty() {
                return;
            }
            let cause = if self.agents.is_draining() {
                Cause::Stopped
            } else if state.released {
                Cause::Released
            } else if state.evicted && now_ms >= used_ms + EVICTION_GRACE_MS {
                Cause::Evicted
            } else if self.idle_due_ms(used_ms, expects) <= now_ms {
                Cause::Idle
            } else {
                return;
            };
            // From here on nothing is taken on, so that nothing has to be given back.
            state.phase = Phase::Closing;
            cause
        };
        match cause {
            Cause::Stopped => self.close(close::GOING_AWAY, "gateway stops", cause),
            Cause::Released => self.close(close::NORMAL, "no longer needed", cause),
            Cause::Evicted => self.close(close::NORMAL, "place is needed", cause),
            Cause::Idle | Cause::Lost => self.close(close::NORMAL, "idle", cause),
        }
    }

    fn idle_due_ms(&self, used_ms: u64, expects: bool) -> u64 {
        let idle = self.link.target.idle_timeout;
        if idle.is_zero() || expects {
            u64::MAX
        } else {
            used_ms.saturating_add(millis(idle))
        }
    }

    /// When [`Self::turn`] has something to do even if nothing happens.
    fn due_ms(&self) -> u64 {
        let mut due_ms = self.peer.deadline_ms();
        if self.out.backlog() > 0 {
            due_ms = due_ms.min(self.wrote_ms + WRITE_STALL_MS);
        }
        if let Some(closing) = &self.closing {
            return due_ms.min(closing.due_ms);
        }
        if !self.ready {
            due_ms = due_ms.min(self.began_ms + millis(self.link.target.dial_timeout));
        }
        if self.pings() {
            let since_ms = self.pinged_ms.unwrap_or(self.heard_ms);
            due_ms = due_ms.min(since_ms + self.agents.keepalive_ms());
        }
        let (quiet, evicted) = {
            let state = self.link.state();
            (state.waiting.is_empty(), state.evicted)
        };
        if self.ready && quiet {
            let used_ms = self.link.used_ms.load(Relaxed);
            let expects = self.peer.expects_answers();
            due_ms = due_ms.min(self.idle_due_ms(used_ms, expects));
            if evicted {
                due_ms = due_ms.min(used_ms + EVICTION_GRACE_MS);
            }
        }
        due_ms
    }

    /// `OpenClaw` gateways send ticks, whose absence their peer notices.
    fn pings(&self) -> bool {
        match self.link.target.peer {
            Peer::Stratix => true,
            Peer::OpenClaw => false,
        }
    }

    /// Moves bytes both ways; ready when something has moved.
    fn poll_socket(&mut self, wire: &mut Wire, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut moved = false;
        if let Poll::Ready(count) = self.out.poll_write(context, &mut wire.stream) {
            let count = count?;
            if count > 0 {
                self.wrote_ms = self.agents.now().mono_ms;
                let counts = &self.link.counts;
                counts.sent_bytes.fetch_add(count as u64, Relaxed);
            }
            moved = true;
        }
        let read = scratch::with(|room| {
            let mut buffer = ReadBuf::new(&mut room.input);
            match Pin::new(&mut wire.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) => {
                    let count = buffer.filled().len();
                    let input = &mut room.input[..count];
                    self.received(wire, &mut room.inflater, input);
                    Poll::Ready(Ok(()))
                }
                other => other,
            }
        });
        match read {
            Poll::Pending if moved => Poll::Ready(Ok(())),
            other => other,
        }
    }

    /// Takes bytes of the agent; none means that it sends no more.
    fn received(&mut self, wire: &mut Wire, inflater: &mut Inflater, mut input: &mut [u8]) {
        if input.is_empty() {
            self.end("connection was closed by the agent".to_owned());
            return;
        }
        let counts = &self.link.counts;
        counts.received_bytes.fetch_add(input.len() as u64, Relaxed);
        self.heard_ms = self.agents.now().mono_ms;
        self.pinged_ms = None;
        while !input.is_empty() {
            match wire.decoder.decode(&wire.limits, inflater, input) {
                Ok((used, event)) => {
                    if let Some(event) = event {
                        self.event(event);
                    }
                    input = &mut input[used..];
                }
                Err(error) => {
                    let text = error.to_string();
                    self.close(error.close_code(), &text, Cause::Lost);
                    return;
                }
            }
        }
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Message { payload, .. } if self.closing.is_none() => {
                self.feed(Input::Frame(payload));
            }
            // A pong that would wait behind megabytes tells nobody anything.
            Event::Ping(payload) if self.closing.is_none() => {
                if self.out.backlog() < PONG_BACKLOG_MAX {
                    self.push(OpCode::Pong, payload);
                }
            }
            Event::Message { .. } | Event::Ping(_) | Event::Pong(_) => {}
            Event::Close { code, reason } => {
                if self.closing.is_none() {
                    let shown = code.map_or_else(|| "no code".to_owned(), |code| code.to_string());
                    let text = format!("agent closed the connection with {shown}: {reason}");
                    self.close(code.unwrap_or(close::NORMAL), "", Cause::Lost);
                    if let Some(closing) = &mut self.closing {
                        closing.end.code = code;
                        closing.end.reason = text;
                    }
                }
                if let Some(closing) = &mut self.closing {
                    closing.heard = true;
                }
            }
        }
    }

    /// Tells the peer something and carries out what follows.
    fn feed(&mut self, input: Input<'_>) {
        let now = self.agents.now();
        self.peer.handle(now, input, &mut self.outputs);
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            self.carry_out(output);
        }
        self.outputs = outputs;
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Frame(text) => self.push(OpCode::Text, text.as_bytes()),
            Output::Watched { tag, text } => {
                if self.closing.is_none()
                    && let Err(error) = self.out.push_watched(tag, &text)
                {
                    self.end(format!("no random numbers: {error}"));
                }
            }
            Output::Ready => self.on_ready(),
            Output::Outcome { tag, outcome } => {
                self.starts.remove(&tag);
                self.used();
                self.link.settle(tag, outcome);
            }
            Output::Answer(answer) => {
                self.used();
                self.link.counts.answers.fetch_add(1, Relaxed);
                self.agents.listener().answer(self.link.id, answer);
            }
            Output::Close { code, reason } => self.close(code, &reason, Cause::Lost),
            Output::Hold { wait, reason, text } => {
                self.hold = Some(Hold { wait, reason, text });
            }
            Output::StoreDevice(token) => self.agents.store_device(token),
        }
    }

    fn on_ready(&mut self) {
        if self.ready || self.closing.is_some() {
            return;
        }
        self.ready = true;
        {
            let mut state = self.link.state();
            state.phase = Phase::Up;
            state.wanted = false;
            state.pauses = 0;
            state.obstacle = None;
            state.last_error = None;
        }
        self.used();
        self.link.counts.connects.fetch_add(1, Relaxed);
        tracing::info!(url = self.link.shown_url(), "agent connected");
        self.agents.listener().up(self.link.id);
    }

    /// Queues a frame; after the close frame there are none.
    fn push(&mut self, opcode: OpCode, payload: &[u8]) {
        if self.closing.is_none()
            && let Err(error) = self.out.push(opcode, payload)
        {
            self.end(format!("no random numbers: {error}"));
        }
    }

    /// Begins the closing handshake.
    fn close(&mut self, code: u16, reason: &str, cause: Cause) {
        if self.closing.is_some() {
            return;
        }
        self.push(OpCode::Close, &close_payload(code, reason));
        self.link.state().phase = Phase::Closing;
        self.closing = Some(Closing {
            due_ms: self.agents.now().mono_ms + CLOSE_WAIT_MS,
            heard: false,
            end: End::new(cause, reason),
        });
    }

    /// The connection is gone. If it was being closed, that is why.
    fn end(&mut self, reason: String) {
        if self.end.is_none() {
            let closing = self.closing.take().map(|closing| closing.end);
            self.end = Some(closing.unwrap_or_else(|| End::new(Cause::Lost, reason)));
        }
    }

    fn used(&self) {
        let now_ms = self.agents.now().mono_ms;
        self.link.used_ms.store(now_ms, Relaxed);
    }

    /// Gives everything its outcome.
    fn finish(mut self, end: End) -> Ended {
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
    fn settle_rest(&self, end: &End) {
        let left: Vec<u64> = self.link.state().waiting.keys().copied().collect();
        for tag in left {
            let reason = format!("connection was lost: {}", end.reason);
            let outcome = self.as_sent(tag, Outcome::Unknown { reason });
            self.link.settle(tag, outcome);
        }
    }

    /// The peer does not know how far the socket came: where it took no byte of a message,
    /// that message was not sent.
    fn as_sent(&self, tag: u64, outcome: Outcome) -> Outcome {
        let unsent = |start: &u64| *start >= self.out.written();
        match outcome {
            Outcome::Unknown { reason } if self.starts.get(&tag).is_some_and(unsent) => {
                Outcome::NotSent { reason }
            }
            other => other,
        }
    }
}

/// The socket and what reads it.
struct Wire {
    stream: Stream,
    decoder: Decoder,
    limits: Limits,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How long the other side may take for its close frame.
const CLOSE_WAIT_MS: u64 = 1_000;

/// How long the socket may take nothing while something waits.
const WRITE_STALL_MS: u64 = 30_000;

/// How long a link that has just been used keeps its place although another one wants it.
const EVICTION_GRACE_MS: u64 = 500;

/// How long until a certificate that was not the right one is looked at again.
const CERTIFICATE_WAIT: Duration = Duration::from_secs(300);

/// Bytes that may wait before a pong.
const PONG_BACKLOG_MAX: usize = 1024 * 1024;

/// The longest sleep; the loop looks at its timers at least that often.
const WAIT_MAX_MS: u64 = 3_600_000;
