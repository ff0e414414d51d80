//! The names of the live-data contract (`contracts`: live-data 6.6), for all WebSocket
//! clients: browsers reach the same subjects by any dialect.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use protocol::live;

use super::{Reason, Tally};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct LiveMetrics {
    forwarded: Counter,
    rate: Gauge,
    dropped: Family<Reason, Counter>,
    slow: Counter,
    ignored: Counter,
    queue: Gauge,
    subscriptions: AtomicUsize,
    /// Which of [`ERRORS`] came last, from 1; 0 is none.
    last_error: AtomicUsize,
    /// What was last told to who reads JSON, and when, in ms.
    json: Mutex<Option<(u64, Bytes)>>,
    /// How long the last turns of workers took, in seconds.
    latencies: Mutex<VecDeque<f64>>,
    /// How much was forwarded when, in ms.
    samples: Mutex<VecDeque<(u64, u64)>>,
}

impl LiveMetrics {
    pub(super) fn register(&self, registry: &mut Registry, active: &Gauge) {
        for name in ["ws_active", "xy_ws_active_connections"] {
            registry.register(name, "WebSocket connections that are open", active.clone());
        }
        let about = "Publications handed to clients";
        registry.register("ws_msgs", about, Bare(self.forwarded.clone()));
        registry.register("xy_ws_messages_forwarded", about, self.forwarded.clone());
        registry.register(
            "ws_msgs_rate",
            "Publications handed to clients per second, over the last seconds",
            self.rate.clone(),
        );
        registry.register(
            "xy_ws_messages_dropped",
            "Publications that clients were too slow for, by reason",
            self.dropped.clone(),
        );
        let about = "Times that more bytes waited for a live-data client than may for long";
        registry.register("slow_consumers", about, Bare(self.slow.clone()));
        registry.register("xy_ws_slow_consumers", about, self.slow.clone());
        registry.register(
            "xy_ws_send_queue_size",
            "Most publications that wait for one client",
            self.queue.clone(),
        );
        registry.register(
            "tidegate_live_messages_ignored",
            "Messages of live-data clients that mean nothing",
            self.ignored.clone(),
        );
        for reason in DROPS {
            drop(self.dropped.get_or_create(&Reason { reason }));
        }
    }

    pub(super) fn settle(&self, tally: &Tally) {
        let add = |counter: &Counter, count: u64| {
            if count > 0 {
                counter.inc_by(count);
            }
        };
        add(&self.forwarded, tally.deliveries);
        add(&self.slow, tally.live_slow);
        add(&self.ignored, tally.live_ignored);
        let others = tally.dropped_oldest + tally.dropped_conflated - tally.live_dropped;
        for (reason, count) in DROPS.into_iter().zip([tally.live_dropped, others]) {
            if count > 0 {
                let dropped = self.dropped.get_or_create(&Reason { reason });
                dropped.inc_by(count);
            }
        }
    }

    /// Notes the most publications that wait for one client.
    pub(super) fn note_queue(&self, longest: usize) {
        self.queue.set(i64::try_from(longest).unwrap_or(i64::MAX));
    }

    /// Works out the rate of the last seconds; to be called about once in a second or
    /// whenever somebody looks.
    pub(crate) fn note_rate(&self, now_ms: u64) -> u64 {
        let forwarded = self.forwarded.get();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        while samples.len() > 1
            && (samples.len() >= SAMPLES_MAX
                || samples
                    .get(1)
                    .is_some_and(|(at_ms, _)| at_ms + RATE_OVER_MS <= now_ms))
        {
            samples.pop_front();
        }
        let (since_ms, before) = samples.front().copied().unwrap_or((now_ms, forwarded));
        if samples
            .back()
            .is_none_or(|(at_ms, _)| at_ms + RATE_OVER_MS / 10 <= now_ms)
        {
            samples.push_back((now_ms, forwarded));
        }
        let span_ms = now_ms.saturating_sub(since_ms).max(1);
        let rate = (forwarded - before).saturating_mul(1_000) / span_ms;
        self.rate.set(i64::try_from(rate).unwrap_or(i64::MAX));
        rate
    }

