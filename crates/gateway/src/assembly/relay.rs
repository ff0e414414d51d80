//! The relay, from its configuration.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use auth::settings::Secret;
use auth::signature::SignatureMode;
use auth::{SignatureSettings, Signatures};
use bus::{Bus, NatsConnection};
use edge::live;
use lifecycle::{Clock, Tasks};
use outbox::{OpenError, disk, jetstream, redis};
use policy::{Backoff, BreakerSettings, BudgetSettings, Timeouts};
use protocol::dialect::Pulse;
use protocol::settings::{ChannelOptions, Namespace, SlowClientPolicy};
use protocol::stratix::{self, Level};
use router::relay::{HistoryLimits, Overflow, Parts, Rates, Relay, Settings};
use router::table::{Builder, RouteTable, Rule};
use upstream::ws_agent::{AgentAuth, AgentsConfig, DataEncoding, Identity, Peer, Target};
use websocket::Limits;

use super::{AssemblyError, chain};
use crate::config::{
    Ack, BufferKind, ClientAuth, Config, Overflow as OverflowRule, Sync as SyncRule,
};
use crate::echo_agent;

/// Its name can't be a client's, because of the dot.
const NAMESPACE: &str = "relay.agents";

/// How long a client of the dialect may be too slow (`contracts`: relay R17).
const SLOW_PATIENCE: Duration = Duration::from_secs(30);

/// Most bytes of waiting messages held in memory.
const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a broker may take to be reached at the start.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// The relay and what has to outlive it.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) relay: Arc<Relay>,
    /// Couriers: they end before the links, so that what travels may arrive.
    tasks: Tasks,
    /// Links to agents.
    agent_tasks: Tasks,
    /// What keeps the outbox going.
    outbox_tasks: Tasks,
    /// The demo's route, if there is one.
    demo: Option<Arc<RouteTable>>,
}

/// Opens the outbox, takes up what is in it, and starts to deliver.
pub(super) async fn start(
    config: &Config,
    bus: &Bus,
    clock: Clock,
) -> Result<Option<Running>, AssemblyError> {
    if !config.relay.is_on() {
        return Ok(None);
    }
    let (tasks, agent_tasks, outbox_tasks) = (Tasks::new(), Tasks::new(), Tasks::new());
    let refuse = |error: &dyn std::error::Error| AssemblyError::Data(chain(error));
    let folder = config.relay.folder(&config.data_dir);
    let identity = Identity::open(&folder.join("identity.json")).map_err(|error| refuse(&error))?;
    let kind = buffer(config).await?;
    let outbox = outbox::open(kind, &outbox_tasks, clock)
        .await
        .map_err(|error| match &error {
            OpenError::Disk(disk::OpenError::Damaged { .. }) => AssemblyError::Data(format!(
                "{} (in {}; relay.buffer.accept_loss: true gives up what is damaged)",
                chain(&error),
                folder.display(),
            )),
            _ => refuse(&error),
        })?;
    let demo = match config.demo.is_on() && config.relay.table.routes().is_empty() {
        false => None,
        true => {
            let address = echo_agent::start(&agent_tasks, clock).map_err(|error| refuse(&error))?;
            Some(Arc::new(
                demo_table(address).map_err(AssemblyError::Settings)?,
            ))
        }
    };
    let settings = settings(config, demo.as_ref()).map_err(AssemblyError::Settings)?;
    let mut agents = AgentsConfig::new(Arc::new(identity), uuid::Uuid::new_v4().as_u64_pair().0);
    agents.connections_max = config.relay.connections_max;
    let relay = Relay::start(Parts {
        outbox,
        settings,
        agents,
        bus: bus.clone(),
        clock,
        tasks: tasks.clone(),
        agent_tasks: agent_tasks.clone(),
    });
    Ok(Some(Running {
        relay,
        tasks,
        agent_tasks,
        outbox_tasks,
        demo,
    }))
}

impl Running {
    /// The settings of another configuration.
    pub(super) fn settings(&self, config: &Config) -> Result<Settings, String> {
        settings(config, self.demo.as_ref())
    }

    /// Lets go of the agents, and syncs what was noted.
    pub(super) async fn stop(&self, grace: Duration) {
        if !self.tasks.stop(grace).await {
            tracing::warn!("messages were on their way to agents at the end");
        }
        self.relay.close(grace).await;
        for tasks in [&self.agent_tasks, &self.outbox_tasks] {
            if !tasks.stop(grace).await {
                tracing::warn!("tasks of the relay were still running at the end");
            }
        }
    }
}

