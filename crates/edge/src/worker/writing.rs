//! From queued frames to the socket, once per connection and turn.

use std::sync::Arc;

use bus::Message;
use protocol::channel::Channel;
use protocol::code::Disconnect;
use protocol::dialect::Dialect;
use protocol::message::Reply;
use protocol::session::{Operation, SubscribeAsk};
use protocol::settings::SlowClientPolicy;
use router::{Delivered, Frame, Receiver, Router, WrapError};

use super::connection::{Connection, Own, Stage};
use super::live_dialect::Rules;
use super::queue::{Queued, SpareQueues};
use super::slab::Slab;
use super::{Worker, context};
use crate::metrics::Tally;

/// Bytes gathered for one write.
const WRITE_CHUNK: usize = 64 * 1024;

impl Worker {
    /// Spreads what the bus delivered.
    pub(super) fn deliver(&mut self, message: &Arc<Message>) {
        self.spread(|router, spread| router.deliver(message, spread));
    }

    /// Spreads to one connection what came before it had heard that it is subscribed.
    pub(super) fn release(&mut self, slot: u32, ask: &SubscribeAsk, held: &[Arc<Message>]) {
        if !held.is_empty() {
            self.spread(|router, spread| router.release(slot, ask, held, spread));
        }
    }

    fn spread(&mut self, by: impl FnOnce(&mut Router, &mut Spread<'_>) -> Delivered) {
        let limit = self.live.session.client.queue_max_size;
        let slow_patience_ms = self.live.relay.as_ref().map_or(0, |relay| {
            u64::try_from(relay.slow_patience.as_millis()).unwrap_or(u64::MAX / 4)
        });
        let mut spread = Spread {
            connections: &mut self.connections,
            dirty: &mut self.dirty,
            spare: &mut self.spare_queues,
            tally: &mut self.tally,
            limit,
            live_rules: Rules::of(self.live.live_data.as_ref()),
            now_ms: self.now.mono_ms,
            messages_max: self.live.relay.as_ref().map_or(1, |relay| relay.queue),
            slow_patience_ms,
            answers_dropped: 0,
            gaps: Vec::new(),
            ended: Vec::new(),
        };
        let delivered = by(&mut self.router, &mut spread);
        let Spread {
            gaps,
            ended,
            answers_dropped,
            ..
        } = spread;
        if answers_dropped > 0
            && let Some(relay) = &self.relay
        {
            relay.counters().answers_dropped.add(answers_dropped);
        }
        self.tally.deliveries += delivered.frames as u64;
        for (slot, disconnect) in ended {
            self.guarded(slot, |worker| worker.end_session(slot, disconnect));
        }
        for (slot, channel) in gaps {
            let operation = Operation::InsufficientState {
                channel: channel.as_str().into(),
            };
            self.guarded(slot, |worker| worker.operate(slot, operation));
        }
    }

    /// Encodes a reply or push into the control lane.
    pub(super) fn reply(&mut self, slot: u32, reply: &Reply) {
        let limit = self.live.session.client.queue_max_size;
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let flavor = connection.flavor;
        if let Dialect::Live { envelope } = flavor.dialect {
            return self.live_reply(slot, envelope, reply);
        }
        self.scratch.clear();
        if protocol::codec::encode_reply(flavor.encoding, reply, &mut self.scratch).is_err() {
            return self.end_session(slot, Disconnect::INAPPROPRIATE_PROTOCOL);
        }
        let queue = self.spare_queues.fill(&mut connection.queue);
        if queue.control_bytes() + self.scratch.len() > limit {
            self.tally.dropped_slow += 1;
            return self.end_session(slot, Disconnect::SLOW);
        }
        flavor
            .framing
            .wrap(flavor.encoding, &self.scratch, None, queue.control_mut());
        self.tally.messages_sent += 1;
        self.mark_dirty(slot);
    }

    /// Ends the session with a code of the protocol.
    pub(super) fn end_session(&mut self, slot: u32, disconnect: Disconnect) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        connection.session.close(disconnect, &mut self.outputs);
        self.drive(slot);
    }

