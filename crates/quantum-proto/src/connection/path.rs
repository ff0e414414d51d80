//! Where the peer is, how much may be sent there, and how large a datagram gets through.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Connection, Event, settings};
use crate::Time;
use crate::frame::FRAME_HEAD;
use crate::packet::{HEADER_LEN, TRAILER_LEN};

/// The size that every path must carry, in bytes of UDP payload.
pub const BASE_DATAGRAM: u16 = 1_200;

/// One way to the peer.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) remote: SocketAddr,
    /// The peer has shown that it hears what we send there.
    pub(super) validated: bool,
    /// Bytes received from and sent to an address that is not validated.
    received: u64,
    sent: u64,
    /// The challenge under way: what was asked, when it is asked again, when it has failed.
    pub(super) challenge: Option<Challenge>,
}

#[derive(Debug)]
pub(super) struct Challenge {
    pub(super) token: [u8; 8],
    pub(super) ask_at: Time,
    pub(super) fails_at: Time,
    interval: Duration,
}

impl Challenge {
    pub(super) fn new(now: Time, token: [u8; 8], pto: Duration) -> Self {
        Self {
            token,
            ask_at: now,
            fails_at: now + pto * 6,
            interval: pto,
        }
    }

    pub(super) fn asked(&mut self, now: Time) {
        self.ask_at = now + self.interval;
    }
}

impl Path {
    pub(super) fn new(remote: SocketAddr, validated: bool) -> Self {
        Self {
            remote,
            validated,
            received: 0,
            sent: 0,
            challenge: None,
        }
    }

    pub(super) fn on_received(&mut self, bytes: usize) {
        if !self.validated {
            self.received = self.received.saturating_add(bytes as u64);
        }
    }

    pub(super) fn on_sent(&mut self, bytes: usize) {
        if !self.validated {
            self.sent = self.sent.saturating_add(bytes as u64);
        }
    }

    /// Nothing is amplified: at most three times what came, until the address is validated.
    pub(super) fn allows(&self, bytes: usize) -> bool {
        self.validated || self.sent.saturating_add(bytes as u64) <= self.received.saturating_mul(3)
    }
}

impl Connection {
    /// The newest packet came from elsewhere: the peer has moved, or its router has.
    pub(super) fn on_moved(&mut self, now: Time, remote: SocketAddr, length: usize) {
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

    pub(super) fn on_path_response(&mut self, now: Time, token: [u8; 8]) {
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
        self.bbr.set(settings(&self.config, datagram));
        self.pacer.set_mss(u64::from(datagram));
        self.pacer.set_rate(now, self.bbr.pacing_rate());
    }
}

/// Discovers the largest datagram (RFC 8899 in short: a few candidates, largest first).
#[derive(Debug)]
pub(super) struct Mtu {
    current: u16,
    limit: u16,
    /// The candidate that is being tried, and how often it was.
    candidate: Option<u16>,
    tries: u8,
    /// A probe is on its way.
    waiting: bool,
    /// When to try again; `NEVER` while nothing is left to try.
    probe_at: Time,
    /// Probe timeouts in a row while datagrams above the base size were in flight.
    black: u8,
    /// Round trips with a loss of a datagram above the base size since one arrived.
    vanished: u8,
    /// Losses of packets below this counter belong to a round trip that was counted.
    counted_to: u64,
}

/// Sizes worth trying: Ethernet over IPv4, over IPv6, common tunnels.
const CANDIDATES: [u16; 5] = [1_472, 1_452, 1_420, 1_372, 1_280];
const TRIES: u8 = 3;
/// After so long a path may have become wider.
const RETRY_AFTER: Duration = Duration::from_mins(10);
/// So many probe timeouts in a row make a black hole plausible.
const BLACK_HOLE: u8 = 3;
/// So do so many round trips in a row in which large datagrams were lost and none arrived: one in
/// a million by chance if each had a single packet and 10 % were lost.
const VANISHED: u8 = 6;
/// Bytes of a datagram that carries a challenge and no more.
pub(super) const CHALLENGE_DATAGRAM: usize = HEADER_LEN + TRAILER_LEN + FRAME_HEAD + 8;

impl Mtu {
    pub(super) fn new(now: Time, limit: u16) -> Self {
        let limit = limit.max(BASE_DATAGRAM);
        let mut mtu = Self {
            current: BASE_DATAGRAM,
            limit,
            candidate: None,
            tries: 0,
            waiting: false,
            probe_at: now,
            black: 0,
            vanished: 0,
            counted_to: 0,
        };
        mtu.candidate = mtu.first_below(u16::MAX);
        if mtu.candidate.is_none() {
            mtu.probe_at = Time::NEVER;
        }
        mtu
    }