/// The demo's table: everybody talks to the echo agent.
fn demo_table(address: SocketAddr) -> Result<RouteTable, String> {
    let agent = Target {
        url: format!("ws://{address}/").into(),
        peer: Peer::Stratix,
        auth: AgentAuth::None,
        tls_fingerprint: None,
        agent_id: "main".into(),
        deltas: false,
        acks: true,
        data_encoding: DataEncoding::Plain,
        dial_timeout: Duration::from_secs(10),
        try_timeout: Duration::from_secs(30),
        in_flight: 256,
        idle_timeout: Duration::from_secs(300),
    };
    let rule = Rule::prefix("", vec![agent]).map_err(|error| error.to_string())?;
    let mut builder = Builder::default();
    builder.source("demo");
    builder.add(rule).map_err(|error| error.to_string())?;
    Ok(builder.build())
}

/// What the sessions of native clients know of the relay: the namespace of agents.
pub(super) fn namespace(config: &Config) -> Namespace {
    let history = &config.relay.history;
    let keeps = history.per_client > 0 && !history.ttl.is_zero();
    Namespace {
        name: NAMESPACE.to_owned(),
        pattern: Some(protocol::agent::PATTERN.to_owned()),
        options: ChannelOptions {
            relay: true,
            history_size: history.per_client,
            history_ttl: history.ttl,
            history_meta_ttl: history.ttl.saturating_mul(2),
            force_recovery: keeps,
            allow_subscribe_for_client: true,
            allow_publish_for_client: true,
            allow_history_for_subscriber: true,
            slow_client: SlowClientPolicy::Disconnect,
            ..ChannelOptions::default()
        },
    }
}

/// What the edge knows of the relay.
pub(super) fn live(config: &Config, signatures: Option<Arc<Signatures>>) -> Option<live::Relay> {
    let relay = &config.relay;
    relay.is_on().then(|| {
        let message_max = relay.message_size_max;
        // Text may take more than its payload: Base64, escapes, the envelope.
        let frame_max = message_max.saturating_mul(2).saturating_add(65_536);
        live::Relay {
            is_open: relay.auth == ClientAuth::None,
            websocket: Limits {
                message_max: frame_max,
                frame_max: frame_max as u64,
                inflated_max: frame_max,
                inflate_ratio_max: config.websocket.compression.inflate_ratio_limit,
            },
            chunks: stratix::Limits {
                message_max: message_max as u64,
                bytes: message_max as u64,
                ..stratix::Limits::default()
            },
            message_size_max: message_max,
            history_max: relay.history.per_client,
            queue: relay.queue,
            slow_patience: SLOW_PATIENCE,
            signatures,
        }
    })
}

/// How clients of the dialect are kept alive.
pub(super) fn pulse(config: &Config) -> Pulse {
    Pulse {
        interval: config.relay.ping_interval,
        timeout: config.relay.pong_timeout,
    }
}

/// Checks signatures as configured; what is known of used nonces is kept.
pub(super) fn signatures(
    settings: &SignatureSettings,
    before: Option<&Signatures>,
) -> Result<Option<Arc<Signatures>>, String> {
    if settings.mode == SignatureMode::Off {
        return Ok(None);
    }
    let made = match before {
        None => Signatures::new(settings),
        Some(before) => before.renewed(settings),
    };
    made.map(|made| Some(Arc::new(made)))
        .map_err(|error| format!("relay.signatures: {error}"))
}

