//! How fast a connection sends: BBR, and the pacer that spreads what BBR allows.
//!
//! Who sends asks [`Bbr::cwnd`] how much may be in flight and [`Pacer::ready_at`] when the next
//! packet may leave, tells [`Bbr::on_send`] of each packet that counts as in flight and keeps the
//! [`Stamp`] it returns beside the packet, and hands it back in a [`Round`] when the packet was
//! acknowledged or declared lost. After each [`Bbr::on_ack`] the pacer takes the new rate. When
//! there is room but nothing to send, both have to be told (`on_app_limited`): otherwise a pause
//! of the application is taken for the bandwidth of the path.
//!
//! This is BBR of draft-ietf-ccwg-bbr (August 2026) with its constants: pacing gain 2.77 and
//! window gain 2 in STARTUP, 0.5 in DRAIN, 0.9 / 1 / 1 / 1.25 in PROBE_BW, half the window every
//! five seconds in PROBE_RTT. Its example cases stand in `bbr/tests.rs`. It differs in this:
//!
//! - Loss is answered only if something else shows congestion too, and only beyond what is always
//!   lost on this path (`loss.rs`). With 5 % of random loss a connection keeps its rate; on a full
//!   queue it yields as the draft asks.
//! - A packet that the network marked (ECN) is answered like loss on a full queue.
//! - Losses are undone as soon as what remains of them would not have been answered, not only
//!   when all of them were spurious: paths that reorder also lose.
//! - PROBE_RTT is left out when it would tell nothing: if the RTT came within a 32nd of the least
//!   one in the last five seconds, or if little is sent and no queue is visible.
//! - STARTUP is not left by loss alone while the application sends little: the bandwidth is not
//!   known then, and leaving would slow requests down for nothing.
//! - The window never falls below two batches of what is sent in one go at this rate.
//! - There is no reduction on a timeout: a probe timeout sends probes, and what it declares lost
//!   is answered like other losses.

mod aggregation;
mod bbr;
mod filter;
mod loss;
mod pacer;
mod rate;

use std::time::Duration;

use crate::Time;

pub use bbr::Bbr;
pub use pacer::Pacer;
pub use rate::Stamp;

/// What an operator or the path decides about the window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Pacing gain of STARTUP, 1 to 4 (what lies outside is moved to the nearer end, NaN to 2.77).
    pub startup_gain: f64,
    /// The most bytes in flight; four packets are always allowed.
    pub max_cwnd: u64,
    /// Bytes of a full datagram (UDP payload).
    pub mss: u64,
}

/// A packet that counted as in flight and does so no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// What [`Bbr::on_send`] returned for it.
    pub stamp: Stamp,
    /// When it was sent.
    pub sent: Time,
    /// Its size, as told to [`Bbr::on_send`].
    pub bytes: u32,
}

/// What one acknowledgement, or one expired timer, changed.
#[derive(Debug, Clone, Copy)]
pub struct Round<'a> {
    /// Packets that are acknowledged for the first time, in any order; none of them in `lost`
    /// now or earlier (those belong into [`Bbr::on_spurious`]).
    pub acked: &'a [Delivered],
    /// Packets that are declared lost now.
    pub lost: &'a [Delivered],
    /// The RTT of the newest packet acknowledged, if it gave a sample.
    pub rtt: Option<Duration>,
    /// The smoothed RTT; zero if there is none yet.
    pub smoothed: Duration,
    /// Bytes in flight afterwards.
    pub inflight: u64,
    /// Packets that the peer newly reports as marked "congestion experienced".
    pub ce: u64,
}

/// What BBR is doing; four states, the third with four phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum State {
    /// Doubling the rate each round to find the bandwidth.
    #[default]
    Startup,
    /// Draining the queue that STARTUP made.
    Drain,
    /// Keeping the found rate, probing now and then for more.
    ProbeBw(Phase),
    /// Keeping little in flight for 200 ms to see the path's RTT without queue.
    ProbeRtt,
}

/// The phases of [`State::ProbeBw`], in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Sending less than arrives, so that the queue drains.
    Down,
    /// Sending what arrives.
    Cruise,
    /// One round at the full rate, so that a probe starts with a full pipe.
    Refill,
    /// Sending more than arrives, to see whether more is possible.
    Up,
}

impl State {
    /// The state's number in the gauge `quantum_bbr_state`: 0 STARTUP, 1 DRAIN, 2 PROBE_BW,
    /// 3 PROBE_RTT.
    pub fn number(self) -> u8 {
        match self {
            Self::Startup => 0,
            Self::Drain => 1,
            Self::ProbeBw(_) => 2,
            Self::ProbeRtt => 3,
        }
    }

    /// The state's name, as the seed writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "STARTUP",
            Self::Drain => "DRAIN",
            Self::ProbeBw(_) => "PROBE_BW",
            Self::ProbeRtt => "PROBE_RTT",
        }
    }
}

#[cfg(test)]
mod tests;
