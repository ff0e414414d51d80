//! The aggregator of market data: beside the gateway in its process, or alone.

use std::sync::Arc;
use std::time::Duration;

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

/// One that runs.
pub(super) struct Running {
    /// Where it notes its figures.
    pub(super) metrics: Arc<Metrics>,
    stop: CancellationToken,
    tasks: Tasks,
}

/// Starts it beside the gateway, if it is wanted.
pub(super) fn start(config: &Config, bus: &Bus, clock: Clock) -> Option<Running> {
    config.market.is_on().then(|| run(config, bus, clock))
}

fn run(config: &Config, bus: &Bus, clock: Clock) -> Running {
    let running = Running {
        metrics: Arc::default(),
        stop: CancellationToken::new(),
        tasks: Tasks::new(),
    };
    let setup = Setup {
        settings: config.market.clone(),
        bus: bus.clone(),
        clock,
        stop: running.stop.clone(),
        metrics: Arc::clone(&running.metrics),
    };
    // The future is large, and this is its one home.
    let work = Box::pin(::market::run(setup));
    running.tasks.spawn("market", async move {
        if let Err(error) = work.await {
            error!(error = chain(&error), "aggregator could not be started");
        }
    });
    running
}

impl Running {
    /// Lets it publish its last word. The bus must be there still.
    pub(super) async fn stop(self, grace: Duration) {
        self.stop.cancel();
        if !self.tasks.stop(grace).await {
            warn!("aggregator was still running at the end");
        }
    }
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
        let problem = "bus.kind is memory, and nobody hears an aggregator with a bus of its own; \
                       set it to nats";
        return Err(AssemblyError::Settings(problem.to_owned()));
    }
    let (clock, tasks) = (Clock::start(), Tasks::new());
    let node = live::random_id();
    let bus = tokio::select! {
        bus = bus::open(config, bus::Role::Market, &node, &tasks) => bus?,
        () = stops.next() => {
            info!("stop signal received before the start was over");
            return Ok(());
        }
    };
    let running = run(config, &bus, clock);
    let readiness = Readiness::default();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(MarketFigures::of(&running.metrics)));
    registry.register_collector(Box::new(NatsFigures::of(&bus)));
    let router = admin::probes(readiness.clone(), Arc::new(registry));
    let stopping = tasks.stopping();
    tasks.spawn(
        "admin",
        admin::serve(listener, router, ListenerLimits::default(), async move {
            stopping.cancelled().await;
        }),
    );
    readiness.advance(Stage::Ready);
    info!("ready");
    stops.next().await;
    info!("stop signal received");
    readiness.advance(Stage::Draining);
    running.stop(STOP_GRACE).await;
    tasks.stop(STOP_GRACE).await;
    bus::close(&bus, STOP_GRACE).await;
    info!("stopped");
    Ok(())
}
