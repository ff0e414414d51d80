//! What is sent: one datagram at a time, the most urgent first.

use bytes::BytesMut;

use super::path::{BASE_DATAGRAM, CHALLENGE_DATAGRAM};
use super::{Connection, Phase, Transmit};
use crate::Time;
use crate::codes::close;
use crate::frame;
use crate::packet::{Flags, HEADER_LEN, TRAILER_LEN};
use crate::recovery::Content;

mod content;
mod handshake;
mod packet;

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

/// The payload of a packet, volatile frames included (contract 4.1).
pub(super) const PAYLOAD_MAX: usize = 1_400;
/// Acknowledgements take no more of a packet with data.
const ACK_ROOM: usize = 160;
/// How far from full a datagram may be that others of its size follow, in bytes.
const NEARLY: usize = 64;
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
        let largest = usize::from(self.mtu.current());
        self.datagram(now, largest, out)?;
        let first = out.len() - start;
        let mut transmit = Transmit {
            to,
            size: first,
            segment: None,
            ecn: self.phase == Phase::Open,
        };
        // Only a datagram that is about full is followed by others of its size.
        let full = largest.min(HEADER_LEN + PAYLOAD_MAX + TRAILER_LEN);
        if !(full - NEARLY..=largest).contains(&first) || self.path.remote != to {
            return Some(transmit);
        }
        let most = max_segments.min(BATCH_MAX / first);
        for _ in 1..most {
            let before = out.len();
            if self.next_of_batch(now, first, out).is_none() {
                break;
            }
            self.on_datagram_sent(out.len() - before);
            transmit.segment = Some(first);
            if out.len() - before < first {
                break;
            }
        }
        transmit.size = out.len() - start;
        Some(transmit)
    }

    /// One datagram of whatever kind, of at most `limit` bytes unless it finds out more.
    fn datagram(&mut self, now: Time, limit: usize, out: &mut BytesMut) -> Option<()> {
        self.blocked = Blocked::No;
        if self.phase == Phase::Over {
            return None;
        }
        let start = out.len();
        if !self.path.allows(limit.max(usize::from(BASE_DATAGRAM))) {
            if self.challenge_datagram(now, out).is_some() {
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
                if self.handshake_datagram(now, out).is_none() {
                    self.application_datagram(now, limit, out)?;
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

    /// What follows a datagram of `size` bytes: data as well, as long as nothing is more urgent.
    fn next_of_batch(&mut self, now: Time, size: usize, out: &mut BytesMut) -> Option<()> {
        let wishes = &self.wishes;
        let is_urgent = wishes.done || wishes.ping || wishes.probes > 0;
        let repair_due = self.encoder.timeout().is_some_and(|at| at <= now);
        if self.phase != Phase::Open || is_urgent || repair_due || !self.path.allows(size) {
            return None;
        }
        self.keep_keys(now)?;
        if !self.may_send(now, size) {
            return None;
        }
        if let Some(lost) = self.sources.first_lost() {
            let (part, _) = self.sources.part(lost)?;
            // What does not fit goes in a datagram of its own, not in pieces.
            return (HEADER_LEN + part.len() + TRAILER_LEN <= size)
                .then(|| self.lost_datagram(now, size, out))
                .flatten();
        }
        self.data_datagram(now, size, out)
    }

    fn application_datagram(&mut self, now: Time, limit: usize, out: &mut BytesMut) -> Option<()> {
        self.keep_keys(now)?;
        if self.control_datagram(now, limit, out).is_some() {
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
            if let Some(size) = self.probe_size(now) {
                return self.mtu_datagram(now, size, out);
            }
            self.on_nothing_to_send();
        }
        if self.received.ack_at().is_some_and(|at| at <= now) {
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
        if keyring.is_worn(self.recovery.largest_acked()) {
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
            // Even if it is not remembered, or it would be due again at once.
            self.timers.said(now);
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
            let later = repair_at.min(self.probe_size_at());
            if later != Time::NEVER {
                self.timers.paced_until = later.max(ready_at);
            }
            // Or the pause would look as if the path were slow.
            self.on_nothing_to_send();
        }
        false
    }

    /// The size of datagram to try now. None to an address that has not proved itself: what it
    /// may get is counted in datagrams of the present size.
    fn probe_size(&self, now: Time) -> Option<u16> {
        self.mtu.due(now).filter(|_| self.path.validated)
    }

    /// When [`Self::probe_size`] has something; `NEVER` if not by time alone.
    pub(super) fn probe_size_at(&self) -> Time {
        if self.path.validated {
            self.mtu.next_at()
        } else {
            Time::NEVER
        }
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
            || self.probe_size(now).is_some()
    }

    /// The flight is bulk: more waits than fits, and most of the pipe is full.
    fn is_bulk(&mut self) -> bool {
        self.streams.has_data() && self.recovery.inflight() * 4 >= self.bbr.cwnd()
    }
}
