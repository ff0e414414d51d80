//! What happened while we did not listen.
//!
//! After a gap in the events and after a reconnection, the transcript of every session with an
//! open run is read, a few at a time. A run whose answer is there has ended if the session is
//! quiet, or if another message follows; otherwise the gateway is asked about the run itself.
//!
//! A gateway that is killed forgets messages that it has acknowledged but not written down.
//! One that another life of it acknowledged and that it does not have any more is sent again;
//! one that it has is worked on under an id that we do not know. What waited in its queue it
//! has, but never runs, nor takes again under the same key: that is sent under another one. It
//! says so only some time after its start, so that such runs are looked after at every tick.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::info;

use super::frame::{self, Failure, History};
use super::keys::{renewed, unnamed};
use super::runs::stale;
use super::{Peer, Phase, Purpose, QUESTION_MS};
use crate::ws_agent::AnswerKind;
use crate::ws_agent::peer::{Now, Output};

/// Questions under way at a time.
const PARALLEL: usize = 4;

/// How many of the last messages of a session are read.
const LOOK_BACK: u32 = 100;

/// How long the gateway may wait for the end of a run that is asked for. It answers at once
/// if the run has ended.
const RUN_WAIT_MS: u64 = 1;

/// What a client is told of a message that is lost.
const LOST: &str = "the agent restarted and lost the message";

/// A run whose end is to be asked for.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) run: Arc<str>,
    /// What the transcript has of its answer.
    pub(super) text: Option<String>,
    /// Its session is at work.
    pub(super) busy: bool,
}

/// What is still to be asked.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Sessions whose transcript is to be read, with their open runs.
    sessions: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    runs: Vec<Question>,
    /// Questions without an answer.
    asked: usize,
    /// Events were missed after this round had begun.
    again: bool,
}

impl Backlog {
    /// A question was answered or given up.
    pub(super) fn answered(&mut self) {
        self.asked = self.asked.saturating_sub(1);
    }

    /// One session's transcript is to be read.
    pub(super) fn add(&mut self, session: Arc<str>, run: Arc<str>) {
        let runs = self.sessions.entry(session).or_default();
        if !runs.contains(&run) {
            runs.push(run);
        }
    }

    /// A run is to be asked about.
    pub(super) fn ask(&mut self, question: Question) {
        self.runs.push(question);
    }

    fn idle(&self) -> bool {
        self.asked == 0 && self.sessions.is_empty() && self.runs.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.values().map(Vec::len).sum::<usize>() + self.runs.len()
    }
}

impl Peer {
    /// Events may have been missed.
    pub(super) fn catch_up(&mut self, now: Now, out: &mut Vec<Output>) {
        if !self.backlog.idle() {
            self.backlog.again = true;
            return;
        }
        for (run, open) in self.runs.iter() {
            let runs = self
                .backlog
                .sessions
                .entry(open.session.clone())
                .or_default();
            runs.push(run.clone());
        }
        self.read_backlog(now, out);
    }

    /// Looks after the runs that another life of the gateway has left: those of one session, or
    /// of all.
    pub(super) fn look_after_stale(&mut self, session: Option<&str>) {
        let boot = self.boot.as_ref();
        let left = self.runs.iter().filter(|(_, open)| stale(open, boot));
        for (run, open) in left {
            if session.is_none_or(|session| session == &*open.session) {
                self.backlog.add(open.session.clone(), run.clone());
            }
        }
    }

    /// Asks what is to be asked, as far as there is room.
    pub(super) fn read_backlog(&mut self, now: Now, out: &mut Vec<Output>) {
        let until_ms = now.mono_ms.saturating_add(QUESTION_MS);
        while self.phase == Phase::Open && self.backlog.asked < PARALLEL {
            let asked = if let Some(question) = self.backlog.runs.pop() {
                let run_id = question.run.clone();
                let params = frame::AgentWait {
                    run_id: &run_id,
                    timeout_ms: RUN_WAIT_MS,
                };
                let purpose = Purpose::Settle(question);
                self.call(until_ms, ("agent.wait", &params), purpose, out)
            } else if let Some((session, runs)) = self.backlog.sessions.pop_first() {
                let session_key = session.clone();
                let params = frame::ChatHistory {
                    session_key: &session_key,
                    limit: LOOK_BACK,
                };
                let purpose = Purpose::CatchUp { session, runs };
                self.call(until_ms, ("chat.history", &params), purpose, out)
            } else {
                break;
            };
            if !asked {
                break;
            }
            self.backlog.asked += 1;
        }
        if self.backlog.idle() && std::mem::take(&mut self.backlog.again) {
            self.catch_up(now, out);
        }
    }

