//! The task of a link: one connection from dialling to its end.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use websocket::{Decoder, Limits, OpCode, Role, close};

use super::super::dial::{self, Dialled, Stream};
use super::super::peer::{Input, Output, PeerState};
use super::super::pool::{Agents, Cause, End, Hold};
use super::outgoing::Outgoing;
use super::{Link, Phase, scratch};

mod ending;
mod socket;
mod timers;

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
    /// When the socket last took something, or began to have something to take.
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
        if backlog > 0 && now_ms >= self.wrote_ms + self.agents.write_stall_ms() {
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
                if self.closing.is_some() {
                    return;
                }
                self.waits_from_now();
                if let Err(error) = self.out.push_watched(tag, &text) {
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
            state.is_missed = false;
            state.obstacle = None;
            state.last_error = None;
        }
        self.used();
        self.link.counts.connects.fetch_add(1, Relaxed);
        tracing::info!(url = self.link.shown_url(), "agent connected");
        self.agents.listener().up(self.link.id);
    }

    fn used(&self) {
        let now_ms = self.agents.now().mono_ms;
        self.link.used_ms.store(now_ms, Relaxed);
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

/// The longest sleep; the loop looks at its timers at least that often.
const WAIT_MAX_MS: u64 = 3_600_000;
