//! What an operator may set, while connections live.

use std::time::Duration;

/// Settings of the transport. A change reaches living connections with `Connection::configure`.
///
/// The first three are the seed's keys (`/config/quantum/…` in etcd).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// `fec-ratio`: repair packets per source packet within a flight, 0 to 1; 0 turns error
    /// correction off altogether, tail repairs included. Default 0.3, the (10,3) of the seed.
    pub fec_ratio: f64,
    /// `bbr-startup-gain`: how much faster than the measured bandwidth STARTUP sends, 1 to 4.
    /// Default 2.77 (4·ln 2, draft-ietf-ccwg-bbr).
    pub bbr_startup_gain: f64,
    /// `max-cwnd`: the most packets in flight, 4 to 1,048,576. Default 65,536 (about 78 MB).
    pub max_cwnd: u32,
    /// How repairs are made. Default: a sliding window.
    pub fec_mode: FecMode,
    /// `fec-tail-rate`: bits per second that repairs of tails and of single packets may take,
    /// beside the ratio. Default 2,000,000.
    pub fec_tail_rate: u64,
    /// A connection without any packet from the peer for so long is closed. The lower one of both
    /// sides holds. Zero: never. Default 60 s.
    pub idle_timeout: Duration,
    /// After so much silence of our own a PING is sent, so that routers and the peer remember us.
    /// At most a third of the idle timeout. Zero: never. Default 10 s.
    pub keep_alive: Duration,
    /// A handshake that takes longer has failed. Default 5 s.
    pub handshake_timeout: Duration,
    /// Bytes that the peer may send on one stream beyond what was read, at first: a window that
    /// limits a fast reader grows to 16 times that. Default 1 MiB.
    pub stream_window: u32,
    /// Bytes that the peer may send on all streams beyond what was read, at first: it grows in the
    /// same way. Default 8 MiB.
    pub connection_window: u32,
    /// Bytes that wait to be sent on one stream before writing blocks. Default 256 KiB.
    pub send_buffer: u32,
    /// Streams that the peer may have open at once. Default 1,024.
    pub max_streams: u32,
    /// Packets that the peer may send beyond the last one in order. Default 65,536.
    pub packet_window: u32,
    /// The largest datagram that path discovery tries, 1,200 to 65,507 bytes of UDP payload.
    /// Default 1,472: Ethernet's 1,500 less IPv4 and UDP headers.
    pub max_datagram: u16,
}

/// How repairs are made of source packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FecMode {
    /// Random linear combinations over a window that slides (scheme 2).
    #[default]
    Sliding,
    /// Reed-Solomon over groups of at most ten, closed early at a tail (scheme 1, the seed's).
    Block,
    /// None.
    Off,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            fec_ratio: 0.3,
            bbr_startup_gain: 2.77,
            max_cwnd: 65_536,
            fec_mode: FecMode::Sliding,
            fec_tail_rate: 2_000_000,
            idle_timeout: Duration::from_secs(60),
            keep_alive: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(5),
            stream_window: 1 << 20,
            connection_window: 8 << 20,
            send_buffer: 256 << 10,
            max_streams: 1_024,
            packet_window: 65_536,
            max_datagram: 1_472,
        }
    }
}
