//! Taking a message: checked, routed, stored, acknowledged.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use outbox::{AppendError, Record, RecordId};
use protocol::agent;
use protocol::stratix::{Kind, Message};
use upstream::ws_agent::Delivery;

use super::known::Due;
use super::lane::{self, Item};
use super::settings::Lines;
use super::stored::{ENVELOPE, Stored};
use super::{
    Count, Lane, MESSAGE_ID_MAX, Overflow, Refused, Relay, Settings, Stage, Submission, TURNS,
    Told, key, lock,
};

impl Relay {
    /// Takes a message, or says why not; `told` is called exactly once.
    ///
    /// Messages of one client and priority are delivered in the order of these calls.
    pub fn submit(self: &Arc<Self>, submission: Submission, told: Told) {
        let settings = self.settings.load();
        let size = payload_len(&submission.message);
        self.counters.received.one();
        self.counters.bytes_received.add(size as u64);
        if size > LARGE {
            self.counters.large.one();
            self.counters.large_bytes.add(size as u64);
        }
        let lane = match self.admit(&settings, &submission) {
            Ok(lane) => lane,
            Err(refused) => return told(Err(refused)),
        };
        let now_ms = self.clock.unix_ms();
        let Submission {
            client,
            mut message,
            priority,
            level,
            traceparent,
        } = submission;
        if message.message_id.is_empty() {
            message.message_id = uuid::Uuid::new_v4().hyphenated().to_string();
        }
        let priority = lane::stored_priority(priority);
        let message_id: Arc<str> = message.message_id.as_str().into();
        let key = key(&client, &message_id);
        // A client may be on its way from one connection, and one worker, to another: what is
        // known of a message and its place in the log must come in the same order.
        let _in_turn = lock(&self.turns[(key_of_client(&client) % TURNS) as usize]);
        let mut due = Due::default();
        let is_new = lock(&self.known).enter(
            settings.window(self.clock.mono_ms()),
            key,
            level.unwrap_or(settings.level),
            &message_id,
            told,
            &mut due,
        );
        due.tell();
        if !is_new {
            return self.counters.duplicates.one();
        }
        if !self.make_room(&settings) {
            self.counters.refused_full.one();
            self.withdraw(key, &Refused::Full);
            return;
        }
        // Whoever waits for no more than this is told now, and not before there is room.
        self.advance(key, Stage::Accepted);
        client.as_ref().clone_into(&mut message.client_id);
        message.timestamp = i64::try_from(now_ms * 1_000_000).unwrap_or(i64::MAX);
        lane.target.shown_url().clone_into(&mut message.route);
        let trace = traceparent.unwrap_or_else(new_trace);
        tracing::debug!(%client, %message_id, trace, "message was taken");
        self.remember(&settings, now_ms, &client, &message, None);
        let stored = Stored::new(message, &trace);
        let payload = stored.write();
        let held = self.hold(&settings, stored, payload.len());
        let item = Item {
            id: RecordId { seq: 0, place: 0 },
            client: Arc::clone(&client),
            message_id,
            priority,
            key,
            at_ms: now_ms,
            size: payload.len(),
            attempts: 0,
            was_tried_before_restart: false,
            first_attempt_ms: None,
            held,
        };
        self.counters.accepted.one();
        let record = Record {
            client,
            priority,
            at_ms: now_ms,
            key,
            payload,
        };
        let relay = Arc::clone(self);
        self.outbox.append(
            record,
            Box::new(move |appended| relay.appended(&lane, item, appended)),
        );
    }

    fn admit(
        self: &Arc<Self>,
        settings: &Settings,
        submission: &Submission,
    ) -> Result<Arc<Lane>, Refused> {
        let Submission {
            client, message, ..
        } = submission;
        let refuse = |count: &Count, refused: Refused| {
            count.one();
            tracing::debug!(%client, %refused, "message was refused");
            Err(refused)
        };
        if agent::channel_of(client).is_none() {
            return refuse(&self.counters.refused_invalid, Refused::ClientId);
        }
        let id = &message.message_id;
        if id.len() > MESSAGE_ID_MAX || id.chars().any(char::is_control) {
            let refused = Refused::MessageId {
                max: MESSAGE_ID_MAX,
            };
            return refuse(&self.counters.refused_invalid, refused);
        }
        let size = payload_len(message);
        if size > settings.message_size_max {
            let refused = Refused::TooLarge {
                size,
                max: settings.message_size_max,
            };
            return refuse(&self.counters.refused_invalid, refused);
        }
        if message.kind == Kind::Binary && STANDARD.decode(&message.data).is_err() {
            return refuse(&self.counters.refused_invalid, Refused::Payload);
        }
        let now_ms = self.clock.mono_ms();
        if is_over(&self.client_lines, client, now_ms) {
            return refuse(&self.counters.refused_rate, Refused::TooMany);
        }
        let Some(found) = settings.table.lookup(client) else {
            self.warn_of_missing_route(client, now_ms);
            return refuse(&self.counters.refused_route, Refused::NoRoute);
        };
        if is_over(&self.agent_lines, &found.target.url, now_ms) {
            return refuse(&self.counters.refused_rate, Refused::TooMany);
        }
        Ok(self.lane(settings, found.target))
    }

