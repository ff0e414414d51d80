//! Answers to loss and to marks, and taking them back when they were wrong.

use super::{BETA, Bbr, Episode, scaled};
use crate::Time;
use crate::congestion::rate::Sample;
use crate::congestion::{Delivered, Phase, State};

impl Bbr {
    pub(super) fn note_congestion(&mut self, bytes: u64) {
        if !self.loss_in_round {
            self.loss_round_at = self.sampler.delivered();
            if !self.loss_in_previous_round || self.episode.is_none() {
                self.episode = Some(Episode {
                    cwnd: self.cwnd,
                    bw_shortterm: self.bw_shortterm,
                    inflight_shortterm: self.inflight_shortterm,
                    inflight_longterm: self.inflight_longterm,
                    left: None,
                    lost: 0,
                    spurious: 0,
                    began_at: self.sampler.delivered(),
                });
            }
        }
        self.loss_in_round = true;
        if let Some(episode) = &mut self.episode {
            episode.lost = episode.lost.saturating_add(bytes);
        }
    }

    pub(super) fn on_lost(&mut self, now: Time, packet: &Delivered) {
        self.sampler.on_lost(packet.bytes);
        if !self.sampler.is_of_this_path(packet) {
            return;
        }
        self.losses.on_lost(packet.bytes, packet.stamp.packet);
        self.note_congestion(u64::from(packet.bytes));
        if !self.is_probe_sample {
            return;
        }
        let inflight = packet.stamp.inflight;
        let lost = self.sampler.lost_since(&packet.stamp);
        let sign = self.sign(self.losses.sees_queue_now(self.min_rtt));
        if self.losses.exceeds(lost, inflight, sign, self.settings.mss) {
            let limit = self.losses.threshold(inflight, sign, self.settings.mss);
            let safe = inflight_at_loss(packet, lost, limit);
            let app_limited = packet.stamp.app_limited;
            self.inflight_was_too_high(now, safe, app_limited);
        }
    }

    pub(super) fn on_marked(&mut self, now: Time, sample: &Sample) {
        self.losses.on_marked();
        // A mark is never spurious: it must not be undone.
        self.note_congestion(1);
        if let (true, Some(newest)) = (self.is_probe_sample, sample.newest) {
            self.inflight_was_too_high(now, newest.inflight, newest.app_limited);
        }
    }

    pub(super) fn inflight_was_too_high(&mut self, now: Time, safe: u64, app_limited: bool) {
        self.previous_too_high = true;
        // Only once per probe.
        self.is_probe_sample = false;
        if !app_limited {
            self.inflight_longterm = safe.max(scaled(self.target_inflight(), BETA));
        }
        if self.state == State::ProbeBw(Phase::Up) {
            if let Some(episode) = &mut self.episode {
                episode.left = Some(self.state);
            }
            self.start_down(now);
        }
    }

    /// Whether what remains of an episode's losses would not have been answered.
    pub(super) fn is_explained(&self, episode: &Episode) -> bool {
        let lost = episode.lost.saturating_sub(episode.spurious);
        let delivered = self.sampler.delivered().saturating_sub(episode.began_at);
        let sign = self.sign(self.losses.sees_queue_now(self.min_rtt));
        let sent = delivered.saturating_add(lost);
        !self.losses.exceeds(lost, sent, sign, self.settings.mss)
    }

    pub(super) fn undo(&mut self, episode: Episode) {
        self.cwnd = self.cwnd.max(episode.cwnd);
        self.loss_in_round = false;
        self.reset_full_bw(0.0);
        self.bw_shortterm = self.bw_shortterm.max(episode.bw_shortterm);
        self.inflight_shortterm = self.inflight_shortterm.max(episode.inflight_shortterm);
        self.inflight_longterm = self.inflight_longterm.max(episode.inflight_longterm);
        let probing_rtt = self.state == State::ProbeRtt;
        match episode.left {
            Some(State::Startup) if self.state != State::Startup => {
                self.full_bw_reached = false;
                if !probing_rtt {
                    self.state = State::Startup;
                }
            }
            Some(State::ProbeBw(Phase::Up)) if self.state != State::ProbeBw(Phase::Up) => {
                self.previous_too_high = false;
                if !probing_rtt {
                    self.start_refill();
                }
            }
            Some(State::Startup | State::Drain | State::ProbeBw(_) | State::ProbeRtt) | None => {}
        }
        self.bw = self.max_bw.get().min(self.bw_shortterm);
    }
}

/// What was in flight when loss crossed `limit`, for a packet that is lost itself.
fn inflight_at_loss(packet: &Delivered, lost: u64, limit: f64) -> u64 {
    let size = u64::from(packet.bytes);
    let before = packet.stamp.inflight.saturating_sub(size) as f64;
    let lost_before = lost.saturating_sub(size) as f64;
    let prefix = (limit * before - lost_before) / (1.0 - limit);
    (before + prefix) as u64
}
