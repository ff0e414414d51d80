//! What the aggregator says about itself, every five seconds on `xy.exec.health`.

use bus::Now;
use bytes::Bytes;
use serde::Serialize;

use crate::metrics::Figures;
use crate::settings::{Settings, Source};

/// When the next message is due, and what the last one told.
#[derive(Debug)]
pub(super) struct Health {
    instance: String,
    source: Source,
    groups: usize,
    started_ms: u64,
    due_ms: u64,
    /// What the bus had refused when the last message was made.
    busy: u64,
}

#[derive(Serialize)]
struct Message<'a> {
    service: &'static str,
    instance: &'a str,
    status: &'static str,
    ts_ms: u64,
    uptime_s: u64,
    version: &'static str,
    details: Details,
}

#[derive(Serialize)]
struct Details {
    source: Source,
    groups: usize,
    symbols: u64,
    heartbeat_age_ms: u64,
    src_ingest_rate: u64,
    src_gap: u64,
    reorder_count: u64,
    invalid_ticks: u64,
    ticks_out: u64,
    snapshots_out: u64,
    slow_ticks: u64,
    bus_busy: u64,
    rebuild_ms: u64,
}

impl Health {
    pub(super) fn new(settings: &Settings, mono_ms: u64) -> Self {
        Self {
            instance: settings.instance.clone(),
            source: settings.source,
            groups: settings.groups * settings.shards,
            started_ms: mono_ms,
            due_ms: mono_ms,
            busy: 0,
        }
    }

    /// Whether a message is due; if so, the next one is due in five seconds.
    pub(super) fn is_due(&mut self, now: Now) -> bool {
        if now.mono_ms < self.due_ms {
            return false;
        }
        self.due_ms = now.mono_ms + INTERVAL_MS;
        true
    }

    /// `degraded` if the source is silent, or the bus has refused something since the last one.
    pub(super) fn message(&mut self, now: Now, figures: &Figures) -> Bytes {
        let is_well = figures.heartbeat_age_ms < SILENCE_MS && figures.bus_busy == self.busy;
        self.busy = figures.bus_busy;
        self.spell(if is_well { "ok" } else { "degraded" }, now, figures)
    }

    /// The last message.
    pub(super) fn farewell(&self, now: Now, figures: &Figures) -> Bytes {
        self.spell("down", now, figures)
    }

    pub(super) fn uptime_ms(&self, now: Now) -> u64 {
        now.mono_ms.saturating_sub(self.started_ms)
    }

    fn spell(&self, status: &'static str, now: Now, figures: &Figures) -> Bytes {
        let message = Message {
            service: "market",
            instance: &self.instance,
            status,
            ts_ms: now.unix_ms,
            uptime_s: self.uptime_ms(now) / 1000,
            version: env!("CARGO_PKG_VERSION"),
            details: Details {
                source: self.source,
                groups: self.groups,
                symbols: figures.symbols,
                heartbeat_age_ms: figures.heartbeat_age_ms,
                src_ingest_rate: figures.src_ingest_rate,
                src_gap: figures.src_gap,
                reorder_count: figures.reorder_count,
                invalid_ticks: figures.invalid_ticks.iter().map(|(_, count)| count).sum(),
                ticks_out: figures.ticks_out,
                snapshots_out: figures.snapshots_out,
                slow_ticks: figures.slow_ticks,
                bus_busy: figures.bus_busy,
                rebuild_ms: figures.rebuild_us / 1000,
            },
        };
        // Numbers and text are always JSON.
        serde_json::to_vec(&message).unwrap_or_default().into()
    }
}

const INTERVAL_MS: u64 = 5000;
/// How long the source may be silent before that is worth saying.
const SILENCE_MS: u64 = 5000;
