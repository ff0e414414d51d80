//! What is sent: one datagram at a time, the most urgent first.

use bytes::{Bytes, BytesMut};

use super::path::{BASE_DATAGRAM, CHALLENGE_DATAGRAM};
use super::shaking::Space;
use super::{Connection, Phase, Role, Transmit};
use crate::Time;
use crate::codes::close;
use crate::fec::{self, Situation};
use crate::frame::{self, Options};
use crate::packet::{self, Flags, HEADER_LEN, Header, SACK_LEN, Sacks, TRAILER_LEN};
use crate::recovery::{Content, Sent};

/// What is to be said besides data.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub(super) close: bool,
    /// The same under handshake keys.
    pub(super) close_handshake: bool,
    pub(super) done: bool,
    pub(super) ping: bool,
    pub(super) probes: u8,
    pub(super) path_response: Option<[u8; 8]>,
}

/// Why nothing more is sent although something may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocked {
    No,
    /// By the window or by pacing: nothing that they hold back may set a timer.
    Window,
    /// By the limit on what an address gets that has not proved itself: only the peer helps.
    Address,
}

/// A packet that is being written at the end of a buffer.
struct Draft {
    start: usize,
    /// Bytes of header and SACK blocks.
    head: usize,
    /// The largest counter that it acknowledges.
    told: Option<u64>,
}

/// The payload of a packet, volatile frames included [contract 4.1].
pub(super) const PAYLOAD_MAX: usize = 1_400;
/// Acknowledgements take no more of a packet with data.
const ACK_ROOM: usize = 160;
/// One send of several segments stays below what the kernel takes.
const BATCH_MAX: usize = 60_000;

impl Connection {
    /// Appends the next datagram to `out`, or up to `max_segments` of equal size (the last may be
    /// shorter), and tells where to send them. `None`: nothing to send now.
    pub fn poll_transmit(
        &mut self,
        now: Time,
        max_segments: usize,
        out: &mut BytesMut,
    ) -> Option<Transmit> {
        let start = out.len();
        let to = self.path.remote;
        self.datagram(now, usize::from(self.mtu.current()), true, out)?;
        let first = out.len() - start;
        let mut transmit = Transmit {
            to,
            size: first,
            segment: None,
            ecn: self.phase == Phase::Open,
        };
        // Only datagrams of the full size are followed by others of it.
        if first != usize::from(self.mtu.current()) || self.path.remote != to {
            return Some(transmit);
        }
        let most = max_segments.min(BATCH_MAX / first);
        for _ in 1..most {
            let before = out.len();
            if self.datagram(now, first, false, out).is_none() {
                break;
            }
            transmit.segment = Some(first);
            if out.len() - before < first {
                break;
            }
        }
        transmit.size = out.len() - start;
        Some(transmit)
    }

    /// One datagram of at most `limit` bytes; if it is the `first` of a batch, of any kind.
    fn datagram(&mut self, now: Time, limit: usize, first: bool, out: &mut BytesMut) -> Option<()> {
        self.blocked = Blocked::No;
        if self.phase == Phase::Over {
            return None;
        }
        let start = out.len();
        if !self.path.allows(limit.max(usize::from(BASE_DATAGRAM))) {
            if first && self.challenge_datagram(now, out).is_some() {
                self.on_datagram_sent(out.len() - start);
                return Some(());
            }
            self.stats.amplification_held += 1;
            self.blocked = Blocked::Address;
            return None;
        }
        match self.phase {
            Phase::Closing => self.closing_datagram(now, out)?,
            Phase::Shaking => self.handshake_datagram(now, out)?,
            Phase::Open | Phase::Over => {
                let shaken = first.then(|| self.handshake_datagram(now, out)).flatten();
                if shaken.is_none() {
                    self.application_datagram(now, limit, first, out)?;
                }
            }
        }
        self.on_datagram_sent(out.len() - start);
        Some(())
    }

    fn on_datagram_sent(&mut self, size: usize) {
        self.path.on_sent(size);
        self.stats.packets_sent += 1;
        self.stats.bytes_sent += size as u64;
    }

    /// Nothing but a challenge, where the limit of an address allows no more: its proof ends that.
    fn challenge_datagram(&mut self, now: Time, out: &mut BytesMut) -> Option<()> {
        if self.phase != Phase::Open || !self.path.allows(CHALLENGE_DATAGRAM) {
            return None;
        }
        let challenge = self.path.challenge.as_mut();
        let challenge = challenge.filter(|it| now >= it.ask_at)?;
        let token = challenge.token;
        challenge.asked(now);
        let draft = self.begin(now, 0, 0, false, out);
        frame::write_path_challenge(out, token);
        self.finish(now, &draft, Flags::NONE, None, Some(Content::Control), out);
        Some(())
    }

