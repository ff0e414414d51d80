//! Whose fault a loss is: the queue's, or the air's.
//!
//! The draft answers loss above 2 % while probing, and any loss otherwise. That gives away
//! bandwidth on paths that lose at random. Here a loss counts as congestion only together with
//! another sign of a full queue: an RTT that stands above the path's own, or a delivery rate that
//! fell. Without such a sign, loss has to pass 10 %.
//!
//! An eighth above the least RTT is such a sign. At a quarter, a queue of a fifth of the BDP goes
//! unseen: its losses look random, and two flows then share it 98 to 2. Of several RTTs the least
//! one is taken, since jitter and acknowledgements that come late only raise them.
//!
//! Random loss goes on while a queue happens to be visible (this connection makes one itself each
//! time it probes). So the loss seen while there was none is remembered as the *background*, and
//! congestion is what exceeds it by more than chance explains: two standard deviations for the
//! number of packets judged.

use std::time::Duration;

/// What happened since the last round's end, and the background of loss.
#[derive(Debug, Clone, Default)]
pub(super) struct Losses {
    acked: u64,
    lost: u64,
    /// Discontiguous ranges of lost packets.
    ranges: u32,
    last_lost: Option<u32>,
    marked: bool,
    /// The least RTT of the round: jitter and delayed acknowledgements raise the others.
    rtt_min: Option<Duration>,
    /// The latest RTTs, for the same reason more than one.
    rtt_latest: [Duration; 4],
    app_limited: bool,
    /// Bytes lost of bytes sent in rounds without visible queue; old ones weigh less and less.
    background_lost: f64,
    background_sent: f64,
}

/// Is there, beside the loss, a sign that a queue is full?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// The RTT stands above the path's own, or the delivery rate fell.
    Congestion,
    /// Neither.
    None,
}

impl Losses {
    pub(super) fn on_rtt(&mut self, rtt: Duration) {
        self.rtt_latest.rotate_left(1);
        self.rtt_latest[3] = rtt;
        self.rtt_min = Some(self.rtt_min.map_or(rtt, |min| min.min(rtt)));
    }

    pub(super) fn on_acked(&mut self, bytes: u64, app_limited: bool) {
        self.acked = self.acked.saturating_add(bytes);
        self.app_limited |= app_limited;
    }

    pub(super) fn on_lost(&mut self, bytes: u32, packet: u32) {
        self.lost = self.lost.saturating_add(u64::from(bytes));
        if self
            .last_lost
            .is_none_or(|last| packet != last.wrapping_add(1))
        {
            self.ranges = self.ranges.saturating_add(1);
        }
        self.last_lost = Some(packet);
    }

    pub(super) fn on_spurious(&mut self, bytes: u32) {
        self.lost = self.lost.saturating_sub(u64::from(bytes));
    }

    /// The network marked packets instead of dropping them.
    pub(super) fn on_marked(&mut self) {
        self.marked = true;
    }

    pub(super) fn is_marked(&self) -> bool {
        self.marked
    }

    pub(super) fn is_app_limited(&self) -> bool {
        self.app_limited
    }

    pub(super) fn ranges(&self) -> u32 {
        self.ranges
    }

    /// Whether the latest RTTs show a queue.
    pub(super) fn sees_queue_now(&self, min_rtt: Option<Duration>) -> bool {
        let latest = self.rtt_latest.iter().min();
        latest
            .zip(min_rtt)
            .is_some_and(|(rtt, min)| *rtt > queue_visible_from(min))
    }

    /// Whether all RTTs of the round show a queue.
    pub(super) fn saw_queue(&self, min_rtt: Option<Duration>) -> bool {
        let least = self.rtt_min.zip(min_rtt);
        least.is_some_and(|(rtt, min)| rtt > queue_visible_from(min))
    }

    /// Whether the round lost more than chance and its background explain.
    pub(super) fn round_is_congested(&self, sign: Sign, mss: u64) -> bool {
        let sent = self.acked.saturating_add(self.lost);
        self.marked || self.exceeds(self.lost, sent, sign, mss)
    }

    /// Whether `lost` of `sent` bytes are too many.
    pub(super) fn exceeds(&self, lost: u64, sent: u64, sign: Sign, mss: u64) -> bool {
        lost > 0 && lost as f64 > self.threshold(sent, sign, mss) * sent.max(1) as f64
    }

    /// The share of `sent` bytes that may be lost without being congestion.
    pub(super) fn threshold(&self, sent: u64, sign: Sign, mss: u64) -> f64 {
        let packets = (sent as f64 / mss as f64).max(1.0);
        let background = self.background();
        let chance = |share: f64| 2.0 * (share * (1.0 - share) / packets).sqrt();
        let with_sign = THRESHOLD + background + chance(background);
        match sign {
            Sign::Congestion => with_sign,
            Sign::None => with_sign.max(BLIND_THRESHOLD + chance(BLIND_THRESHOLD)),
        }
    }

    /// The round is over; if its loss was nobody's fault it is background.
    pub(super) fn end_round(&mut self, is_background: bool) {
        if is_background {
            let sent = self.acked.saturating_add(self.lost) as f64;
            let keep = BACKGROUND_BYTES / (BACKGROUND_BYTES + sent);
            self.background_lost = self.background_lost * keep + self.lost as f64;
            self.background_sent = self.background_sent * keep + sent;
        }
        self.reset_round();
    }

    /// Forgets the round, keeps the background.
    pub(super) fn reset_round(&mut self) {
        *self = Self {
            rtt_latest: self.rtt_latest,
            background_lost: self.background_lost,
            background_sent: self.background_sent,
            ..Self::default()
        };
    }

    /// The share of bytes that are lost whatever we do, 0 to 0.15.
    pub(super) fn background(&self) -> f64 {
        if self.background_sent < BACKGROUND_LEAST {
            return 0.0;
        }
        (self.background_lost / self.background_sent).min(MAX_BACKGROUND)
    }
}

/// RTTs above this show a queue: an eighth above the path's own, and half a millisecond, since
/// on short paths the hosts alone vary by more.
fn queue_visible_from(min_rtt: Duration) -> Duration {
    min_rtt.saturating_add((min_rtt / 8).max(Duration::from_micros(500)))
}

/// Loss beyond the background that a full queue explains (the draft's LossThresh).
const THRESHOLD: f64 = 0.02;
/// Loss that is too much even where nothing else shows a queue: a shallow one, or a policer.
const BLIND_THRESHOLD: f64 = 0.10;
/// No more than this is ever believed to be background.
const MAX_BACKGROUND: f64 = 0.15;
/// About 500 packets: so much is remembered of the background.
const BACKGROUND_BYTES: f64 = 600_000.0;
/// About 50 packets: less says nothing.
const BACKGROUND_LEAST: f64 = 60_000.0;
