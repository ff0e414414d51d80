//! BBR's model of the path, its state machine, and the window and rate that follow from them.
//!
//! After draft-ietf-ccwg-bbr (August 2026), whose terms are kept where ours do not say more:
//! *long-term* bounds come from probing and live on, *short-term* bounds come from congestion
//! between probes and last until the next one. What differs is listed in the module above.
//!
//! Two counts of rounds run side by side. A *round* ends when a packet is acknowledged that left
//! after the round began; a *loss round* is the same, but begins anew at the first loss, so that
//! a loss is judged by a full round trip after it.

mod control;
mod losses;

use std::time::Duration;

use super::aggregation::{Aggregation, View};
use super::filter::MaxBandwidth;
use super::loss::{Losses, Sign};
use super::pacer;
use super::rate::{Sample, Sampler};
use super::{Delivered, Phase, Round, Settings, Stamp, State};
use crate::Time;

/// BBR for one connection on one path.
///
/// Never panics: numbers saturate, and what cannot be true (no bytes, an RTT of zero, sizes
/// beyond reason) leads to slow or fast sending, within the bounds of [`Settings`].
#[derive(Debug, Clone)]
pub struct Bbr {
    settings: Settings,
    chance: u64,
    sampler: Sampler,
    losses: Losses,
    aggregation: Aggregation,
    state: State,

    // Outputs.
    cwnd: u64,
    /// Bytes per second.
    pacing_rate: f64,

    // Rounds.
    round: u64,
    round_start: bool,
    next_round_at: u64,
    loss_round_start: bool,
    loss_round_at: u64,
    loss_in_round: bool,
    loss_in_previous_round: bool,

    // Was the window the limit, in this round and in the last?
    cwnd_limited_now: bool,
    cwnd_limited_before: bool,

    // The path's bandwidth, in bytes per second.
    max_bw: MaxBandwidth,
    bw: f64,
    bw_latest: f64,
    bw_shortterm: f64,

    // The path's volume, in bytes.
    inflight_latest: u64,
    inflight_shortterm: u64,
    inflight_longterm: u64,

    // The path's delay.
    min_rtt: Option<Duration>,
    min_rtt_at: Time,
    probe_rtt_min: Option<Duration>,
    probe_rtt_min_at: Time,
    probe_rtt_done_at: Option<Time>,
    probe_rtt_round_done: bool,
    prior_cwnd: u64,
    idle_restart: bool,

    // Is the pipe full?
    full_bw: f64,
    full_bw_count: u32,
    full_bw_now: bool,
    full_bw_reached: bool,

    // The cycle of probes.
    drain_round: u64,
    cycle_at: Time,
    probe_wait: Duration,
    rounds_since_probe: u64,
    feedback: Feedback,
    is_probe_sample: bool,
    previous_too_high: bool,
    previous_precautionary: bool,
    up_rounds: u32,
    up_acked: u64,
    up_acked_per_step: u64,

    episode: Option<Episode>,
}

/// What acknowledgements now say about the last probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feedback {
    /// Nothing.
    None,
    /// The pipe is being refilled.
    Refilling,
    /// The probe has begun, its packets are not yet acknowledged.
    Starting,
    /// They are.
    Coming,
    /// The probe is over, the last of its packets are being acknowledged.
    Stopping,
}

/// What held before losses were answered, in case they turn out to be none.
#[derive(Debug, Clone, Copy)]
struct Episode {
    cwnd: u64,
    bw_shortterm: f64,
    inflight_shortterm: u64,
    inflight_longterm: u64,
    /// The state that was left because of the losses.
    left: Option<State>,
    lost: u64,
    spurious: u64,
    /// Bytes that had been delivered when it began.
    began_at: u64,
}