    /// Makes sure there is a place for one more, which it then takes.
    fn make_room(self: &Arc<Self>, settings: &Settings) -> bool {
        loop {
            let oldest = {
                let mut pending = lock(&self.pending);
                if pending.enter(settings.buffer_size) {
                    return true;
                }
                match settings.overflow {
                    Overflow::Reject => return false,
                    Overflow::DropOldest => pending.oldest_after(None),
                }
            };
            let mut next = oldest;
            // The oldest may be on its way to its agent: then it is the one behind it.
            loop {
                let Some((id, lane, client, priority)) = next else {
                    return false;
                };
                let dropped = lock(&lane.state).queue.remove_first(&client, priority, id);
                if let Some(item) = dropped {
                    self.counters.dead_dropped.one();
                    self.bury(item, "dropped: the buffer was full");
                    break;
                }
                next = lock(&self.pending).oldest_after(Some(id));
            }
        }
    }

    /// The outbox has a record, or will not have it.
    fn appended(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        mut item: Item,
        appended: Result<RecordId, AppendError>,
    ) {
        match appended {
            Ok(id) => {
                self.counters.durable.one();
                item.id = id;
                // Before it can be delivered, which is the stage behind.
                self.advance(item.key, Stage::Durable);
                self.put(lane, item);
            }
            Err(error) => {
                self.release(&item);
                lock(&self.pending).leave_unplaced();
                let refused = match error {
                    AppendError::Busy => {
                        self.counters.refused_full.one();
                        Refused::Full
                    }
                    AppendError::TooLarge { size, max } => {
                        self.counters.refused_invalid.one();
                        Refused::TooLarge { size, max }
                    }
                    AppendError::Failed(_) => {
                        self.counters.refused_failed.one();
                        Refused::Unavailable
                    }
                };
                lock(&self.history).forget(&item.client, &item.message_id);
                if !self.withdraw(item.key, &refused) {
                    // Its client was told already that it was taken.
                    let code = refused.code().to_error().code;
                    let (text, is_final) = (refused.to_string(), refused.is_final());
                    self.notify(&item, code, &text, is_final);
                }
            }
        }
    }

    /// Keeps a message in memory until it is sent, if there is room for it.
    fn hold(&self, settings: &Settings, stored: Stored, size: usize) -> Option<Arc<Delivery>> {
        if self.held_bytes.load(Ordering::Relaxed) + size > settings.held_bytes_max {
            return None;
        }
        let delivery = stored.into_delivery().ok()?;
        self.held_bytes.fetch_add(size, Ordering::Relaxed);
        Some(Arc::new(delivery))
    }

    /// Keeps a message for the client's history: as `json`, if that says more than the
    /// message does.
    pub(super) fn remember(
        &self,
        settings: &Settings,
        now_ms: u64,
        client: &Arc<str>,
        message: &Message,
        json: Option<Bytes>,
    ) {
        let limits = &settings.history;
        if limits.per_client == 0 {
            return;
        }
        let json = if message.data.len() > limits.message_size_max {
            let without_data = Message {
                data: String::new(),
                ..message.clone()
            };
            written(&without_data)
        } else {
            json.or_else(|| written(message))
        };
        if let Some(json) = json {
            let message_id = message.message_id.as_str().into();
            lock(&self.history).add(now_ms, limits, client, message_id, json);
        }
    }
}

fn written(message: &Message) -> Option<Bytes> {
    let mut json = Vec::with_capacity(message.data.len() + ENVELOPE);
    serde_json::to_writer(&mut json, message).ok()?;
    Some(json.into())
}

/// Bytes of a payload, which is Base64 in a binary message (`contracts`: relay 1.7).
fn payload_len(message: &Message) -> usize {
    let data = &message.data;
    match message.kind {
        Kind::Text | Kind::Control => data.len(),
        Kind::Binary => {
            let padding = data
                .bytes()
                .rev()
                .take(2)
                .filter(|byte| *byte == b'=')
                .count();
            (data.len() / 4 * 3).saturating_sub(padding)
        }
    }
}

/// Clients with the same number take turns.
fn key_of_client(client: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    client.hash(&mut hasher);
    hasher.finish()
}

fn is_over(lines: &Mutex<Lines>, key: &Arc<str>, now_ms: u64) -> bool {
    lock(lines)
        .as_mut()
        .is_some_and(|lines| lines.take(key, now_ms).is_err())
}

/// A W3C `traceparent` (Trace Context, 3.2).
fn new_trace() -> String {
    let trace = uuid::Uuid::new_v4().as_u128();
    // One draw is enough: the first span of a trace need not be secret.
    let span = (trace >> 32) as u64;
    format!("00-{trace:032x}-{span:016x}-01")
}

/// From how many bytes on a message counts as large (`contracts`: relay 1.7).
const LARGE: usize = 1024 * 1024;
