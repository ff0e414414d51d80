//! An `OpenClaw` gateway, spoken to as an operator: a pure state machine.
//!
//! One peer lives as long as its link and sees many connections. What it remembers is bounded:
//! calls without an answer, runs without an end and their messages, sessions of clients, runs
//! that have ended.
//!
//! Where a gateway does otherwise than its documentation says, the gateway decides; the
//! reasons stand in [`keys`] (session keys), [`answers`] (messages that wait) and [`catch_up`]
//! (gateways that were killed).

mod answers;
mod bounded;
mod catch_up;
mod frame;
mod handshake;
mod keys;
mod runs;
mod send;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tracing::debug;

use self::bounded::Bounded;
use self::catch_up::{Backlog, Question};
use self::frame::{Failure, Frame};
use self::handshake::Standing;
use self::runs::Runs;
use super::identity::Identity;
use super::peer::{HoldReason, Input, Now, Output};
use super::{Delivery, Outcome, Target};

/// Most requests without an answer.
const CALLS_MAX: usize = 16_384;

/// Most runs whose end was told.
const TOLD_MAX: usize = 65_536;

/// Most deliveries without a known outcome.
const UNSURE_MAX: usize = 16_384;

/// A run without an end for so long is not waited for any more. Its end still finds the client
/// by the session.
const RUN_MS: u64 = 3_600_000;

/// How long the gateway has for a question about a run or a transcript.
const QUESTION_MS: u64 = 15_000;

/// The state of the conversation with one gateway.
#[derive(Debug)]
pub(crate) struct Peer {
    target: Arc<Target>,
    identity: Arc<Identity>,
    phase: Phase,
    standing: Standing,
    limits: Limits,
    /// When a frame came last.
    heard_ms: u64,
    /// The last `seq` of an event on this connection.
    seq: u64,
    /// Which life of the gateway this is, as far as it says.
    boot: Option<Arc<str>>,
    next_call: u64,
    calls: BTreeMap<u64, Call>,
    /// No call ends earlier than this.
    calls_end_ms: u64,
    /// Key of the session of the gateway's operator.
    main_session: Option<Arc<str>>,
    runs: Runs,
    /// Runs whose end was told.
    told: Bounded<Arc<str>, ()>,
    /// Runs that may or may not have been started, with the life of the gateway at that time.
    unsure: Bounded<Arc<str>, Option<Arc<str>>>,
    backlog: Backlog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No connection.
    Closed,
    /// Waits for the challenge until then.
    Challenge {
        until_ms: u64,
    },
    /// Waits for the answer to `connect` until then.
    Connect {
        until_ms: u64,
    },
    Open,
    /// The gateway has said that it stops, or we close.
    Leaving,
}

/// What the gateway allows; its defaults until it says so.
#[derive(Debug, Clone, Copy)]
struct Limits {
    payload: u64,
    attachment: u64,
    tick_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload: 26_214_400,
            attachment: 19_464_192,
            tick_ms: 30_000,
        }
    }
}

/// A request without an answer.
#[derive(Debug)]
struct Call {
    purpose: Purpose,
    until_ms: u64,
}

#[derive(Debug)]
enum Purpose {
    Connect,
    /// The message itself; without a tag nobody waits any more.
    Send {
        tag: Option<u64>,
        run: Arc<str>,
    },
    /// Has the gateway this message already?
    CheckHistory(Parcel),
    /// What has happened in a session?
    CatchUp {
        session: Arc<str>,
        runs: Vec<Arc<str>>,
    },
    /// How did a run end?
    Settle(Question),
}

/// A delivery with the names that the gateway knows it by.
#[derive(Debug, Clone)]
struct Parcel {
    tag: u64,
    run: Arc<str>,
    session: Arc<str>,
    delivery: Arc<Delivery>,
}

impl Peer {
    pub(crate) fn new(target: Arc<Target>, identity: Arc<Identity>) -> Self {
        Self {
            target,
            identity,
            phase: Phase::Closed,
            standing: Standing::default(),
            limits: Limits::default(),
            heard_ms: 0,
            seq: 0,
            boot: None,
            next_call: 1,
            calls: BTreeMap::new(),
            calls_end_ms: u64::MAX,
            main_session: None,
            runs: Runs::new(),
            told: Bounded::new(TOLD_MAX),
            unsure: Bounded::new(UNSURE_MAX),
            backlog: Backlog::default(),
        }
    }