    /// The next piece of our flight.
    fn handshake_datagram(&mut self, _now: Time, out: &mut BytesMut) -> Option<()> {
        let shaking = self.shaking.as_mut()?;
        let fixed = HEADER_LEN + TRAILER_LEN + frame::CRYPTO_HEAD;
        let mut cookie = BytesMut::new();
        if let Some(bytes) = &shaking.cookie {
            let options = Options {
                cookie: Some(bytes.clone()),
                ..Options::default()
            };
            let mut tlvs = Vec::new();
            options.encode(&mut tlvs);
            frame::write_options(&mut cookie, &tlvs);
        }
        // Room for the head of a PADDING frame, so that any hello can be made a full datagram.
        let room = usize::from(BASE_DATAGRAM) - fixed - cookie.len() - frame::FRAME_HEAD;
        if shaking.take_signal() {
            return self.syn_datagram(out, Flags::KEY_PHASE, frame::write_ping);
        }
        let (space, offset, data) = shaking.next(room)?;
        let flags = Flags::SYN
            .with_if(Flags::ACK, self.role == Role::Server)
            .with_if(Flags::KEY_PHASE, space == Space::Handshake);
        let start = out.len();
        let header = Header {
            flags,
            guuid: self.guuid,
            sequence: 0,
            ack: 0,
            sacks: Sacks::default(),
        };
        header.write(0, out);
        if space == Space::Initial {
            out.extend_from_slice(&cookie);
        }
        frame::write_crypto(out, u32::try_from(offset).unwrap_or(u32::MAX), data);
        let length = data.len();
        if space == Space::Initial && self.role == Role::Client {
            // So that a server answers three times as much and more addresses can't be spoofed.
            let size = out.len() - start + TRAILER_LEN;
            frame::write_padding(out, usize::from(BASE_DATAGRAM) - size);
        }
        let keys = shaking.keys(space)?;
        packet::seal(out, start, HEADER_LEN, self.counter, keys.local.as_ref());
        self.counter += 1;
        if let Some(shaking) = &mut self.shaking {
            shaking.sent(length);
        }
        Some(())
    }

    /// CLOSE, with the best keys that there are.
    fn closing_datagram(&mut self, now: Time, out: &mut BytesMut) -> Option<()> {
        let (code, text) = self.closing.clone()?;
        let opens = self.keyring.is_some() && self.session.is_complete();
        if std::mem::take(&mut self.wishes.close) && opens {
            let draft = self.begin(now, 0, 0, false, out);
            frame::write_close(out, code, &text, usize::from(BASE_DATAGRAM) / 2);
            self.finish(now, &draft, Flags::FIN, None, None, out);
            return Some(());
        }
        if !std::mem::take(&mut self.wishes.close_handshake) {
            return None;
        }
        let has_keys = self.shaking.as_ref()?.handshake.is_some();
        let flags = Flags::FIN.with_if(Flags::KEY_PHASE, has_keys);
        self.syn_datagram(out, flags, |out| {
            frame::write_close(out, code, &text, usize::from(BASE_DATAGRAM) / 2);
        })
    }

    /// A packet of the handshake, under the keys that `flags` name, with these frames.
    fn syn_datagram(
        &mut self,
        out: &mut BytesMut,
        flags: Flags,
        write: impl FnOnce(&mut BytesMut),
    ) -> Option<()> {
        let space = if flags.contains(Flags::KEY_PHASE) {
            Space::Handshake
        } else {
            Space::Initial
        };
        let keys = self.shaking.as_ref()?.keys(space)?;
        let start = out.len();
        let header = Header {
            flags: flags
                .with(Flags::SYN)
                .with_if(Flags::ACK, self.role == Role::Server),
            guuid: self.guuid,
            sequence: 0,
            ack: 0,
            sacks: Sacks::default(),
        };
        header.write(0, out);
        write(out);
        packet::seal(out, start, HEADER_LEN, self.counter, keys.local.as_ref());
        self.counter += 1;
        Some(())
    }

