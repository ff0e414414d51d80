//! What everybody who uses the log shares.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use lifecycle::{CancellationToken, Clock};

use super::index::Index;
use super::log::locked;
use crate::face::Figures;

/// Figures, the index, and whether all is well.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    index: Mutex<Index>,
    pub(crate) segment_bytes: u64,
    /// Most bytes of the log, and most of unsettled records.
    pub(crate) bytes_max: u64,
    pub(crate) records_max: usize,
    /// From how many bytes of log on compaction is worth it.
    pub(crate) compact_from: u64,
    pub(crate) appended: AtomicU64,
    pub(crate) corrupt: AtomicU64,
    /// Bytes of all files.
    pub(crate) bytes: Arc<AtomicU64>,
    /// Copies of what the index says, for those who admit.
    live_bytes: AtomicU64,
    live_records: AtomicU64,
    log_bytes: AtomicU64,
    /// The disk has no room for another segment. What is left of the last ones is for notes:
    /// without settlements nothing could ever be given up.
    pub(crate) short: AtomicBool,
    syncs: Mutex<Syncs>,
    pub(crate) failed: CancellationToken,
    reason: OnceLock<Arc<str>>,
}

#[derive(Debug, Default)]
struct Syncs {
    count: u64,
    total: Duration,
    /// Microseconds of the last ones, in a ring.
    last: Vec<u32>,
}

/// Most bytes and records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) segment_bytes: u64,
    pub(crate) bytes_max: u64,
    pub(crate) records_max: usize,
}

impl Shared {
    pub(crate) fn new(clock: Clock, limits: Limits, index: Index, bytes: Arc<AtomicU64>) -> Self {
        let shared = Self {
            clock,
            segment_bytes: limits.segment_bytes,
            bytes_max: limits.bytes_max,
            records_max: limits.records_max,
            compact_from: (limits.bytes_max / 2).min(limits.segment_bytes * COMPACT_SEGMENTS),
            appended: AtomicU64::new(0),
            corrupt: AtomicU64::new(0),
            bytes,
            live_bytes: AtomicU64::new(0),
            live_records: AtomicU64::new(0),
            log_bytes: AtomicU64::new(0),
            short: AtomicBool::new(false),
            syncs: Mutex::new(Syncs::default()),
            failed: CancellationToken::new(),
            reason: OnceLock::new(),
            index: Mutex::new(Index::default()),
        };
        shared.admitted(&index);
        *shared.index() = index;
        shared
    }

    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        locked(&self.index)
    }

    /// Copies what admission needs.
    pub(crate) fn admitted(&self, index: &Index) {
        self.lighter(index);
        self.log_bytes.store(index.log_bytes(), Ordering::Relaxed);
    }

    /// As [`Self::admitted`] after a settlement.
    pub(crate) fn lighter(&self, index: &Index) {
        self.live_bytes.store(index.live_bytes, Ordering::Relaxed);
        self.live_records
            .store(index.slots.len() as u64, Ordering::Relaxed);
    }

    /// Whether there is room for so many records and bytes more.
    pub(crate) fn admits(&self, records: usize, bytes: usize) -> bool {
        let live = self.live_bytes.load(Ordering::Relaxed) + bytes as u64;
        let records = self.live_records.load(Ordering::Relaxed) + records as u64;
        live <= self.bytes_max / 4 * 3
            && records <= self.records_max as u64
            && self.log_bytes.load(Ordering::Relaxed) <= self.bytes_max
            && !self.short.load(Ordering::Relaxed)
    }

    /// Notes how long a sync took.
    pub(crate) fn synced(&self, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let mut syncs = locked(&self.syncs);
        let at = usize::try_from(syncs.count).unwrap_or(0) % SYNCS_KEPT;
        syncs.count += 1;
        syncs.total += took;
        match syncs.last.get_mut(at) {
            Some(slot) => *slot = micros,
            None => syncs.last.push(micros),
        }
    }

    /// Nothing is taken from now on.
    pub(crate) fn fail(&self, reason: Arc<str>) -> Arc<str> {
        let reason = Arc::clone(self.reason.get_or_init(|| reason));
        self.failed.cancel();
        reason
    }

    /// Why nothing is taken, if so.
    pub(crate) fn reason(&self) -> Option<Arc<str>> {
        self.reason.get().cloned()
    }

    pub(crate) fn figures(&self) -> Figures {
        let (settled, dead_dropped, unsettled) = {
            let index = self.index();
            (index.settled, index.dead_dropped, index.slots.len() as u64)
        };
        let (syncs, total, mut last) = {
            let syncs = locked(&self.syncs);
            (syncs.count, syncs.total, syncs.last.clone())
        };
        let rank = last.len().saturating_sub(1) * 99 / 100;
        let p99 = if last.is_empty() {
            0
        } else {
            *last.select_nth_unstable(rank).1
        };
        Figures {
            appended: self.appended.load(Ordering::Relaxed),
            settled,
            unsettled,
            bytes: self.bytes.load(Ordering::Relaxed),
            syncs,
            sync_seconds: total.as_secs_f64(),
            sync_p99_seconds: f64::from(p99) / 1e6,
            corrupt: self.corrupt.load(Ordering::Relaxed),
            dead_dropped,
            failed: self.reason(),
        }
    }
}

const SYNCS_KEPT: usize = 4096;
/// Compaction starts at so many segments even if there is room for more: it bounds the time
/// of a recovery.
const COMPACT_SEGMENTS: u64 = 16;
