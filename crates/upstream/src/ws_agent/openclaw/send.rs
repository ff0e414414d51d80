//! A delivery on its way to a run of the agent.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tracing::debug;

use super::frame::{self, Attachment, ChatSend, Failure, History, RunState};
use super::{
    CALLS_MAX, Owner, Parcel, Peer, Phase, Purpose, QUESTION_MS, Run, millis, retry_after,
};
use crate::ws_agent::peer::{Now, Output};
use crate::ws_agent::{DataEncoding, Delivery, DeliveryBody, Outcome};

/// Most characters of a session key.
const SESSION_KEY_MAX: usize = 512;

/// Most characters of a `traceparent`.
const TRACEPARENT_MAX: usize = 128;

/// How many of the last messages of a session are looked through for a run.
const LOOK_BACK: u32 = 200;

/// How long the gateway may wait for the end of a run that is asked for. It answers at once
/// if the run has ended.
const RUN_WAIT_MS: u64 = 1;

impl Peer {
    pub(super) fn send(
        &mut self,
        now: Now,
        tag: u64,
        delivery: Arc<Delivery>,
        out: &mut Vec<Output>,
    ) {
        if self.phase != Phase::Open {
            let reason = "the gateway is not ready".to_owned();
            let outcome = Outcome::NotSent { reason };
            out.push(Output::Outcome { tag, outcome });
            return;
        }
        let client = escaped(&delivery.client);
        let session = format!("agent:{}:{client}", self.target.agent_id);
        let length = session.chars().count();
        if length > SESSION_KEY_MAX {
            let reason = format!(
                "session key of {length} characters is longer than {SESSION_KEY_MAX}: \
                 the client id is too long"
            );
            let outcome = Outcome::Final { reason };
            out.push(Output::Outcome { tag, outcome });
            return;
        }
        let parcel = Parcel {
            tag,
            run: format!("{client}:{}", delivery.message_id).into(),
            session: session.into(),
            delivery,
        };
        let forgotten = self
            .unsure
            .get(&*parcel.run)
            .is_some_and(|boot| boot.is_none() || *boot != self.boot);
        if parcel.delivery.check_first || forgotten {
            self.check(now, parcel, out);
        } else {
            self.transmit(now, &parcel, out);
        }
    }

    /// Asks whether the message has started a run already.
    fn check(&mut self, now: Now, parcel: Parcel, out: &mut Vec<Output>) {
        let tag = parcel.tag;
        let run_id = parcel.run.clone();
        let params = frame::AgentWait {
            run_id: &run_id,
            timeout_ms: RUN_WAIT_MS,
        };
        let until_ms = now.mono_ms.saturating_add(QUESTION_MS);
        let purpose = Purpose::CheckRun(parcel);
        if !self.call(until_ms, ("agent.wait", &params), purpose, out) {
            crowded(tag, out);
        }
    }

    /// A run that is not known to have ended may run, or its end may be forgotten: the
    /// transcript has what was ever taken in.
    pub(super) fn checked_run(
        &mut self,
        now: Now,
        parcel: Parcel,
        state: &RunState,
        failure: Option<&Failure>,
        out: &mut Vec<Output>,
    ) {
        let tag = parcel.tag;
        if failure.is_none() && known(state) {
            self.open_run(now, &parcel);
            self.delivered(Some(tag), &parcel.run, out);
            if ended(state) {
                self.settled(&parcel.run, state, None, out);
            }
            return;
        }
        let session_key = parcel.session.clone();
        let params = frame::ChatHistory {
            session_key: &session_key,
            limit: LOOK_BACK,
        };
        let until_ms = now.mono_ms.saturating_add(QUESTION_MS);
        let purpose = Purpose::CheckHistory(parcel);
        if !self.call(until_ms, ("chat.history", &params), purpose, out) {
            crowded(tag, out);
        }
    }

