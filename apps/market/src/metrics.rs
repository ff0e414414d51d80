//! Figures of a running aggregator, to be read from anywhere.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::aggregator::{Counts, Reason};

/// Where a running aggregator notes its figures, about thirty times a second.
#[derive(Debug, Default)]
pub struct Metrics {
    ticks_in: AtomicU64,
    quotes_in: AtomicU64,
    ingest_rate: AtomicU64,
    gaps: AtomicU64,
    reordered: AtomicU64,
    refused: [AtomicU64; Reason::ALL.len()],
    silent_ms: AtomicU64,
    ticks_out: AtomicU64,
    batches_out: AtomicU64,
    snapshots_out: AtomicU64,
    snapshots_answered: AtomicU64,
    slow_ticks: AtomicU64,
    busy: AtomicU64,
    symbols: AtomicU64,
    rebuild_us: AtomicU64,
}

/// The figures at one moment. What is not said to be a gauge only rises.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Ticks taken from the source.
    pub ticks_in: u64,
    /// Quotes taken from the source.
    pub quotes_in: u64,
    /// `src_ingest_rate`, a gauge: ticks taken per second, over the last second.
    pub src_ingest_rate: u64,
    /// `src_gap`: messages of the source that never came or for which there was no room.
    pub src_gap: u64,
    /// `reorder_count`: ticks that were older than what was known of their symbol.
    pub reorder_count: u64,
    /// `invalid_ticks`: messages refused, by reason ([`Reason::label`]).
    pub invalid_ticks: [(&'static str, u64); Reason::ALL.len()],
    /// `heartbeat_age`, a gauge: how long nothing has come from the source, in milliseconds;
    /// since the start, if never anything did.
    pub heartbeat_age_ms: u64,
    /// `ticks_out`: ticks published, within batches.
    pub ticks_out: u64,
    /// Batches of ticks published.
    pub tick_batches_out: u64,
    /// `snapshots_out`: snapshots of groups published.
    pub snapshots_out: u64,
    /// Snapshots of groups given on demand.
    pub snapshots_answered: u64,
    /// Intervals that passed without a batch because the one before was late.
    pub slow_ticks: u64,
    /// Batches and snapshots that the bus did not take, and that were tried again.
    pub bus_busy: u64,
    /// Symbols known, a gauge.
    pub symbols: u64,
    /// How long the last start took to have the state of before, in microseconds; a gauge.
    pub rebuild_us: u64,
}

impl Metrics {
    /// All of them, each read at its own moment.
    pub fn figures(&self) -> Figures {
        let of = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        Figures {
            ticks_in: of(&self.ticks_in),
            quotes_in: of(&self.quotes_in),
            src_ingest_rate: of(&self.ingest_rate),
            src_gap: of(&self.gaps),
            reorder_count: of(&self.reordered),
            invalid_ticks: Reason::ALL
                .map(|reason| (reason.label(), of(&self.refused[reason as usize]))),
            heartbeat_age_ms: of(&self.silent_ms),
            ticks_out: of(&self.ticks_out),
            tick_batches_out: of(&self.batches_out),
            snapshots_out: of(&self.snapshots_out),
            snapshots_answered: of(&self.snapshots_answered),
            slow_ticks: of(&self.slow_ticks),
            bus_busy: of(&self.busy),
            symbols: of(&self.symbols),
            rebuild_us: of(&self.rebuild_us),
        }
    }

    pub(crate) fn note_counts(&self, counts: &Counts, dropped: u64, symbols: usize) {
        let set = |figure: &AtomicU64, value| figure.store(value, Ordering::Relaxed);
        set(&self.ticks_in, counts.ticks);
        set(&self.quotes_in, counts.quotes);
        set(&self.gaps, counts.missing.saturating_add(dropped));
        set(&self.reordered, counts.reordered);
        for (figure, count) in self.refused.iter().zip(counts.refused) {
            set(figure, count);
        }
        set(&self.ticks_out, counts.ticks_out);
        set(&self.batches_out, counts.batches_out);
        set(&self.symbols, symbols as u64);
    }

    pub(crate) fn note_rate(&self, per_second: u64) {
        self.ingest_rate.store(per_second, Ordering::Relaxed);
    }

    pub(crate) fn note_silence(&self, ms: u64) {
        self.silent_ms.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn note_rebuild(&self, us: u64) {
        self.rebuild_us.store(us, Ordering::Relaxed);
    }

    pub(crate) fn add_snapshot_out(&self) {
        self.snapshots_out.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_snapshot_answered(&self) {
        self.snapshots_answered.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_slow_ticks(&self, count: u64) {
        self.slow_ticks.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn add_busy(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }
}
