//! Clients of the Stratix dialect, and messages of all clients to their agents
//! (`contracts`: relay 1.2 to 1.5).
//!
//! What a message is was decided in `protocol::stratix`, what becomes of it is decided in
//! `router::relay`; here the two are connected to a connection. A client of the dialect
//! gets acknowledgements if it asked for them, and always hears what was refused.

use std::sync::Arc;

use auth::signature::{Content, SignatureMode, Signed};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use protocol::code::{Disconnect, ErrorCode};
use protocol::dialect::Dialect;
use protocol::session::{SubscribeAsk, Via};
use protocol::settings::{ChannelOptions, RecoveryMode, ResolvedOptions, SlowClientPolicy};
use protocol::stratix::{
    self, Assembled, ChunkProblem, Chunks, Frame, History, Inbound, Kind, Message, Priority,
};
use router::relay::{Receipt, Refused, Submission, is_relayed};
use websocket::OpCode;

use super::connection::{Connection, Stage};
use super::inbox::Mail;
use super::{Worker, context};

/// What a client of the dialect asked for when it came, and what it has begun.
#[derive(Debug, Default)]
pub(crate) struct Stratix {
    /// Its place in the order of arrivals, from 1.
    pub(crate) arrival: u64,
    /// It wants to hear what was taken.
    pub(crate) wants_acks: bool,
    /// What it wants to hear again, until that was told.
    pub(crate) history: Option<History>,
    /// Messages in pieces.
    pub(crate) chunks: Chunks,
    /// Since when its queue overflows, in ms; 0 is not.
    pub(crate) slow_since_ms: u64,
    /// It is counted among the relay's clients.
    pub(crate) is_counted: bool,
}

/// Who is told what became of a message.
#[derive(Debug, Clone)]
pub(crate) enum Ticket {
    /// A command of the native protocol.
    Native(Via),
    /// A message of the dialect, by its id.
    Stratix(Arc<str>),
}

impl Worker {
    /// Lets a client in that was known before the upgrade.
    pub(super) fn begin(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let cx = context(&self.live, self.now);
        connection.session.begin(cx, &mut self.outputs);
        self.drive(slot);
    }

    /// The session has begun: the client hears what it wanted to hear again.
    pub(super) fn begun(&mut self, slot: u32) {
        let Some(relay) = self.relay.clone() else {
            return;
        };
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let Some(client) = user(connection) else {
            return;
        };
        let Some(own) = connection.stratix_mut() else {
            return;
        };
        own.is_counted = true;
        let wanted = own.history.take();
        relay.client_came(&client);
        let Some(wanted) = wanted else { return };
        let found = relay.history(&client, wanted.after.as_deref(), wanted.limit);
        let sizes = found.iter().map(|message| message.json.len());
        let count = fitting(sizes, HISTORY_BYTES_MAX - NOTICE_MAX);
        let found = found.get(found.len() - count..).unwrap_or_default();
        for message in found {
            self.send_text(slot, &message.json);
        }
        let oldest = found.first().map(|message| &*message.message_id);
        let newest = found.last().map(|message| &*message.message_id);
        let notice = stratix::history_complete(found.len(), oldest, newest);
        self.send_text(slot, notice.as_bytes());
    }

    /// Counts a client of the dialect out.
    pub(super) fn stratix_went(&self, connection: &Connection) {
        if let (Some(own), Some(relay)) = (connection.stratix(), &self.relay)
            && own.is_counted
            && let Some(client) = user(connection)
        {
            relay.client_went(&client);
        }
    }

