//! Puts the parts together and runs them.
//!
//! The order is the point of this file: everything is bound before anything is
//! announced, what serves is started before it is called ready, and on the way out
//! readiness goes first and the admin face last.

mod bus;
mod cluster;
mod control;
mod exact;
mod figures;
mod listeners;
mod live;
mod looseness;
mod market;
mod market_figures;
mod memory;
mod metrics;
mod nats_figures;
mod proxy;
mod proxy_figures;
mod relay;
mod relay_figures;
mod service_figures;
mod services;
mod tls;
mod upkeep;

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::bus::Bus;
use admin::{ListenerLimits, Readiness, Stage};
use arc_swap::ArcSwap;
use auth::{AdminTokens, KeySets, Revocations};
use edge::door::Door;
use edge::fleet::{Crew, Fleet};
use edge::front::{Front, Root};
use edge::live::Current;
use edge::tls::TlsStream;
use lifecycle::{CancellationToken, Clock, Hangups, Stops, Tasks};
use prometheus_client::registry::Registry;
use protocol::channel::Channel;
use router::relay::Relay;
use tokio::net::TcpListener;
use tracing::{error, info, warn};

use crate::config::{Config, Loaded, ProxyProtocol};
use crate::flags;
use crate::logging::Logging;
use crate::reload::{Outcome, Reloader, Source};
use cluster::{Cluster, SharedRevocations};
use control::{Gateway, console, proxies};
use figures::Figures;
use listeners::Bound;
use metrics::Metrics;
use tls::Certificates;

pub use metrics::reference as metrics_reference;

/// Where feature flags are kept, below the data folder.
const FLAGS_FILE: &str = "feature-flags.json";

