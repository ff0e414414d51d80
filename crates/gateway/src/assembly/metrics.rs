//! Where the parts count, and the registry that shows it.

use std::sync::Arc;

use admin::HttpMetrics;
use bus::{Bus, MemoryBus, MemoryConfig};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::figures::Figures;
use super::market_figures::{self, MarketFigures};
use super::nats_figures::{self, NatsFigures};
use super::proxy_figures::{self, ProxyFigures};
use super::relay_figures::{RelayFigures, Sample};
use super::service_figures::{self, ServiceFigures};

/// Where the parts count.
pub(super) struct Metrics {
    pub(super) edge: Arc<edge::metrics::Metrics>,
    pub(super) http: HttpMetrics,
    pub(super) reload: ReloadMetrics,
    /// Shows the relay from when it is given it.
    pub(super) relay: RelayFigures,
    /// Shows the HTTP proxy from when it is given it.
    pub(super) proxy: ProxyFigures,
    /// Shows the aggregator from when it is given it.
    pub(super) market: MarketFigures,
    /// Shows services and Quantum from when it is given them.
    pub(super) services: ServiceFigures,
}

#[derive(Debug, Clone, Default)]
pub(super) struct ReloadMetrics {
    pub(super) applied: Counter,
    pub(super) refused: Counter,
}

/// A registry with everything in it, and where to count.
pub(super) fn registry(figures: Figures) -> (Registry, Metrics) {
    let mut registry = Registry::default();
    let metrics = Metrics {
        edge: Arc::new(edge::metrics::Metrics::new(&mut registry)),
        http: HttpMetrics::new(&mut registry),
        reload: ReloadMetrics::new(&mut registry),
        relay: RelayFigures::default(),
        proxy: ProxyFigures::default(),
        market: MarketFigures::default(),
        services: ServiceFigures::default(),
    };
    registry.register_collector(Box::new(NatsFigures::of(&figures.bus)));
    registry.register_collector(Box::new(figures));
    registry.register_collector(Box::new(metrics.relay.clone()));
    registry.register_collector(Box::new(metrics.proxy.clone()));
    registry.register_collector(Box::new(metrics.market.clone()));
    registry.register_collector(Box::new(metrics.services.clone()));
    (registry, metrics)
}

/// What a gateway measures, as a table in Markdown.
///
/// # Errors
///
/// If the metrics can't be written down.
pub fn reference() -> Result<String, std::fmt::Error> {
    let (mut registry, _metrics) = registry(Figures {
        bus: Bus::Memory(Arc::new(MemoryBus::new(&MemoryConfig::default()))),
        key_sets: Arc::default(),
        revocations: Arc::default(),
        // As if there were TLS, which has a figure more.
        certificate_expiry: Box::new(|| Some(0)),
    });
    registry.register_collector(Box::new(Sample));
    registry.register_collector(Box::new(proxy_figures::Sample));
    registry.register_collector(Box::new(market_figures::Sample));
    registry.register_collector(Box::new(nats_figures::Sample));
    registry.register_collector(Box::new(service_figures::Sample));
    admin::metrics::reference_markdown(&registry)
}

impl ReloadMetrics {
    fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "tidegate_reloads_applied",
            "Configurations put into force while running",
            metrics.applied.clone(),
        );
        registry.register(
            "tidegate_reloads_refused",
            "Configurations refused while running, the old one kept",
            metrics.refused.clone(),
        );
        metrics
    }
}