    pub(super) fn mark_dirty(&mut self, slot: u32) {
        if let Some(connection) = self.connections.get_mut(slot) {
            mark(connection, slot, &mut self.dirty);
        }
    }

    /// The socket takes bytes again.
    pub(super) fn writable(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if std::mem::take(&mut connection.is_blocked) {
            self.mark_dirty(slot);
        }
    }

    /// Writes what this turn has made.
    pub(super) fn flush_all(&mut self) {
        // Flushing may end connections, which makes others dirty (leave messages go
        // through the bus and come back as mail, so this ends).
        while !self.dirty.is_empty() {
            for slot in std::mem::take(&mut self.dirty) {
                if let Some(connection) = self.connections.get_mut(slot) {
                    connection.is_dirty = false;
                    self.guarded(slot, |worker| worker.flush(slot));
                }
            }
        }
    }

    /// Writes what waits for one connection, as far as its link takes it.
    pub(super) fn flush(&mut self, slot: u32) {
        let mut out = std::mem::take(&mut self.write_buffer);
        let is_alive = self.flush_with(slot, &mut out);
        out.clear();
        self.write_buffer = out;
        if !is_alive {
            self.depart(slot);
        }
    }

    fn flush_with(&mut self, slot: u32, out: &mut Vec<u8>) -> bool {
        let Some(connection) = self.connections.get_mut(slot) else {
            return true;
        };
        if connection.is_blocked {
            return true;
        }
        let mut progressed = false;
        loop {
            out.clear();
            if let Some(queue) = &connection.queue {
                queue.gather(out, WRITE_CHUNK);
            }
            if out.is_empty() && !connection.link.has_pending() {
                break;
            }
            let wrote = match connection.link.write(out) {
                Ok(wrote) => wrote,
                Err(error) => {
                    log_write_error(connection, &error);
                    return false;
                }
            };
            self.tally.bytes_sent += wrote.taken as u64;
            progressed |= wrote.progressed;
            if let Some(queue) = &mut connection.queue {
                queue.written(wrote.taken);
            }
            if wrote.blocked {
                connection.is_blocked = true;
                break;
            }
        }
        let is_done = !connection.is_blocked;
        let is_strict = connection
            .queue
            .as_ref()
            .is_none_or(|queue| queue.is_strict());
        if is_done && let Some(mut queue) = connection.queue.take() {
            queue.trim();
            self.spare_queues.keep(queue);
            match connection.own.as_deref_mut() {
                Some(Own::Stratix(own)) => own.slow_since_ms = 0,
                Some(Own::Live(own)) => own.has_caught_up(),
                None => {}
            }
        }
        match connection.stage {
            Stage::Open => {
                let timeout_ms = self.live.websocket.write_timeout.as_millis();
                // A client that reads slowly keeps its connection where its channels
                // conflate or drop; where they do neither, it has to move.
                if is_done || !is_strict {
                    connection.patience_ms = 0;
                } else if timeout_ms > 0 && (progressed || connection.patience_ms == 0) {
                    let timeout_ms = u64::try_from(timeout_ms).unwrap_or(u64::MAX / 4);
                    connection.patience_ms = self.now.mono_ms + timeout_ms;
                    self.plan_wake(slot);
                }
                true
            }
            Stage::Closing if is_done => {
                connection.stage = Stage::Lingering;
                let is_http = connection.link.source().is_none();
                // HTTP ends with its body; a WebSocket peer closes its side first.
                connection.link.finish().is_ok() && !is_http
            }
            Stage::Closing | Stage::Lingering => true,
        }
    }
}

/// The seed's line (`contracts`: relay 1.8), for clients of the relay that were not about to
/// go anyhow.
fn log_write_error(connection: &Connection, error: &std::io::Error) {
    if connection.stratix().is_some()
        && connection.stage == Stage::Open
        && let Some(identity) = connection.session.identity()
    {
        tracing::error!("Write error: connId={}, err={error}", identity.user);
    }
}

