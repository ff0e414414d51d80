//! The sender's side.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::code::{BLOCK_ROWS, BLOCK_SOURCES, Scheme};
use super::loss::Loss;
use super::schedule::{Due, Schedule};
use super::window::{Cover, SPAN, Window};
use crate::config::{Config, FecMode};
use crate::packet::{HEADER_LEN, Numbering, TRAILER_LEN};
use crate::time::Time;

/// What the connection is doing, as far as repairs depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// The congestion window is full and more data wait: repairs would only displace them.
    pub cwnd_limited: bool,
    /// Source parts wait to be sent.
    pub more_queued: bool,
    /// The smoothed round-trip time.
    pub srtt: Duration,
    /// BBR drains the path to measure it: no repairs now.
    pub probe_rtt: bool,
}

/// A repair that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repaired {
    /// The first sequence number covered.
    pub first: u64,
    /// The last one covered; between them may be some that are not.
    pub last: u64,
    /// It was paid from `fec_tail_rate`, not from `fec_ratio`.
    pub tail: bool,
}

/// Figures since the beginning, and the estimates of this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EncoderStats {
    /// Repairs written.
    pub repairs: u64,
    /// Of these, repairs of tails and of single packets.
    pub tail_repairs: u64,
    /// Bytes of their frames.
    pub repair_bytes: u64,
    /// The estimated probability that a packet is lost, 0 to 1.
    pub loss: f64,
    /// The estimated mean number of packets lost in a row, at least 1.
    pub burst: f64,
}

/// Decides when a repair is due, and writes it.
///
/// Tell it of every source part that leaves and of every packet's fate; then call
/// [`Encoder::poll`] until it gives nothing, and again when [`Encoder::timeout`] says so. It keeps
/// at most 32 source parts, which it shares with the sender's store, and none while off.
#[derive(Debug)]
pub struct Encoder {
    config: Config,
    peer_schemes: u8,
    /// How repairs are made; `None` is not at all.
    scheme: Option<Scheme>,
    loss: Loss,
    schedule: Schedule,
    bucket: Bucket,
    window: Window,
    group: Group,
    /// The next repair's row in scheme 2.
    row: u8,
    repairs: u64,
    tail_repairs: u64,
    repair_bytes: u64,
}

/// The block that is being filled, or was closed by its first repair.
#[derive(Debug, Default)]
struct Group {
    first: u64,
    sources: u32,
    rows: u8,
}

impl Encoder {
    /// An encoder that has seen nothing, assumes some loss, and a peer that knows all schemes.
    pub fn new(config: &Config) -> Self {
        let peer_schemes = u8::MAX;
        Self {
            config: *config,
            peer_schemes,
            scheme: scheme(config, peer_schemes),
            loss: Loss::new(),
            schedule: Schedule::new(),
            bucket: Bucket::default(),
            window: Window::default(),
            group: Group::default(),
            row: 0,
            repairs: 0,
            tail_repairs: 0,
            repair_bytes: 0,
        }
    }

    /// Takes over changed settings at once.
    pub fn configure(&mut self, config: &Config) {
        self.config = *config;
        self.choose();
    }

    /// The schemes that the peer can decode, as its OPTIONS tell: bit 1 is scheme 1, bit 2 is
    /// scheme 2. If it lacks the one that is set, the other serves.
    pub fn set_peer_schemes(&mut self, schemes: u8) {
        self.peer_schemes = schemes;
        self.choose();
    }

    /// A packet with the source part `seq` leaves now, for the first time or again; the repairs
    /// that it earns within a flight are to be polled before the next one.
    ///
    /// `alone` says that a message ends in it and that nothing waits behind it.
    pub fn on_source(&mut self, now: Time, seq: u64, part: &Bytes, alone: bool) {
        let Some(scheme) = self.scheme else {
            return;
        };
        let is_new = seq > self.window.newest();
        if !self.window.add(seq, part) || (scheme == Scheme::Block && !is_new) {
            return;
        }
        let per_flight = match scheme {
            Scheme::Sliding => (self.interval(), 1),
            Scheme::Block => {
                if self.group.add(seq) {
                    self.schedule.begin_flight();
                }
                let rows = (f64::from(BLOCK_SOURCES) * self.config.fec_ratio).round();
                (BLOCK_SOURCES, (rows as u8).clamp(1, BLOCK_ROWS))
            }
        };
        self.schedule.on_source(now, alone, &self.loss, per_flight);
    }

    /// The peer has the source part, by whatever way.
    pub fn on_received(&mut self, seq: u64) {
        self.window.remove(seq);
        if self.window.is_empty() {
            self.schedule.forget();
        }
    }

    /// What became of a packet; to be told once for each counter, in order as far as possible.
    pub fn on_fate(&mut self, now: Time, lost: bool) {
        self.loss.on_fate(now, lost);
    }