    fn application_datagram(
        &mut self,
        now: Time,
        limit: usize,
        first: bool,
        out: &mut BytesMut,
    ) -> Option<()> {
        self.keep_keys(now)?;
        if first && self.control_datagram(now, limit, out).is_some() {
            return Some(());
        }
        if self.wishes.probes > 0 {
            self.wishes.probes -= 1;
            return self.probe_datagram(now, limit, out);
        }
        if self.may_send(now, limit) {
            let sent = self.lost_datagram(now, limit, out);
            let sent = sent.or_else(|| self.repair_datagram(now, limit, out));
            let sent = sent.or_else(|| self.data_datagram(now, limit, out));
            if sent.is_some() {
                return sent;
            }
            if first && let Some(size) = self.mtu.due(now) {
                return self.mtu_datagram(now, size, out);
            }
            self.on_nothing_to_send();
        }
        if first && self.received.ack_at().is_some_and(|at| at <= now) {
            let draft = self.begin(now, limit, frame::FRAME_HEAD, true, out);
            let pings = self.received.wants_ping() && self.has_window();
            let content = pings.then_some(Content::Control);
            if content.is_some() {
                frame::write_ping(out);
            }
            self.finish(now, &draft, Flags::NONE, None, content, out);
            return Some(());
        }
        None
    }

    /// Renews keys in time; `None` if nothing can be sealed any more.
    fn keep_keys(&mut self, now: Time) -> Option<()> {
        let keyring = self.keyring.as_mut()?;
        if keyring.is_worn() {
            let session = &mut self.session;
            keyring.renew(&mut || session.next_keys());
        }
        if keyring.is_spent() {
            self.fail(now, close::KEYS, "keys are used up");
            return None;
        }
        Some(())
    }

    /// Proofs of a path, the handshake's end, a ping: small, rare, never held back.
    fn control_datagram(&mut self, now: Time, limit: usize, out: &mut BytesMut) -> Option<()> {
        let challenge = self.path.challenge.as_ref();
        let challenge = challenge.filter(|it| now >= it.ask_at).map(|it| it.token);
        let wishes = &self.wishes;
        if challenge.is_none() && wishes.path_response.is_none() && !wishes.done && !wishes.ping {
            return None;
        }
        let draft = self.begin(now, limit, 0, true, out);
        if let Some(token) = self.wishes.path_response.take() {
            frame::write_path_response(out, token);
        }
        if let Some(token) = challenge {
            frame::write_path_challenge(out, token);
            if let Some(challenge) = &mut self.path.challenge {
                challenge.asked(now);
            }
        }
        if std::mem::take(&mut self.wishes.done) {
            frame::write_done(out);
        }
        if std::mem::take(&mut self.wishes.ping) {
            frame::write_ping(out);
        }
        let content = self.has_window().then_some(Content::Control);
        self.finish(now, &draft, Flags::NONE, None, content, out);
        Some(())
    }

    /// What goes beside the window is remembered only within it: a peer that asks and never
    /// acknowledges shall cost nothing.
    fn has_window(&self) -> bool {
        self.recovery.inflight() < self.bbr.cwnd()
    }

    /// Something that makes the peer answer, whatever window and pacing say.
    fn probe_datagram(&mut self, now: Time, limit: usize, out: &mut BytesMut) -> Option<()> {
        if let Some(()) = self.lost_datagram(now, limit, out) {
            return Some(());
        }
        if let Some(()) = self.data_datagram(now, limit, out) {
            return Some(());
        }
        if let Some(sequence) = self.sources.oldest() {
            return self.source_again(now, limit, sequence, out);
        }
        let draft = self.begin(now, limit, 0, true, out);
        frame::write_ping(out);
        self.finish(now, &draft, Flags::NONE, None, Some(Content::Control), out);
        Some(())
    }

    /// Window and pacing leave room for `size` bytes more.
    fn may_send(&mut self, now: Time, size: usize) -> bool {
        self.timers.paced_until = Time::NEVER;
        let ready_at = self.pacer.ready_at(now, size as u64);
        let room = self.recovery.inflight() + size as u64 <= self.bbr.cwnd();
        if room && ready_at <= now {
            return true;
        }
        self.blocked = Blocked::Window;
        if !room {
            return false;
        }
        if self.has_something(now) {
            self.timers.paced_until = ready_at;
        } else {
            let repair_at = self.encoder.timeout().unwrap_or(Time::NEVER);
            let later = repair_at.min(self.mtu.next_at());
            if later != Time::NEVER {
                self.timers.paced_until = later.max(ready_at);
            }
            // Or the pause would look as if the path were slow.
            self.on_nothing_to_send();
        }
        false
    }

    /// There was room, and nothing to fill it with.
    fn on_nothing_to_send(&mut self) {
        self.bbr.on_app_limited(self.recovery.inflight());
        self.pacer.on_app_limited();
    }