impl Bbr {
    /// Starts in STARTUP with a window of ten packets; `chance` seeds the random part of the wait
    /// between two probes.
    pub fn new(now: Time, settings: Settings, chance: u64) -> Self {
        let settings = checked(settings);
        let initial = settings.mss * INITIAL_PACKETS;
        Self {
            settings,
            chance,
            sampler: Sampler::new(now),
            losses: Losses::default(),
            aggregation: Aggregation::new(now),
            state: State::Startup,
            cwnd: initial,
            pacing_rate: settings.startup_gain * initial as f64 / NOMINAL_RTT.as_secs_f64(),
            round: 0,
            round_start: false,
            next_round_at: 0,
            loss_round_start: false,
            loss_round_at: 0,
            loss_in_round: false,
            loss_in_previous_round: false,
            cwnd_limited_now: false,
            cwnd_limited_before: false,
            max_bw: MaxBandwidth::default(),
            bw: 0.0,
            bw_latest: 0.0,
            bw_shortterm: f64::INFINITY,
            inflight_latest: 0,
            inflight_shortterm: u64::MAX,
            inflight_longterm: u64::MAX,
            min_rtt: None,
            min_rtt_at: now,
            probe_rtt_min: None,
            probe_rtt_min_at: now,
            probe_rtt_done_at: None,
            probe_rtt_round_done: false,
            prior_cwnd: 0,
            idle_restart: false,
            full_bw: 0.0,
            full_bw_count: 0,
            full_bw_now: false,
            full_bw_reached: false,
            drain_round: 0,
            cycle_at: now,
            probe_wait: Duration::ZERO,
            rounds_since_probe: 0,
            feedback: Feedback::None,
            is_probe_sample: false,
            previous_too_high: false,
            previous_precautionary: false,
            up_rounds: 0,
            up_acked: 0,
            up_acked_per_step: u64::MAX,
            episode: None,
        }
    }

    /// A packet of `bytes` leaves while `inflight_before` bytes are on their way.
    ///
    /// Only packets that count as in flight, that is all that the peer acknowledges.
    pub fn on_send(&mut self, now: Time, bytes: u32, inflight_before: u64) -> Stamp {
        if inflight_before == 0 && self.sampler.is_app_limited() {
            self.restart_from_idle(now);
        }
        let inflight = inflight_before.saturating_add(u64::from(bytes));
        // No room for another full packet: what is sent now is all that the window allows.
        if inflight.saturating_add(self.settings.mss) > self.cwnd() {
            self.cwnd_limited_now = true;
        }
        self.sampler.on_send(now, bytes, inflight_before)
    }

    /// An acknowledgement came, or a timer declared packets lost.
    pub fn on_ack(&mut self, now: Time, round: &Round<'_>) {
        if let Some(rtt) = round.rtt {
            self.on_rtt(rtt);
        }
        let sample = self.sampler.on_acked(now, round.acked);
        self.losses.on_acked(sample.acked, sample.is_app_limited());
        for packet in round.lost {
            self.on_lost(now, packet);
        }
        if round.ce > 0 {
            self.on_marked(now, &sample);
        }
        if let Some(newest) = sample.newest {
            self.update_model_and_state(now, round, &sample, &newest);
        }
        self.set_pacing_rate(self.pacing_gain());
        self.set_cwnd(sample.acked);
    }

    /// Packets that had been declared lost were acknowledged after all.
    ///
    /// When what remains of an episode's losses would not have been answered, what the episode did
    /// to the model is taken back.
    pub fn on_spurious(&mut self, _now: Time, packets: &[Delivered]) {
        for packet in packets {
            self.sampler.on_spurious(packet.bytes);
            self.losses.on_spurious(packet.bytes);
            if let Some(episode) = &mut self.episode {
                episode.spurious = episode.spurious.saturating_add(u64::from(packet.bytes));
            }
        }
        let undone = self.episode.filter(|episode| self.is_explained(episode));
        if let Some(episode) = undone {
            self.episode = None;
            self.undo(episode);
        }
    }

    /// There was room in the window and in the pacer, but nothing to send.
    pub fn on_app_limited(&mut self, inflight: u64) {
        self.sampler.on_app_limited(inflight);
    }

    /// The connection moved to another path: what was measured no longer holds.
    pub fn on_path_change(&mut self, now: Time) {
        let mut sampler = self.sampler.clone();
        sampler.on_path_change(now);
        *self = Self {
            next_round_at: sampler.delivered(),
            loss_round_at: sampler.delivered(),
            sampler,
            ..Self::new(now, self.settings, self.chance)
        };
    }