    pub(super) fn checked_history(
        &mut self,
        now: Now,
        parcel: Parcel,
        history: &History,
        failure: Option<&Failure>,
        out: &mut Vec<Output>,
    ) {
        if let Some(failure) = failure {
            let reason = format!("the transcript can't be read: {}", failure.text());
            let after = retry_after(failure);
            let outcome = if transient(failure) {
                Outcome::Retryable { reason, after }
            } else {
                Outcome::Final { reason }
            };
            let tag = parcel.tag;
            out.push(Output::Outcome { tag, outcome });
            return;
        }
        if history.has(&parcel.run) {
            self.open_run(now, &parcel);
            self.delivered(Some(parcel.tag), &parcel.run, out);
            self.read_transcript(&parcel.run, history, out);
            self.read_backlog(now, out);
        } else {
            debug!(run = %parcel.run, "the gateway does not know the run: sent again");
            self.transmit(now, &parcel, out);
        }
    }

    fn transmit(&mut self, now: Now, parcel: &Parcel, out: &mut Vec<Output>) {
        let tag = parcel.tag;
        if self.calls.len() >= CALLS_MAX {
            crowded(tag, out);
            return;
        }
        let text = match self.compose(parcel) {
            Ok(text) => text,
            Err(reason) => {
                let outcome = Outcome::Final { reason };
                out.push(Output::Outcome { tag, outcome });
                return;
            }
        };
        self.unsure.remove(&*parcel.run);
        self.open_run(now, parcel);
        // The policy above has its own limit for a try; this one only bounds our memory.
        let patience = millis(self.target.try_timeout).saturating_mul(2);
        let patience = patience.max(QUESTION_MS);
        let purpose = Purpose::Send {
            tag: Some(tag),
            run: parcel.run.clone(),
        };
        self.await_answer(now.mono_ms.saturating_add(patience), purpose);
        out.push(Output::Frame(text));
    }

    /// The frame, or why there can't be one.
    fn compose(&self, parcel: &Parcel) -> Result<String, String> {
        let delivery = &*parcel.delivery;
        let (text, bytes) = match &delivery.body {
            DeliveryBody::Text(data) => (decoded(data, self.target.data_encoding)?, None),
            DeliveryBody::Binary(bytes) => (String::new(), Some(bytes)),
        };
        let attachments = match bytes {
            Some(bytes) => Some([self.attach(delivery, bytes)?]),
            None => None,
        };
        let params = ChatSend {
            session_key: &parcel.session,
            message: &text,
            idempotency_key: &parcel.run,
            attachments,
        };
        let traceparent = delivery
            .traceparent
            .as_deref()
            .filter(|trace| (1..=TRACEPARENT_MAX).contains(&trace.chars().count()));
        let frame = frame::request(self.next_call, "chat.send", &params, traceparent);
        let (size, most) = (frame.len() as u64, self.limits.payload);
        if size > most {
            return Err(format!(
                "too large: a frame of {size} bytes, the gateway takes {most}"
            ));
        }
        Ok(frame)
    }

