//! What has to be looked after now and then: old streams, old revocations, memory.

use std::sync::Arc;
use std::time::Duration;

use auth::Revocations;
use bus::{MemoryBus, Now};
use edge::door::Door;
use edge::fleet::Fleet;
use edge::metrics::Metrics;
use lifecycle::{CancellationToken, Clock, Tasks};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::tls::Certificates;

/// How often memory is looked at: often enough that a flood is noticed in time.
const MEMORY_EVERY: Duration = Duration::from_millis(500);

/// Every so many looks at memory, the rest is done as well.
const REST_EVERY: u32 = 10;

/// Does the upkeep.
pub(super) struct Upkeep {
    pub(super) clock: Clock,
    pub(super) tasks: Tasks,
    pub(super) bus: Arc<MemoryBus>,
    pub(super) door: Arc<Door>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) revocations: Arc<Revocations>,
    pub(super) metrics: Arc<Metrics>,
}

impl Upkeep {
    /// Runs until told to stop.
    pub(super) async fn run(self, stopping: CancellationToken) {
        let mut round = 0_u32;
        loop {
            let resident = resident_bytes();
            self.door.note_resident(resident);
            self.metrics
                .note_memory(resident, self.fleet.connection_count());
            if round.is_multiple_of(REST_EVERY) {
                self.sweep().await;
            }
            round = round.wrapping_add(1);
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(MEMORY_EVERY) => {}
            }
        }
    }

    async fn sweep(&self) {
        let now = Now {
            mono_ms: self.clock.mono_ms(),
            unix_ms: self.clock.unix_ms(),
        };
        self.bus.sweep(now);
        self.fleet.measure().await;
        let revocations = Arc::clone(&self.revocations);
        // It writes to disk.
        let swept = self
            .tasks
            .blocking(move || revocations.sweep(now.unix_ms / 1_000))
            .await;
        if let Some(Err(error)) = swept {
            tracing::error!(%error, "expired revocations could not be removed");
        }
    }
}

/// Memory of this process that is resident; 0 where that can't be told.
fn resident_bytes() -> u64 {
    const PAGE: u64 = 4_096;
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE
}

/// Registers figures that are read when somebody asks for them.
pub(super) fn register(registry: &mut Registry, bus: &Arc<MemoryBus>, certificates: &Certificates) {
    registry.register_collector(Box::new(Figures {
        bus: Arc::clone(bus),
        certificates: certificates.clone(),
    }));
}

struct Figures {
    bus: Arc<MemoryBus>,
    certificates: Certificates,
}

impl std::fmt::Debug for Figures {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Figures").finish_non_exhaustive()
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stats = self.bus.stats();
        let gauges = [
            (
                "tidegate_bus_channels",
                "Channels about which anything is known",
                stats.channels,
            ),
            (
                "tidegate_bus_subscriptions",
                "Subscriptions of workers to channels",
                stats.subscriptions,
            ),
            (
                "tidegate_bus_patterns",
                "Subscriptions of workers to subject patterns",
                stats.patterns,
            ),
            (
                "tidegate_bus_presence",
                "Clients present, over all channels",
                stats.presence,
            ),
            (
                "tidegate_bus_history_bytes",
                "Memory of kept publications",
                stats.history_bytes,
            ),
        ];
        for (name, help, value) in gauges {
            let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, value.metric_type())?;
            value.encode(metric)?;
        }
        let counters = [
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
        ];
        for (name, help, value) in counters {
            let value = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, None, value.metric_type())?;
            value.encode(metric)?;
        }
        if let Some(expires_at) = self.certificates.expires_at() {
            let value = ConstGauge::new(i64::try_from(expires_at).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(
                "tidegate_certificate_expiry_timestamp_seconds",
                "When the first certificate of a listener expires, in Unix seconds",
                None,
                value.metric_type(),
            )?;
            value.encode(metric)?;
        }
        Ok(())
    }
}