    /// Takes other settings at once.
    pub fn set(&mut self, settings: Settings) {
        self.settings = checked(settings);
    }

    /// Full datagrams have another size now (path MTU discovery).
    pub fn set_mss(&mut self, mss: u64) {
        self.settings = checked(Settings {
            mss,
            ..self.settings
        });
    }

    /// The most bytes in flight.
    pub fn cwnd(&self) -> u64 {
        self.cwnd.min(self.settings.max_cwnd).max(self.min_pipe())
    }

    /// Bytes per second to pace at; at least two packets.
    pub fn pacing_rate(&self) -> u64 {
        (self.pacing_rate as u64).max(2 * self.settings.mss)
    }

    /// Estimated bandwidth in bytes per second; zero before the first sample.
    pub fn bandwidth(&self) -> u64 {
        self.max_bw.get() as u64
    }

    /// The path's RTT without queue, as far as seen in the last ten seconds.
    pub fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt
    }

    /// What BBR is doing.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the window is small on purpose for a moment: send no repairs.
    pub fn is_probing_rtt(&self) -> bool {
        self.state == State::ProbeRtt
    }

    /// Bytes to send in one go, at most 64 KiB and at least two packets.
    pub fn send_quantum(&self) -> u64 {
        pacer::quantum(self.pacing_rate(), self.settings.mss)
    }

    // --- The model ---

    fn update_model_and_state(
        &mut self,
        now: Time,
        ack: &Round<'_>,
        sample: &Sample,
        newest: &Stamp,
    ) {
        self.update_latest_delivery(sample, newest);
        self.update_round(newest);
        self.update_max_bw(sample);
        self.end_loss_round();
        let view = View {
            cwnd: self.cwnd,
            round: self.round,
            window: if self.full_bw_reached {
                EXTRA_ACKED_ROUNDS
            } else {
                1
            },
        };
        self.aggregation.on_acked(now, sample.acked, self.bw, view);
        self.check_full_bw(sample);
        if self.state == State::Startup && self.full_bw_reached {
            self.enter_drain();
        }
        self.check_drain_done(now, ack.inflight);
        self.update_probe_cycle(now, ack.inflight, sample, newest);
        let expired = self.update_min_rtt(now, ack.rtt);
        self.check_probe_rtt(now, ack, sample, expired);
        self.idle_restart = false;
        if self.loss_round_start {
            self.bw_latest = sample.rate;
            self.inflight_latest = sample.delivered;
        }
        self.bw = self.max_bw.get().min(self.bw_shortterm);
    }

    fn on_rtt(&mut self, rtt: Duration) {
        self.sampler.on_rtt(rtt);
        self.losses.on_rtt(rtt);
        if self.min_rtt.is_none() {
            // Until now the rate was that of a nominal RTT, far too fast for most paths.
            let rtt = rtt.max(Duration::from_nanos(1)).as_secs_f64();
            let initial = (self.settings.mss * INITIAL_PACKETS) as f64;
            self.pacing_rate = self.settings.startup_gain * initial / rtt;
        }
    }

    fn update_latest_delivery(&mut self, sample: &Sample, newest: &Stamp) {
        self.bw_latest = self.bw_latest.max(sample.rate);
        self.inflight_latest = self.inflight_latest.max(sample.delivered);
        self.loss_round_start = newest.delivered >= self.loss_round_at;
        if self.loss_round_start {
            self.loss_round_at = self.sampler.delivered();
        }
    }

    fn update_round(&mut self, newest: &Stamp) {
        self.round_start = newest.delivered >= self.next_round_at;
        if self.round_start {
            self.start_round();
            self.round += 1;
            self.rounds_since_probe += 1;
            self.cwnd_limited_before = self.cwnd_limited_now;
            self.cwnd_limited_now = false;
        }
    }

    fn start_round(&mut self) {
        self.next_round_at = self.sampler.delivered();
    }

    fn update_max_bw(&mut self, sample: &Sample) {
        let higher = sample.rate >= self.max_bw.get();
        if sample.rate > 0.0 && (higher || !sample.is_app_limited()) {
            self.max_bw.update(sample.rate);
        }
    }

    /// Answers the loss of the loss round that ends, if one ends.
    fn end_loss_round(&mut self) {
        if !self.loss_round_start {
            return;
        }
        let saw_queue = self.losses.saw_queue(self.min_rtt);
        let sign = self.sign(saw_queue);
        let congested = self.losses.round_is_congested(sign, self.settings.mss);
        if congested && !self.is_probing_bw() {
            self.lower_shortterm_bounds();
        }
        if self.state == State::Startup && congested {
            self.leave_startup_by_loss(sign);
        }
        let pushing = matches!(self.state, State::ProbeBw(Phase::Refill | Phase::Up));
        self.losses.end_round(!congested && !saw_queue && !pushing);
        self.loss_in_previous_round = self.loss_in_round;
        self.loss_in_round = false;
    }

    fn sign(&self, sees_queue: bool) -> Sign {
        // In PROBE_RTT little is delivered because little is sent.
        let comparable = !self.losses.is_app_limited() && self.state != State::ProbeRtt;
        let expected = self.bw * self.pacing_gain().min(1.0);
        let fell = comparable && self.bw_latest > 0.0 && self.bw_latest < expected * FELL;
        if sees_queue || fell {
            Sign::Congestion
        } else {
            Sign::None
        }
    }

    fn lower_shortterm_bounds(&mut self) {
        if self.bw_shortterm.is_infinite() {
            self.bw_shortterm = self.max_bw.get();
        }
        if self.inflight_shortterm == u64::MAX {
            self.inflight_shortterm = self.cwnd;
        }
        self.bw_shortterm = self.bw_latest.max(BETA * self.bw_shortterm);
        self.inflight_shortterm = self
            .inflight_latest
            .max(scaled(self.inflight_shortterm, BETA));
    }

    fn leave_startup_by_loss(&mut self, sign: Sign) {
        // Six ranges, so that one burst does not end the search. A sender with little to send
        // learns nothing of the path from losses alone, and would be slowed down by leaving.
        let enough = self.losses.is_marked() || self.losses.ranges() >= STARTUP_LOSS_RANGES;
        let blind = sign == Sign::None && self.losses.is_app_limited() && !self.losses.is_marked();
        if !enough || blind {
            return;
        }
        if let Some(episode) = &mut self.episode {
            episode.left = Some(State::Startup);
        }
        self.full_bw_now = true;
        self.full_bw_reached = true;
        self.inflight_longterm = self.bdp(self.max_bw.get(), 1.0).max(self.inflight_latest);
    }

    fn reset_congestion_signals(&mut self) {
        // What is still declared lost belongs to the same episode.
        self.loss_in_previous_round |= self.loss_in_round;
        self.loss_in_round = false;
        self.bw_latest = 0.0;
        self.inflight_latest = 0;
        self.losses.reset_round();
    }

    fn reset_shortterm_model(&mut self) {
        self.bw_shortterm = f64::INFINITY;
        self.inflight_shortterm = u64::MAX;
    }

    // --- STARTUP and DRAIN ---

    fn reset_full_bw(&mut self, baseline: f64) {
        self.full_bw = baseline;
        self.full_bw_count = 0;
        self.full_bw_now = false;
    }

    fn check_full_bw(&mut self, sample: &Sample) {
        let speaks = self.round_start && !sample.is_app_limited() && sample.rate > 0.0;
        if self.full_bw_now || !speaks {
            return;
        }
        if sample.rate >= self.full_bw * FULL_BW_GROWTH {
            self.reset_full_bw(sample.rate);
            return;
        }
        self.full_bw_count += 1;
        self.full_bw_now = self.full_bw_count >= FULL_BW_ROUNDS;
        self.full_bw_reached |= self.full_bw_now;
    }

    fn enter_drain(&mut self) {
        self.state = State::Drain;
        self.drain_round = self.round;
    }

    fn check_drain_done(&mut self, now: Time, inflight: u64) {
        let drained = inflight <= self.inflight_for(self.bw, 1.0);
        let late = self.round > self.drain_round + DRAIN_ROUNDS;
        if self.state == State::Drain && (drained || late) {
            self.start_down(now);
        }
    }

    // --- PROBE_BW ---

    fn start_down(&mut self, now: Time) {
        self.reset_congestion_signals();
        self.up_acked_per_step = u64::MAX;
        self.rounds_since_probe = self.next_chance() & 1;
        let extra = (self.next_chance() >> 11) as f64 / (1_u64 << 53) as f64;
        self.probe_wait = PROBE_WAIT + Duration::from_secs_f64(extra);
        self.cycle_at = now;
        self.feedback = Feedback::Stopping;
        self.start_round();
        self.state = State::ProbeBw(Phase::Down);
    }

    fn start_cruise(&mut self) {
        self.state = State::ProbeBw(Phase::Cruise);
    }

    fn start_refill(&mut self) {
        self.reset_shortterm_model();
        self.up_rounds = 0;
        self.up_acked = 0;
        self.previous_precautionary = false;
        self.feedback = Feedback::Refilling;
        self.start_round();
        self.state = State::ProbeBw(Phase::Refill);
    }

    fn start_up(&mut self, rate: f64) {
        self.is_probe_sample = true;
        self.feedback = Feedback::Starting;
        self.start_round();
        self.reset_full_bw(rate);
        self.state = State::ProbeBw(Phase::Up);
        self.raise_longterm_slope();
    }

    fn update_probe_cycle(&mut self, now: Time, inflight: u64, sample: &Sample, newest: &Stamp) {
        if !self.full_bw_reached || self.adapt_longterm_model(sample, newest) {
            return;
        }
        match self.state {
            State::ProbeBw(Phase::Down) => {
                if self.is_time_to_probe(now) {
                    self.start_refill();
                } else if self.is_time_to_cruise(inflight) {
                    self.start_cruise();
                }
            }
            State::ProbeBw(Phase::Cruise) => {
                if self.is_time_to_probe(now) {
                    self.start_refill();
                }
            }
            State::ProbeBw(Phase::Refill) => {
                if self.round_start {
                    self.start_up(sample.rate);
                }
            }
            State::ProbeBw(Phase::Up) => {
                if self.is_time_to_go_down(inflight, sample) {
                    // No loss so far; the last packets of the probe may still tell otherwise.
                    self.previous_too_high = false;
                    self.start_down(now);
                }
            }
            State::Startup | State::Drain | State::ProbeRtt => {}
        }
    }

    /// Follows the feedback on probes; returns whether it changed the phase.
    fn adapt_longterm_model(&mut self, sample: &Sample, newest: &Stamp) -> bool {
        let in_probe_bw = matches!(self.state, State::ProbeBw(_));
        if self.round_start && self.feedback == Feedback::Starting {
            self.feedback = Feedback::Coming;
        }
        if self.round_start && self.feedback == Feedback::Stopping {
            self.is_probe_sample = false;
            self.feedback = Feedback::None;
            if in_probe_bw && !sample.is_app_limited() {
                self.max_bw.advance();
            }
            // A probe that stopped early out of caution found the level safe: probe it fully.
            if in_probe_bw && self.previous_precautionary && !self.previous_too_high {
                self.start_refill();
                return true;
            }
        }
        if self.inflight_longterm == u64::MAX {
            return false;
        }
        let lost = self.sampler.lost_since(newest);
        let sign = self.sign(self.losses.sees_queue_now(self.min_rtt));
        if !self
            .losses
            .exceeds(lost, newest.inflight, sign, self.settings.mss)
        {
            self.inflight_longterm = self.inflight_longterm.max(newest.inflight);
            if self.state == State::ProbeBw(Phase::Up) {
                self.raise_longterm(sample.acked);
            }
        }
        false
    }

    fn is_time_to_probe(&self, now: Time) -> bool {
        // As often as Reno would reach its window again, so that it keeps its share beside us.
        let packets = (self.target_inflight() / self.settings.mss).max(MIN_PIPE_PACKETS);
        now > self.cycle_at + self.probe_wait || self.rounds_since_probe >= packets.min(RENO_ROUNDS)
    }

    fn is_time_to_cruise(&self, inflight: u64) -> bool {
        inflight <= self.inflight_with_headroom()
            && inflight <= self.inflight_for(self.max_bw.get(), 1.0)
    }

    fn is_time_to_go_down(&mut self, inflight: u64, sample: &Sample) -> bool {
        if self.previous_too_high && inflight >= self.inflight_longterm {
            self.previous_precautionary = true;
            return true;
        }
        if self.is_cwnd_limited() && self.cwnd >= self.inflight_longterm {
            // The bound is what holds the rate down, so a plateau says nothing.
            self.reset_full_bw(sample.rate);
            return false;
        }
        self.full_bw_now
    }

    fn raise_longterm(&mut self, acked: u64) {
        if !self.is_cwnd_limited() || self.cwnd < self.inflight_longterm {
            return;
        }
        self.up_acked = self.up_acked.saturating_add(acked);
        let steps = self.up_acked / self.up_acked_per_step;
        self.up_acked -= steps * self.up_acked_per_step;
        let raise = steps.saturating_mul(self.settings.mss);
        self.inflight_longterm = self.inflight_longterm.saturating_add(raise);
        if self.round_start {
            self.raise_longterm_slope();
        }
    }

    fn raise_longterm_slope(&mut self) {
        let growth = 1_u64 << self.up_rounds;
        self.up_rounds = (self.up_rounds + 1).min(MAX_UP_ROUNDS);
        self.up_acked_per_step = (self.cwnd / growth).max(self.settings.mss);
    }

    // --- PROBE_RTT and idleness ---

    /// Returns whether five seconds passed without a lower RTT.
    fn update_min_rtt(&mut self, now: Time, rtt: Option<Duration>) -> bool {
        let expired = now > self.probe_rtt_min_at + PROBE_RTT_EVERY;
        if let Some(rtt) = rtt {
            let near = self
                .probe_rtt_min
                .map(|min| min.saturating_add(min / NEAR_MIN_RTT));
            if expired || self.probe_rtt_min.is_none_or(|min| rtt < min) {
                self.probe_rtt_min = Some(rtt);
                self.probe_rtt_min_at = now;
            } else if near.is_some_and(|near| rtt <= near) {
                // As good as a probe: the queue was empty just now, as it is after each DOWN of a
                // flow that is alone. The lower value stays, so that the estimate cannot creep.
                self.probe_rtt_min_at = now;
                if self.probe_rtt_min == self.min_rtt {
                    self.min_rtt_at = now;
                }
            }
        }
        let outdated = now > self.min_rtt_at + MIN_RTT_WINDOW;
        if let Some(probed) = self.probe_rtt_min
            && (outdated || self.min_rtt.is_none_or(|min| probed < min))
        {
            self.min_rtt = Some(probed);
            self.min_rtt_at = self.probe_rtt_min_at;
        }
        expired
    }

    fn check_probe_rtt(&mut self, now: Time, ack: &Round<'_>, sample: &Sample, expired: bool) {
        // With little to send there is no queue of ours: the RTT just seen is as good as a probe.
        let needless = sample.is_app_limited()
            && (ack.inflight <= self.probe_rtt_cwnd() || !self.losses.sees_queue_now(self.min_rtt));
        if self.state != State::ProbeRtt && expired && !self.idle_restart && !needless {
            self.prior_cwnd = self.cwnd;
            self.state = State::ProbeRtt;
            self.probe_rtt_done_at = None;
            self.feedback = Feedback::Stopping;
            self.start_round();
        }
        if self.state == State::ProbeRtt {
            self.stay_in_probe_rtt(now, ack.inflight);
        }
    }

    fn stay_in_probe_rtt(&mut self, now: Time, inflight: u64) {
        // The low rates of this state must not enter the model.
        self.sampler.on_app_limited(inflight);
        if self.probe_rtt_done_at.is_some() {
            self.probe_rtt_round_done |= self.round_start;
            if self.probe_rtt_round_done {
                self.leave_probe_rtt_when_done(now);
            }
        } else if inflight <= self.probe_rtt_cwnd() {
            self.probe_rtt_done_at = Some(now + PROBE_RTT_TIME);
            self.probe_rtt_round_done = false;
            self.start_round();
        }
    }

    fn leave_probe_rtt_when_done(&mut self, now: Time) {
        if self.probe_rtt_done_at.is_none_or(|done| now <= done) {
            return;
        }
        self.probe_rtt_min_at = now;
        self.cwnd = self.cwnd.max(self.prior_cwnd);
        self.reset_shortterm_model();
        if self.full_bw_reached {
            self.start_down(now);
            self.start_cruise();
        } else {
            self.state = State::Startup;
        }
    }

    fn restart_from_idle(&mut self, now: Time) {
        self.idle_restart = true;
        self.aggregation.restart(now);
        match self.state {
            State::ProbeBw(_) => self.set_pacing_rate(1.0),
            State::ProbeRtt => self.leave_probe_rtt_when_done(now),
            State::Startup | State::Drain => {}
        }
    }

    /// SplitMix64: enough to keep connections from probing in step.
    fn next_chance(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn checked(settings: Settings) -> Settings {
    let gain = settings.startup_gain;
    Settings {
        startup_gain: if gain.is_nan() {
            STARTUP_GAIN
        } else {
            gain.clamp(1.0, 4.0)
        },
        mss: settings.mss.clamp(MIN_MSS, pacer::MAX_MSS),
        ..settings
    }
}

fn scaled(bytes: u64, by: f64) -> u64 {
    (bytes as f64 * by) as u64
}

/// The initial window (RFC 6928).
const INITIAL_PACKETS: u64 = 10;
/// Two packets on their way and two acknowledgements.
const MIN_PIPE_PACKETS: u64 = 4;
/// Assumed before the first RTT sample.
const NOMINAL_RTT: Duration = Duration::from_millis(1);
/// Smaller datagrams are none of ours.
const MIN_MSS: u64 = 64;
/// 4 ln 2: the least that doubles the rate each round.
const STARTUP_GAIN: f64 = 2.77;
/// No more than CUBIC reduces.
const BETA: f64 = 0.7;
/// Share of the long-term bound that is left to others.
const HEADROOM: f64 = 0.15;
/// Pacing 1 % below the bandwidth keeps queues from standing.
const PACING_MARGIN: f64 = 0.99;
/// A delivery rate below this share of the expected one has fallen.
const FELL: f64 = 0.75;
/// Less growth per round than this is a plateau.
const FULL_BW_GROWTH: f64 = 1.25;
/// Rounds of plateau after which the pipe is full.
const FULL_BW_ROUNDS: u32 = 3;
/// Ranges lost in a round after which STARTUP ends.
const STARTUP_LOSS_RANGES: u32 = 6;
/// DRAIN takes no more rounds.
const DRAIN_ROUNDS: u64 = 3;
/// Rounds that aggregation is remembered.
const EXTRA_ACKED_ROUNDS: u64 = 10;
/// Between probes; up to a second is added at random.
const PROBE_WAIT: Duration = Duration::from_secs(2);
/// Rounds between probes on paths with small windows.
const RENO_ROUNDS: u64 = 63;
/// Bounds the doubling of steps.
const MAX_UP_ROUNDS: u32 = 30;
/// Between two looks at the path's RTT.
const PROBE_RTT_EVERY: Duration = Duration::from_secs(5);
/// RTTs within a 32nd of the least one are the least one.
const NEAR_MIN_RTT: u32 = 32;
/// How long each takes at least.
const PROBE_RTT_TIME: Duration = Duration::from_millis(200);
/// Share of the BDP that stays in flight meanwhile.
const PROBE_RTT_GAIN: f64 = 0.5;
/// An RTT is remembered so long as the least.
const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