fn settings(config: &Config, demo: Option<&Arc<RouteTable>>) -> Result<Settings, String> {
    let relay = &config.relay;
    let own = relay.table.routes();
    let table = match demo {
        Some(demo) if own.is_empty() => Arc::clone(demo),
        _ => Arc::clone(own),
    };
    let refuse = |error: policy::PolicyError| format!("relay: {error}");
    let retries = &relay.retries;
    let backoff = |base, factor, max, jitter| Backoff::new(base, factor, max, jitter);
    let breaker = &relay.breaker;
    let policy = policy::Settings {
        timeouts: Timeouts {
            total: None,
            per_try: None,
        },
        retries: policy::Retries {
            attempts: retries.attempts,
            backoff: backoff(retries.base, retries.factor, retries.max, retries.jitter)
                .map_err(refuse)?,
            ..policy::Retries::default()
        },
        budget: BudgetSettings::default(),
        breaker: (breaker.failures > 0)
            .then(|| {
                Ok(BreakerSettings {
                    consecutive: breaker.failures,
                    open: backoff(breaker.open, 2.0, breaker.open_max, 0.1)?,
                    // Messages wait in order anyhow: there is no rush to be spread.
                    ramp: Duration::ZERO,
                    ..BreakerSettings::default()
                })
            })
            .transpose()
            .map_err(refuse)?,
        ..policy::Settings::default()
    };
    let history = &relay.history;
    Ok(Settings {
        table,
        level: match relay.ack {
            Ack::Accepted => Level::Accepted,
            Ack::Durable => Level::Durable,
            Ack::Delivered => Level::Delivered,
        },
        policy,
        rates: Rates {
            client: rate(relay.rate.per_client.rate, relay.rate.per_client.burst)
                .map_err(refuse)?,
            agent: rate(relay.rate.per_agent.rate, relay.rate.per_agent.burst).map_err(refuse)?,
        },
        buffer_size: usize::try_from(relay.buffer.size).unwrap_or(usize::MAX),
        overflow: match relay.buffer.overflow {
            OverflowRule::DropOldest => Overflow::DropOldest,
            OverflowRule::Reject => Overflow::Reject,
        },
        message_size_max: relay.message_size_max,
        dedup_window_ms: millis(relay.dedup_window),
        dedup_max: relay.dedup_max,
        history: HistoryLimits {
            per_client: history.per_client,
            message_size_max: history.message_size_max,
            ttl_ms: millis(history.ttl),
            bytes_max: history.bytes_max,
        },
        dead_max: usize::try_from(relay.buffer.dead_max).unwrap_or(usize::MAX),
        dead_retention_ms: millis(relay.buffer.dead_retention),
        held_bytes_max: HELD_BYTES_MAX,
        log_interval: relay.metrics_log_interval,
    })
}

fn rate(per_second: u32, burst: u32) -> Result<Option<policy::Rate>, policy::PolicyError> {
    (per_second > 0)
        .then(|| policy::Rate::new(f64::from(per_second), burst.max(1)))
        .transpose()
}

async fn buffer(config: &Config) -> Result<outbox::Config, AssemblyError> {
    let buffer = &config.relay.buffer;
    // Contents of a record: the message and what is known about it.
    let record_max = config
        .relay
        .message_size_max
        .saturating_mul(2)
        .saturating_add(65_536);
    Ok(match buffer.kind {
        BufferKind::Disk => {
            let mut own = disk::Config::new(config.relay.folder(&config.data_dir));
            own.sync = match buffer.sync {
                SyncRule::Always => disk::Sync::Always,
                SyncRule::Interval => disk::Sync::Interval(buffer.sync_interval),
                SyncRule::None => disk::Sync::Never,
            };
            own.bytes_max = buffer.bytes_max;
            own.accept_loss = buffer.accept_loss;
            // The relay counts dead letters itself; this is only against what it forgets.
            own.dead_retention = buffer.dead_retention.saturating_mul(2);
            own.dead_max = usize::try_from(buffer.dead_max)
                .unwrap_or(usize::MAX)
                .saturating_mul(2);
            outbox::Config::Disk(own)
        }
        BufferKind::Redis => {
            let redis = &buffer.redis;
            let mut own = redis::Config::new(redis.url.clone(), redis.stream.clone());
            own.user = Some(buffer.redis.user.clone()).filter(|user| !user.is_empty());
            own.password = revealed(&buffer.redis.password);
            own.record_bytes_max = record_max;
            outbox::Config::Redis(own)
        }
        BufferKind::Nats => {
            let server = buffer.nats.server.connection("tidegate", CONNECT_WITHIN);
            let connection = NatsConnection::connect(&server)
                .await
                .map_err(|error| AssemblyError::Data(chain(&error)))?;
            let mut own = jetstream::Config::new(connection);
            own.stream.clone_from(&buffer.nats.stream);
            own.replicas = usize::from(buffer.nats.replicas);
            own.record_bytes_max = record_max;
            outbox::Config::Nats(own)
        }
    })
}

fn revealed(secret: &Secret) -> Option<String> {
    secret
        .reveal()
        .filter(|secret| !secret.is_empty())
        .map(str::to_owned)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}
