//! From a socket's bytes to a session's frames.

use std::io;

use bytes::Bytes;
use protocol::dialect::Dialect;
use websocket::{Event, OpCode};

use super::connection::Stage;
use super::link::Link;
use super::{READ_BUFFER, Worker, context};
use crate::tls::Reading;

/// Reads of one connection per turn, so that a client that sends without end does
/// not keep the others waiting.
const READS_PER_TURN: usize = 4;

impl Worker {
    /// Reads and handles what a connection has sent.
    pub(super) fn readable(&mut self, slot: u32, is_read_closed: bool) {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        self.read_turn(slot, &mut buffer, is_read_closed);
        self.read_buffer = buffer;
    }

    fn read_turn(&mut self, slot: u32, buffer: &mut [u8], is_read_closed: bool) {
        for _ in 0..READS_PER_TURN {
            let Some(connection) = self.connections.get_mut(slot) else {
                return;
            };
            let count = match connection.link.read(buffer) {
                Ok(0) => return self.depart(slot),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.depart(slot),
            };
            self.tally.bytes_received += count as u64;
            let Some(received) = buffer.get_mut(..count) else {
                return;
            };
            match &connection.link {
                Link::Tls(..) => self.sealed_bytes(slot, received),
                Link::Tcp(_) | Link::Http(_) => self.plain_bytes(slot, received),
            }
            // Less than the buffer holds: the socket is empty and will say when it
            // is not, unless its end has been announced already.
            if count < READ_BUFFER && !is_read_closed {
                return;
            }
        }
        self.unread.push(slot);
    }

    /// Handles what came together with the handshake.
    pub(super) fn early_bytes(&mut self, slot: u32, early: &Bytes) {
        if !early.is_empty() {
            let mut bytes = early.to_vec();
            self.plain_bytes(slot, &mut bytes);
        }
    }

    /// Opens TLS records and handles what was in them.
    fn sealed_bytes(&mut self, slot: u32, received: &mut [u8]) {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        self.scratch.clear();
        let outcome = match self.connections.get_mut(slot) {
            Some(connection) => match &mut connection.link {
                Link::Tls(_, tls) => Some(tls.state.read(received, &mut plain, &mut self.scratch)),
                Link::Tcp(_) | Link::Http(_) => None,
            },
            None => None,
        };
        if !self.scratch.is_empty()
            && let Some(connection) = self.connections.get_mut(slot)
        {
            connection.link.push_sealed(&self.scratch);
            self.mark_dirty(slot);
        }
        self.plain_bytes(slot, &mut plain);
        plain.shrink_to(READ_BUFFER);
        self.plain = plain;
        match outcome {
            Some(Ok(Reading::PeerClosed)) => {
                self.flush(slot);
                self.depart(slot);
            }
            Some(Err(error)) => {
                self.metrics.frame_error("tls");
                tracing::debug!(slot, %error, "tls record was refused");
                // What is queued ends with the alert.
                self.flush(slot);
                self.depart(slot);
            }
            Some(Ok(Reading::Open)) | None => {}
        }
    }

    /// Takes frames off the bytes and handles them.
    fn plain_bytes(&mut self, slot: u32, mut bytes: &mut [u8]) {
        let mut inflater = std::mem::take(&mut self.inflater);
        while !bytes.is_empty() {
            let Some(connection) = self.connections.get_mut(slot) else {
                break;
            };
            let dialect = connection.flavor.dialect;
            let limits = match (dialect, &self.live.relay, &self.live.live_data) {
                (Dialect::Stratix, Some(relay), _) => &relay.websocket,
                (Dialect::Live { .. }, _, Some(live)) => &live.websocket,
                _ => &self.live.websocket.limits,
            };
            match connection.decoder.decode(limits, &mut inflater, bytes) {
                Ok((used, event)) => {
                    match event {
                        Some(Event::Message { binary, payload })
                            if connection.stage == Stage::Open =>
                        {
                            self.tally.messages_received += 1;
                            match dialect {
                                Dialect::Centrifuge => {
                                    let cx = context(&self.live, self.now);
                                    connection.session.frame(cx, payload, &mut self.outputs);
                                    self.drive(slot);
                                }
                                Dialect::Stratix => self.stratix_message(slot, binary, payload),
                                Dialect::Live { .. } => self.live_message(slot, binary, payload),
                            }
                        }
                        // A connection that is closing listens no more.
                        Some(Event::Message { .. }) | None => {}
                        Some(Event::Ping(payload)) => self.ping(slot, payload),
                        Some(Event::Pong(_)) => {
                            self.control_frame(slot);
                        }
                        Some(Event::Close { code, .. }) => self.peer_closed(slot, code),
                    }
                    let (_, rest) = bytes.split_at_mut(used);
                    bytes = rest;
                }
                // Whatever follows our close frame does not matter any more.
                Err(_) if connection.stage != Stage::Open => {
                    self.depart(slot);
                    break;
                }
                Err(error) => {
                    self.metrics.frame_error(error.reason_label());
                    tracing::debug!(slot, %error, "frame was refused");
                    self.metrics.disconnected(error.close_code());
                    self.begin_websocket_close(slot, error.close_code(), &error.to_string());
                    break;
                }
            }
        }
        self.inflater = inflater;
    }

    /// Handles a frame that came in an HTTP request.
    pub(super) fn emulated_frame(&mut self, slot: u32, frame: &[u8]) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.stage != Stage::Open {
            return;
        }
        self.tally.messages_received += 1;
        self.tally.bytes_received += frame.len() as u64;
        connection
            .session
            .frame(context(&self.live, self.now), frame, &mut self.outputs);
        self.drive(slot);
    }

    fn ping(&mut self, slot: u32, payload: &[u8]) {
        if !self.control_frame(slot) {
            return;
        }
        let limit = self.live.session.client.queue_max_size;
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.stage != Stage::Open {
            return;
        }
        let queue = self.spare_queues.fill(&mut connection.queue);
        if queue.control_bytes() < limit {
            let out = queue.control_mut();
            websocket::encode_frame(out, OpCode::Pong, true, false, None, payload);
        }
        self.mark_dirty(slot);
    }

    /// Counts a control frame; too many end the connection.
    fn control_frame(&mut self, slot: u32) -> bool {
        let (rate, burst) = (
            self.live.websocket.control_frame_rate,
            self.live.websocket.control_frame_burst,
        );
        let Some(connection) = self.connections.get_mut(slot) else {
            return false;
        };
        // What else lies in the buffer of a connection that is closed already is no news.
        if connection.stage != Stage::Open {
            return false;
        }
        if connection
            .control_frames
            .take(rate, burst, self.now.mono_ms)
        {
            let cx = context(&self.live, self.now);
            connection.session.heard(cx);
            return true;
        }
        self.metrics.frame_error("control_frame_rate");
        self.metrics.disconnected(websocket::close::POLICY);
        self.begin_websocket_close(slot, websocket::close::POLICY, "control frame rate");
        false
    }

    fn peer_closed(&mut self, slot: u32, code: Option<u16>) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        match connection.stage {
            // It answers our close frame, or crosses it: that is all there is to say.
            Stage::Lingering => self.depart(slot),
            Stage::Closing => {}
            Stage::Open => {
                let code = code.unwrap_or(websocket::close::NORMAL);
                self.begin_websocket_close(slot, code, "");
            }
        }
    }
}
