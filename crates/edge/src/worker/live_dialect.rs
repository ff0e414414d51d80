//! Clients of the live-data dialect (`contracts`: live-data 6.2, L5, L7, L8).
//!
//! What they may have is decided by the session, which speaks commands; `protocol::live`
//! stands between the two. Here is what the contract says about clients that are too
//! slow: of each subject the latest is worth more than what came before it.

use std::sync::Arc;
use std::time::Duration;

use protocol::code::Disconnect;
use protocol::live::{self, Desk, Inbound, InboundError, Told};
use protocol::message::Reply;
use router::{Frame, raw_payload};
use websocket::OpCode;

use super::connection::Stage;
use super::queue::SendQueue;
use super::{Worker, context};
use crate::live::LiveDialect;
use crate::metrics::Tally;

/// What is kept of a client beside its session.
#[derive(Debug, Default)]
pub(crate) struct LiveClient {
    /// The subject stands before each payload.
    pub(crate) envelope: bool,
    desk: Desk,
    /// Since when more waits than may, in ms; 0 is not.
    slow_since_ms: u64,
}

/// What a slow client is allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Most messages that wait.
    messages_max: usize,
    /// Bytes that may wait for long.
    slow_bytes: usize,
    /// How long more may wait.
    slow_patience_ms: u64,
}

impl Rules {
    pub(crate) fn of(dialect: Option<&LiveDialect>) -> Self {
        let (messages_max, slow_bytes, patience) = match dialect {
            Some(dialect) => (dialect.queue, dialect.slow_bytes, dialect.slow_patience),
            // It was switched off, and those who are here are on their way out.
            None => (1, 0, Duration::ZERO),
        };
        Self {
            messages_max: messages_max.max(1),
            slow_bytes,
            slow_patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX / 4),
        }
    }

    /// Bytes that never wait, however short the time, but for a single message.
    fn bytes_max(self) -> usize {
        self.slow_bytes.saturating_mul(SLOW_BYTES_TIMES)
    }
}

/// How many times more than may wait for long may wait at all.
const SLOW_BYTES_TIMES: usize = 4;

impl LiveClient {
    pub(crate) fn new(envelope: bool) -> Self {
        Self {
            envelope,
            ..Self::default()
        }
    }

    /// Queues a message; an error says that the client has been too slow for too long.
    pub(super) fn queue(
        &mut self,
        queue: &mut SendQueue,
        frame: &Arc<Frame>,
        rules: Rules,
        now_ms: u64,
        tally: &mut Tally,
    ) -> Result<(), Disconnect> {
        let dropped = queue.push_latest(frame, rules.messages_max, rules.bytes_max());
        tally.dropped_conflated += dropped as u64;
        tally.live_dropped += dropped as u64;
        if queue.bytes() <= rules.slow_bytes {
            self.slow_since_ms = 0;
        } else if self.slow_since_ms == 0 {
            self.slow_since_ms = now_ms.max(1);
            tally.live_slow += 1;
        } else if now_ms >= self.slow_since_ms.saturating_add(rules.slow_patience_ms) {
            tally.dropped_slow += 1;
            return Err(Disconnect::SLOW);
        }
        Ok(())
    }

    /// Nothing waits any more.
    pub(super) fn has_caught_up(&mut self) {
        self.slow_since_ms = 0;
    }
}

impl Worker {
    /// Handles a message of a client.
    pub(super) fn live_message(&mut self, slot: u32, binary: bool, payload: &[u8]) {
        let dialect = self.live.live_data.as_ref();
        let subjects_max = dialect.map_or(0, |dialect| dialect.subjects_per_message_max);
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let cx = context(&self.live, self.now);
        connection.session.heard(cx);
        match Inbound::parse(binary, payload, subjects_max) {
            Ok(inbound) => {
                let mut commands = Vec::new();
                if let Some(own) = connection.live_mut() {
                    own.desk.commands(inbound, &mut commands);
                }
                if !commands.is_empty() {
                    connection.session.frame(cx, &commands, &mut self.outputs);
                }
            }
            Err(error) => {
                tracing::debug!(slot, %error, "message of a live-data client was ignored");
                connection.session.message_refused(cx, &mut self.outputs);
                self.tally.live_ignored += 1;
                if matches!(error, InboundError::TooMany { .. }) {
                    let notice = live::error("", Some(&error.to_string()));
                    self.tell_live(slot, notice.as_bytes());
                }
            }
        }
        self.drive(slot);
    }

    /// Tells a client what a reply of its session means to it.
    pub(super) fn live_reply(&mut self, slot: u32, envelope: bool, reply: &Reply) {
        let Some(own) = self
            .connections
            .get_mut(slot)
            .and_then(|connection| connection.live_mut())
        else {
            return;
        };
        match own.desk.told(reply) {
            None => {}
            Some(Told::Refused(notice)) => {
                self.metrics.live.note_error(live::SUBJECT_REFUSED);
                self.tell_live(slot, notice.as_bytes());
            }
            Some(Told::Payloads(subject, payloads)) => {
                for payload in payloads {
                    let mut frame = Vec::new();
                    raw_payload(envelope, &subject, &payload, &mut frame);
                    self.tally.deliveries += 1;
                    self.put_live(slot, &frame);
                }
            }
        }
    }

    fn tell_live(&mut self, slot: u32, text: &[u8]) {
        let mut frame = Vec::new();
        websocket::encode_frame(&mut frame, OpCode::Text, true, false, None, text);
        self.tally.messages_sent += 1;
        self.put_live(slot, &frame);
    }

    /// Queues a frame before publications. One that is alone always fits.
    fn put_live(&mut self, slot: u32, frame: &[u8]) {
        let limit = self.live.session.client.queue_max_size;
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.stage != Stage::Open {
            return;
        }
        let queue = self.spare_queues.fill(&mut connection.queue);
        let waiting = queue.control_bytes();
        if waiting > 0 && waiting + frame.len() > limit {
            self.tally.dropped_slow += 1;
            return self.end_session(slot, Disconnect::SLOW);
        }
        queue.control_mut().extend_from_slice(frame);
        self.mark_dirty(slot);
    }
}