    /// Handles a frame of the dialect.
    pub(super) fn stratix_message(&mut self, slot: u32, binary: bool, payload: &[u8]) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let cx = context(&self.live, self.now);
        connection.session.heard(cx);
        if !connection.session.admit_message(&mut self.outputs) {
            return self.drive(slot);
        }
        if binary {
            self.binary_message(slot, payload);
        } else {
            match Inbound::parse(payload) {
                Ok(inbound) if inbound.message.kind == Kind::Control => {}
                Ok(inbound) => self.take(slot, inbound),
                Err(error) => {
                    self.note_invalid();
                    self.tell_refused(slot, "", ErrorCode::BadRequest, &error.to_string(), true);
                }
            }
        }
        self.drive(slot);
    }

    /// A payload as it is, or a piece of one.
    fn binary_message(&mut self, slot: u32, payload: &[u8]) {
        let Some(limits) = self.live.relay.as_ref().map(|relay| relay.chunks) else {
            return;
        };
        if self.needs_signatures() {
            // A frame of bytes has no place for a signature, so nothing of it is kept.
            if let Some(relay) = &self.relay {
                relay.counters().refused_signature.one();
            }
            let refusal = Refusal::Unsigned;
            let text = refusal.to_string();
            return self.tell_refused(slot, "", refusal.code(), &text, refusal.is_final());
        }
        if self.registers.door.is_out_of_memory(self.live.door.memory) {
            let refusal = self.full();
            let text = refusal.to_string();
            return self.tell_refused(slot, "", refusal.code(), &text, refusal.is_final());
        }
        let now_ms = self.now.mono_ms;
        let Some(own) = self.stratix(slot) else {
            return;
        };
        // Whoever sends again after ten minutes has given the message up itself.
        let _expired = own.chunks.expire(now_ms);
        let whole = match Frame::read(payload) {
            Ok(Frame::Raw(data)) => Ok(Some(Assembled {
                message_id: String::new(),
                content_type: String::new(),
                compressed: false,
                data: data.to_vec(),
                checksum: None,
            })),
            Ok(Frame::Chunk(chunk)) => own.chunks.handle(now_ms, chunk, &limits),
            Err(error) => Err(error),
        };
        match whole {
            Ok(None) => {}
            Ok(Some(whole)) if !is_intact(&whole) => {
                self.note_invalid();
                let text = "checksum does not match";
                self.tell_refused(slot, &whole.message_id, ErrorCode::BadRequest, text, true);
            }
            Ok(Some(whole)) => {
                let message = Message {
                    kind: Kind::Binary,
                    message_id: whole.message_id,
                    data: STANDARD.encode(&whole.data),
                    content_type: whole.content_type,
                    compressed: whole.compressed,
                    ..Message::default()
                };
                let inbound = Inbound {
                    message,
                    ..Inbound::default()
                };
                self.take(slot, inbound);
            }
            Err(error) => {
                self.note_invalid();
                // Pieces of a message that was refused go on coming: their client was told.
                let Some(id) = &error.message_id else { return };
                let code = match error.problem {
                    ChunkProblem::TooLarge { .. } => ErrorCode::LimitExceeded,
                    _ => ErrorCode::BadRequest,
                };
                let (text, is_final) = (error.problem.to_string(), error.is_final());
                self.tell_refused(slot, id, code, &text, is_final);
            }
        }
    }

    /// Hands a message of the dialect to the relay.
    fn take(&mut self, slot: u32, inbound: Inbound) {
        let id: Arc<str> = inbound.message.message_id.as_str().into();
        if let Err(refusal) = self.hand_in(slot, inbound, Ticket::Stratix(Arc::clone(&id))) {
            let text = refusal.to_string();
            self.tell_refused(slot, &id, refusal.code(), &text, refusal.is_final());
        }
    }

    /// Hands a message of the native protocol to the relay.
    pub(super) fn submit(&mut self, slot: u32, via: Via, data: &Bytes) {
        let parsed: Result<Inbound, ErrorCode> = match data.trim_ascii_start().first() {
            Some(b'"') => serde_json::from_slice::<String>(data)
                .map(|text| Inbound {
                    message: Message {
                        data: text,
                        ..Message::default()
                    },
                    ..Inbound::default()
                })
                .map_err(|_| ErrorCode::BadRequest),
            _ => Inbound::parse(data).map_err(|_| ErrorCode::BadRequest),
        };
        let handed = match parsed {
            Ok(inbound) if !is_relayed(inbound.message.kind) => {
                self.note_invalid();
                Err(ErrorCode::BadRequest)
            }
            Ok(inbound) => self
                .hand_in(slot, inbound, Ticket::Native(via))
                .map_err(|refusal| refusal.code()),
            Err(code) => {
                self.note_invalid();
                Err(code)
            }
        };
        if let Err(code) = handed
            && let Some(connection) = self.connections.get_mut(slot)
        {
            connection.session.told(via, Err(code), &mut self.outputs);
        }
    }

    fn hand_in(&mut self, slot: u32, inbound: Inbound, ticket: Ticket) -> Result<(), Refusal> {
        let (Some(relay), Some(key)) = (self.relay.clone(), self.connections.key(slot)) else {
            return Err(Refusal::Relay(Refused::Unavailable));
        };
        if self.registers.door.is_out_of_memory(self.live.door.memory) {
            return Err(self.full());
        }
        let Some(client) = self.connections.get(slot).and_then(user) else {
            return Err(Refusal::Relay(Refused::ClientId));
        };
        if let Some(live) = &self.live.relay
            && let Some(signatures) = &live.signatures
        {
            check_signature(signatures, self.now.unix_ms, &client, &inbound).inspect_err(|_| {
                relay.counters().refused_signature.one();
            })?;
        }
        let submission = Submission {
            client,
            message: inbound.message,
            priority: inbound.priority.unwrap_or(Priority::Interactive),
            level: inbound.ack,
            traceparent: inbound.traceparent,
        };
        let inbox = Arc::clone(&self.inbox);
        relay.submit(
            submission,
            Box::new(move |told| inbox.post(Mail::Told(key, ticket, told))),
        );
        Ok(())
    }

    /// Memory is short.
    fn full(&self) -> Refusal {
        if let Some(relay) = &self.relay {
            relay.counters().refused_full.one();
        }
        Refusal::Relay(Refused::Full)
    }

    fn needs_signatures(&self) -> bool {
        let relay = self.live.relay.as_ref();
        relay
            .and_then(|relay| relay.signatures.as_ref())
            .is_some_and(|signatures| signatures.mode() == SignatureMode::Required)
    }

    /// Passes on what became of a message.
    pub(super) fn told(&mut self, slot: u32, ticket: Ticket, told: Result<Receipt, Refused>) {
        match ticket {
            Ticket::Native(via) => {
                let told = told
                    .map(|receipt| receipt_json(&receipt))
                    .map_err(|refused| refused.code());
                if let Some(connection) = self.connections.get_mut(slot) {
                    connection.session.told(via, told, &mut self.outputs);
                }
                self.drive(slot);
            }
            Ticket::Stratix(id) => match told {
                Ok(receipt) => {
                    if self.stratix(slot).is_some_and(|own| own.wants_acks) {
                        let ack =
                            stratix::ack(&receipt.message_id, receipt.level, receipt.is_duplicate);
                        self.send_text(slot, ack.as_bytes());
                    }
                }
                // What was given up is told on the client's channel, however it is connected.
                Err(Refused::Failed(_)) => {}
                Err(refused) => {
                    let text = refused.to_string();
                    self.tell_refused(slot, &id, refused.code(), &text, refused.is_final());
                    self.drive(slot);
                }
            },
        }
    }

    fn tell_refused(&mut self, slot: u32, id: &str, code: ErrorCode, text: &str, is_final: bool) {
        let notice = stratix::error(id, code.to_error().code, text, is_final);
        self.send_text(slot, notice.as_bytes());
        if let Some(connection) = self.connections.get_mut(slot) {
            let cx = context(&self.live, self.now);
            connection.session.message_refused(cx, &mut self.outputs);
        }
    }

    /// Queues a text message behind the replies and before publications.
    fn send_text(&mut self, slot: u32, text: &[u8]) {
        let limit = self.live.session.client.queue_max_size;
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.stage != Stage::Open {
            return;
        }
        let queue = self.spare_queues.fill(&mut connection.queue);
        if queue.control_bytes() + text.len() > limit.max(HISTORY_BYTES_MAX) {
            self.tally.dropped_slow += 1;
            return self.end_session(slot, Disconnect::SLOW);
        }
        websocket::encode_frame(queue.control_mut(), OpCode::Text, true, false, None, text);
        self.tally.messages_sent += 1;
        self.mark_dirty(slot);
    }

    /// Sends a WebSocket ping, and drops messages in pieces that have become too old.
    pub(super) fn ping_peer(&mut self, slot: u32) {
        let now_ms = self.now.mono_ms;
        if let Some(own) = self.stratix(slot) {
            let _expired = own.chunks.expire(now_ms);
        }
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        self.tally.pulses += 1;
        let queue = self.spare_queues.fill(&mut connection.queue);
        websocket::encode_frame(queue.control_mut(), OpCode::Ping, true, false, None, &[]);
        self.mark_dirty(slot);
    }

    /// What a dialect's contract asks of a subscription: nobody counts positions; for a
    /// slow client of the relay the oldest answers are dropped, for one of live data the
    /// latest of each subject is kept.
    pub(super) fn adapt(&self, slot: u32, ask: &mut SubscribeAsk) {
        let dialect = self
            .connections
            .get(slot)
            .map(|connection| connection.flavor.dialect);
        let policy = match dialect {
            Some(Dialect::Stratix) => {
                ask.recover = None;
                SlowClientPolicy::DropOldest
            }
            Some(Dialect::Live { .. }) => {
                // The latest is told with a subscription, but nobody names a position.
                ask.recover = ask
                    .recover
                    .take_if(|recover| recover.mode == RecoveryMode::Cache);
                SlowClientPolicy::Conflate
            }
            Some(Dialect::Centrifuge) | None => return,
        };
        // Neither has words for comings and goings.
        ask.join_leave_pushes = false;
        ask.positioned = false;
        ask.options = Arc::new(ResolvedOptions {
            options: ChannelOptions {
                slow_client: policy,
                ..ask.options.options.clone()
            },
            regex: ask.options.regex.clone(),
        });
    }

    fn stratix(&mut self, slot: u32) -> Option<&mut Stratix> {
        self.connections.get_mut(slot)?.stratix_mut()
    }

    fn note_invalid(&self) {
        if let Some(relay) = &self.relay {
            relay.counters().refused_invalid.one();
        }
    }
}

