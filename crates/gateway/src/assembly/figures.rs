//! Figures that are read when somebody asks for the metrics.

use std::sync::Arc;

use auth::{KeySets, Revocations};
use bus::Bus;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads what bus, certificates, key sets and revocations know about themselves.
pub(super) struct Figures {
    pub(super) bus: Bus,
    pub(super) key_sets: Arc<KeySets>,
    pub(super) revocations: Arc<Revocations>,
    /// When the first certificate expires, in Unix seconds; `None` without TLS.
    pub(super) certificate_expiry: Box<dyn Fn() -> Option<u64> + Send + Sync>,
}

impl std::fmt::Debug for Figures {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Figures").finish_non_exhaustive()
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, value) in self.gauges() {
            let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, value.metric_type())?;
            value.encode(metric)?;
        }
        for (name, help, value) in self.counters() {
            let value = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, None, value.metric_type())?;
            value.encode(metric)?;
        }
        Ok(())
    }
}

impl Figures {
    fn gauges(&self) -> Vec<(&'static str, &'static str, u64)> {
        let stats = self.bus.stats();
        let mut gauges = vec![
            (
                "tidegate_bus_channels",
                "Channels about which anything is known",
                stats.channels as u64,
            ),
            (
                "tidegate_bus_subscriptions",
                "Subscriptions of workers to channels",
                stats.subscriptions as u64,
            ),
            (
                "tidegate_bus_patterns",
                "Subscriptions of workers to subject patterns",
                stats.patterns as u64,
            ),
            (
                "tidegate_bus_presence",
                "Clients present, over all channels",
                stats.presence as u64,
            ),
            (
                "tidegate_bus_history_bytes",
                "Memory of kept publications",
                stats.history_bytes as u64,
            ),
            (
                "tidegate_bus_idempotency_bytes",
                "Memory of idempotency keys",
                stats.idempotency_bytes as u64,
            ),
            (
                "tidegate_revocations",
                "Revocations in force",
                self.revocations.len() as u64,
            ),
        ];
        if let Some(expires_at) = (self.certificate_expiry)() {
            gauges.push((
                "tidegate_certificate_expiry_timestamp_seconds",
                "When the first certificate of a listener expires, in Unix seconds; there only \
                 with TLS",
                expires_at,
            ));
        }
        gauges
    }

    fn counters(&self) -> [(&'static str, &'static str, u64); 9] {
        let stats = self.bus.stats();
        let sets = self.key_sets.figures();
        [
            (
                "tidegate_bus_published",
                "Publications accepted and sent",
                stats.published_total,
            ),
            (
                "tidegate_bus_suppressed",
                "Publications not sent because of their idempotency key or version",
                stats.suppressed_total,
            ),
            (
                "tidegate_bus_busy",
                "Publications refused because a worker had no room",
                stats.busy_total,
            ),
            (
                "tidegate_bus_unkept",
                "Publications delivered but not kept for want of memory",
                stats.unkept_total,
            ),
            (
                "tidegate_bus_join_leave_dropped",
                "Joins and leaves that a worker without room did not get",
                stats.join_leave_dropped_total,
            ),
            (
                "tidegate_bus_idempotency_forgotten",
                "Idempotency keys forgotten before their time for want of memory",
                stats.idempotency_forgotten_total,
            ),
            (
                "tidegate_key_sets_renewed",
                "JSON Web Key Sets read",
                sets.renewed,
            ),
            (
                "tidegate_key_sets_failed",
                "JSON Web Key Sets that could not be read",
                sets.failed,
            ),
            (
                "tidegate_key_sets_served_stale",
                "Tokens checked with a key set past its age because it could not be read",
                sets.served_stale,
            ),
        ]
    }
}
