//! BBR.

use std::time::Duration;

use super::{Delivered, Round, Settings, Stamp, State};
use crate::Time;

/// BBR for one connection on one path.
#[derive(Debug, Clone)]
pub struct Bbr {
    settings: Settings,
}

impl Bbr {
    /// Starts in STARTUP with a window of ten packets; `chance` seeds the random part of the wait
    /// between two probes.
    pub fn new(_now: Time, settings: Settings, _chance: u64) -> Self {
        Self { settings }
    }

    /// A packet of `bytes` leaves while `inflight_before` bytes are on their way.
    pub fn on_send(&mut self, now: Time, _bytes: u32, _inflight_before: u64) -> Stamp {
        Stamp {
            delivered_at: now,
            first_sent: now,
            ..Stamp::default()
        }
    }

    /// An acknowledgement came, or a timer declared packets lost.
    pub fn on_ack(&mut self, _now: Time, _round: &Round<'_>) {}

    /// Packets that had been declared lost were acknowledged after all.
    pub fn on_spurious(&mut self, _now: Time, _packets: &[Delivered]) {}

    /// There was room in the window and in the pacer, but nothing to send.
    pub fn on_app_limited(&mut self, _inflight: u64) {}

    /// The connection moved to another path: what was measured no longer holds.
    pub fn on_path_change(&mut self, _now: Time) {}

    /// Takes other settings at once.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Full datagrams have another size now (path MTU discovery).
    pub fn set_mss(&mut self, mss: u64) {
        self.settings.mss = mss;
    }

    /// The most bytes in flight.
    pub fn cwnd(&self) -> u64 {
        self.settings.mss * 10
    }

    /// Bytes per second to pace at.
    pub fn pacing_rate(&self) -> u64 {
        self.settings.mss * 10_000
    }

    /// Estimated bandwidth in bytes per second; zero before the first sample.
    pub fn bandwidth(&self) -> u64 {
        0
    }

    /// The path's RTT without queue, as far as seen.
    pub fn min_rtt(&self) -> Option<Duration> {
        None
    }

    /// What BBR is doing.
    pub fn state(&self) -> State {
        State::Startup
    }

    /// Whether the window is small on purpose for a moment: send no repairs.
    pub fn is_probing_rtt(&self) -> bool {
        self.state() == State::ProbeRtt
    }

    /// Bytes to send in one go, at most 64 KiB and at least two packets.
    pub fn send_quantum(&self) -> u64 {
        self.settings.mss * 2
    }
}
