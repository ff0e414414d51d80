//! What runs say, and to whom.

use std::sync::Arc;

use super::frame::{self, Chat, Frame, RunState};
use super::{Owner, Peer};
use crate::ws_agent::openclaw::send::{ended, escaped};
use crate::ws_agent::peer::Output;
use crate::ws_agent::{Answer, AnswerKind};

/// Most bytes of text put together from parts.
const PARTIAL_MAX: usize = 256 * 1024;

/// Longest id, in bytes, of a run that we did not start. Ids are remembered, and the gateway
/// chooses these.
const FOREIGN_RUN_MAX: usize = 512;

const PLAIN: &str = "text/plain";

/// For whom an answer is.
struct Addressee {
    client: Arc<str>,
    in_reply_to: Arc<str>,
}

impl Peer {
    /// A `chat` event. Those of other operators' runs are broadcast to us, too.
    pub(super) fn chat(&mut self, frame: &Frame<'_>, out: &mut Vec<Output>) {
        let chat: Chat = frame::payload(frame.payload);
        let Some(run) = chat.run_id.as_deref() else {
            return;
        };
        let session = chat.session_key.as_deref().unwrap_or_default();
        let text = || {
            let message = chat.message.as_ref();
            message.map(|message| message.text().to_owned())
        };
        match chat.state.as_deref() {
            Some("delta") if self.target.deltas => self.delta(run, session, &chat, out),
            Some("final") => {
                let text = text().unwrap_or_default();
                self.tell(run, session, AnswerKind::Final, text, out);
            }
            Some("aborted") => {
                let text = chat.error_message.unwrap_or_default();
                self.tell(run, session, AnswerKind::Aborted, text, out);
            }
            Some("error") => {
                let text = chat.error_message.or(chat.error_kind).unwrap_or_default();
                self.tell(run, session, AnswerKind::Failed, text, out);
            }
            _ => {}
        }
    }

    fn delta(&mut self, run: &str, session: &str, chat: &Chat, out: &mut Vec<Output>) {
        let Some(addressee) = self.addressee(run, session) else {
            return;
        };
        let text = match (&chat.message, self.runs.get_mut(run)) {
            (Some(message), _) => message.text().to_owned(),
            (None, Some(open)) => {
                if chat.replace == Some(true) {
                    open.partial.clear();
                }
                let more = chat.delta_text.as_deref().unwrap_or_default();
                if open.partial.len() + more.len() > PARTIAL_MAX {
                    return;
                }
                open.partial.push_str(more);
                open.partial.clone()
            }
            // Without what came before, a part says nothing.
            (None, None) => return,
        };
        if !text.is_empty() {
            out.push(answer(addressee, run, AnswerKind::Delta, text));
        }
    }

    /// How a run ended, from an answer and not from an event. `fallback` is the text if the
    /// answer has none.
    pub(super) fn settled(
        &mut self,
        run: &str,
        state: &RunState,
        fallback: Option<String>,
        out: &mut Vec<Output>,
    ) {
        if !ended(state) {
            // It works, or the gateway has forgotten it. One of an earlier life of the gateway
            // does not work any more: what the transcript has is all there is.
            let other_life = self
                .runs
                .get(run)
                .is_some_and(|open| open.boot != self.boot);
            if let Some(text) = fallback
                && other_life
            {
                self.tell(run, "", AnswerKind::Final, text, out);
            }
            return;
        }
        let aborted = state.aborted == Some(true)
            || matches!(state.status.as_deref(), Some("aborted" | "cancelled"))
            || matches!(state.stop_reason.as_deref(), Some("rpc" | "aborted"));
        let ok = matches!(state.status.as_deref(), Some("ok" | "completed"));
        let reply = state.terminal_reply.as_ref();
        let (kind, text) = if aborted {
            (AnswerKind::Aborted, state.error.clone())
        } else if ok {
            let text = reply.and_then(|reply| reply.text.clone());
            (AnswerKind::Final, text.or(fallback))
        } else {
            let text = state.error.clone().or_else(|| state.summary.clone());
            (AnswerKind::Failed, text.or_else(|| state.status.clone()))
        };
        self.tell(run, "", kind, text.unwrap_or_default(), out);
    }

    /// The transcript has the answer of a run that has ended.
    pub(super) fn finished(&mut self, run: &str, text: String, out: &mut Vec<Output>) {
        self.tell(run, "", AnswerKind::Final, text, out);
    }

    /// Tells the end of a run, once.
    fn tell(
        &mut self,
        run: &str,
        session: &str,
        kind: AnswerKind,
        text: String,
        out: &mut Vec<Output>,
    ) {
        let Some(addressee) = self.addressee(run, session) else {
            return;
        };
        self.runs.remove(run);
        self.told.insert(run.into(), ());
        out.push(answer(addressee, run, kind, text));
    }

    /// The run's own client, or that of the session; nobody if the end was told already or
    /// the run is somebody else's.
    fn addressee(&self, run: &str, session: &str) -> Option<Addressee> {
        if self.told.get(run).is_some() {
            return None;
        }
        if let Some(open) = self.runs.get(run) {
            return Some(Addressee {
                client: open.client.clone(),
                in_reply_to: open.message_id.clone(),
            });
        }
        if run.len() > FOREIGN_RUN_MAX {
            return None;
        }
        match self.sessions.get(&*session.to_lowercase())? {
            Owner::One(client) => {
                let ours = run.strip_prefix(&*escaped(client));
                let message_id = ours.and_then(|rest| rest.strip_prefix(':'));
                Some(Addressee {
                    client: client.clone(),
                    in_reply_to: message_id.unwrap_or_default().into(),
                })
            }
            Owner::Several => None,
        }
    }
}

fn answer(to: Addressee, run: &str, kind: AnswerKind, text: String) -> Output {
    let suffix = match kind {
        AnswerKind::Delta => "delta",
        AnswerKind::Aborted => "aborted",
        AnswerKind::Failed => "failed",
        AnswerKind::Final | AnswerKind::Binary | AnswerKind::Control => "final",
    };
    Output::Answer(Answer {
        client: to.client,
        message_id: format!("{run}#{suffix}").into(),
        in_reply_to: to.in_reply_to,
        kind,
        data: text.into(),
        content_type: PLAIN.into(),
    })
}
