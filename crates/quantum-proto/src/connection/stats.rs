//! What a connection counts.

use std::time::Duration;

use super::Connection;
use crate::congestion::State;

/// Counts since the beginning, and values of this moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Packets sent, of every kind.
    pub packets_sent: u64,
    /// Packets received that belonged to us and opened.
    pub packets_received: u64,
    /// Packets that congestion control counts as lost, among them those that a repair replaced.
    pub packets_lost: u64,
    /// Source parts sent again.
    pub retransmissions: u64,
    /// Packets that were declared lost and arrived after all.
    pub spurious: u64,
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
    /// Bytes of UDP payload received.
    pub bytes_received: u64,
    /// Source parts that repairs gave back.
    pub fec_recoveries: u64,
    /// Packets with a repair that were sent.
    pub fec_repairs_sent: u64,
    /// Bytes of those packets.
    pub fec_repair_bytes: u64,
    /// Repairs that came and did not help: not enough of them, or not consistent.
    pub fec_unrecoverable: u64,
    /// Packets that no key opened.
    pub decrypt_failures: u64,
    /// Packets whose counter had been seen, or is too old to tell.
    pub dropped_replayed: u64,
    /// Packets for which there is no key (yet, or any more).
    pub dropped_no_key: u64,
    /// Packets beyond the window, or that would leave too many holes.
    pub dropped_beyond_window: u64,
    /// Datagrams that the limit on addresses not yet validated held back.
    pub amplification_held: u64,
    /// How long the handshake took.
    pub handshake: Option<Duration>,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// The lowest round-trip time of late.
    pub rtt_min: Duration,
    /// Congestion window in bytes.
    pub cwnd: u64,
    /// Bytes in flight.
    pub inflight: u64,
    /// Bytes per second.
    pub pacing_rate: u64,
    /// The state of BBR.
    pub state: State,
    /// The largest datagram in use, in bytes of UDP payload.
    pub datagram: u16,
    /// The share of packets lost that error correction reckons with, 0 to 1.
    pub loss: f64,
    /// Bytes held for sending, retransmission, reading and recovery.
    pub memory: usize,
}

/// Measurements since they were last taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples {
    /// Round-trip times.
    pub rtt: Vec<Duration>,
    /// How long a hole among received packets stayed open, where a repair closed it.
    pub recovery: Vec<Duration>,
}

/// Samples kept between two takings; further ones are dropped.
pub(super) const SAMPLES_MAX: usize = 256;

impl Samples {
    pub(super) fn push(list: &mut Vec<Duration>, sample: Duration) {
        if list.len() < SAMPLES_MAX {
            list.push(sample);
        }
    }
}

impl Connection {
    /// [`Stats::packets_received`] alone: it tells whether the last datagram was the peer's.
    pub fn packets_received(&self) -> u64 {
        self.stats.packets_received
    }

    /// Figures since the beginning, and those of this moment.
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        let rtt = self.recovery.rtt();
        stats.rtt = rtt.smoothed;
        stats.rtt_min = rtt.min;
        stats.cwnd = self.bbr.cwnd();
        stats.inflight = self.recovery.inflight();
        stats.pacing_rate = self.bbr.pacing_rate();
        stats.state = self.bbr.state();
        stats.datagram = self.mtu.current();
        let encoder = self.encoder.stats();
        stats.loss = encoder.loss;
        let decoder = self.decoder.stats();
        stats.fec_unrecoverable = decoder.unrecoverable;
        stats.memory = self.streams.buffered() + self.sources.bytes() + self.decoder.memory();
        stats
    }

    /// Round-trip and recovery times measured since the last call, at most 256 of each.
    pub fn take_samples(&mut self) -> Samples {
        std::mem::take(&mut self.samples)
    }
}
