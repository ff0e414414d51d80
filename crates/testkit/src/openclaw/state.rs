//! What the gateway knows.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Behaviour, Ledger};

/// What a connection is told.
#[derive(Debug, Clone)]
pub(super) enum Order {
    /// An event; the connection numbers it.
    Event(String, Value),
    /// An event that takes a number and is not sent.
    Lose,
    Close(u16, &'static str),
    Drop,
}

pub(super) struct State {
    pub(super) behaviour: Behaviour,
    pub(super) ledger: Ledger,
    pub(super) restarts: usize,
    /// By idempotency key, until the gateway restarts.
    pub(super) memory: HashMap<String, Remembered>,
    /// By session key in lower case.
    pub(super) transcripts: BTreeMap<String, Vec<Value>>,
    /// Runs without an end by session key in lower case; the first one works.
    pub(super) work: BTreeMap<String, VecDeque<Work>>,
    next_name: usize,
    approved: HashSet<String>,
    listeners: HashMap<u64, mpsc::Sender<Order>>,
    next_listener: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Remembered {
    pub(super) session: String,
    pub(super) text: String,
    /// The end, if it has ended: whether well, and what was said.
    pub(super) end: Option<(bool, String)>,
}

/// A run without an end.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) key: String,
    /// What it is called now: its key, or a name made up.
    pub(super) run: String,
    pub(super) session: String,
    pub(super) text: String,
    /// The message is in the transcript.
    written: bool,
}

impl State {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            ledger: Ledger::default(),
            restarts: 0,
            memory: HashMap::new(),
            transcripts: BTreeMap::new(),
            work: BTreeMap::new(),
            next_name: 0,
            approved: HashSet::new(),
            listeners: HashMap::new(),
            next_listener: 0,
        }
    }

    pub(super) fn boot_id(&self) -> String {
        format!("boot-{}", self.restarts)
    }

    pub(super) fn listen(&mut self, speaker: mpsc::Sender<Order>) -> u64 {
        self.next_listener += 1;
        self.listeners.insert(self.next_listener, speaker);
        self.next_listener
    }

    pub(super) fn leave(&mut self, listener: u64) {
        self.listeners.remove(&listener);
    }

    pub(super) fn is_approved(&self, device: &str) -> bool {
        self.approved.contains(device)
    }

    /// The request id of a device that has to be approved.
    pub(super) fn pend(&mut self, device: &str) -> String {
        let pending = &mut self.ledger.pending;
        if let Some((request, _)) = pending.iter().find(|(_, known)| known == device) {
            return request.clone();
        }
        let request = format!("pair-{}", pending.len() + 1);
        pending.push((request.clone(), device.to_owned()));
        request
    }

    pub(super) fn approve(&mut self, request_id: &str) -> anyhow::Result<()> {
        let pending = &mut self.ledger.pending;
        let at = pending.iter().position(|(known, _)| known == request_id);
        let (_, device) = pending.remove(at.context("no such request")?);
        self.approved.insert(device);
        Ok(())
    }

    fn made_up(&mut self) -> String {
        self.next_name += 1;
        format!("00000000-0000-4000-8000-{:012}", self.next_name)
    }

    /// Takes in a message; whether it has to wait for others of its session.
    pub(super) fn take(&mut self, key: &str, session: &str, text: &str, write: bool) -> bool {
        let lower = session.to_lowercase();
        let waits = self.work.get(&lower).is_some_and(|work| !work.is_empty());
        let run = if waits {
            self.made_up()
        } else {
            key.to_owned()
        };
        let work = Work {
            key: key.to_owned(),
            run,
            session: session.to_owned(),
            text: text.to_owned(),
            written: false,
        };
        self.work.entry(lower.clone()).or_default().push_back(work);
        if write && !waits {
            self.write_first(&lower);
        }
        waits
    }

    /// Writes the message of the first run of a session down.
    fn write_first(&mut self, session: &str) {
        let first = self.work.get_mut(session).and_then(VecDeque::front_mut);
        let Some(first) = first.filter(|first| !first.written) else {
            return;
        };
        first.written = true;
        let message = json!({"role": "user", "content": [{"type": "text", "text": first.text}],
            "__openclaw": {"idempotencyKey": format!("{}:user", first.key)}});
        let transcript = self.transcripts.entry(session.to_owned()).or_default();
        transcript.push(message);
    }

    pub(super) fn finish(&mut self, key: &str, text: &str, heard: bool) -> anyhow::Result<()> {
        let work = self.end(key, (true, text))?;
        let reply = json!({"role": "assistant", "content": [{"type": "text", "text": text}]});
        let mut written = reply.clone();
        written["__openclaw"] = json!({"runId": work.run});
        let transcript = self.transcripts.entry(work.session.to_lowercase());
        transcript.or_default().push(written);
        if heard {
            let end = json!({"state": "final", "message": reply, "stopReason": "stop"});
            self.tell_run(&work.run, &work.session, end);
        } else {
            self.order(&Order::Lose);
        }
        self.go_on(&work.session)
    }

    pub(super) fn fail(&mut self, key: &str, text: &str) -> anyhow::Result<()> {
        let work = self.end(key, (false, text))?;
        let end = json!({"state": "error", "errorMessage": text});
        self.tell_run(&work.run, &work.session, end);
        self.go_on(&work.session)
    }

    fn end(&mut self, key: &str, (well, said): (bool, &str)) -> anyhow::Result<Work> {
        let first = |work: &VecDeque<Work>| work.front().is_some_and(|work| work.key == key);
        let session = self.work.iter().find(|(_, work)| first(work));
        let session = session.context("no such run works")?.0.clone();
        self.write_first(&session);
        let work = self.work.get_mut(&session).and_then(VecDeque::pop_front);
        if let Some(run) = self.memory.get_mut(key) {
            run.end = Some((well, said.to_owned()));
        }
        work.context("no such run")
    }

    /// Begins the next run of a session.
    fn go_on(&mut self, session: &str) -> anyhow::Result<()> {
        let session = session.to_lowercase();
        self.write_first(&session);
        let next = self.work.get(&session).and_then(VecDeque::front).cloned();
        match next {
            Some(next) if self.behaviour.echoes => self.finish(&next.key, &next.text, true),
            _ => Ok(()),
        }
    }

    /// Tells that a run works, or that it waits.
    pub(super) fn tell_begun(&mut self, key: &str, session: &str, waits: bool) {
        let state = if waits {
            json!({"state": "final"})
        } else {
            json!({"state": "status", "phase": "starting_model"})
        };
        self.tell_run(key, session, state);
    }

    fn tell_run(&mut self, key: &str, session: &str, mut payload: Value) {
        let session = if self.behaviour.lowers_keys {
            session.to_lowercase()
        } else {
            session.to_owned()
        };
        payload["runId"] = json!(key);
        payload["sessionKey"] = json!(session);
        payload["seq"] = json!(1);
        self.broadcast("chat", &payload);
    }

    pub(super) fn broadcast(&mut self, event: &str, payload: &Value) {
        self.order(&Order::Event(event.to_owned(), payload.clone()));
    }

    pub(super) fn drop_connections(&mut self) {
        self.order(&Order::Drop);
    }

    pub(super) fn restart(&mut self) {
        self.broadcast("shutdown", &json!({"reason": "gateway stopping"}));
        self.order(&Order::Close(1012, "service restart"));
        self.memory.clear();
        self.work.clear();
        self.restarts += 1;
    }

    pub(super) fn kill(&mut self) {
        self.order(&Order::Drop);
        self.memory.clear();
        self.restarts += 1;
        let mut work = std::mem::take(&mut self.work);
        for runs in work.values_mut() {
            if runs.front().is_some_and(|first| !first.written) {
                runs.pop_front();
            }
            if let Some(first) = runs.front_mut() {
                first.run = self.made_up();
            }
        }
        work.retain(|_, runs| !runs.is_empty());
        self.work = work;
        let sessions: Vec<String> = self.work.keys().cloned().collect();
        for session in sessions {
            self.write_first(&session);
        }
    }

    pub(super) fn forget(&mut self) {
        self.memory.clear();
        self.work.clear();
        self.transcripts.clear();
        self.restarts += 1;
    }

    /// A connection that does not take its orders is dropped, as a slow consumer.
    fn order(&mut self, order: &Order) {
        self.listeners
            .retain(|_, speaker| speaker.try_send(order.clone()).is_ok());
    }
}
