//! What runs say, and to whom.
//!
//! A message that comes while its session is busy waits: its run says `final` without a message
//! at once, and what it is answered comes under an id that the gateway makes up. The gateway
//! works its queue off in order, so that an end under such an id is that of the first run of the
//! session that waits. The client is told under the id of its message all the same.

use std::sync::Arc;

use super::Peer;
use super::catch_up::Question;
use super::frame::{self, Chat, Frame, RunState};
use super::keys::{escaped, first_name};
use super::runs::stale;
use crate::ws_agent::openclaw::send::ended;
use crate::ws_agent::peer::{Now, Output};
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
    /// Our run, if it is one, whatever the gateway calls it now.
    run: Arc<str>,
}

impl Peer {
    /// A `chat` event. Those of other operators' runs are broadcast to us, too.
    pub(super) fn chat(&mut self, now: Now, frame: &Frame<'_>, out: &mut Vec<Output>) {
        let chat: Chat = frame::payload(frame.payload);
        let Some(run) = chat.run_id.as_deref() else {
            return;
        };
        let run = self.own_name(run);
        let session = chat.session_key.as_deref().unwrap_or_default();
        let before = self.backlog.len();
        match chat.state.as_deref() {
            Some("status") => self.begun(run),
            Some("delta") => {
                self.begun(run);
                if self.target.deltas {
                    self.delta(run, session, &chat, out);
                }
            }
            Some("final") => match &chat.message {
                Some(message) => {
                    let text = message.text().to_owned();
                    self.tell(run, session, AnswerKind::Final, text, out);
                }
                None => self.ended_mutely(run, session),
            },
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
        if self.backlog.len() > before {
            self.read_backlog(now, out);
        }
    }

    /// The name under which we know a run that had to be renamed; others keep theirs.
    fn own_name<'a>(&self, run: &'a str) -> &'a str {
        let known = |name: &&str| self.runs.get(name).is_some() || self.told.get(*name).is_some();
        if known(&run) {
            return run;
        }
        first_name(run).filter(known).unwrap_or(run)
    }

    fn begun(&mut self, run: &str) {
        if let Some(open) = self.runs.get_mut(run) {
            open.begun = true;
        }
    }

    /// An end without a message is no answer. A run that had not begun waits in the queue of
    /// its session; one that had, or that waited, has nothing to say.
    fn ended_mutely(&mut self, run: &str, session: &str) {
        let Some(open) = self.runs.get_mut(run) else {
            if self.told.get(run).is_none() {
                let first = self.runs.first_renamed(session, self.boot.as_ref());
                if let Some(first) = first.cloned() {
                    self.runs.end(&first);
                }
            }
            return;
        };
        if open.begun {
            self.runs.end(run);
            return;
        }
        open.queued = true;
        let session = open.session.clone();
        if !self.runs.is_shared(&session, run) {
            // Behind a run of somebody else, or a command that is done.
            self.backlog.ask(Question {
                run: run.into(),
                text: None,
                busy: false,
            });
        }
    }

    fn delta(&mut self, run: &str, session: &str, chat: &Chat, out: &mut Vec<Output>) {
        let Some(addressee) = self.addressee(run, session) else {
            return;
        };
        let text = match (&chat.message, self.runs.get_mut(&addressee.run)) {
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
            out.push(answer(addressee, AnswerKind::Delta, text));
        }
    }

    /// How a run ended, from an answer and not from an event.
    pub(super) fn settled(&mut self, question: Question, state: &RunState, out: &mut Vec<Output>) {
        let Question { run, text, busy } = question;
        let fallback = text;
        if !ended(state) {
            let boot = self.boot.as_ref();
            let Some(open) = self.runs.get_mut(&run) else {
                return;
            };
            open.queued |= state.status.as_deref() == Some("pending");
            // It works, or the gateway has forgotten it. One of an earlier life of the gateway
            // does not work any more: what the transcript has is all there is.
            if let Some(text) = fallback
                && stale(open, boot)
            {
                self.tell(&run, "", AnswerKind::Final, text, out);
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
            let text = text.filter(|text| !text.is_empty()).or(fallback);
            if text.is_none() {
                self.ended_without_text(&run, busy);
                return;
            }
            (AnswerKind::Final, text)
        } else {
            let text = state.error.clone().or_else(|| state.summary.clone());
            (AnswerKind::Failed, text.or_else(|| state.status.clone()))
        };
        self.tell(&run, "", kind, text.unwrap_or_default(), out);
    }

    /// `ok` is also said of a run that waits in the queue of a busy session.
    fn ended_without_text(&mut self, run: &str, busy: bool) {
        if !busy {
            self.runs.end(run);
        } else if let Some(open) = self.runs.get_mut(run) {
            open.queued = true;
        }
    }

    /// The transcript has the answer of a run that has ended, perhaps under another id.
    pub(super) fn finished(
        &mut self,
        run: &str,
        text: String,
        renamed: Option<&str>,
        out: &mut Vec<Output>,
    ) {
        if let Some(renamed) = renamed
            && renamed.len() <= FOREIGN_RUN_MAX
        {
            self.told.insert(renamed.into(), ());
        }
        self.tell(run, "", AnswerKind::Final, text, out);
    }

    /// Tells the end of a run, once.
    pub(super) fn tell(
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
        if let Some(ended) = self.runs.end(&addressee.run)
            && stale(&ended, self.boot.as_ref())
        {
            self.look_after_stale(Some(&ended.session));
        }
        self.told.insert(addressee.run.clone(), ());
        if *addressee.run != *run {
            self.told.insert(run.into(), ());
        }
        out.push(answer(addressee, kind, text));
    }

    /// The run's own client, or that of the session; nobody if the end was told already or
    /// the run is somebody else's.
    fn addressee(&self, run: &str, session: &str) -> Option<Addressee> {
        if self.told.get(run).is_some() {
            return None;
        }
        let ours = |run: Arc<str>| {
            let open = self.runs.get(&run)?;
            Some(Addressee {
                client: open.client.clone(),
                in_reply_to: open.message_id.clone(),
                run,
            })
        };
        if self.runs.get(run).is_some() {
            return ours(run.into());
        }
        if run.len() > FOREIGN_RUN_MAX {
            return None;
        }
        let client = self.runs.client_of(session)?;
        let message_id = run
            .strip_prefix(&*escaped(client))
            .and_then(|rest| rest.strip_prefix(':'));
        if message_id.is_none()
            && let Some(first) = self.runs.first_renamed(session, self.boot.as_ref())
        {
            return ours(first.clone());
        }
        Some(Addressee {
            client: client.clone(),
            in_reply_to: message_id.unwrap_or_default().into(),
            run: run.into(),
        })
    }
}

fn answer(to: Addressee, kind: AnswerKind, text: String) -> Output {
    let suffix = match kind {
        AnswerKind::Delta => "delta",
        AnswerKind::Aborted => "aborted",
        AnswerKind::Failed => "failed",
        AnswerKind::Final | AnswerKind::Binary | AnswerKind::Control => "final",
    };
    Output::Answer(Answer {
        client: to.client,
        message_id: format!("{}#{suffix}", to.run).into(),
        in_reply_to: to.in_reply_to,
        kind,
        data: text.into(),
        content_type: PLAIN.into(),
    })
}