    /// Something waits that window and pacing hold back.
    fn has_something(&mut self, now: Time) -> bool {
        self.sources.first_lost().is_some()
            || self.streams.has_data()
            || self.encoder.timeout().is_some_and(|at| at <= now)
            || self.mtu.due(now).is_some()
    }

    /// The flight is bulk: more waits than fits, and most of the pipe is full.
    fn is_bulk(&mut self) -> bool {
        self.streams.has_data() && self.recovery.inflight() * 4 >= self.bbr.cwnd()
    }

    /// What was lost and has not come by other ways.
    fn lost_datagram(&mut self, now: Time, limit: usize, out: &mut BytesMut) -> Option<()> {
        loop {
            let sequence = self.sources.first_lost()?;
            let sacked = &self.peer_sacks;
            if sacked
                .iter()
                .any(|(start, end)| (*start..=*end).contains(&sequence))
            {
                self.peer_has(sequence);
                continue;
            }
            return self.source_again(now, limit, sequence, out);
        }
    }

    fn source_again(
        &mut self,
        now: Time,
        limit: usize,
        sequence: u64,
        out: &mut BytesMut,
    ) -> Option<()> {
        let (part, pushes) = self.sources.part(sequence)?;
        let wire = self.ours.to_wire(sequence);
        self.stats.retransmissions += 1;
        let goes_on = self.piece_at.is_some_and(|(it, _)| it == sequence);
        self.sources.sent_again(sequence, self.counter, goes_on);
        if HEADER_LEN + part.len() + TRAILER_LEN > limit {
            return self.pieces_datagram(now, limit, sequence, &part, out);
        }
        let alone = pushes && !self.streams.has_data();
        self.encoder.on_source(now, sequence, &part, alone);
        let draft = self.begin(now, limit, part.len(), true, out);
        out.extend_from_slice(&part);
        let flags = Flags::NONE.with_if(Flags::PSH, pushes);
        let content = Content::Source { seq: sequence };
        self.finish(now, &draft, flags, Some(wire), Some(content), out);
        Some(())
    }

    /// The path has become narrower than the source part: one piece now, the others at once.
    fn pieces_datagram(
        &mut self,
        now: Time,
        limit: usize,
        sequence: u64,
        part: &Bytes,
        out: &mut BytesMut,
    ) -> Option<()> {
        let room = limit - HEADER_LEN - TRAILER_LEN - frame::PIECE_HEAD;
        let offset = match self.piece_at {
            Some((it, offset)) if it == sequence && offset < part.len() => offset,
            _ => 0,
        };
        let end = (offset + room).min(part.len());
        let draft = self.begin(now, limit, end - offset + frame::PIECE_HEAD, false, out);
        let [at, total] = [offset, part.len()].map(|it| u16::try_from(it).unwrap_or(u16::MAX));
        let wire = self.ours.to_wire(sequence);
        frame::write_piece(out, wire, at, total, &part[offset..end]);
        let content = Content::Piece { seq: sequence };
        self.finish(now, &draft, Flags::NONE, None, Some(content), out);
        self.piece_at = (end < part.len()).then_some((sequence, end));
        if self.piece_at.is_some() {
            self.sources.still_lost(sequence);
        }
        Some(())
    }

    fn repair_datagram(&mut self, now: Time, limit: usize, out: &mut BytesMut) -> Option<()> {
        let more_queued = self.streams.has_data();
        let situation = Situation {
            cwnd_limited: self.is_bulk(),
            more_queued,
            srtt: self.recovery.rtt().smoothed,
            probe_rtt: self.bbr.is_probing_rtt(),
        };
        let start = out.len();
        let draft = self.begin(now, limit, limit, false, out);
        let room = limit - HEADER_LEN - TRAILER_LEN;
        let Some(repaired) = self.encoder.poll(now, &situation, room, &self.ours, out) else {
            out.truncate(start);
            return None;
        };
        let content = Content::Repair {
            first: repaired.first,
            last: repaired.last,
        };
        self.repairs
            .push_back((self.counter, repaired.first, repaired.last));
        self.finish(now, &draft, Flags::FEC, None, Some(content), out);
        self.stats.fec_repairs_sent += 1;
        self.stats.fec_repair_bytes += (out.len() - start) as u64;
        Some(())
    }

