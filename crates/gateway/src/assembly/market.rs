//! The aggregator of market data: beside the gateway in its process, or alone.

use std::sync::Arc;

use ::bus::Bus;
use ::market::{Metrics, Setup};
use admin::{ListenerLimits, Readiness, Stage};
use lifecycle::{CancellationToken, Clock, Stops, Tasks};
use prometheus_client::registry::Registry;
use tracing::{error, info, warn};

use super::market_figures::MarketFigures;
use super::nats_figures::NatsFigures;
use super::{AssemblyError, STOP_GRACE, bus, chain, live};
use crate::config::{BusKind, Config};

/// Starts it beside the gateway, if it is wanted; where it notes its figures.
pub(super) fn start(
    config: &Config,
    bus: &Bus,
    clock: Clock,
    tasks: &Tasks,
    stop: CancellationToken,
) -> Option<Arc<Metrics>> {
    if !config.market.is_on() {
        return None;
    }
    let metrics = Arc::new(Metrics::default());
    spawn(setup(config, bus, clock, stop, &metrics), tasks);
    Some(metrics)
}

/// Runs it alone until told to stop, with health and metrics on the admin listener.
pub(super) async fn serve(config: &Config) -> Result<(), AssemblyError> {
    let mut stops = Stops::listen().map_err(AssemblyError::Runtime)?;
    let address = config.listeners.admin.address;
    let refuse = |source| AssemblyError::Bind {
        listener: "admin",
        address,
        source,
    };
    let listener = edge::front::bind(address, false).map_err(refuse)?;
    let address = listener.local_addr().map_err(refuse)?;
    info!(listener = "admin", %address, tls = false, "listening");
    if config.bus.kind == BusKind::Memory {
        warn!("bus.kind is memory: nobody hears an aggregator that has a bus of its own");
    }
    let (clock, tasks, market_tasks) = (Clock::start(), Tasks::new(), Tasks::new());
    let bus = bus::open(config, "market", &live::random_id(), &tasks).await?;
    let metrics = Arc::new(Metrics::default());
    let readiness = Readiness::default();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(MarketFigures::of(&metrics)));
    registry.register_collector(Box::new(NatsFigures::of(&bus)));
    let router = admin::probes(readiness.clone(), Arc::new(registry));
    let stopping = tasks.stopping();
    tasks.spawn(
        "admin",
        admin::serve(listener, router, ListenerLimits::default(), async move {
            stopping.cancelled().await;
        }),
    );
    let stop = CancellationToken::new();
    let setup = setup(config, &bus, clock, stop.clone(), &metrics);
    spawn(setup, &market_tasks);
    readiness.advance(Stage::Ready);
    info!("ready");
    stops.next().await;
    info!("stop signal received");
    readiness.advance(Stage::Draining);
    stop.cancel();
    if !market_tasks.stop(STOP_GRACE).await {
        warn!("aggregator was still running at the end");
    }
    tasks.stop(STOP_GRACE).await;
    bus::close(&bus, STOP_GRACE).await;
    info!("stopped");
    Ok(())
}

fn setup(
    config: &Config,
    bus: &Bus,
    clock: Clock,
    stop: CancellationToken,
    metrics: &Arc<Metrics>,
) -> Setup {
    Setup {
        settings: config.market.clone(),
        bus: bus.clone(),
        clock,
        stop,
        metrics: Arc::clone(metrics),
    }
}

fn spawn(setup: Setup, tasks: &Tasks) {
    tasks.spawn("market", async move {
        if let Err(error) = ::market::run(setup).await {
            error!(error = chain(&error), "aggregator could not be started");
        }
    });
}
