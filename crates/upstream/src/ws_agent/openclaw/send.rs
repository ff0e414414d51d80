//! A delivery on its way to a run of the agent.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tracing::debug;

use super::catch_up::Question;
use super::frame::{self, Attachment, ChatSend, Failure, History, RunState};
use super::keys::{escaped, session_key};
use super::runs::Run;
use super::{CALLS_MAX, Parcel, Peer, Phase, Purpose, QUESTION_MS, millis, retry_after};
use crate::ws_agent::peer::{Now, Output};
use crate::ws_agent::{DataEncoding, Delivery, DeliveryBody, Outcome};

/// Most characters of a session key.
const SESSION_KEY_MAX: usize = 512;

/// Most characters of a `traceparent`.
const TRACEPARENT_MAX: usize = 128;

/// How many of the last messages of a session are looked through for a run.
const LOOK_BACK: u32 = 200;

/// What the gateway does with a message that comes while its session is busy: answer it after
/// the ones before it. By default it would take it into the turn under way, and there would be
/// one answer for both.
const QUEUE_MODE: &str = "followup";

/// `details.reason` of the refusal of a key that was used for another message.
const CONFLICT: &str = "chat-request-conflict";

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
        let main = self.main_session.as_deref();
        let session = session_key(&self.target.agent_id, &delivery.client, main);
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
        // What the gateway has lost goes before what comes now.
        let overtakes = !self
            .runs
            .stale(&parcel.session, self.boot.as_ref())
            .is_empty();
        if parcel.delivery.check_first || forgotten || overtakes {
            self.check(now, parcel, out);
        } else {
            self.transmit(now, &parcel, &parcel.run, out);
        }
    }

    /// Asks whether the gateway has the message already. The transcript has what was ever
    /// taken in; `agent.wait` says the same of a run that works and of one that is unknown.
    fn check(&mut self, now: Now, parcel: Parcel, out: &mut Vec<Output>) {
        let tag = parcel.tag;
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
        for run in self.runs.stale(&parcel.session, self.boot.as_ref()) {
            self.read_transcript(now, &run, history, out);
        }
        if history.has(&parcel.run) {
            self.open_run(now, &parcel);
            self.delivered(Some(parcel.tag), &parcel.run, out);
            // Unless it works under its own id it will end under another one.
            if let Some(open) = self.runs.get_mut(&parcel.run) {
                open.queued = history.is_active(&parcel.run) != Some(true);
            }
            self.read_transcript(now, &parcel.run, history, out);
        } else {
            debug!(run = %parcel.run, "the gateway does not have the message");
            let name = history.free_name(&parcel.run);
            self.transmit(now, &parcel, &name, out);
        }
        self.read_backlog(now, out);
    }

    fn transmit(&mut self, now: Now, parcel: &Parcel, name: &str, out: &mut Vec<Output>) {
        let tag = parcel.tag;
        if !self.has_room() {
            crowded(tag, out);
            return;
        }
        let text = match self.compose(name, &parcel.session, &parcel.delivery) {
            Ok(text) => text,
            Err(reason) => {
                let outcome = Outcome::Final { reason };
                out.push(Output::Outcome { tag, outcome });
                return;
            }
        };
        self.unsure.remove(&*parcel.run);
        self.open_run(now, parcel);
        self.await_send(now, Some(tag), parcel.run.clone());
        out.push(Output::Frame(text));
    }

    pub(super) fn has_room(&self) -> bool {
        self.calls.len() < CALLS_MAX
    }

    /// Notes the message that bears the number `next_call`.
    pub(super) fn await_send(&mut self, now: Now, tag: Option<u64>, run: Arc<str>) {
        // The policy above has its own limit for a try; this one only bounds our memory.
        let patience = millis(self.target.try_timeout).saturating_mul(2);
        let until_ms = now.mono_ms.saturating_add(patience.max(QUESTION_MS));
        self.await_answer(until_ms, Purpose::Send { tag, run });
    }

    /// The frame, or why there can't be one.
    pub(super) fn compose(
        &self,
        run: &str,
        session: &str,
        delivery: &Delivery,
    ) -> Result<String, String> {
        let (text, bytes) = match &delivery.body {
            DeliveryBody::Text(data) => (decoded(data, self.target.data_encoding)?, None),
            DeliveryBody::Binary(bytes) => (String::new(), Some(bytes)),
        };
        let attachments = match bytes {
            Some(bytes) => Some([self.attach(delivery, bytes)?]),
            None => None,
        };
        let params = ChatSend {
            session_key: session,
            message: &text,
            idempotency_key: run,
            queue_mode: QUEUE_MODE,
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
            } else if state.status.is_none() && state.aborted.is_some() {
                // A command to stop runs has no run itself.
                self.runs.end(run);
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
            self.settled(question(run), &state, out);
            return;
        }
        let passes = transient(&failure);
        let accepted = self.runs.get(run).is_some_and(|open| open.accepted);
        if !accepted {
            self.runs.end(run);
        } else if tag.is_none() {
            self.refused_again(run, &failure, passes, out);
        }
        let Some(tag) = tag else {
            return;
        };
        let outcome = if passes {
            Outcome::Retryable {
                reason: failure.text(),
                after: retry_after(&failure),
            }
        } else {
            Outcome::Final {
                reason: refusal(&failure),
            }
        };
        out.push(Output::Outcome { tag, outcome });
    }

    /// The gateway has an end for a message that was sent again: tell it if it was missed.
    fn answer_again(&mut self, now: Now, run: &Arc<str>, state: &RunState, out: &mut Vec<Output>) {
        let Some(session) = self.runs.get(run).map(|open| open.session.clone()) else {
            return;
        };
        let text = state
            .terminal_reply
            .as_ref()
            .and_then(|it| it.text.as_ref());
        if text.is_some() || state.status.as_deref() != Some("ok") {
            self.settled(question(run), state, out);
        } else {
            self.backlog.add(session, run.clone());
            self.read_backlog(now, out);
        }
    }

    fn delivered(&mut self, tag: Option<u64>, run: &str, out: &mut Vec<Output>) {
        self.unsure.remove(run);
        if let Some(open) = self.runs.get_mut(run) {
            if open.boot != self.boot {
                open.queued = false;
                open.begun = false;
            }
            open.accepted = true;
            open.boot.clone_from(&self.boot);
        }
        if let Some(tag) = tag {
            let outcome = Outcome::Delivered;
            out.push(Output::Outcome { tag, outcome });
        }
    }

    /// Remembers whose run and session it is.
    fn open_run(&mut self, now: Now, parcel: &Parcel) {
        let client = &parcel.delivery.client;
        self.runs.know(&parcel.session, client);
        if self.told.get(&*parcel.run).is_some() || self.runs.get(&parcel.run).is_some() {
            return;
        }
        let run = Run {
            client: client.clone(),
            message_id: parcel.delivery.message_id.clone(),
            session: parcel.session.clone(),
            opened_ms: now.mono_ms,
            accepted: false,
            boot: self.boot.clone(),
            begun: false,
            queued: false,
            partial: String::new(),
        };
        self.runs.open(&parcel.run, run, parcel.delivery.clone());
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

/// Why a message is refused for good.
fn refusal(failure: &Failure) -> String {
    let details = failure.details.as_ref();
    let reason = details.and_then(|details| details.reason.as_deref());
    if reason == Some(CONFLICT) {
        format!(
            "the gateway has another message under this id: {}",
            failure.text()
        )
    } else {
        failure.text()
    }
}

/// How did this run end, with nothing known of it?
fn question(run: &Arc<str>) -> Question {
    Question {
        run: run.clone(),
        text: None,
        busy: false,
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
