//! Delivery rate: how fast bytes arrived, seen from packets and their acknowledgements.
//!
//! Each packet remembers what had been delivered when it left. When it is acknowledged, the
//! bytes delivered since, divided by the longer of the two times in which they were sent and
//! acknowledged, are a sample of the bandwidth. The longer of the two, because acknowledgements
//! that were held back and arrive together would otherwise look like a fast path.
//!
//! A sample taken while the sender had too little to send says how fast the application is, not
//! the path; it is marked, and only believed where it is higher than what is known.

use std::time::Duration;

use super::Delivered;
use crate::Time;

/// What was known when a packet was sent; kept beside the packet until its fate is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes delivered so far.
    pub(super) delivered: u64,
    /// When that count last grew.
    pub(super) delivered_at: Time,
    /// When the packet left whose acknowledgement made it grow.
    pub(super) first_sent: Time,
    /// Bytes declared lost so far.
    pub(super) lost: u64,
    /// Bytes in flight, this packet included.
    pub(super) inflight: u64,
    /// Counts packets, so that neighbours are recognised.
    pub(super) packet: u32,
    /// The sender had room but nothing to send.
    pub(super) app_limited: bool,
}

/// What one acknowledgement says about the path.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    /// Bytes per second; zero if the acknowledgement gave no reliable sample.
    pub(super) rate: f64,
    /// Bytes delivered between the sending and the acknowledgement of the newest packet.
    pub(super) delivered: u64,
    /// Bytes acknowledged for the first time.
    pub(super) acked: u64,
    /// The stamp of the newest packet acknowledged; none if nothing was.
    pub(super) newest: Option<Stamp>,
}

impl Sample {
    /// Whether the sample speaks of the application instead of the path.
    pub(super) fn is_app_limited(&self) -> bool {
        self.newest.is_some_and(|stamp| stamp.app_limited)
    }
}

/// Counts what is delivered and lost, and makes samples of it.
#[derive(Debug, Clone)]
pub(super) struct Sampler {
    delivered: u64,
    delivered_at: Time,
    first_sent: Time,
    lost: u64,
    packets: u32,
    /// The sender is app-limited until so many bytes are delivered.
    app_limited_until: Option<u64>,
    /// The least RTT ever seen on this path: shorter intervals give no reliable sample.
    least_rtt: Duration,
    /// Packets that left earlier travelled on another path.
    path_since: Time,
}

impl Sampler {
    pub(super) fn new(now: Time) -> Self {
        Self {
            delivered: 0,
            delivered_at: now,
            first_sent: now,
            lost: 0,
            packets: 0,
            app_limited_until: None,
            least_rtt: Duration::MAX,
            path_since: now,
        }
    }

    /// Forgets the path but keeps counting, so that stamps of both paths stay comparable.
    pub(super) fn on_path_change(&mut self, now: Time) {
        self.delivered_at = now;
        self.first_sent = now;
        self.least_rtt = Duration::MAX;
        self.path_since = now;
    }

    pub(super) fn on_send(&mut self, now: Time, bytes: u32, inflight_before: u64) -> Stamp {
        if inflight_before == 0 {
            self.first_sent = now;
            self.delivered_at = now;
        }
        self.packets = self.packets.wrapping_add(1);
        Stamp {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent: self.first_sent,
            lost: self.lost,
            inflight: inflight_before.saturating_add(u64::from(bytes)),
            packet: self.packets,
            app_limited: self.is_app_limited(),
        }
    }

    pub(super) fn on_rtt(&mut self, rtt: Duration) {
        self.least_rtt = self.least_rtt.min(rtt);
    }

    pub(super) fn on_acked(&mut self, now: Time, acked: &[Delivered]) -> Sample {
        let mut sample = Sample::default();
        let mut newest: Option<&Delivered> = None;
        for packet in acked {
            sample.acked = sample.acked.saturating_add(u64::from(packet.bytes));
            let age = |p: &Delivered| (p.sent, p.stamp.packet);
            if self.is_of_this_path(packet) && newest.is_none_or(|n| age(packet) > age(n)) {
                newest = Some(packet);
            }
        }
        self.delivered = self.delivered.saturating_add(sample.acked);
        if self
            .app_limited_until
            .is_some_and(|until| self.delivered > until)
        {
            self.app_limited_until = None;
        }
        let Some(newest) = newest else {
            return sample;
        };
        self.delivered_at = now;
        self.first_sent = newest.sent;

        let stamp = newest.stamp;
        sample.newest = Some(stamp);
        sample.delivered = self.delivered.saturating_sub(stamp.delivered);
        let sending = newest.sent.since(stamp.first_sent);
        let acking = now.since(stamp.delivered_at);
        let interval = sending.max(acking);
        // Less than an RTT cannot have seen what was sent come back.
        let reliable = self.least_rtt == Duration::MAX || interval >= self.least_rtt;
        if reliable && !interval.is_zero() {
            sample.rate = sample.delivered as f64 / interval.as_secs_f64();
        }
        sample
    }

    pub(super) fn on_lost(&mut self, bytes: u32) {
        self.lost = self.lost.saturating_add(u64::from(bytes));
    }

    /// What had been counted as lost arrived.
    pub(super) fn on_spurious(&mut self, bytes: u32) {
        self.lost = self.lost.saturating_sub(u64::from(bytes));
        self.delivered = self.delivered.saturating_add(u64::from(bytes));
    }

    pub(super) fn on_app_limited(&mut self, inflight: u64) {
        self.app_limited_until = Some(self.delivered.saturating_add(inflight));
    }

    pub(super) fn is_app_limited(&self) -> bool {
        self.app_limited_until.is_some()
    }

    pub(super) fn is_of_this_path(&self, packet: &Delivered) -> bool {
        packet.sent >= self.path_since
    }

    /// Bytes delivered so far.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Bytes lost since `stamp` was made.
    pub(super) fn lost_since(&self, stamp: &Stamp) -> u64 {
        self.lost.saturating_sub(stamp.lost)
    }
}