/// A message that does not get to the relay.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Relay(#[from] Refused),
    #[error("message needs a signature: keyId, nonce, timestamp and signature")]
    Unsigned,
    #[error(transparent)]
    Signature(#[from] auth::signature::SignatureError),
}

impl Refusal {
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Relay(refused) => refused.code(),
            Self::Unsigned | Self::Signature(_) => ErrorCode::PermissionDenied,
        }
    }

    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Relay(refused) => refused.is_final(),
            Self::Unsigned => true,
            Self::Signature(error) => !matches!(error, auth::signature::SignatureError::Busy),
        }
    }
}

/// Checks a message's signature, if it has one or needs one.
fn check_signature(
    signatures: &auth::Signatures,
    now_ms: u64,
    client: &str,
    inbound: &Inbound,
) -> Result<(), Refusal> {
    let (Some(key_id), Some(nonce), Some(signature), Some(timestamp_ms)) = (
        &inbound.key_id,
        &inbound.nonce,
        &inbound.signature,
        inbound.timestamp_ms(),
    ) else {
        let has_parts = inbound.signature.is_some() || inbound.key_id.is_some();
        return match signatures.mode() {
            SignatureMode::Off => Ok(()),
            SignatureMode::Optional if !has_parts => Ok(()),
            SignatureMode::Optional | SignatureMode::Required => Err(Refusal::Unsigned),
        };
    };
    let content = Content {
        timestamp_ms,
        nonce,
        client_id: client,
        message_id: &inbound.message.message_id,
        payload: inbound.message.data.as_bytes(),
    };
    signatures.verify(
        now_ms,
        &Signed {
            key_id,
            signature,
            content,
        },
    )?;
    Ok(())
}