    /// What was told within the last second, or what is made now.
    pub(crate) fn cached_json(&self, now_ms: u64, make: impl FnOnce() -> String) -> Bytes {
        let mut kept = self.json.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since_ms, body)) = &*kept
            && now_ms < since_ms + JSON_KEPT_MS
        {
            return body.clone();
        }
        let body = Bytes::from(make());
        *kept = Some((now_ms, body.clone()));
        body
    }

    pub(super) fn note_subscriptions(&self, count: usize) {
        self.subscriptions.store(count, Ordering::Relaxed);
    }

    /// How many subscriptions there were when that was last counted.
    pub(crate) fn subscriptions(&self) -> usize {
        self.subscriptions.load(Ordering::Relaxed)
    }

    /// Notes with which of [`ERRORS`] somebody was refused.
    pub(crate) fn note_error(&self, code: &str) {
        if let Some(index) = ERRORS.iter().position(|known| *known == code) {
            self.last_error.store(index + 1, Ordering::Relaxed);
        }
    }

    /// With what somebody was refused last.
    pub(crate) fn last_error(&self) -> Option<&'static str> {
        let index = self.last_error.load(Ordering::Relaxed).checked_sub(1)?;
        ERRORS.get(index).copied()
    }

    /// Notes how long a worker took to write what one turn of its loop had to deliver.
    pub(super) fn note_latency(&self, seconds: f64) {
        let mut latencies = self
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if latencies.len() == LATENCIES_MAX {
            latencies.pop_front();
        }
        latencies.push_back(seconds);
    }

    /// What the last turns took at most, in ms, for each of these percentages of them.
    pub(crate) fn latencies_ms<const N: usize>(&self, percents: [usize; N]) -> [f64; N] {
        let latencies = self
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<f64> = latencies.iter().copied().collect();
        drop(latencies);
        sorted.sort_by(f64::total_cmp);
        percents.map(|percent| {
            let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(index).copied().unwrap_or(0.0) * 1_000.0
        })
    }

    /// How often a client became too slow.
    pub(crate) fn slow_consumers(&self) -> u64 {
        self.slow.get()
    }
}

/// A counter whose name is to stand as it is. `OpenMetrics` wants `_total` behind the name of
/// a counter; what has no type may have any name, and is rated and summed all the same.
#[derive(Debug)]
struct Bare(Counter);

impl EncodeMetric for Bare {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.encode_gauge(&i64::try_from(self.0.get()).unwrap_or(i64::MAX))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Unknown
    }
}

/// With what clients are refused.
const ERRORS: [&str; 5] = [
    live::UNAUTHORIZED,
    live::SUBJECT_REFUSED,
    live::WRONG_PATH,
    live::BUS_LOST,
    live::TOKEN_INVALID,
];

/// How long figures in JSON are kept.
const JSON_KEPT_MS: u64 = 1_000;

/// So many turns are looked at for percentiles.
const LATENCIES_MAX: usize = 1_024;

/// Over how long the rate is worked out.
const RATE_OVER_MS: u64 = 5_000;

/// More samples than that are not needed for it.
const SAMPLES_MAX: usize = 16;

/// Why publications do not reach a client that is too slow.
const DROPS: [&str; 2] = ["queue_full", "slow_client"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let metrics = LiveMetrics::default();
        assert_eq!(metrics.note_rate(1_000), 0);
        metrics.forwarded.inc_by(100);
        assert_eq!(metrics.note_rate(2_000), 100);
        for second in 3..20 {
            metrics.forwarded.inc_by(10);
            metrics.note_rate(second * 1_000);
        }
        assert_eq!(metrics.note_rate(19_000), 10);
        assert_eq!(metrics.note_rate(60_000), 0);
    }

    #[test]
    fn percentiles_are_those_of_the_last_turns() {
        let metrics = LiveMetrics::default();
        assert_eq!(metrics.latencies_ms([50, 99]), [0.0, 0.0]);
        for turn in 1..=LATENCIES_MAX + 100 {
            let seconds = if turn <= 100 { 9.0 } else { 0.001 };
            metrics.note_latency(seconds);
        }
        metrics.note_latency(0.005);
        assert_eq!(metrics.latencies_ms([50, 95, 100]), [1.0, 1.0, 5.0]);
    }
}