    /// Writes one whole REPAIR frame of at most `room` bytes if one is due; to be called again
    /// until it gives nothing.
    ///
    /// Source parts that are too large for the room go without.
    pub fn poll(
        &mut self,
        now: Time,
        situation: &Situation,
        room: usize,
        numbering: &Numbering,
        out: &mut BytesMut,
    ) -> Option<Repaired> {
        let scheme = self.scheme?;
        loop {
            let due = self.schedule.due(now, situation)?;
            let Some((row, cover)) = self.cover(scheme, room) else {
                self.schedule.forget();
                return None;
            };
            let bytes = HEADER_LEN + cover.frame() + TRAILER_LEN;
            if due == Due::Tail && !self.bucket.take(now, self.config.fec_tail_rate, bytes) {
                self.schedule.on_refusal(now);
                continue;
            }
            self.window.write(&cover, (scheme, row), numbering, out);
            match scheme {
                Scheme::Sliding => self.row = row.wrapping_add(1),
                Scheme::Block => self.group.rows = row + 1,
            }
            self.schedule.on_repair(now, due);
            let tail = due == Due::Tail;
            self.repairs += 1;
            self.tail_repairs += u64::from(tail);
            self.repair_bytes += cover.frame() as u64;
            return Some(Repaired {
                first: cover.first,
                last: cover.last,
                tail,
            });
        }
    }

    /// When [`Encoder::poll`] wants to be called: a repair is due then. A point that has passed
    /// stays until it is called; after that it lies ahead.
    pub fn timeout(&self) -> Option<Time> {
        self.schedule.timeout()
    }

    /// Repairs may be sent: source parts should leave room for [`super::OVERHEAD`].
    pub fn is_active(&self) -> bool {
        self.scheme.is_some()
    }

    /// Figures.
    pub fn stats(&self) -> EncoderStats {
        EncoderStats {
            repairs: self.repairs,
            tail_repairs: self.tail_repairs,
            repair_bytes: self.repair_bytes,
            loss: self.loss.probability(),
            burst: self.loss.burst(),
        }
    }

    fn choose(&mut self) {
        let scheme = scheme(&self.config, self.peer_schemes);
        if scheme == self.scheme {
            return;
        }
        self.scheme = scheme;
        self.schedule.forget();
        self.window.clear();
        self.group = Group::default();
    }

    /// After how many sources of a flight a repair follows: often enough that the losses among
    /// them rarely outnumber the repairs, and never more often than `fec_ratio` says.
    fn interval(&self) -> u32 {
        let wanted = 1.0 / (20.0 * self.loss.probability() * self.loss.burst());
        let most_often = (1.0 / self.config.fec_ratio).ceil();
        wanted.floor().min(WINDOW).max(most_often) as u32
    }

    /// The next repair's row, and what it covers.
    fn cover(&self, scheme: Scheme, room: usize) -> Option<(u8, Cover)> {
        match scheme {
            Scheme::Sliding => {
                let count = (3.0 * self.loss.burst()).ceil().clamp(WINDOW, SPAN as f64);
                let cover = self.window.cover(0, count as usize, room)?;
                Some((self.row, cover))
            }
            Scheme::Block => {
                let (row, most) = (self.group.rows, BLOCK_SOURCES as usize);
                let cover = self.window.cover(self.group.first, most, room)?;
                (row < BLOCK_ROWS).then_some((row, cover))
            }
        }
    }
}

impl Group {
    /// Adds a source and tells whether a new group begins with it: a repair closes a group, so
    /// does its tenth source.
    fn add(&mut self, seq: u64) -> bool {
        let is_full = self.sources >= BLOCK_SOURCES || seq - self.first >= SPAN;
        let begins = self.rows > 0 || is_full || self.sources == 0;
        if begins {
            *self = Self {
                first: seq,
                sources: 0,
                rows: 0,
            };
        }
        self.sources += 1;
        begins
    }
}

/// Bytes that repairs of tails may take: 50 ms of the rate in a row, at least two packets.
#[derive(Debug, Default)]
struct Bucket {
    /// Bytes taken that the rate has not given back yet.
    taken: f64,
    at: Time,
}

impl Bucket {
    fn take(&mut self, now: Time, bits: u64, bytes: usize) -> bool {
        let rate = bits as f64 / 8.0;
        let back = now.since(self.at).as_secs_f64() * rate;
        self.taken = (self.taken - back).max(0.0);
        self.at = now;
        let taken = self.taken + bytes as f64;
        let allowed = bits > 0 && taken <= (rate * 0.05).max(TWO_PACKETS);
        if allowed {
            self.taken = taken;
        }
        allowed
    }
}

fn scheme(config: &Config, peer: u8) -> Option<Scheme> {
    // Neither zero nor nonsense.
    let is_on = config.fec_ratio > 0.0;
    let wanted = match config.fec_mode {
        FecMode::Off => return None,
        FecMode::Sliding => [Scheme::Sliding, Scheme::Block],
        FecMode::Block => [Scheme::Block, Scheme::Sliding],
    };
    wanted
        .into_iter()
        .find(|scheme| is_on && peer >> (*scheme as u8) & 1 == 1)
}

/// Source parts that a repair covers, unless bursts of losses ask for more.
const WINDOW: f64 = 12.0;
/// Two packets of Ethernet's size.
const TWO_PACKETS: f64 = 2.0 * 1_472.0;