    pub(super) fn caught_up(
        &mut self,
        now: Now,
        (session, runs): (Arc<str>, Vec<Arc<str>>),
        history: &History,
        failure: Option<&Failure>,
        out: &mut Vec<Output>,
    ) {
        match failure {
            None => {
                for run in runs {
                    self.read_transcript(now, &run, history, out);
                }
                self.read_backlog(now, out);
            }
            // Asked again at the next tick.
            Some(failure) if failure.code() == "UNAVAILABLE" => {
                self.backlog.sessions.insert(session, runs);
            }
            Some(_) => self.read_backlog(now, out),
        }
    }

    /// What the transcript of its session says about an open run.
    pub(super) fn read_transcript(
        &mut self,
        now: Now,
        run: &Arc<str>,
        history: &History,
        out: &mut Vec<Output>,
    ) {
        let Some(open) = self.runs.get_mut(run) else {
            return;
        };
        let active = history.is_active(run);
        if active == Some(true) {
            return;
        }
        if history.is_pending(run) {
            open.queued = true;
            return;
        }
        let stale = stale(open, self.boot.as_ref());
        let renamed = open.queued || stale;
        if stale && !history.has(run) {
            self.send_again(now, run, history, out);
            return;
        }
        let found = history.answer(run);
        let busy = history.is_busy();
        match found {
            Some(found)
                if busy == Some(false)
                    || found.is_followed
                    || (found.is_marked && active.is_some()) =>
            {
                self.finished(run, found.text, found.renamed.as_deref(), out);
            }
            found => {
                let busy = busy == Some(true);
                // What a busy session has said last may be a part of what it will say.
                let found = found.filter(|_| !(busy && renamed));
                self.backlog.ask(Question {
                    run: run.clone(),
                    text: found.map(|found| found.text),
                    busy,
                });
            }
        }
    }

    /// Sends a message that the gateway has acknowledged and lost.
    fn send_again(&mut self, now: Now, run: &Arc<str>, history: &History, out: &mut Vec<Output>) {
        let Some(session) = self.runs.get(run).map(|open| open.session.clone()) else {
            return;
        };
        let Some(delivery) = self.runs.message(run) else {
            self.tell(run, "", AnswerKind::Failed, LOST.to_owned(), out);
            return;
        };
        if !self.has_room() {
            self.backlog.add(session, run.clone());
            return;
        }
        match self.compose(&history.free_name(run), &session, &delivery) {
            Ok(text) => {
                info!(%run, "the gateway has lost the message: sent again");
                self.await_send(now, None, run.clone());
                out.push(Output::Frame(text));
            }
            Err(reason) => {
                let text = format!("{LOST}: {reason}");
                self.tell(run, "", AnswerKind::Failed, text, out);
            }
        }
    }

    /// The answer to a message that was sent again is a refusal.
    pub(super) fn refused_again(
        &mut self,
        run: &Arc<str>,
        failure: &Failure,
        passes: bool,
        out: &mut Vec<Output>,
    ) {
        let Some(session) = self.runs.get(run).map(|open| open.session.clone()) else {
            return;
        };
        if passes {
            // Looked after at the next tick.
            self.backlog.add(session, run.clone());
        } else {
            let text = format!("{LOST}: {}", failure.text());
            self.tell(run, "", AnswerKind::Failed, text, out);
        }
    }
}

/// The agent's answer to a message.
struct Found {
    text: String,
    /// It bears the id of the message's run.
    is_marked: bool,
    /// Another message of the user comes after it.
    is_followed: bool,
    /// The other id of the run.
    renamed: Option<String>,
}

impl History {
    /// The gateway has taken in the message of this run.
    pub(super) fn has(&self, run: &str) -> bool {
        let messages = self.messages.iter().flatten();
        self.is_active(run) == Some(true)
            || self.is_pending(run)
            || messages.into_iter().any(|it| it.belongs_to(run))
    }

