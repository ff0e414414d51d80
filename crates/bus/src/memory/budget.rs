//! A quantity that all shards draw on together.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::BusError;

/// Counts what is in use and never lets it pass its maximum.
#[derive(Debug)]
pub(super) struct Budget {
    limit: &'static str,
    max: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(super) fn new(limit: &'static str, max: usize) -> Self {
        Self {
            limit,
            max,
            used: AtomicUsize::new(0),
        }
    }

    /// Takes all of `amount` or nothing.
    pub(super) fn take(&self, amount: usize) -> Result<(), BusError> {
        // The count guards no other memory, so relaxed ordering is enough.
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(amount).filter(|used| *used <= self.max)
            })
            .map(|_| ())
            .map_err(|_| BusError::LimitExceeded { limit: self.limit })
    }

    /// Returns what was taken before.
    pub(super) fn give(&self, amount: usize) {
        self.used.fetch_sub(amount, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}