fn is_intact(whole: &Assembled) -> bool {
    whole.checksum.is_none_or(|expected| {
        let found = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &whole.data);
        found.as_ref() == expected
    })
}

/// How many messages fit, the newest first.
fn fitting(sizes: impl DoubleEndedIterator<Item = usize>, bytes_max: usize) -> usize {
    let mut left = bytes_max;
    let fits = sizes.rev().take_while(|size| {
        let rest = left.checked_sub(size + FRAME_OVERHEAD);
        left = rest.unwrap_or(0);
        rest.is_some()
    });
    fits.count()
}

/// What a native client's rpc is answered with.
pub(crate) fn receipt_json(receipt: &Receipt) -> Bytes {
    let mut json = serde_json::json!({
        "messageId": &*receipt.message_id,
        "level": receipt.level.name(),
    });
    if receipt.is_duplicate {
        json["duplicate"] = true.into();
    }
    json.to_string().into()
}

fn user(connection: &Connection) -> Option<Arc<str>> {
    let identity = connection.session.identity()?;
    Some(Arc::from(&*identity.user))
}

/// More than the head of a frame takes.
const FRAME_OVERHEAD: usize = 16;

/// More than the notice behind a history takes.
const NOTICE_MAX: usize = 4_096;

/// A history may be larger than the queue of a client may be otherwise.
const HISTORY_BYTES_MAX: usize = 32 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_messages_of_a_history_are_told_if_not_all_fit() {
        let count = |bytes| fitting([100, 10, 20].into_iter(), bytes);
        assert_eq!(count(130 + 3 * FRAME_OVERHEAD), 3);
        assert_eq!(count(129 + 3 * FRAME_OVERHEAD), 2);
        assert_eq!(count(20 + FRAME_OVERHEAD), 1);
        assert_eq!(count(0), 0);
    }
}