    /// The message waits in the session's queue.
    fn is_pending(&self, run: &str) -> bool {
        let pending = self.pending_inputs.as_ref();
        let pending = pending.and_then(|pending| pending.items.as_ref());
        let mut pending = pending.into_iter().flatten();
        pending.any(|it| it.belongs_to(run) && !it.is_interrupted())
    }

    /// A name of the run that the gateway takes.
    pub(super) fn free_name(&self, run: &str) -> String {
        let pending = self.pending_inputs.as_ref();
        let pending = pending.and_then(|pending| pending.items.as_ref());
        let used = pending.into_iter().flatten();
        let used = used.filter_map(|it| it.name_of(run)).max();
        renewed(run, used.unwrap_or(0).saturating_add(1))
    }

    /// The run works; `None` if the gateway does not say which do.
    pub(super) fn is_active(&self, run: &str) -> Option<bool> {
        let info = self.session_info.as_ref()?;
        let active = info.active_run_ids.as_ref()?;
        Some(
            active
                .iter()
                .any(|id| unnamed(id, run).is_some_and(|(_, rest)| rest.is_empty())),
        )
    }

    /// Some run of the session works; `None` if the gateway does not say.
    fn is_busy(&self) -> Option<bool> {
        let info = self.session_info.as_ref()?;
        let listed = info
            .active_run_ids
            .as_ref()
            .map(|active| !active.is_empty());
        match (info.has_active_run, listed) {
            (None, None) => None,
            (said, listed) => Some(said == Some(true) || listed == Some(true)),
        }
    }

    /// The last text of the agent that is marked as this run's, or else that follows the
    /// run's message and comes before the next one.
    fn answer(&self, run: &str) -> Option<Found> {
        let messages = self.messages.as_deref().unwrap_or_default();
        let spoken = |it: &frame::Message| it.role() == "assistant" && !it.text().is_empty();
        let marked = |it: &frame::Message| spoken(it) && it.belongs_to(run);
        let asks = |it: &frame::Message| it.role() == "user" && !it.is_continuation();
        let mut place = messages.iter().rposition(marked);
        let is_marked = place.is_some();
        if place.is_none() {
            let question = messages
                .iter()
                .position(|it| it.role() == "user" && it.belongs_to(run))?;
            let after = messages.get(question + 1..).unwrap_or_default();
            let end = after.iter().position(asks);
            let until_next = after.get(..end.unwrap_or(after.len())).unwrap_or_default();
            let last = until_next.iter().rposition(spoken)?;
            place = Some(question + 1 + last);
        }
        let place = place?;
        let message = messages.get(place)?;
        let after = messages.get(place + 1..).unwrap_or_default();
        Some(Found {
            text: message.text().to_owned(),
            is_marked,
            is_followed: after.iter().any(asks),
            renamed: message
                .run_id()
                .filter(|name| unnamed(name, run).is_none())
                .map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::History;

    #[test]
    fn answer_of_a_run_that_the_gateway_resumed_is_found_behind_its_own_prompt() {
        let said = |role: &str, text: &str, key: Option<&str>, run: Option<&str>| {
            json!({
                "role": role,
                "content": [{"type": "text", "text": text}],
                "idempotencyKey": key,
                "__openclaw": {"runId": run},
            })
        };
        let prompt = "[System] Your previous turn was interrupted by a gateway restart";
        let own = "30716b20-a7a2-4c06-8168-1602ed3cdb18";
        let own_key = format!("{own}:user");
        let mut messages = vec![
            said("user", "slow", Some("c:m1:user"), None),
            said("user", prompt, Some(&own_key), None),
            said("assistant", "forty-two", None, Some(own)),
        ];
        let history = |messages: &[serde_json::Value]| -> History {
            let text = json!({ "messages": messages }).to_string();
            serde_json::from_str(&text).unwrap()
        };
        let found = history(&messages).answer("c:m1").unwrap();
        assert_eq!(
            (found.text.as_str(), found.is_followed),
            ("forty-two", false)
        );
        assert_eq!(found.renamed.as_deref(), Some(own));
        messages.push(said("user", "and now", Some("c:m2:user"), None));
        assert!(history(&messages).answer("c:m1").unwrap().is_followed);
        // A client that writes like the gateway asks all the same.
        messages[1] = said("user", prompt, Some("c:m9:user"), None);
        assert!(history(&messages).answer("c:m1").is_none());
    }
}
