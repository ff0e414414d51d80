//! The sender's side.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::config::Config;
use crate::packet::Numbering;
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
#[derive(Debug)]
pub struct Encoder {
    config: Config,
    stats: EncoderStats,
}

impl Encoder {
    /// An encoder that has seen nothing and assumes some loss.
    pub fn new(config: &Config) -> Self {
        Self {
            config: *config,
            stats: EncoderStats::default(),
        }
    }

    /// Takes over changed settings at once.
    pub fn configure(&mut self, config: &Config) {
        self.config = *config;
    }

    /// A packet with the source part `seq` leaves now, for the first time or again.
    ///
    /// `alone` says that it holds a whole message and that nothing waits behind it.
    pub fn on_source(&mut self, _now: Time, _seq: u64, _part: &Bytes, _alone: bool) {}

    /// The peer has the source part, by whatever way.
    pub fn on_received(&mut self, _seq: u64) {}

    /// What became of a packet; to be told once for each counter, in order as far as possible.
    pub fn on_fate(&mut self, _lost: bool) {}

    /// Writes one whole REPAIR frame of at most `room` bytes if one is due; to be called again
    /// until it gives nothing.
    pub fn poll(
        &mut self,
        _now: Time,
        _situation: &Situation,
        _room: usize,
        _numbering: &Numbering,
        _out: &mut BytesMut,
    ) -> Option<Repaired> {
        None
    }

    /// When [`Encoder::poll`] wants to be called although nothing else happened. A point that
    /// has passed stays until then.
    pub fn timeout(&self) -> Option<Time> {
        None
    }

    /// Figures.
    pub fn stats(&self) -> EncoderStats {
        self.stats
    }
}
