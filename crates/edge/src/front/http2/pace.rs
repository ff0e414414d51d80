//! What time says about a connection of HTTP/2: whether anybody asks on it, and whether
//! the client takes what it is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use lifecycle::Clock;

use crate::front::serve::millis;

tokio::task_local! {
    /// Of the stream whose task runs.
    pub(super) static PACE: Arc<Pace>;
}

/// Whether a stream's client takes what it is given.
pub(super) struct Pace {
    clock: Clock,
    /// Since when a part waits for the client's window, in milliseconds of the clock; 0 if
    /// none does.
    given_ms: AtomicU64,
}

/// The streams of a connection.
pub(super) struct Streams {
    clock: Clock,
    open: AtomicUsize,
    have_been: AtomicBool,
    /// Since when none is open, in milliseconds of the clock.
    rest_since_ms: AtomicU64,
}

/// A stream that is open.
pub(super) struct Open(Arc<Streams>);

impl Pace {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            given_ms: AtomicU64::new(0),
        }
    }

    /// A part of the answer has been given.
    pub(super) fn gives(&self) {
        self.given_ms
            .store(self.clock.mono_ms().max(1), Ordering::Relaxed);
    }

    /// The last part has gone, as there is room for another.
    pub(super) fn is_taken(&self) {
        self.given_ms.store(0, Ordering::Relaxed);
    }

    /// Waits until a part has not been taken for so long.
    pub(super) async fn stalls(&self, patience: Duration) {
        let patience_ms = millis(patience);
        loop {
            let now = self.clock.mono_ms();
            let due = match self.given_ms.load(Ordering::Relaxed) {
                0 => now.saturating_add(patience_ms),
                given => given.saturating_add(patience_ms),
            };
            if now >= due {
                return;
            }
            tokio::time::sleep(Duration::from_millis(due - now)).await;
        }
    }
}

impl Streams {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            open: AtomicUsize::new(0),
            have_been: AtomicBool::new(false),
            rest_since_ms: AtomicU64::new(clock.mono_ms()),
        }
    }

    /// One more, until it is dropped.
    pub(super) fn opens(streams: &Arc<Self>) -> Open {
        streams.open.fetch_add(1, Ordering::AcqRel);
        streams.have_been.store(true, Ordering::Release);
        Open(Arc::clone(streams))
    }

    pub(super) fn are_open(&self) -> bool {
        self.open.load(Ordering::Acquire) > 0
    }

    /// There has been one since the connection began.
    pub(super) fn have_been(&self) -> bool {
        self.have_been.load(Ordering::Acquire)
    }

    /// Waits until there has been none for so long: `first`, as long as there never was
    /// one, then `later`.
    pub(super) async fn rest(&self, first: Duration, later: Duration) {
        loop {
            let limit = millis(if self.have_been() { later } else { first });
            let now = self.clock.mono_ms();
            let since = if self.are_open() {
                now
            } else {
                self.rest_since_ms.load(Ordering::Acquire)
            };
            let due = since.saturating_add(limit);
            if now >= due {
                return;
            }
            tokio::time::sleep(Duration::from_millis(due - now)).await;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let streams = &self.0;
        streams
            .rest_since_ms
            .store(streams.clock.mono_ms(), Ordering::Release);
        streams.open.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
