//! What arrives: from a sealed packet to streams, acknowledgements and repairs.

use std::net::SocketAddr;

use bytes::Bytes;

use super::assembly::Assembly;
use super::outbound::PAYLOAD_MAX;
use super::stats::Samples;
use super::{Closed, Connection, Phase, Role};
use crate::Time;
use crate::codes::close;
use crate::frame::{Frame, Frames};
use crate::packet::{Flags, Header, Sealed};
use crate::received::{Arrival, Fresh};

mod acknowledged;

/// A packet and what the socket says of it.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) sealed: Sealed,
    pub(super) remote: SocketAddr,
    /// A router marked it: congestion experienced.
    pub(super) ce: bool,
}

/// Source parts in pieces that are put together at once.
const PIECES_MAX: usize = 16;
/// Room for so many frames is kept from packet to packet; honest ones have a few dozen at most.
const FRAMES_KEPT: usize = 256;

impl Connection {
    /// A packet for this connection came from `remote`; `ce` says that it was marked on the way.
    ///
    /// Whatever is wrong with it costs no more than the packet, unless it was sealed by the peer:
    /// then a broken rule ends the connection.
    pub fn handle(&mut self, now: Time, remote: SocketAddr, ce: bool, sealed: Sealed) {
        self.stats.bytes_received += sealed.len() as u64;
        if remote == self.path.remote {
            self.path.on_received(sealed.len());
        }
        match self.phase {
            Phase::Over => return,
            Phase::Closing => {
                // The peer has not heard it; one answer per packet is no more than it sent.
                self.wishes.close = true;
                self.wishes.close_handshake = self.shaking.is_some();
                return;
            }
            Phase::Shaking | Phase::Open => {}
        }
        let arrived = Arrived { sealed, remote, ce };
        if arrived.sealed.header.flags.contains(Flags::SYN) {
            self.on_syn(now, arrived);
        } else if self.phase == Phase::Shaking {
            self.keep_early(arrived);
        } else {
            self.on_application(now, arrived);
        }
    }

    /// Somebody says that the peer has forgotten us, which is believed if the token is the peer's.
    pub fn handle_reset(&mut self, now: Time, token: [u8; 16]) {
        if self.peer_reset_token == Some(token) && self.phase == Phase::Open {
            self.end(now, Phase::Over, Closed::Reset);
        }
    }

    pub(super) fn on_application(&mut self, now: Time, arrived: Arrived) {
        let Arrived { sealed, remote, ce } = arrived;
        let (counter, length) = (sealed.counter, sealed.len());
        if self.received.is_replay(counter) {
            self.stats.dropped_replayed += 1;
            return;
        }
        let header = sealed.header.clone();
        let Some(payload) = self.open(now, sealed) else {
            return;
        };
        self.timers.heard(now);
        self.confirm_handshake();
        self.stats.packets_received += 1;

        let mut frames = std::mem::take(&mut self.frames);
        frames.clear();
        let part = match read_frames(payload, &mut frames) {
            Ok(part) => part,
            Err(error) => {
                self.frames = frames;
                return self.fail(now, close::FRAME, &error.to_string());
            }
        };
        let sequence = match self.sequence_of(&header, part.is_some()) {
            Ok(sequence) => sequence,
            Err(text) => {
                self.frames = frames;
                return self.fail(now, close::VIOLATION, text);
            }
        };
        let fresh = self.received.on_packet(
            now,
            Arrival {
                counter,
                eliciting: frames.iter().any(Frame::is_eliciting),
                sequence,
                push: header.flags.contains(Flags::PSH),
                ce,
            },
        );
        if fresh == Fresh::Refused {
            self.frames = frames;
            self.stats.dropped_beyond_window += 1;
            return;
        }
        // Only clients move; what comes to us from elsewhere is not where we would send.
        let may_move = self.role == Role::Server && remote != self.path.remote;
        if may_move && self.received.largest() == Some(counter) {
            self.on_moved(now, remote, length);
        }
        self.on_acknowledged(now, &header);
        for frame in frames.drain(..) {
            if self.phase != Phase::Open {
                break;
            }
            let is_source = frame.is_source();
            if is_source && fresh == Fresh::New {
                self.on_source_frame(now, frame);
            } else if !is_source {
                self.on_volatile_frame(now, frame);
            }
        }
        if frames.capacity() <= FRAMES_KEPT {
            self.frames = frames;
        }
        if let (Some(sequence), Some(part), Fresh::New) = (sequence, part, fresh) {
            self.gaps.see(now, sequence, true);
            self.gaps.close(now, sequence);
            self.decoder.on_source(sequence, &part);
        }
        self.take_recovered(now);
    }

    /// Decrypts with the key of the packet's phase.
    fn open(&mut self, now: Time, sealed: Sealed) -> Option<Bytes> {
        let pto = self.pto();
        let session = &mut self.session;
        let keyring = self.keyring.as_mut()?;
        let counter = sealed.counter;
        let choice = keyring.choose(sealed.header.flags.contains(Flags::KEY_PHASE), counter);
        let Some(key) = keyring.key(choice, &mut || session.next_keys()) else {
            self.stats.dropped_no_key += 1;
            return None;
        };
        let Ok(payload) = sealed.open(key) else {
            keyring.rejected();
            self.stats.decrypt_failures += 1;
            if keyring.is_spent() {
                self.fail(now, close::KEYS, "too many packets that do not open");
            }
            return None;
        };
        keyring.opened(now, choice, counter, pto);
        Some(payload)
    }