    fn attach<'a>(&self, delivery: &'a Delivery, bytes: &Bytes) -> Result<Attachment<'a>, String> {
        let (size, most) = (bytes.len() as u64, self.limits.attachment);
        if size > most {
            return Err(format!(
                "too large: an attachment of {size} bytes, the gateway takes {most}"
            ));
        }
        let mime_type = match &*delivery.content_type {
            "" => "application/octet-stream",
            known => known,
        };
        Ok(Attachment {
            mime_type,
            file_name: &delivery.message_id,
            content: STANDARD.encode(bytes),
        })
    }

    pub(super) fn sent(
        &mut self,
        now: Now,
        tag: Option<u64>,
        run: &Arc<str>,
        state: &RunState,
        failure: Option<Failure>,
        out: &mut Vec<Output>,
    ) {
        self.unsure.remove(&**run);
        let Some(failure) = failure else {
            self.delivered(tag, run, out);
            if ended(state) {
                self.answer_again(now, run, state, out);
            }
            return;
        };
        // The end of a run that an earlier try had started.
        if ended(state) {
            self.delivered(tag, run, out);
            let state = RunState {
                error: state.error.clone().or_else(|| failure.message.clone()),
                summary: state.summary.clone(),
                status: Some("error".to_owned()),
                ..RunState::default()
            };
            self.settled(run, &state, None, out);
            return;
        }
        self.runs.remove(&**run);
        let Some(tag) = tag else {
            return;
        };
        let reason = failure.text();
        let after = retry_after(&failure);
        let outcome = if transient(&failure) {
            Outcome::Retryable { reason, after }
        } else {
            Outcome::Final { reason }
        };
        out.push(Output::Outcome { tag, outcome });
    }

    /// The gateway has an end for a message that was sent again: tell it if it was missed.
    fn answer_again(&mut self, now: Now, run: &Arc<str>, state: &RunState, out: &mut Vec<Output>) {
        let Some(session) = self.runs.get(&**run).map(|open| open.session.clone()) else {
            return;
        };
        let text = state
            .terminal_reply
            .as_ref()
            .and_then(|it| it.text.as_ref());
        if text.is_some() || state.status.as_deref() != Some("ok") {
            self.settled(run, state, None, out);
        } else {
            self.backlog.add(session, run.clone());
            self.read_backlog(now, out);
        }
    }

    fn delivered(&mut self, tag: Option<u64>, run: &str, out: &mut Vec<Output>) {
        self.unsure.remove(run);
        if let Some(tag) = tag {
            let outcome = Outcome::Delivered;
            out.push(Output::Outcome { tag, outcome });
        }
    }

    /// Remembers whose run and session it is.
    fn open_run(&mut self, now: Now, parcel: &Parcel) {
        let client = &parcel.delivery.client;
        let key: Arc<str> = parcel.session.to_lowercase().into();
        let owner = match self.sessions.get(&*key) {
            Some(Owner::One(known)) if known == client => None,
            Some(Owner::Several) => None,
            Some(Owner::One(_)) => Some(Owner::Several),
            None => Some(Owner::One(client.clone())),
        };
        if let Some(owner) = owner {
            self.sessions.insert(key, owner);
        }
        if self.told.get(&*parcel.run).is_some() || self.runs.get(&*parcel.run).is_some() {
            return;
        }
        let run = Run {
            client: client.clone(),
            message_id: parcel.delivery.message_id.clone(),
            session: parcel.session.clone(),
            opened_ms: now.mono_ms,
            boot: self.boot.clone(),
            partial: String::new(),
        };
        self.runs.insert(parcel.run.clone(), run);
    }
}

fn crowded(tag: u64, out: &mut Vec<Output>) {
    let reason = "too many requests without an answer".to_owned();
    let outcome = Outcome::NotSent { reason };
    out.push(Output::Outcome { tag, outcome });
}

/// It is worth another try.
fn transient(failure: &Failure) -> bool {
    failure
        .retryable
        .unwrap_or(matches!(failure.code(), "UNAVAILABLE" | "AGENT_TIMEOUT"))
}

/// The gateway knows the run. Asked to wait for one that it does not know, it says `timeout`
/// without an end, just as for one that still runs.
fn known(state: &RunState) -> bool {
    match state.status.as_deref() {
        Some("accepted" | "started" | "in_flight" | "running" | "queued") => true,
        _ => ended(state),
    }
}

/// The run has ended, well or not.
pub(super) fn ended(state: &RunState) -> bool {
    match state.status.as_deref() {
        Some("ok" | "error" | "aborted" | "cancelled" | "completed" | "failed") => true,
        Some("timeout") => state.ended_at.is_some(),
        _ => false,
    }
}

/// The client's id as it stands in keys. A colon would let one client's key be another's, or
/// reach a session of the gateway's own; ids without colons and percent signs stay as they are.
pub(super) fn escaped(client: &str) -> String {
    client.replace('%', "%25").replace(':', "%3A")
}

/// The text in `data`.
fn decoded(data: &str, encoding: DataEncoding) -> Result<String, String> {
    let text = || {
        let bytes = STANDARD.decode(data).ok()?;
        String::from_utf8(bytes).ok()
    };
    match encoding {
        DataEncoding::Plain => Ok(data.to_owned()),
        DataEncoding::Auto => Ok(text().unwrap_or_else(|| data.to_owned())),
        DataEncoding::Base64 => {
            text().ok_or_else(|| "data is not padded Base64 of UTF-8 text".to_owned())
        }
    }
}
