//! What the pool counts.

use std::sync::atomic::{AtomicU64, Ordering};

use super::DialError;

/// Why no resting connection was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Miss {
    /// None rested: the first, or more requests at once than before.
    Cold,
    /// The one that rested had become too old, or had rested for too long.
    Ttl,
    /// The server had closed the one that rested.
    ClosedByPeer,
    /// The one that rested had to make room.
    Cap,
    /// The origin is the same place on other terms than before.
    KeyChanged,
    /// A new one was asked for.
    Fresh,
}

/// A reading of the pool's counters; all but the last three only grow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolFigures {
    /// Connections made.
    pub connects: u64,
    /// Connections that could not be made, by [`DialError::reason`].
    pub connect_failures: Vec<(&'static str, u64)>,
    /// Requests that found a connection.
    pub reuses: u64,
    /// Requests that did not, by [`Miss::name`].
    pub misses: Vec<(&'static str, u64)>,
    /// Connections of HTTP/1.1 that rest.
    pub idle: u64,
    /// Connections that are open, those that rest and those of HTTP/2 included.
    pub open: u64,
    /// Connections of HTTP/2 that are open.
    pub http2: u64,
}

#[derive(Debug, Default)]
pub(super) struct Figures {
    connects: AtomicU64,
    failures: [AtomicU64; FAILURES.len()],
    reuses: AtomicU64,
    misses: [AtomicU64; MISSES.len()],
    pub(super) idle: Gauge,
    pub(super) in_use: Gauge,
    pub(super) http2: Gauge,
}

/// A count that goes up and down.
#[derive(Debug, Default)]
pub(super) struct Gauge(AtomicU64);

impl Miss {
    /// Its name in figures and logs; one of a closed set.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Ttl => "ttl",
            Self::ClosedByPeer => "closed_by_peer",
            Self::Cap => "cap",
            Self::KeyChanged => "key_changed",
            Self::Fresh => "fresh",
        }
    }
}

impl Figures {
    pub(super) fn note_reuse(&self) {
        self.reuses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_miss(&self, miss: Miss) {
        let place = MISSES.iter().position(|known| *known == miss);
        if let Some(counter) = place.and_then(|place| self.misses.get(place)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn note_connect(&self) {
        self.connects.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_failure(&self, error: &DialError) {
        let reason = error.reason();
        let place = FAILURES.iter().position(|known| *known == reason);
        if let Some(counter) = place.and_then(|place| self.failures.get(place)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> PoolFigures {
        let idle = self.idle.read();
        let http2 = self.http2.read();
        PoolFigures {
            connects: self.connects.load(Ordering::Relaxed),
            connect_failures: FAILURES
                .iter()
                .copied()
                .zip(counts(&self.failures))
                .collect(),
            reuses: self.reuses.load(Ordering::Relaxed),
            misses: MISSES
                .iter()
                .map(|miss| miss.name())
                .zip(counts(&self.misses))
                .collect(),
            idle,
            open: idle + http2 + self.in_use.read(),
            http2,
        }
    }
}

impl Gauge {
    /// The value after it.
    pub(super) fn up(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn counts(counters: &[AtomicU64]) -> impl Iterator<Item = u64> {
    counters
        .iter()
        .map(|counter| counter.load(Ordering::Relaxed))
}

const MISSES: [Miss; 6] = [
    Miss::Cold,
    Miss::Ttl,
    Miss::ClosedByPeer,
    Miss::Cap,
    Miss::KeyChanged,
    Miss::Fresh,
];

/// All values of [`DialError::reason`].
const FAILURES: [&str; 13] = [
    "timeout",
    "name_unknown",
    "forbidden",
    "refused",
    "unreachable",
    "tcp",
    "tls_setup",
    "tls",
    "tls_timeout",
    "not_http2",
    "http2",
    "no_stream",
    "stopping",
];