    fn data_datagram(&mut self, now: Time, limit: usize, out: &mut BytesMut) -> Option<()> {
        if !self.streams.has_data() {
            return None;
        }
        let next = self.sources.next();
        if next - self.sources.base() >= self.peer_packet_window {
            return None;
        }
        let draft = self.begin(
            now,
            limit,
            limit - HEADER_LEN - TRAILER_LEN - ACK_ROOM,
            true,
            out,
        );
        let from = out.len();
        let volatile = from - draft.start - draft.head;
        let fixed = draft.head + TRAILER_LEN;
        let mut room = (limit - fixed).min(PAYLOAD_MAX) - volatile;
        if self.encoder.is_active() && !self.is_bulk() {
            room = room
                .min(fec::LARGEST_SOURCE)
                .min(limit - HEADER_LEN - TRAILER_LEN - fec::OVERHEAD);
        }
        let filled = self.streams.fill(out, room);
        if out.len() == from {
            out.truncate(draft.start);
            return None;
        }
        let part = Bytes::copy_from_slice(&out[from..]);
        let sequence = self.sources.push(part.clone(), self.counter, filled.pushes);
        let alone = filled.pushes && !self.streams.has_data();
        self.encoder.on_source(now, sequence, &part, alone);
        let wire = self.ours.to_wire(sequence);
        let flags = Flags::NONE.with_if(Flags::PSH, filled.pushes);
        let content = Content::Source { seq: sequence };
        self.finish(now, &draft, flags, Some(wire), Some(content), out);
        Some(())
    }

    fn mtu_datagram(&mut self, now: Time, size: u16, out: &mut BytesMut) -> Option<()> {
        let draft = self.begin(now, usize::from(size), 0, false, out);
        frame::write_ping(out);
        let written = out.len() - draft.start + TRAILER_LEN;
        frame::write_padding(out, usize::from(size) - written);
        self.mtu.on_probe_sent();
        let content = Content::MtuProbe { size };
        self.finish(now, &draft, Flags::NONE, None, Some(content), out);
        Some(())
    }

    /// Writes the header and, if wanted and anything is to be told, an acknowledgement, leaving
    /// `reserve` of the `limit` bytes for what follows.
    fn begin(
        &mut self,
        now: Time,
        limit: usize,
        reserve: usize,
        with_ack: bool,
        out: &mut BytesMut,
    ) -> Draft {
        let start = out.len();
        let spare = limit.saturating_sub(HEADER_LEN + TRAILER_LEN + reserve);
        let with_ack = with_ack && self.received.has_news() && spare > frame::ACK_EXT_HEAD;
        let mut sacks = Sacks::default();
        if with_ack {
            let most = (spare - frame::ACK_EXT_HEAD) / (SACK_LEN * 2);
            let all = self.received.sacks(&self.theirs);
            for (first, last) in &all.as_slice()[all.len().saturating_sub(most)..] {
                sacks.push(*first, *last);
            }
        }
        let cumulative = self.received.cumulative();
        let ack = if cumulative == 0 {
            0
        } else {
            self.theirs.to_wire(cumulative)
        };
        let header = Header {
            flags: Flags::NONE,
            guuid: self.guuid,
            sequence: 0,
            ack,
            sacks,
        };
        header.write(0, out);
        let head = header.len();
        let mut told = None;
        if with_ack {
            let room = spare - (head - HEADER_LEN);
            told = self.received.write_ack(now, room, &self.theirs, out);
        }
        Draft { start, head, told }
    }

    /// Seals the packet, and remembers it if the peer will acknowledge it.
    fn finish(
        &mut self,
        now: Time,
        draft: &Draft,
        flags: Flags,
        sequence: Option<u32>,
        content: Option<Content>,
        out: &mut BytesMut,
    ) {
        let Some(keyring) = &mut self.keyring else {
            return;
        };
        let (key, phase) = keyring.seal_with();
        let flags = flags
            .with_if(Flags::ACK, self.received.cumulative() > 0)
            .with_if(Flags::KEY_PHASE, phase)
            .with_if(Flags::ECE, self.received.ecn_changed());
        packet::amend(out, draft.start, flags, sequence.unwrap_or(0));
        packet::seal(out, draft.start, draft.head, self.counter, key);
        let counter = self.counter;
        self.counter += 1;
        if draft.told.is_some() {
            self.received.on_ack_sent();
        }
        let Some(content) = content else {
            self.recovery.on_silent(counter);
            return;
        };
        let bytes = u32::try_from(out.len() - draft.start).unwrap_or(u32::MAX);
        let inflight = self.recovery.inflight();
        let stamp = self.bbr.on_send(now, bytes, inflight);
        self.pacer.on_send(now, u64::from(bytes));
        self.timers.said(now);
        self.recovery.on_sent(Sent {
            counter,
            at: now,
            bytes,
            content,
            stamp,
            ack_told: draft.told,
        });
    }
}
