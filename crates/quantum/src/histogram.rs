//! Counts of durations, taken without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Durations by size.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: the last counts what is above all of them.
    counts: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSnapshot {
    /// Upper bounds in seconds, without the infinite one.
    pub bounds: &'static [f64],
    /// How many fell into each, not summed up; the last is for those above all bounds.
    pub counts: Vec<u64>,
    /// All of them together, in seconds.
    pub sum: f64,
}

impl Histogram {
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum_ns: AtomicU64::new(0),
        }
    }

    pub(crate) fn record(&self, value: Duration) {
        let seconds = value.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> HistogramSnapshot {
        let counts = self.counts.iter();
        HistogramSnapshot {
            bounds: self.bounds,
            counts: counts.map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9,
        }
    }
}

impl HistogramSnapshot {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The bound that at least the share `q` (0 to 1) of all stays below, in seconds;
    /// infinite if it lies above all bounds, `None` if there is nothing.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let all = self.count();
        let wanted = (q.clamp(0.0, 1.0) * all as f64).ceil().max(1.0) as u64;
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let mut seen = 0;
        (all > 0)
            .then(|| {
                bounds.zip(&self.counts).find_map(|(bound, count)| {
                    seen += count;
                    (seen >= wanted).then_some(bound)
                })
            })
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_falls_into_the_smallest_bound_that_holds_it() {
        let histogram = Histogram::new(&[0.001, 0.01]);
        for micros in [1_000, 1_001, 10_000, 20_000] {
            histogram.record(Duration::from_micros(micros));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.counts, [1, 2, 1]);
        assert_eq!(snapshot.count(), 4);
        assert!((snapshot.sum - 0.032_001).abs() < 1e-9);
        assert_eq!(snapshot.quantile(0.5), Some(0.01));
        assert_eq!(snapshot.quantile(1.0), Some(f64::INFINITY));
        assert_eq!(Histogram::new(&[1.0]).snapshot().quantile(0.5), None);
    }
}
