//! What the bus over NATS says of itself when somebody asks for the metrics.
//!
//! The names of the contract (live-data 6.6) are always there, at zero without NATS; ours
//! begin with `tidegate_nats_` and are there with it.

use std::fmt::Error;

use bus::{Bus, LATENCY_BOUNDS_MS, NatsStats};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::exact::{Row, bare_counter, counter, gauge};

/// Reads what the bus knows about NATS.
#[derive(Debug)]
pub(super) struct NatsFigures(Bus);

/// Every figure once, at zero, for the reference.
#[derive(Debug)]
pub(super) struct Sample;

impl NatsFigures {
    /// Shows this bus.
    pub(super) fn of(bus: &Bus) -> Self {
        Self(bus.clone())
    }
}

impl Collector for NatsFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        match self.0.nats_stats() {
            Some(stats) => encode(&mut encoder, &stats),
            None => contract(&mut encoder, &NatsStats::default()),
        }
    }
}

impl Collector for Sample {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        encode(&mut encoder, &NatsStats::default())
    }
}

fn encode(encoder: &mut DescriptorEncoder<'_>, stats: &NatsStats) -> Result<(), Error> {
    contract(encoder, stats)?;
    for row in gauges(stats) {
        gauge(encoder, row)?;
    }
    for row in counters(stats) {
        counter(encoder, row)?;
    }
    Ok(())
}

fn contract(encoder: &mut DescriptorEncoder<'_>, stats: &NatsStats) -> Result<(), Error> {
    let bounds = LATENCY_BOUNDS_MS.iter().map(|bound| *bound as f64);
    let bounds = bounds.chain([f64::INFINITY]);
    // The encoder adds them up as it goes.
    let buckets: Vec<(f64, u64)> = bounds.zip(stats.latency_counts).collect();
    encoder
        .encode_descriptor(
            "nats_req_latency",
            "Round trips to streams, buckets and services, in milliseconds",
            None,
            MetricType::Histogram,
        )?
        .encode_histogram::<NoLabelSet>(
            stats.latency_sum_us as f64 / 1e3,
            stats.latency_counts.iter().sum(),
            &buckets,
            None,
        )?;
    let backpressure = stats.refused_total + stats.dropped_total;
    bare_counter(
        encoder,
        (
            "backpressure_events",
            "Messages to NATS and deliveries from it for which there was no room",
            backpressure,
        ),
    )?;
    let reconnects = "Times that the connection to NATS came back";
    counter(
        encoder,
        ("xy_nats_reconnects", reconnects, stats.reconnects_total),
    )?;
    let storms = "Seconds in which more than a hundred subjects were subscribed to";
    counter(encoder, ("xy_sub_storms", storms, stats.storms_total))
}

fn gauges(stats: &NatsStats) -> [Row<f64>; 2] {
    [
        (
            "tidegate_nats_connected",
            "Whether the connection to NATS is usable",
            f64::from(u8::from(stats.connected)),
        ),
        (
            "tidegate_nats_subjects",
            "Subjects of NATS that are listened to",
            stats.interests as f64,
        ),
    ]
}

fn counters(stats: &NatsStats) -> [Row<u64>; 6] {
    [
        (
            "tidegate_nats_sent",
            "Messages sent to NATS, those into streams included",
            stats.published_total,
        ),
        (
            "tidegate_nats_received",
            "Messages that came from NATS",
            stats.received_total,
        ),
        (
            "tidegate_nats_resubscriptions",
            "Subjects listened to again after the connection was lost",
            stats.resubscriptions_total,
        ),
        (
            "tidegate_nats_refused",
            "Messages refused or lost because the queue towards NATS was full",
            stats.refused_total,
        ),
        (
            "tidegate_nats_dropped",
            "Deliveries from NATS that a worker without room did not get",
            stats.dropped_total,
        ),
        (
            "tidegate_nats_denied",
            "Times the server said that something is not allowed to this gateway",
            stats.denied_total,
        ),
    ]
}

#[cfg(test)]
mod tests;
