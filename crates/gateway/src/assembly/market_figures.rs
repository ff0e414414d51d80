//! What the aggregator says of itself when somebody asks for the metrics.
//!
//! The names of the contract (live-data 6.6) come first; ours begin with
//! `tidegate_market_`.

use std::fmt::Error;
use std::sync::{Arc, OnceLock};

use market::{Figures, Metrics};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::exact::{Row, bare_counter, counter, gauge};

/// Reads what the aggregator notes, if there is one in this process.
#[derive(Debug, Clone, Default)]
pub(super) struct MarketFigures {
    metrics: Arc<OnceLock<Arc<Metrics>>>,
}

/// Every figure once, at zero, for the reference.
#[derive(Debug)]
pub(super) struct Sample;

impl MarketFigures {
    /// Shows an aggregator from the beginning.
    pub(super) fn of(metrics: &Arc<Metrics>) -> Self {
        let figures = Self::default();
        figures.show(metrics);
        figures
    }

    /// From now on this aggregator is shown; without one there are no figures.
    pub(super) fn show(&self, metrics: &Arc<Metrics>) {
        self.metrics.get_or_init(|| Arc::clone(metrics));
    }
}

impl Collector for MarketFigures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        match self.metrics.get() {
            Some(metrics) => encode(encoder, &metrics.figures()),
            None => Ok(()),
        }
    }
}

impl Collector for Sample {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        encode(encoder, &Metrics::default().figures())
    }
}

fn encode(mut encoder: DescriptorEncoder<'_>, figures: &Figures) -> Result<(), Error> {
    let encoder = &mut encoder;
    for row in contract_counters(figures) {
        bare_counter(encoder, row)?;
    }
    let help = "Messages of the source that were refused, by reason";
    let mut family = encoder.encode_descriptor("invalid_ticks", help, None, MetricType::Unknown)?;
    for (reason, count) in figures.invalid_ticks {
        let value = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
        value.encode(family.encode_family(&[("reason", reason)])?)?;
    }
    for row in gauges(figures) {
        gauge(encoder, row)?;
    }
    for row in own_counters(figures) {
        counter(encoder, row)?;
    }
    Ok(())
}

fn contract_counters(figures: &Figures) -> [Row<u64>; 4] {
    [
        (
            "ticks_out",
            "Ticks that the aggregator published, within batches",
            figures.ticks_out,
        ),
        (
            "snapshots_out",
            "Snapshots of groups that the aggregator published",
            figures.snapshots_out,
        ),
        (
            "src_gap",
            "Messages of the source that never came or for which there was no room",
            figures.src_gap,
        ),
        (
            "reorder_count",
            "Ticks that were older than what was known of their symbol",
            figures.reorder_count,
        ),
    ]
}

fn gauges(figures: &Figures) -> [Row<f64>; 4] {
    [
        (
            "src_ingest_rate",
            "Ticks taken from the source in the last second",
            figures.src_ingest_rate as f64,
        ),
        (
            "heartbeat_age",
            "How long nothing has come from the source, in seconds",
            figures.heartbeat_age_ms as f64 / 1e3,
        ),
        (
            "tidegate_market_symbols",
            "Symbols that the aggregator knows",
            figures.symbols as f64,
        ),
        (
            "tidegate_market_rebuild_seconds",
            "How long the last start took to have the state of before",
            figures.rebuild_us as f64 / 1e6,
        ),
    ]
}

fn own_counters(figures: &Figures) -> [Row<u64>; 6] {
    [
        (
            "tidegate_market_ticks_in",
            "Ticks taken from the source",
            figures.ticks_in,
        ),
        (
            "tidegate_market_quotes_in",
            "Quotes taken from the source",
            figures.quotes_in,
        ),
        (
            "tidegate_market_batches_out",
            "Batches of ticks that were published",
            figures.tick_batches_out,
        ),
        (
            "tidegate_market_snapshots_answered",
            "Snapshots of groups given on demand",
            figures.snapshots_answered,
        ),
        (
            "tidegate_market_slow_ticks",
            "Intervals that passed without a batch because the one before was late",
            figures.slow_ticks,
        ),
        (
            "tidegate_market_busy",
            "Batches and snapshots that the bus did not take, and that were tried again",
            figures.bus_busy,
        ),
    ]
}

#[cfg(test)]
mod tests;