/// Puts frames into queues while the router spreads a message.
struct Spread<'a> {
    connections: &'a mut Slab<Connection>,
    dirty: &'a mut Vec<u32>,
    spare: &'a mut SpareQueues,
    tally: &'a mut Tally,
    limit: usize,
    live_rules: Rules,
    now_ms: u64,
    /// Most messages that wait for a client of the relay.
    messages_max: usize,
    /// How long a client of the relay may overflow.
    slow_patience_ms: u64,
    answers_dropped: u64,
    gaps: Vec<(u32, Channel)>,
    ended: Vec<(u32, Disconnect)>,
}

impl Receiver for Spread<'_> {
    fn frame(&mut self, slot: u32, frame: &Arc<Frame>, policy: SlowClientPolicy, positioned: bool) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.stage != Stage::Open {
            return;
        }
        let queue = self.spare.fill(&mut connection.queue);
        let own = connection.own.as_deref_mut();
        if let Some(own) = Own::live_mut(own) {
            match own.queue(queue, frame, self.live_rules, self.now_ms, self.tally) {
                Ok(()) => mark(connection, slot, self.dirty),
                Err(disconnect) => self.ended.push((slot, disconnect)),
            }
            return;
        }
        let mut own = Own::stratix_mut(connection.own.as_deref_mut());
        let mut limit = self.limit;
        let mut surplus = 0;
        if own.is_some() {
            // Its messages may be larger than a queue: one at least always fits.
            limit = limit.max(queue.control_bytes() + frame.bytes.len());
            surplus = queue.drop_to(self.messages_max.saturating_sub(1));
        }
        // Whoever does not keep up is to see what is, not what was a while ago.
        if policy == SlowClientPolicy::Conflate && connection.is_blocked {
            self.tally.dropped_conflated += queue.remove_subject(frame) as u64;
        }
        let mut queued = queue.push_data(frame, policy, limit);
        if surplus > 0 && queued == Queued::Waiting {
            queued = Queued::Dropped {
                channels: Vec::new(),
                dropped: 0,
            };
        }
        match queued {
            Queued::Waiting => {}
            Queued::Conflated { dropped } => self.tally.dropped_conflated += dropped as u64,
            Queued::Dropped { channels, dropped } => {
                self.tally.dropped_oldest += dropped as u64;
                if let Some(own) = &mut own {
                    self.answers_dropped += (dropped + surplus) as u64;
                    if own.slow_since_ms == 0 {
                        own.slow_since_ms = self.now_ms;
                    } else if self.now_ms >= own.slow_since_ms + self.slow_patience_ms {
                        self.tally.dropped_slow += 1;
                        self.ended.push((slot, Disconnect::SLOW));
                    }
                }
                // Whoever counts positions must not be left with a hole.
                if positioned {
                    self.gaps
                        .extend(channels.into_iter().map(|channel| (slot, channel)));
                }
            }
            Queued::Slow => {
                self.tally.dropped_slow += 1;
                self.ended.push((slot, Disconnect::SLOW));
            }
        }
        mark(connection, slot, self.dirty);
    }

    fn gap(&mut self, slot: u32, channel: &Channel) {
        self.gaps.push((slot, channel.clone()));
    }

    fn misfit(&mut self, slot: u32, error: WrapError) {
        self.ended.push((slot, error.disconnect()));
    }
}

fn mark(connection: &mut Connection, slot: u32, dirty: &mut Vec<u32>) {
    if !connection.is_dirty && !connection.is_blocked {
        connection.is_dirty = true;
        dirty.push(slot);
    }
}

impl Worker {
    /// Does something to a session on the server's behalf.
    pub(super) fn operate(&mut self, slot: u32, operation: Operation) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let cx = context(&self.live, self.now);
        connection.session.operate(cx, operation, &mut self.outputs);
        self.drive(slot);
    }
}
