//! Outcomes of the last while, in ten buckets.

use std::time::Duration;

use crate::breaker::FailureRate;
use crate::deadline::millis;

/// Counts of the present bucket and the nine before.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    buckets: [Bucket; BUCKETS],
    bucket_ms: u64,
    /// Number of the present bucket since the clock's start.
    head: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    successes: u32,
    failures: u32,
}

impl Window {
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            buckets: [Bucket::default(); BUCKETS],
            bucket_ms: millis(length).div_ceil(BUCKETS as u64).max(1),
            head: 0,
        }
    }

    /// Takes one outcome. A `now` that lags counts for the present bucket.
    pub(crate) fn count(&mut self, success: bool, now: u64) {
        self.turn(now);
        let bucket = self.bucket(self.head);
        let count = if success {
            &mut bucket.successes
        } else {
            &mut bucket.failures
        };
        *count = count.saturating_add(1);
    }

    /// The outcomes counted last and before say that it is too much.
    pub(crate) fn exceeds(&self, rate: &FailureRate) -> bool {
        let (successes, failures) = self.sums();
        let all = successes + failures;
        all >= u64::from(rate.minimum) && failures as f64 >= rate.share * all as f64
    }

    /// Successes and failures of the window that ends now.
    pub(crate) fn totals(&mut self, now: u64) -> (u64, u64) {
        self.turn(now);
        self.sums()
    }

    pub(crate) fn clear(&mut self) {
        self.buckets = [Bucket::default(); BUCKETS];
    }

    /// Empties the buckets whose time is over.
    fn turn(&mut self, now: u64) {
        let number = (now / self.bucket_ms).max(self.head);
        let gone = (number - self.head).min(BUCKETS as u64);
        for step in 0..gone {
            *self.bucket(number - step) = Bucket::default();
        }
        self.head = number;
    }

    fn sums(&self) -> (u64, u64) {
        self.buckets.iter().fold((0, 0), |(good, bad), bucket| {
            (
                good + u64::from(bucket.successes),
                bad + u64::from(bucket.failures),
            )
        })
    }

    fn bucket(&mut self, number: u64) -> &mut Bucket {
        &mut self.buckets[(number % BUCKETS as u64) as usize]
    }
}

const BUCKETS: usize = 10;
