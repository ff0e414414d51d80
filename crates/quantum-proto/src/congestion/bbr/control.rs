//! What follows from the model: pacing rate, window, and the volumes that decisions compare with.

use super::{
    Bbr, HEADROOM, INITIAL_PACKETS, MIN_PIPE_PACKETS, PACING_MARGIN, PROBE_RTT_GAIN, scaled,
};
use crate::congestion::{Phase, State, pacer};

impl Bbr {
    pub(super) fn set_pacing_rate(&mut self, gain: f64) {
        // What the path loses without a queue has been carried by the bottleneck all the same, so
        // the delivery rate lies that much below what may be sent. Half of it is added: the
        // highest of samples that vary with each loss makes up for the rest.
        let carried = self.bw * (1.0 + self.losses.background() / 2.0);
        let rate = gain * carried * PACING_MARGIN;
        if self.bw > 0.0 && (self.full_bw_reached || rate > self.pacing_rate) {
            self.pacing_rate = rate;
        }
    }

    pub(super) fn set_cwnd(&mut self, acked: u64) {
        let mut extra = self.aggregation.extra();
        if self.state == State::ProbeBw(Phase::Up) {
            // Up fills the queue anyway, so nothing stalls; more would let it grow beyond 1.5 BDP.
            extra = extra.min(self.bdp(self.bw, 0.25));
        }
        let target = self.bdp(self.bw, self.cwnd_gain()).saturating_add(extra);
        let target = self.with_budget(target);
        let grown = self.cwnd.saturating_add(acked);
        let initial = self.settings.mss * INITIAL_PACKETS;
        if self.full_bw_reached {
            self.cwnd = grown.min(target);
        } else if self.cwnd < target || self.sampler.delivered() < initial {
            self.cwnd = grown;
        }
        if self.state == State::ProbeRtt {
            self.cwnd = self.cwnd.min(self.probe_rtt_cwnd());
        }
        let bound = match self.state {
            State::ProbeBw(Phase::Cruise) | State::ProbeRtt => self.inflight_with_headroom(),
            State::ProbeBw(Phase::Down | Phase::Refill | Phase::Up) => self.inflight_longterm,
            State::Startup | State::Drain => u64::MAX,
        };
        self.cwnd = self.cwnd.min(bound.min(self.inflight_shortterm));
        self.cwnd = self.cwnd.min(self.settings.max_cwnd).max(self.min_pipe());
    }

    pub(super) fn pacing_gain(&self) -> f64 {
        match self.state {
            State::Startup => self.settings.startup_gain,
            State::Drain => 0.5,
            State::ProbeBw(Phase::Down) => 0.9,
            State::ProbeBw(Phase::Cruise | Phase::Refill) | State::ProbeRtt => 1.0,
            State::ProbeBw(Phase::Up) => 1.25,
        }
    }

    pub(super) fn cwnd_gain(&self) -> f64 {
        match self.state {
            State::Startup | State::Drain => 2.0,
            State::ProbeBw(Phase::Down | Phase::Cruise | Phase::Refill) => 2.0,
            State::ProbeBw(Phase::Up) => 2.25,
            State::ProbeRtt => PROBE_RTT_GAIN,
        }
    }

    /// `gain` times the bytes that fill the path at `bw`; the initial window before the first RTT.
    pub(super) fn bdp(&self, bw: f64, gain: f64) -> u64 {
        match self.min_rtt {
            Some(rtt) => (gain * bw * rtt.as_secs_f64()) as u64,
            None => self.settings.mss * INITIAL_PACKETS,
        }
    }

    pub(super) fn inflight_for(&self, bw: f64, gain: f64) -> u64 {
        self.with_budget(self.bdp(bw, gain))
    }

    /// At least what sending in batches needs: one batch leaving while another is acknowledged.
    pub(super) fn with_budget(&self, inflight: u64) -> u64 {
        let batches = 2 * pacer::quantum(self.pacing_rate(), 0);
        let budget = inflight
            .max(batches)
            .max(self.send_quantum())
            .max(self.min_pipe());
        match self.state {
            State::ProbeBw(Phase::Up) => budget.saturating_add(2 * self.settings.mss),
            State::ProbeBw(Phase::Down | Phase::Cruise | Phase::Refill)
            | State::Startup
            | State::Drain
            | State::ProbeRtt => budget,
        }
    }

    /// Leaves room in the queue for others.
    pub(super) fn inflight_with_headroom(&self) -> u64 {
        if self.inflight_longterm == u64::MAX {
            return u64::MAX;
        }
        let headroom = scaled(self.inflight_longterm, HEADROOM).max(self.settings.mss);
        self.inflight_longterm
            .saturating_sub(headroom)
            .max(self.min_pipe())
    }

    pub(super) fn target_inflight(&self) -> u64 {
        self.bdp(self.bw, 1.0).min(self.cwnd)
    }

    pub(super) fn probe_rtt_cwnd(&self) -> u64 {
        self.bdp(self.bw, PROBE_RTT_GAIN).max(self.min_pipe())
    }

    pub(super) fn min_pipe(&self) -> u64 {
        self.settings.mss * MIN_PIPE_PACKETS
    }

    pub(super) fn is_cwnd_limited(&self) -> bool {
        self.cwnd_limited_now || self.cwnd_limited_before
    }

    pub(super) fn is_probing_bw(&self) -> bool {
        match self.state {
            State::Startup | State::ProbeBw(Phase::Refill | Phase::Up) => true,
            State::Drain | State::ProbeRtt | State::ProbeBw(Phase::Down | Phase::Cruise) => false,
        }
    }
}
