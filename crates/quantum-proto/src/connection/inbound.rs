//! What arrives: from a sealed packet to streams, acknowledgements and repairs.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::assembly::Assembly;
use super::outbound::PAYLOAD_MAX;
use super::path::{Challenge, Path};
use super::stats::Samples;
use super::{Closed, Connection, Event, Phase, Role};
use crate::Time;
use crate::codes::close;
use crate::congestion::{Delivered, Round};
use crate::frame::{AckExt, Frame, Frames};
use crate::packet::{Flags, Header, Sealed};
use crate::received::{Arrival, Fresh};
use crate::recovery::{Content, Outcome, Sent};

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

    /// Somebody says that the peer has forgotten us; true if the token is the peer's.
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

    /// What the header acknowledges: sequences, so data that need not be sent again.
    fn on_acknowledged(&mut self, now: Time, header: &Header) {
        if header.ack == 0 || !header.flags.contains(Flags::ACK) {
            return;
        }
        let next = self.sources.next();
        let expand = |wire: u32| self.ours.expand(wire, next).filter(|it| *it < next);
        let Some(cumulative) = expand(header.ack) else {
            return self.fail(now, close::VIOLATION, "acknowledges a sequence never sent");
        };
        self.peer_sacks.clear();
        for (start, end) in &header.sacks {
            let (Some(start), Some(end)) = (expand(start), expand(end)) else {
                return self.fail(now, close::VIOLATION, "acknowledges a sequence never sent");
            };
            if start > end {
                return self.fail(now, close::VIOLATION, "a SACK block ends before it starts");
            }
            self.peer_sacks.push((start, end));
        }
        while self.sources.base() <= cumulative {
            self.peer_has(self.sources.base());
        }
    }

    pub(super) fn peer_has(&mut self, sequence: u64) {
        if self.sources.arrived(sequence) {
            self.encoder.on_received(sequence);
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

    fn on_ack(&mut self, now: Time, ack: &AckExt) {
        let mut outcome = std::mem::take(&mut self.outcome);
        outcome.clear();
        let delay = Duration::from_micros(u64::from(ack.delay));
        if self
            .recovery
            .on_ack(now, ack.largest, delay, ack.ranges(), &mut outcome)
            .is_err()
        {
            self.outcome = outcome;
            return self.fail(now, close::VIOLATION, "acknowledges a packet never sent");
        }
        let next = self.sources.next();
        let mut after = 0;
        for (start, end) in ack.recovered() {
            let expand = |wire: u32| self.ours.expand(wire, next).filter(|it| *it < next);
            let (Some(start), Some(end)) = (expand(start), expand(end)) else {
                self.outcome = outcome;
                return self.fail(now, close::VIOLATION, "recovered a sequence never sent");
            };
            if start <= after || end < start {
                // In any other order a frame could make us walk the same numbers again and again.
                self.outcome = outcome;
                return self.fail(now, close::VIOLATION, "recovered ranges that do not ascend");
            }
            after = end;
            for sequence in start.max(self.sources.base())..=end {
                self.peer_has(sequence);
            }
        }
        self.apply_outcome(now, &mut outcome);
        self.outcome = outcome;
    }

    /// What recovery has found out about packets in flight.
    pub(super) fn apply_outcome(&mut self, now: Time, outcome: &mut Outcome) {
        self.delivered.clear();
        self.lost.clear();
        for sent in outcome.acked.drain(..) {
            self.on_arrived(now, &sent);
        }
        self.stats.packets_lost += outcome.lost.len() as u64;
        for sent in outcome.lost.drain(..) {
            self.on_lost(now, &sent);
        }
        let oldest = self
            .repairs
            .front()
            .map_or(u64::MAX, |(counter, _, _)| *counter);
        self.sources.release(oldest);
        if let Some(rtt) = outcome.rtt {
            Samples::push(&mut self.samples.rtt, rtt);
            let smoothed = self.recovery.rtt().smoothed;
            self.received.set_rtt(smoothed);
            self.streams.set_rtt(smoothed);
        }
        if !outcome.spurious.is_empty() {
            self.stats.spurious += outcome.spurious.len() as u64;
            let mut spurious = Vec::with_capacity(outcome.spurious.len());
            for sent in outcome.spurious.drain(..) {
                match sent.content {
                    Content::Source { seq } => self.peer_has(seq),
                    Content::MtuProbe { size } => {
                        // Congestion control never heard of its loss.
                        self.mtu.on_arrived(now, size);
                        self.on_datagram_size(now);
                        continue;
                    }
                    Content::Repair { .. } | Content::Piece { .. } | Content::Control => {}
                }
                spurious.push(delivered(&sent));
            }
            self.bbr.on_spurious(now, &spurious);
        }
        let ce = std::mem::take(&mut self.ce_new);
        if self.delivered.is_empty() && self.lost.is_empty() && ce == 0 {
            return;
        }
        self.bbr.on_ack(
            now,
            &Round {
                acked: &self.delivered,
                lost: &self.lost,
                rtt: outcome.rtt,
                smoothed: self.recovery.rtt().smoothed,
                inflight: self.recovery.inflight(),
                ce,
            },
        );
        self.pacer.set_rate(now, self.bbr.pacing_rate());
    }

    fn on_arrived(&mut self, now: Time, sent: &Sent) {
        if let Some(told) = sent.ack_told {
            self.received.on_ack_acknowledged(told);
        }
        self.encoder.on_fate(now, false);
        match sent.content {
            Content::Source { seq } => self.peer_has(seq),
            Content::Repair { .. } => self.forget_repair(sent.counter),
            Content::MtuProbe { size } => {
                self.mtu.on_arrived(now, size);
                self.on_datagram_size(now);
            }
            Content::Control | Content::Piece { .. } => {}
        }
        if sent.bytes > u32::from(super::BASE_DATAGRAM) {
            self.mtu.on_large_arrived();
        }
        self.delivered.push(delivered(sent));
    }

    fn on_lost(&mut self, now: Time, sent: &Sent) {
        if let Content::MtuProbe { size } = sent.content {
            // Too large for the path, which says nothing about congestion.
            self.mtu.on_lost(now, size);
            return;
        }
        self.encoder.on_fate(now, true);
        match sent.content {
            Content::Source { seq } => {
                let covers = |(counter, first, last): &&(u64, u64, u64)| {
                    *counter > sent.counter && (*first..=*last).contains(&seq)
                };
                let newest = self.repairs.iter().rev().find(covers).map(|it| it.0);
                self.sources.lost(seq, sent.counter, newest);
            }
            Content::Repair { .. } => self.forget_repair(sent.counter),
            Content::Piece { seq } => {
                // From the beginning: which pieces have come nobody tells.
                self.piece_at = self.piece_at.filter(|(it, _)| *it != seq);
                self.sources.lost(seq, sent.counter, None);
            }
            Content::Control | Content::MtuProbe { .. } => {}
        }
        if sent.bytes > u32::from(super::BASE_DATAGRAM) && self.mtu.on_large_lost(now) {
            self.on_datagram_size(now);
        }
        self.lost.push(delivered(sent));
    }

    fn forget_repair(&mut self, counter: u64) {
        if let Ok(index) = self.repairs.binary_search_by_key(&counter, |it| it.0) {
            self.repairs.remove(index);
        }
    }

    pub(super) fn on_close(&mut self, now: Time, code: u32, text: String) {
        self.end(now, Phase::Over, Closed::There { code, text });
    }

    /// The newest packet came from elsewhere: the peer has moved, or its router has.
    fn on_moved(&mut self, now: Time, remote: SocketAddr, length: usize) {
        let same_host = remote.ip() == self.path.remote.ip();
        let mut path = Path::new(remote, false);
        path.on_received(length);
        let token = self.chance.next().to_be_bytes();
        path.challenge = Some(Challenge::new(now, token, self.pto()));
        let before = std::mem::replace(&mut self.path, path);
        if before.validated {
            self.moved_from = Some(before);
        }
        self.events.push_back(Event::Moved(remote));
        if !same_host {
            // Another path has another bandwidth; a new port of the same host has not.
            self.recovery.on_path_change();
            self.bbr.on_path_change(now);
            self.pacer.set_rate(now, self.bbr.pacing_rate());
            self.mtu.restart(now);
            self.on_datagram_size(now);
        }
    }

    fn on_path_response(&mut self, now: Time, token: [u8; 8]) {
        let proves = |it: &Challenge| it.token == token && now < it.fails_at;
        if self.path.challenge.as_ref().is_some_and(proves) {
            self.path.challenge = None;
            self.path.validated = true;
            self.moved_from = None;
        }
    }

    /// The size of datagrams has changed.
    pub(super) fn on_datagram_size(&mut self, now: Time) {
        let datagram = self.mtu.current();
        self.bbr.set(super::settings(&self.config, datagram));
        self.pacer.set_mss(u64::from(datagram));
        self.pacer.set_rate(now, self.bbr.pacing_rate());
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

fn delivered(sent: &Sent) -> Delivered {
    Delivered {
        stamp: sent.stamp,
        sent: sent.at,
        bytes: sent.bytes,
    }
}
