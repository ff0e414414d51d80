//! What happened while we did not listen.
//!
//! After a gap in the events and after a reconnection, the transcript of every session with an
//! open run is read, a few at a time. A run whose answer is there has ended if the gateway
//! lists its active runs without it; otherwise the gateway is asked about the run itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::frame::{self, Failure, History};
use super::{Peer, Phase, Purpose, QUESTION_MS};
use crate::ws_agent::peer::{Now, Output};

/// Questions under way at a time.
const PARALLEL: usize = 4;

/// How many of the last messages of a session are read.
const LOOK_BACK: u32 = 100;

/// As for a run that is checked before a message is sent again.
const RUN_WAIT_MS: u64 = 1;

/// What is still to be asked.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Sessions whose transcript is to be read, with their open runs.
    sessions: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    /// Runs to ask about, with what the transcript has of them.
    runs: Vec<(Arc<str>, Option<String>)>,
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

    /// Asks what is to be asked, as far as there is room.
    pub(super) fn read_backlog(&mut self, now: Now, out: &mut Vec<Output>) {
        let until_ms = now.mono_ms.saturating_add(QUESTION_MS);
        while self.phase == Phase::Open && self.backlog.asked < PARALLEL {
            let asked = if let Some((run, text)) = self.backlog.runs.pop() {
                let run_id = run.clone();
                let params = frame::AgentWait {
                    run_id: &run_id,
                    timeout_ms: RUN_WAIT_MS,
                };
                let purpose = Purpose::Settle { run, text };
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
                    self.read_transcript(&run, history, out);
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
        run: &Arc<str>,
        history: &History,
        out: &mut Vec<Output>,
    ) {
        if self.runs.get(&**run).is_none() || history.is_active(run) == Some(true) {
            return;
        }
        let text = history.answer(run);
        match (text, history.is_active(run)) {
            (Some(text), Some(false)) => self.finished(run, text, out),
            (text, _) => self.backlog.runs.push((run.clone(), text)),
        }
    }
}

impl History {
    /// The gateway has taken in the message of this run.
    pub(super) fn has(&self, run: &str) -> bool {
        let pending = self.pending_inputs.as_ref();
        let pending = pending.and_then(|pending| pending.items.as_ref());
        let messages = self.messages.iter().chain(pending).flatten();
        self.is_active(run) == Some(true) || messages.into_iter().any(|it| it.belongs_to(run))
    }

    /// The run works; `None` if the gateway does not say which do.
    fn is_active(&self, run: &str) -> Option<bool> {
        let info = self.session_info.as_ref()?;
        let active = info.active_run_ids.as_ref()?;
        Some(active.iter().any(|id| id == run))
    }

    /// The last text of the agent that is marked as this run's, or else that follows the
    /// run's message and comes before the next one.
    fn answer(&self, run: &str) -> Option<String> {
        let messages = self.messages.as_deref().unwrap_or_default();
        let spoken = |it: &&frame::Message| it.role() == "assistant" && !it.text().is_empty();
        let marked = messages.iter().rev().filter(spoken);
        let mut marked = marked.filter(|it| it.belongs_to(run));
        if let Some(message) = marked.next() {
            return Some(message.text().to_owned());
        }
        let question = messages
            .iter()
            .position(|it| it.role() == "user" && it.belongs_to(run))?;
        let after = messages.get(question + 1..).unwrap_or_default();
        let until_next = after.iter().take_while(|it| it.role() != "user");
        let message = until_next.filter(spoken).last()?;
        Some(message.text().to_owned())
    }
}