/// How long tasks may take to end after the drain.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Why the gateway could not serve.
#[derive(Debug, thiserror::Error)]
pub enum AssemblyError {
    /// The background runtime could not be started.
    #[error("background runtime could not be started")]
    Runtime(#[source] io::Error),
    /// A listener could not be bound.
    #[error("listener {listener} could not be bound to {address}")]
    Bind {
        /// Which one.
        listener: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The settings can't be put into force.
    #[error("configuration can't be put into force: {0}")]
    Settings(String),
    /// Something kept on disk can't be used.
    #[error("data folder can't be used: {0}")]
    Data(String),
    /// The bus could not be had.
    #[error("bus can't be used: {0}")]
    Bus(String),
    /// A worker could not be started.
    #[error(transparent)]
    Fleet(#[from] edge::fleet::FleetError),
    /// A worker ended while it was needed; the log says why.
    #[error("worker has ended before its time")]
    Worker,
}

/// Serves until told to stop.
pub fn run(source: Source, loaded: Loaded, logging: Logging) -> Result<(), AssemblyError> {
    let runtime =
        lifecycle::background_runtime(background_threads()).map_err(AssemblyError::Runtime)?;
    let served = runtime.block_on(serve(source, loaded, logging));
    // Whoever still runs has had its grace.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

/// Runs the aggregator of market data alone until told to stop.
pub fn run_market(config: &Config) -> Result<(), AssemblyError> {
    let runtime =
        lifecycle::background_runtime(background_threads()).map_err(AssemblyError::Runtime)?;
    let served = runtime.block_on(market::serve(config));
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

/// Threads of the runtime for everything but resting connections.
fn background_threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

async fn serve(source: Source, loaded: Loaded, logging: Logging) -> Result<(), AssemblyError> {
    let mut stops = Stops::listen().map_err(AssemblyError::Runtime)?;
    let hangups = Hangups::listen().map_err(AssemblyError::Runtime)?;
    let (mut parts, listeners) = tokio::select! {
        built = build(&loaded.config) => built?,
        // The bus may be waited for.
        () = stops.next() => {
            info!("stop signal received before the start was over");
            return Ok(());
        }
    };
    let config_now = Arc::new(ArcSwap::from_pointee(loaded.config.clone()));
    parts.start_sides(&config_now).await?;
    let parts = parts;
    looseness::warn_of(&loaded.config, None);
    let welcome = listeners.announce(&loaded.config);

    let fleet = Fleet::start(parts.crew(&loaded.config))?;
    let drain_asked = CancellationToken::new();
    let accepting = CancellationToken::new();
    let admin_stop = CancellationToken::new();
    let admin_listener = open_fronts(&parts, &loaded.config, &fleet, &accepting, listeners);
    let cluster = parts.join(&fleet);
    let market = market::start(&loaded.config, &parts.bus, parts.clock);
    if let Some(market) = &market {
        parts.metrics.market.show(&market.metrics);
    }

    let settings = Arc::new(ArcSwap::from_pointee(live::admin_settings(&loaded.config)));
    let console = parts.console(&loaded.config, &fleet);
    let reloader = Reloader::new(source, loaded);
    let gateway = Arc::new(Gateway {
        fleet: Arc::clone(&fleet),
        bus: parts.bus.clone(),
        cluster,
        relay: parts
            .relay
            .as_ref()
            .map(|running| Arc::clone(&running.relay)),
        current: Arc::clone(&parts.current),
        revocations: Arc::clone(&parts.revocations),
        proxy: parts.desk(&config_now),
        console,
        config: config_now,
        reload: reloader.handle(),
        drain: drain_asked.clone(),
        clock: parts.clock,
        tasks: parts.tasks.clone(),
        node: parts.node.clone(),
    });
    spawn_admin(
        &parts,
        &gateway,
        &settings,
        admin_stop.clone(),
        admin_listener,
    );
    spawn_upkeep(&parts, &fleet);
    if let Some(running) = &parts.proxy {
        running.spawn(&parts.tasks, parts.clock);
    }
    spawn_reload(&parts, reloader, hangups, &gateway, &settings, logging);
    parts.readiness.advance(Stage::Ready);
    info!("{welcome}");

    let failed = fleet.failed();
    watch_outbox(&parts);
    tokio::select! {
        () = stops.next() => info!("stop signal received, draining"),
        () = drain_asked.cancelled() => info!("drain requested, draining"),
        // New clients would be sent to nobody: the others are better off elsewhere.
        () = failed.cancelled() => error!("a worker has ended, draining the others"),
    }
    let config = gateway.config.load_full();
    tokio::select! {
        () = drain(&config, &parts, &accepting, &fleet) => info!("drained"),
        () = stops.next() => warn!("second stop signal received, ending at once"),
    }
    // A second signal may have come before the drain got so far.
    accepting.cancel();
    if let Some(market) = market {
        market.stop(STOP_GRACE).await;
    }
    fleet.stop(&parts.tasks).await;
    if let Some(running) = &parts.relay {
        running.stop(STOP_GRACE).await;
    }
    // Before the tasks that say it are stopped.
    parts.around.services.close(STOP_GRACE).await;
    admin_stop.cancel();
    if !parts.tasks.stop(STOP_GRACE).await {
        warn!(
            tasks = parts.tasks.running(),
            "tasks were still running at the end"
        );
    }
    bus::close(&parts.bus, STOP_GRACE).await;
    info!("stopped");
    if failed.is_cancelled() {
        return Err(AssemblyError::Worker);
    }
    Ok(())
}

/// What is built before anything runs.
struct Parts {
    clock: Clock,
    tasks: Tasks,
    around: live::Around,
    current: Current,
    certificates: Certificates,
    door: Arc<Door>,
    bus: Bus,
    flags: flags::Desk,
    relay: Option<relay::Running>,
    proxy: Option<proxy::Running>,
    revocations: Arc<Revocations>,
    admin_tokens: Arc<AdminTokens>,
    metrics: Metrics,
    registry: Arc<Registry>,
    readiness: Readiness,
    node: String,
}

async fn build(config: &Config) -> Result<(Parts, Bound), AssemblyError> {
    let listeners = Bound::bind(config)?;
    let clock = Clock::start();
    let data = |error: &dyn Error| AssemblyError::Data(chain(error));
    let revocations = Revocations::open(Some(&config.data_dir)).map_err(|error| data(&error))?;
    let admin_tokens = AdminTokens::open(&config.data_dir).map_err(|error| data(&error))?;
    let certificates = Certificates::load(config).map_err(AssemblyError::Settings)?;
    let key_sets = Arc::new(KeySets::new());
    let node = live::random_id();
    let tasks = Tasks::new();
    let bus = bus::open(config, bus::Role::Gateway, &node, &tasks).await?;
    let (flags, keeper, known) = open_flags(config, &bus, clock, &tasks).await?;
    let services = services::Keeper::new(tasks.clone(), clock);
    let around = live::Around {
        key_sets: Arc::clone(&key_sets),
        clock,
        node: node.clone(),
        bus: bus.clone(),
        flags: flags.flags().clone(),
        services: services.clone(),
    };
    let live = live::live(config, &around, None).map_err(AssemblyError::Settings)?;
    let revocations = Arc::new(revocations);
    let shown = certificates.clone();
    let (registry, metrics) = metrics::registry(Figures {
        bus: bus.clone(),
        key_sets: Arc::clone(&key_sets),
        revocations: Arc::clone(&revocations),
        certificate_expiry: Box::new(move || shown.expires_at()),
    });
    metrics.services.show(&services);
    let current = Arc::new(ArcSwap::from_pointee(live));
    // Set once, before the keeper runs.
    let _first = known.set(Arc::clone(&current));
    if config.feature_flags.enabled {
        tasks.spawn("feature flags", keeper.run(tasks.stopping()));
    }
    let parts = Parts {
        clock,
        tasks,
        around,
        current,
        certificates,
        door: Arc::new(Door::default()),
        bus,
        flags,
        relay: None,
        proxy: None,
        revocations,
        admin_tokens: Arc::new(admin_tokens),
        metrics,
        registry: Arc::new(registry),
        readiness: Readiness::default(),
        node,
    };
    Ok((parts, listeners))
}

/// Reads the flags that were kept. How their channel keeps publications is known once the
/// settings are in force.
async fn open_flags(
    config: &Config,
    bus: &Bus,
    clock: Clock,
    tasks: &Tasks,
) -> Result<(flags::Desk, flags::Keeper, Arc<OnceLock<Current>>), AssemblyError> {
    let known = Arc::new(OnceLock::<Current>::new());
    let (seen, channel) = (Arc::clone(&known), config.feature_flags.channel.clone());
    let place = if bus.is_remote() {
        flags::Place::Bus(bus.clone())
    } else {
        flags::Place::File(config.data_dir.join(FLAGS_FILE))
    };
    let setup = flags::Setup {
        bus: bus.clone(),
        channel: Channel::new(&channel),
        policy: Box::new(move || {
            let live = seen.get()?.load();
            let resolved = live.session.namespaces.resolve(&channel)?;
            router::policy(&resolved.options)
        }),
        place,
        clock,
        tasks: tasks.clone(),
    };
    let opened = flags::Keeper::open(setup).await;
    let (desk, keeper) = opened.map_err(|error| AssemblyError::Data(chain(&error)))?;
    Ok((desk, keeper, known))
}

impl Parts {
    /// Starts the relay and the proxy, if they are wanted.
    async fn start_sides(&mut self, config: &Arc<ArcSwap<Config>>) -> Result<(), AssemblyError> {
        // What was left in the outbox is taken up before anybody can add to it.
        self.relay = relay::start(&config.load_full(), &self.bus, self.clock).await?;
        if let Some(running) = &self.relay {
            self.metrics.relay.show(&running.relay);
        }
        let peers = self.around.services.own_peers();
        let threads = background_threads();
        self.proxy = proxy::start(config, self.clock, &self.tasks, threads, peers).await?;
        if let Some(running) = &self.proxy {
            self.metrics.proxy.show(&running.proxy);
        }
        Ok(())
    }

    /// Makes this gateway one of those on the bus.
    fn join(&self, fleet: &Arc<Fleet>) -> Cluster {
        let cluster = Cluster {
            bus: self.bus.clone(),
            fleet: Arc::clone(fleet),
            revocations: SharedRevocations {
                bus: self.bus.clone(),
                own: Arc::clone(&self.revocations),
                clock: self.clock,
                tasks: self.tasks.clone(),
            },
        };
        let following = cluster.clone().run(self.tasks.stopping());
        self.tasks.spawn("cluster", following);
        cluster
    }

    /// The proxy at the operators' desk.
    fn desk(&self, config: &Arc<ArcSwap<Config>>) -> Option<proxies::Desk> {
        let figures = self.metrics.proxy.clone();
        self.proxy.as_ref().map(|running| proxies::Desk {
            proxy: Arc::clone(&running.proxy),
            store: running.store.clone(),
            config: Arc::clone(config),
            installed: running.installed(),
            clock: self.clock,
            metrics: Arc::new(move || figures.contract_text()),
        })
    }

    /// The gateway at the operators' console.
    fn console(&self, config: &Config, fleet: &Arc<Fleet>) -> console::Desk {
        let flags = config.feature_flags.enabled.then(|| self.flags.clone());
        console::Desk::new(console::Sources {
            fleet: Arc::clone(fleet),
            bus: self.bus.clone(),
            metrics: Arc::clone(&self.metrics.edge),
            relay: self.relay(),
            proxy: self.metrics.proxy.clone(),
            flags,
            current: Arc::clone(&self.current),
            readiness: self.readiness.clone(),
            clock: self.clock,
            node: self.node.clone(),
            last: console::Last::default(),
        })
    }

    fn crew(&self, config: &Config) -> Crew {
        Crew {
            bus: self.bus.clone(),
            relay: self.relay(),
            current: Arc::clone(&self.current),
            fixed: live::fixed(config),
            tasks: self.tasks.clone(),
            revocations: Arc::clone(&self.revocations),
            clock: self.clock,
            door: Arc::clone(&self.door),
            metrics: Arc::clone(&self.metrics.edge),
        }
    }

    fn relay(&self) -> Option<Arc<Relay>> {
        self.relay
            .as_ref()
            .map(|running| Arc::clone(&running.relay))
    }

    fn front(&self, config: &Config, fleet: &Arc<Fleet>, root: Option<Root>) -> Arc<Front> {
        Arc::new(Front {
            fleet: Arc::clone(fleet),
            relay: self.relay(),
            proxy: self
                .proxy
                .as_ref()
                .map(|running| Arc::clone(&running.proxy)),
            superuser: {
                let tokens = Arc::clone(&self.admin_tokens);
                Arc::new(move |presented| tokens.check(presented))
            },
            root,
            current: Arc::clone(&self.current),
            door: Arc::clone(&self.door),
            metrics: Arc::clone(&self.metrics.edge),
            clock: self.clock,
            tasks: self.tasks.clone(),
            tls: self.certificates.main_config(),
            proxy_protocol: config.listeners.main.proxy_protocol == ProxyProtocol::On,
            handshakes_pending: config.limits.handshakes_pending,
        })
    }
}

/// Lets clients in, at each listener; the admin listener is for later.
fn open_fronts(
    parts: &Parts,
    config: &Config,
    fleet: &Arc<Fleet>,
    accepting: &CancellationToken,
    listeners: Bound,
) -> TcpListener {
    let Bound {
        main,
        admin,
        relay,
        live,
    } = listeners;
    let rooted = [
        ("relay front", relay, Root::Relay),
        ("live front", live, Root::Live),
    ];
    let serve = |name, listeners, root| {
        let front = parts.front(config, fleet, root);
        parts
            .tasks
            .spawn(name, front.serve(listeners, accepting.clone()));
    };
    serve("front", main, None);
    for (name, listener, root) in rooted {
        if let Some(listener) = listener {
            serve(name, vec![listener], Some(root));
        }
    }
    admin
}

fn spawn_admin(
    parts: &Parts,
    gateway: &Arc<Gateway>,
    settings: &Arc<ArcSwap<admin::Settings>>,
    stop: CancellationToken,
    listener: TcpListener,
) {
    let tokens = Arc::clone(&parts.admin_tokens);
    let router = admin::router(admin::State {
        control: Arc::clone(gateway),
        settings: Arc::clone(settings),
        tokens: Arc::new(move |presented| tokens.check(presented)),
        readiness: parts.readiness.clone(),
        registry: Arc::clone(&parts.registry),
        metrics: parts.metrics.http.clone(),
        clock: parts.clock,
    });
    let limits = ListenerLimits::default();
    let stopped = async move { stop.cancelled().await };
    match parts.certificates.admin_config() {
        None => parts
            .tasks
            .spawn("admin", admin::serve(listener, router, limits, stopped)),
        Some(config) => {
            let accept = move |tcp| {
                let config = Arc::clone(&config);
                async move {
                    TlsStream::accept(config, tcp)
                        .await
                        .map_err(io::Error::other)
                }
            };
            let serving = admin::serve_with(listener, router, limits, accept, stopped);
            parts.tasks.spawn("admin", serving);
        }
    }
}

fn spawn_upkeep(parts: &Parts, fleet: &Arc<Fleet>) {
    let upkeep = upkeep::Upkeep {
        clock: parts.clock,
        tasks: parts.tasks.clone(),
        bus: parts.bus.clone(),
        door: Arc::clone(&parts.door),
        fleet: Arc::clone(fleet),
        revocations: Arc::clone(&parts.revocations),
        metrics: Arc::clone(&parts.metrics.edge),
    };
    parts
        .tasks
        .spawn("upkeep", upkeep.run(parts.tasks.stopping()));
    // Revocations act at once, not at the next round.
    let (fleet, mut changed) = (Arc::clone(fleet), parts.revocations.subscribe());
    let stopping = parts.tasks.stopping();
    parts.tasks.spawn("revocations", async move {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                change = changed.changed() => match change {
                    Ok(()) => fleet.sweep_revoked(),
                    Err(_) => return,
                },
            }
        }
    });
}

fn spawn_reload(
    parts: &Parts,
    reloader: Reloader,
    hangups: Hangups,
    gateway: &Arc<Gateway>,
    settings: &Arc<ArcSwap<admin::Settings>>,
    logging: Logging,
) {
    let (gateway, settings) = (Arc::clone(gateway), Arc::clone(settings));
    let (current, around) = (Arc::clone(&parts.current), parts.around.clone());
    let certificates = parts.certificates.clone();
    let running = parts.relay.clone();
    let proxy = parts.proxy.clone();
    let apply = move |config: Arc<Config>| {
        // Whatever may fail comes first; from the swap on nothing does.
        let before = current.load_full();
        let live = live::live(&config, &around, before.relay.as_ref())?;
        let relayed = running
            .as_ref()
            .map(|running| running.settings(&config))
            .transpose()?;
        certificates.reload()?;
        looseness::warn_of(&config, Some(&gateway.config.load()));
        current.store(Arc::new(live));
        if let (Some(running), Some(relayed)) = (&running, relayed) {
            running.relay.reconfigure(relayed);
        }
        settings.store(Arc::new(live::admin_settings(&config)));
        logging.set_levels(&config.log);
        gateway.config.store(Arc::clone(&config));
        if let Some(proxy) = &proxy {
            proxy.reconfigure(&config);
        }
        Ok(())
    };
    let metrics = parts.metrics.reload.clone();
    let logged = parts
        .proxy
        .as_ref()
        .map(|running| Arc::clone(&running.proxy));
    let observe = move |outcome: &Outcome| match outcome {
        // Whoever rotates logs signals and changes no setting.
        Outcome::Unchanged => {
            if let Some(log) = logged.as_ref().and_then(|proxy| proxy.log()) {
                log.reopen();
            }
        }
        Outcome::Applied { .. } => {
            metrics.applied.inc();
        }
        Outcome::Refused(_) => {
            metrics.refused.inc();
        }
    };
    parts.tasks.spawn(
        "reload",
        reloader.run(hangups, parts.tasks.stopping(), apply, observe),
    );
}

/// A gateway that can't keep messages any more sends its clients elsewhere; what it has it
/// still delivers.
fn watch_outbox(parts: &Parts) {
    let Some(running) = &parts.relay else {
        return;
    };
    let failed = running.relay.outbox().failed();
    let (readiness, stopping) = (parts.readiness.clone(), parts.tasks.stopping());
    parts.tasks.spawn("outbox watch", async move {
        tokio::select! {
            () = failed.cancelled() => {
                error!("the outbox has failed and takes nothing more until a restart");
                readiness.advance(Stage::Failed);
            }
            () = stopping.cancelled() => {}
        }
    });
}

async fn drain(config: &Config, parts: &Parts, accepting: &CancellationToken, fleet: &Fleet) {
    // Balancers look at readiness: they get their time before anything is refused.
    parts.door.leave();
    parts.readiness.advance(Stage::Draining);
    tokio::time::sleep(config.drain.delay).await;
    accepting.cancel();
    // The delay is a part of the grace.
    let left = config.drain.grace.saturating_sub(config.drain.delay);
    fleet.drain(parts.clock, config.drain.rate, left).await;
}

/// An error with its causes, in one line; some name theirs themselves.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let reason = cause.to_string();
        if !text.ends_with(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
        }
        source = cause.source();
    }
    text
}