    /// The internal number of the source part, which a packet names if and only if it has one.
    fn sequence_of(&self, header: &Header, has_part: bool) -> Result<Option<u64>, &'static str> {
        match (header.sequence, has_part) {
            (0, false) => Ok(None),
            (0, true) => Err("source frames without a sequence number"),
            (_, false) => Err("a sequence number without source frames"),
            (sequence, true) => {
                let near = self.received.cumulative() + 1;
                self.theirs
                    .expand(sequence, near)
                    .map(Some)
                    .ok_or("a sequence number before the first")
            }
        }
    }

    fn on_volatile_frame(&mut self, now: Time, frame: Frame) {
        match frame {
            Frame::AckExt(ack) => self.on_ack(now, &ack),
            Frame::Repair(repair) => {
                let near = self.received.cumulative() + 1;
                let theirs = self.theirs;
                if let Some(first) = theirs.expand(repair.first, near) {
                    let last = first + u64::from(31 - repair.mask.leading_zeros());
                    if last < near + u64::from(self.config.packet_window) {
                        self.gaps.see(now, last, false);
                    }
                }
                // One that is of no use is counted by the decoder; it was paid for by its sender.
                let _ = self.decoder.on_repair(&repair, &theirs);
            }
            Frame::Piece {
                sequence,
                offset,
                total,
                data,
            } => self.on_piece(
                now,
                sequence,
                usize::from(offset),
                usize::from(total),
                &data,
            ),
            Frame::Close { code, text } => self.on_close(now, code, text),
            Frame::PathChallenge(token) => self.wishes.path_response = Some(token),
            Frame::PathResponse(token) => self.on_path_response(now, token),
            Frame::Ecn(count) => {
                let new = count.wrapping_sub(self.ce_told);
                if new < 1 << 31 {
                    self.ce_told = count;
                    self.ce_new += u64::from(new);
                }
            }
            Frame::Crypto { .. } | Frame::Options(_) => {
                self.fail(
                    now,
                    close::VIOLATION,
                    "a handshake frame after the handshake",
                );
            }
            _ => {}
        }
    }

    fn on_source_frame(&mut self, now: Time, frame: Frame) {
        let result = match frame {
            Frame::Stream {
                id,
                offset,
                fin,
                message_end,
                data,
            } => self.streams.on_stream(id, offset, data, fin, message_end),
            Frame::MaxData { id, limit } => self.streams.on_max_data(id, limit),
            Frame::Reset { id, code } => self.streams.on_reset(id, code),
            Frame::Stop { id, code } => self.streams.on_stop(id, code),
            Frame::MaxStreams(limit) => self.streams.on_max_streams(limit),
            _ => Ok(()),
        };
        if let Err(violation) = result {
            self.fail(now, violation.code, violation.text);
        }
    }

    /// Source parts that repairs gave back, in whatever order.
    fn take_recovered(&mut self, now: Time) {
        while let Some((sequence, part)) = self.decoder.poll_recovered() {
            if self.phase != Phase::Open || self.received.has(sequence) {
                continue;
            }
            self.stats.fec_recoveries += 1;
            if let Some(took) = self.gaps.close(now, sequence) {
                Samples::push(&mut self.samples.recovery, took);
            }
            self.take_part(now, sequence, part);
        }
    }

    fn on_piece(&mut self, now: Time, sequence: u32, offset: usize, total: usize, data: &[u8]) {
        if total > PAYLOAD_MAX {
            return self.fail(now, close::VIOLATION, "pieces of more than a payload");
        }
        let near = self.received.cumulative() + 1;
        let Some(sequence) = self.theirs.expand(sequence, near) else {
            return;
        };
        if self.received.has(sequence) {
            return;
        }
        let known = self.pieces.iter().position(|(it, _)| *it == sequence);
        let index = known.unwrap_or_else(|| {
            if self.pieces.len() == PIECES_MAX {
                self.pieces.pop_front();
            }
            self.pieces.push_back((sequence, Assembly::new(total)));
            self.pieces.len() - 1
        });
        let assembly = &mut self.pieces[index].1;
        if assembly.put(offset, data).is_err() {
            return self.fail(now, close::VIOLATION, "pieces that do not fit together");
        }
        if let Some(part) = assembly.whole(total) {
            self.pieces.remove(index);
            self.gaps.close(now, sequence);
            self.take_part(now, sequence, part);
        }
    }

    /// A source part that came otherwise than in a packet of its own.
    fn take_part(&mut self, now: Time, sequence: u64, part: Bytes) {
        if !self.received.on_recovered(sequence) {
            return;
        }
        self.decoder.on_source(sequence, &part);
        for frame in Frames::of_source_part(part) {
            match frame {
                Ok(frame) => self.on_source_frame(now, frame),
                Err(error) => return self.fail(now, close::FRAME, &error.to_string()),
            }
        }
    }

    pub(super) fn on_close(&mut self, now: Time, code: u32, text: String) {
        self.end(now, Phase::Over, Closed::There { code, text });
    }
}

/// All frames of a payload, and its source part if there is one.
fn read_frames(
    payload: Bytes,
    into: &mut Vec<Frame>,
) -> Result<Option<Bytes>, crate::frame::FrameError> {
    let mut frames = Frames::new(payload);
    for frame in &mut frames {
        into.push(frame?);
    }
    Ok(frames.source_part())
}