    /// Takes an input and appends what follows from it to `out`.
    pub(crate) fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Opened => self.opened(now),
            Input::Frame(bytes) => self.frame(now, bytes, out),
            Input::Send { tag, delivery } => self.send(now, tag, delivery, out),
            Input::Written { .. } => {}
            Input::Forget { tag } => self.forget(tag),
            Input::Time => self.time(now, out),
            Input::Closed { code, reason } => self.closed(code, &reason, out),
        }
    }

    /// When [`Input::Time`] is due; `u64::MAX` means never.
    pub(crate) fn deadline_ms(&self) -> u64 {
        let connection = match self.phase {
            Phase::Closed | Phase::Leaving => u64::MAX,
            Phase::Challenge { until_ms } | Phase::Connect { until_ms } => until_ms,
            Phase::Open => self.silence_ends_ms(),
        };
        connection.min(self.calls_end_ms)
    }

    /// Whether a run that we started has not ended yet.
    pub(crate) fn expects_answers(&self) -> bool {
        self.runs.len() > 0
    }

    /// How many things are remembered.
    pub(super) fn remembered(&self) -> usize {
        self.calls.len()
            + self.runs.remembered()
            + self.told.len()
            + self.unsure.len()
            + self.backlog.len()
    }

    fn silence_ends_ms(&self) -> u64 {
        self.heard_ms.saturating_add(2 * self.limits.tick_ms)
    }

    fn opened(&mut self, now: Now) {
        let patience = millis(self.target.dial_timeout).max(1);
        self.phase = Phase::Challenge {
            until_ms: now.mono_ms.saturating_add(patience),
        };
        self.heard_ms = now.mono_ms;
        self.seq = 0;
        self.next_call = 1;
        self.limits = Limits::default();
    }

    fn frame(&mut self, now: Now, bytes: &[u8], out: &mut Vec<Output>) {
        if self.phase == Phase::Closed {
            return;
        }
        self.heard_ms = now.mono_ms;
        match frame::read(bytes) {
            Ok(Some(frame)) if frame.kind == "event" => self.event(now, &frame, out),
            Ok(Some(frame)) if frame.kind == "res" => self.response(now, &frame, out),
            Ok(_) => debug!(url = %self.target.url, "frame of an unknown kind skipped"),
            Err(error) => self.leave(1008, &format!("frame is not JSON: {error}"), out),
        }
    }

    fn event(&mut self, now: Now, frame: &Frame<'_>, out: &mut Vec<Output>) {
        let gap = match frame.seq {
            Some(seq) => {
                let gap = seq > self.seq.saturating_add(1);
                self.seq = self.seq.max(seq);
                gap
            }
            None => false,
        };
        match frame.event.as_deref() {
            Some("connect.challenge") => self.challenged(now, frame, out),
            Some("chat") if self.greeted() => self.chat(now, frame, out),
            Some("shutdown") => self.shutdown(frame, out),
            Some("tick") => {
                self.runs.retire(now.mono_ms.saturating_sub(RUN_MS));
                self.look_after_stale(None);
                self.read_backlog(now, out);
            }
            _ => {}
        }
        if gap && self.greeted() {
            debug!(url = %self.target.url, "events were missed");
            self.catch_up(now, out);
        }
    }

    /// The handshake is done and the connection stands.
    fn greeted(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Leaving)
    }

    fn response(&mut self, now: Now, frame: &Frame<'_>, out: &mut Vec<Output>) {
        let id = frame.id.as_deref().and_then(|id| id.parse::<u64>().ok());
        let Some(call) = id.and_then(|id| self.calls.remove(&id)) else {
            return;
        };
        let ok = frame.ok.unwrap_or(false);
        let failure = if ok {
            None
        } else {
            Some(frame.error.clone().unwrap_or_default())
        };
        match call.purpose {
            Purpose::Connect => self.connected(now, frame.payload, failure, out),
            Purpose::Send { tag, run } => {
                let state = frame::payload(frame.payload);
                self.sent(now, tag, &run, &state, failure, out);
            }
            Purpose::CheckHistory(parcel) => {
                let history = frame::payload(frame.payload);
                self.checked_history(now, parcel, &history, failure.as_ref(), out);
            }
            Purpose::CatchUp { session, runs } => {
                self.backlog.answered();
                let history = frame::payload(frame.payload);
                self.caught_up(now, (session, runs), &history, failure.as_ref(), out);
            }
            Purpose::Settle(question) => {
                self.backlog.answered();
                let state = frame::payload(frame.payload);
                if failure.is_none() {
                    self.settled(question, &state, out);
                }
                self.read_backlog(now, out);
            }
        }
    }

    fn shutdown(&mut self, frame: &Frame<'_>, out: &mut Vec<Output>) {
        if self.phase == Phase::Open {
            self.phase = Phase::Leaving;
        }
        let shutdown: frame::Shutdown = frame::payload(frame.payload);
        if let Some(wait) = shutdown.restart_expected_ms {
            out.push(Output::Hold {
                wait: Duration::from_millis(wait.clamp(100, 30_000)),
                reason: HoldReason::Busy,
                text: "the gateway restarts".to_owned(),
            });
        }
    }

    fn time(&mut self, now: Now, out: &mut Vec<Output>) {
        if now.mono_ms >= self.calls_end_ms {
            self.expire(now, out);
        }
        match self.phase {
            Phase::Challenge { until_ms } if now.mono_ms >= until_ms => {
                self.leave(4000, "no challenge came", out);
            }
            Phase::Connect { until_ms } if now.mono_ms >= until_ms => {
                self.leave(4000, "no answer to connect", out);
            }
            Phase::Open if now.mono_ms >= self.silence_ends_ms() => {
                self.leave(4000, "nothing heard for two ticks", out);
            }
            _ => {}
        }
    }

    /// Gives up calls whose time is over.
    fn expire(&mut self, now: Now, out: &mut Vec<Output>) {
        let over: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, call)| call.until_ms <= now.mono_ms)
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            if let Some(call) = self.calls.remove(&id) {
                self.abandon(call.purpose, "the gateway did not answer in time", out);
            }
        }
        let ends = self.calls.values().map(|call| call.until_ms);
        self.calls_end_ms = ends.min().unwrap_or(u64::MAX);
        self.read_backlog(now, out);
    }

    /// A call that gets no answer any more.
    fn abandon(&mut self, purpose: Purpose, why: &str, out: &mut Vec<Output>) {
        let reason = why.to_owned();
        match purpose {
            Purpose::Connect => {}
            Purpose::Send { tag, run } => {
                self.unsure.insert(run, self.boot.clone());
                if let Some(tag) = tag {
                    let outcome = Outcome::Unknown { reason };
                    out.push(Output::Outcome { tag, outcome });
                }
            }
            // The question left, the message did not.
            Purpose::CheckHistory(parcel) => {
                let outcome = Outcome::NotSent { reason };
                let tag = parcel.tag;
                out.push(Output::Outcome { tag, outcome });
            }
            Purpose::CatchUp { .. } | Purpose::Settle(_) => self.backlog.answered(),
        }
    }

    fn forget(&mut self, tag: u64) {
        let mut unasked = None;
        for (id, call) in &mut self.calls {
            match &mut call.purpose {
                Purpose::Send { tag: waiting, run } if *waiting == Some(tag) => {
                    *waiting = None;
                    self.unsure.insert(run.clone(), self.boot.clone());
                    return;
                }
                Purpose::CheckHistory(parcel) if parcel.tag == tag => {
                    unasked = Some(*id);
                    break;
                }
                _ => {}
            }
        }
        if let Some(id) = unasked {
            self.calls.remove(&id);
        }
    }

    fn closed(&mut self, code: Option<u16>, reason: &str, out: &mut Vec<Output>) {
        self.refused_by_close(code, reason, out);
        self.phase = Phase::Closed;
        let why = match code {
            Some(code) => format!("connection closed with {code}: {reason}"),
            None => format!("connection lost: {reason}"),
        };
        for (_, call) in std::mem::take(&mut self.calls) {
            self.abandon(call.purpose, &why, out);
        }
        self.calls_end_ms = u64::MAX;
        self.backlog = Backlog::default();
    }

    /// Closes; what is unanswered gets its outcome when the link says that it is closed.
    fn leave(&mut self, code: u16, reason: &str, out: &mut Vec<Output>) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        self.phase = Phase::Leaving;
        let mut reason = reason.to_owned();
        frame::cut(&mut reason, 123);
        out.push(Output::Close { code, reason });
    }

    /// Sends a request; whether there was room for one more.
    fn call<P: Serialize>(
        &mut self,
        until_ms: u64,
        (method, params): (&'static str, &P),
        purpose: Purpose,
        out: &mut Vec<Output>,
    ) -> bool {
        if self.calls.len() >= CALLS_MAX {
            return false;
        }
        let text = frame::request(self.next_call, method, params, None);
        self.await_answer(until_ms, purpose);
        out.push(Output::Frame(text));
        true
    }

    /// Notes the request that bears the number `next_call`.
    fn await_answer(&mut self, until_ms: u64, purpose: Purpose) {
        self.calls
            .insert(self.next_call, Call { purpose, until_ms });
        self.calls_end_ms = self.calls_end_ms.min(until_ms);
        self.next_call += 1;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// When and how strongly a failure asks to be tried again.
fn retry_after(failure: &Failure) -> Option<Duration> {
    let details = failure.details.as_ref();
    failure
        .retry_after_ms
        .or_else(|| details.and_then(|details| details.retry_after_ms))
        .map(|wait| Duration::from_millis(wait.min(600_000)))
}

#[cfg(test)]
mod tests;
