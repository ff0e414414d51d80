//! What agents say, on its way to the clients.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bus::{HistoryPolicy, Publish};
use bytes::Bytes;
use outbox::Mark;
use protocol::agent;
use protocol::stratix::{self, Kind, Message};
use serde::Serialize;
use upstream::ws_agent::{Answer, AnswerKind, LinkId, Listener, Peer};

use super::dead::DeadLetter;
use super::lane::Item;
use super::stored::ENVELOPE;
use super::{Lane, Relay, Stage, key, lock};

/// Ids of the answers told last, so that one told again after a gap is not passed on
/// again.
#[derive(Debug, Default)]
pub(super) struct Recent {
    keys: HashSet<u128>,
    order: VecDeque<u128>,
}

impl Recent {
    /// Whether an answer is new.
    fn enter(&mut self, key: u128) -> bool {
        if !self.keys.insert(key) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        true
    }
}

/// An answer as clients get it: a message, and what it answers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    #[serde(flatten)]
    message: &'a Message,
    #[serde(skip_serializing_if = "str::is_empty")]
    in_reply_to: &'a str,
    state: &'static str,
}

impl Listener for Relay {
    fn up(&self, link: LinkId) {
        if let Some(lane) = self.lane_of(link) {
            lane.stirred.notify_one();
        }
    }

    fn down(&self, link: LinkId, reason: &str) {
        // What was travelling comes back by itself.
        tracing::debug!(?link, reason, "agent can't be reached");
    }

    fn answer(&self, link: LinkId, answer: Answer) {
        let Some(lane) = self.lane_of(link) else {
            return;
        };
        let settings = self.settings.load();
        // An agent speaks to its own clients only.
        let is_own = settings
            .table
            .lookup(&answer.client)
            .is_some_and(|found| *found.target == lane.target);
        if !is_own {
            self.counters.answers_foreign.one();
            tracing::debug!(client = %answer.client, agent = lane.target.shown_url(), "answer is for a client of another agent");
            return;
        }
        let is_delta = answer.kind == AnswerKind::Delta;
        if !is_delta && lane.target.peer == Peer::OpenClaw && !answer.in_reply_to.is_empty() {
            self.answered(&answer);
        }
        let told_before = !is_delta
            && !answer.message_id.is_empty()
            && !lock(&self.recent).enter(key(&answer.client, &answer.message_id));
        if told_before {
            return self.counters.answers_repeated.one();
        }
        self.counters.answers.one();
        self.counters.answer_bytes.add(answer.data.len() as u64);
        let now_ms = self.clock.unix_ms();
        let (kind, state) = match answer.kind {
            AnswerKind::Final => (Kind::Text, "final"),
            AnswerKind::Delta => (Kind::Text, "delta"),
            AnswerKind::Aborted => (Kind::Text, "aborted"),
            AnswerKind::Failed => (Kind::Text, "error"),
            AnswerKind::Binary => (Kind::Binary, "final"),
            AnswerKind::Control => (Kind::Control, "control"),
        };
        let message = Message {
            kind,
            client_id: answer.client.to_string(),
            message_id: answer.message_id.to_string(),
            timestamp: i64::try_from(now_ms * 1_000_000).unwrap_or(i64::MAX),
            data: answer.data.to_string(),
            route: lane.target.shown_url().to_owned(),
            content_type: answer.content_type.to_string(),
            compressed: false,
        };
        let told = Told {
            message: &message,
            in_reply_to: &answer.in_reply_to,
            state,
        };
        let mut json = Vec::with_capacity(message.data.len() + ENVELOPE);
        if serde_json::to_writer(&mut json, &told).is_err() {
            return;
        }
        let json = Bytes::from(json);
        if !is_delta && !message.message_id.is_empty() {
            self.remember(
                &settings,
                now_ms,
                &answer.client,
                &message,
                Some(json.clone()),
            );
        }
        self.publish(&answer.client, json, !is_delta);
    }
}

impl Relay {
    /// The message behind an answer needs no record any more.
    fn answered(&self, answer: &Answer) {
        let ended = lock(&self.runs).end(key(&answer.client, &answer.in_reply_to));
        if let Some(id) = ended {
            self.outbox.mark(id, Mark::Settled);
        }
    }

    /// Publishes something on the client's channel; `keep` puts it into its stream.
    pub(super) fn publish(&self, client: &str, json: Bytes, keep: bool) {
        let Some(channel) = agent::channel_of(client) else {
            return;
        };
        let limits = self.settings.load().history;
        let history = (keep && limits.per_client > 0).then_some(HistoryPolicy {
            size: limits.per_client,
            ttl_ms: limits.ttl_ms,
            meta_ttl_ms: limits.ttl_ms.saturating_mul(2),
        });
        let publish = Publish {
            history,
            ..Publish::new(channel, json)
        };
        self.publish_in_turn(publish);
    }

    /// Tells a client what became of a message, on its channel.
    pub(super) fn notify(&self, item: &Item, code: u32, text: &str, is_final: bool) {
        let notice = stratix::error(&item.message_id, code, text, is_final);
        self.publish(&item.client, notice.into(), true);
    }

    /// Gives a message up: it becomes a dead letter, and its client is told.
    pub(super) fn bury(&self, item: Item, reason: &str) {
        let reason: Arc<str> = reason.chars().take(REASON_MAX).collect::<String>().into();
        let now_ms = self.clock.unix_ms();
        let mark = Mark::Dead {
            reason: Arc::clone(&reason),
            at_ms: now_ms,
        };
        self.outbox.mark(item.id, mark);
        lock(&self.pending).settle(item.id);
        self.release(&item);
        if self.may_warn(self.clock.mono_ms()) {
            tracing::warn!(client = %item.client, message_id = %item.message_id, %reason, "message was given up");
        }
        self.notify(&item, UNDELIVERED, &reason, true);
        let key = item.key;
        self.keep_letter(DeadLetter {
            id: item.id,
            client: item.client,
            priority: item.priority,
            key,
            at_ms: item.at_ms,
            dead_ms: now_ms,
            reason: Arc::clone(&reason),
            size: item.size,
        });
        // Last: whoever is told now finds all of the above.
        self.advance(key, Stage::Dead { reason });
    }

    pub(super) fn keep_letter(&self, letter: DeadLetter) {
        let max = self.settings.load().dead_max;
        let gone = lock(&self.dead).keep(letter, max);
        self.forget_letters(&gone);
    }

    pub(super) fn forget_letters(&self, letters: &[DeadLetter]) {
        for letter in letters {
            self.counters.dead_forgotten.one();
            self.outbox.mark(letter.id, Mark::Settled);
        }
    }

    pub(super) fn lane_of(&self, link: LinkId) -> Option<Arc<Lane>> {
        lock(&self.lanes).get(&link).cloned()
    }
}

/// Answers remembered against being told twice.
const RECENT_MAX: usize = 100_000;

/// Longest reason kept, in characters.
const REASON_MAX: usize = 256;

/// What a client is told with a message that was given up: "not delivered", a code of the
/// native protocol's own range for internal errors.
const UNDELIVERED: u32 = 100;
