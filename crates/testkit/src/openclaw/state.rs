//! What the gateway knows.

use std::collections::{BTreeMap, HashMap, HashSet};

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
    approved: HashSet<String>,
    listeners: HashMap<u64, mpsc::Sender<Order>>,
    next_listener: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Remembered {
    pub(super) session: String,
    /// The end, if it has ended: whether well, and what was said.
    pub(super) end: Option<(bool, String)>,
}

impl State {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            ledger: Ledger::default(),
            restarts: 0,
            memory: HashMap::new(),
            transcripts: BTreeMap::new(),
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

    pub(super) fn said(&mut self, session: &str, role: &str, key: &str, text: &str) {
        let message = json!({"role": role, "content": [{"type": "text", "text": text}],
            "__openclaw": {"idempotencyKey": format!("{key}:{role}")}});
        let transcript = self.transcripts.entry(session.to_lowercase()).or_default();
        transcript.push(message);
    }

    pub(super) fn finish(&mut self, key: &str, text: &str, heard: bool) -> anyhow::Result<()> {
        let run = self.memory.get_mut(key).context("no such run")?;
        run.end = Some((true, text.to_owned()));
        let session = run.session.clone();
        self.said(&session, "assistant", key, text);
        if heard {
            let message = json!({"role": "assistant", "content": [{"type": "text", "text": text}]});
            self.tell_run(
                key,
                &session,
                json!({"state": "final", "message": message, "stopReason": "stop"}),
            );
        } else {
            self.order(&Order::Lose);
        }
        Ok(())
    }

    pub(super) fn fail(&mut self, key: &str, text: &str) -> anyhow::Result<()> {
        let run = self.memory.get_mut(key).context("no such run")?;
        run.end = Some((false, text.to_owned()));
        let session = run.session.clone();
        self.tell_run(
            key,
            &session,
            json!({"state": "error", "errorMessage": text}),
        );
        Ok(())
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
        self.restarts += 1;
    }

    pub(super) fn forget(&mut self) {
        self.memory.clear();
        self.transcripts.clear();
        self.restarts += 1;
    }

    /// A connection that does not take its orders is dropped, as a slow consumer.
    fn order(&mut self, order: &Order) {
        self.listeners
            .retain(|_, speaker| speaker.try_send(order.clone()).is_ok());
    }
}