    pub(super) fn current(&self) -> u16 {
        self.current
    }

    /// The size to probe now, if one is due.
    pub(super) fn due(&self, now: Time) -> Option<u16> {
        (!self.waiting && now >= self.probe_at)
            .then_some(self.candidate)
            .flatten()
    }

    /// When a probe is due; `NEVER` while one is on its way.
    pub(super) fn next_at(&self) -> Time {
        match self.candidate {
            Some(_) if !self.waiting => self.probe_at,
            _ => Time::NEVER,
        }
    }

    pub(super) fn on_probe_sent(&mut self) {
        self.waiting = true;
        self.tries += 1;
    }

    /// A probe of that size has arrived.
    pub(super) fn on_arrived(&mut self, now: Time, size: u16) {
        if size > self.current {
            self.current = size;
        }
        self.settle(now);
    }

    /// A probe of that size is lost.
    pub(super) fn on_lost(&mut self, now: Time, size: u16) {
        self.waiting = false;
        if self.candidate == Some(size) && self.tries >= TRIES {
            self.candidate = self.first_below(size);
            self.tries = 0;
            if self.candidate.is_none() {
                self.settle(now);
            }
        }
    }

    /// A probe timeout: large datagrams may vanish on a path that changed under us.
    pub(super) fn on_timeout(&mut self, now: Time, large_in_flight: bool) -> bool {
        if !large_in_flight || self.current == BASE_DATAGRAM {
            return false;
        }
        self.black += 1;
        if self.black < BLACK_HOLE {
            return false;
        }
        self.restart(now + Duration::from_secs(5));
        true
    }

    /// A datagram above the base size is lost, and `next` is the counter of the next packet. Where
    /// smaller ones arrive meanwhile no timeout shows a black hole, but losses in so many round
    /// trips do; those in one may be a queue that was full.
    pub(super) fn on_large_lost(&mut self, now: Time, counter: u64, next: u64) -> bool {
        if self.current == BASE_DATAGRAM || counter < self.counted_to {
            return false;
        }
        self.counted_to = next;
        self.vanished += 1;
        if self.vanished < VANISHED {
            return false;
        }
        self.restart(now + Duration::from_secs(5));
        true
    }

    /// Begins again at the base size: another path, or one that has changed.
    pub(super) fn restart(&mut self, probe_at: Time) {
        *self = Self::new(probe_at, self.limit);
    }

    /// A datagram above the base size has arrived: no black hole.
    pub(super) fn on_large_arrived(&mut self) {
        self.black = 0;
        self.vanished = 0;
    }

    fn settle(&mut self, now: Time) {
        self.waiting = false;
        self.tries = 0;
        self.candidate = self.first_below(u16::MAX);
        self.probe_at = if self.candidate.is_some() {
            now + RETRY_AFTER
        } else {
            Time::NEVER
        };
    }

    /// The largest candidate below `size` that is worth trying.
    fn first_below(&self, size: u16) -> Option<u16> {
        let worth = |it: u16| it < size && it > self.current && it <= self.limit;
        std::iter::once(self.limit)
            .chain(CANDIDATES)
            .find(|it| worth(*it))
    }
}
