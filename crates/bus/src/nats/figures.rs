//! What the bus over NATS counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts for metrics; fields ending in `_total` only rise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsStats {
    /// Whether the connection is usable.
    pub connected: bool,
    /// Version of the server connected to last.
    pub server_version: String,
    /// Times the connection came back.
    pub reconnects_total: u64,
    /// Subjects listened to again because of that.
    pub resubscriptions_total: u64,
    /// Seconds in which more than a hundred subjects were subscribed or subscribed again.
    pub storms_total: u64,
    /// Subjects listened to.
    pub interests: usize,
    /// Messages sent, those into streams included.
    pub published_total: u64,
    /// Messages that came.
    pub received_total: u64,
    /// Messages refused or lost because the queue of those to be sent was full.
    pub refused_total: u64,
    /// Deliveries that a receiver without room did not get.
    pub dropped_total: u64,
    /// Times the server said that something is not allowed to us.
    pub denied_total: u64,
    /// Round trips to streams, buckets and services by milliseconds: how many took at most
    /// as long as [`LATENCY_BOUNDS_MS`] says at the same place, and in the last place those
    /// that took longer. Not cumulative.
    pub latency_counts: [u64; LATENCY_BOUNDS_MS.len() + 1],
    /// All those round trips together, in microseconds.
    pub latency_sum_us: u64,
}

/// Upper bounds of the latency histogram, in milliseconds (contract live-data 6.6).
pub const LATENCY_BOUNDS_MS: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

/// The counters behind [`NatsStats`].
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) reconnects: AtomicU64,
    pub(super) resubscriptions: AtomicU64,
    pub(super) storms: AtomicU64,
    pub(super) published: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) denied: AtomicU64,
    /// Subscriptions made in the present second.
    pub(super) subscribed_lately: AtomicU64,
    latency: [AtomicU64; LATENCY_BOUNDS_MS.len() + 1],
    latency_sum_us: AtomicU64,
}

impl Figures {
    pub(super) fn took(&self, time: Duration) {
        let ms = time.as_micros().div_ceil(1000);
        let place = LATENCY_BOUNDS_MS
            .iter()
            .position(|bound| ms <= u128::from(*bound))
            .unwrap_or(LATENCY_BOUNDS_MS.len());
        add(&self.latency[place], 1);
        add(
            &self.latency_sum_us,
            u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
        );
    }

    /// What can be told from here; the rest is for the bus to fill in.
    pub(super) fn stats(&self) -> NatsStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NatsStats {
            reconnects_total: read(&self.reconnects),
            resubscriptions_total: read(&self.resubscriptions),
            storms_total: read(&self.storms),
            published_total: read(&self.published),
            received_total: read(&self.received),
            refused_total: read(&self.refused),
            denied_total: read(&self.denied),
            latency_counts: std::array::from_fn(|place| read(&self.latency[place])),
            latency_sum_us: read(&self.latency_sum_us),
            ..NatsStats::default()
        }
    }
}

pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_their_place() {
        let figures = Figures::default();
        for us in [0, 1_000, 1_001, 5_000, 999_000, 1_000_001] {
            figures.took(Duration::from_micros(us));
        }
        let stats = figures.stats();
        assert_eq!(stats.latency_counts, [2, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(stats.latency_sum_us, 2_006_002);
    }
}
