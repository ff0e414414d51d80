//! The bus that the configuration asks for.

use std::sync::Arc;
use std::time::Duration;

use bus::{
    Bus, MemoryBus, MemoryConfig, NatsBus, NatsBusConfig, NatsBusError, NatsConnection,
    StreamConfig, StreamStorage,
};
use edge::live::BusHealth;
use lifecycle::Tasks;
use protocol::subject::{Pattern, SubjectError};
use tracing::info;

use super::{AssemblyError, chain};
use crate::config::{self, BusKind, Config};

/// Who uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A gateway: channels with a history, presence, state of the cluster.
    Gateway,
    /// The aggregator alone: it publishes subjects of others and answers requests, and its
    /// credentials need not allow more.
    Market,
}

/// Opens it. One over NATS is connected, and has its streams, when this returns.
pub(super) async fn open(
    config: &Config,
    role: Role,
    node: &str,
    tasks: &Tasks,
) -> Result<Bus, AssemblyError> {
    let memory = &config.bus.memory;
    let limits = MemoryConfig {
        history_bytes_max: memory.history_bytes_max,
        channels_max: memory.channels_max,
        ..MemoryConfig::default()
    };
    match config.bus.kind {
        BusKind::Memory => Ok(Bus::Memory(Arc::new(MemoryBus::new(&limits)))),
        BusKind::Nats => {
            let nats = &config.bus.nats;
            let failed = |error: &dyn std::error::Error| AssemblyError::Bus(chain(error));
            let settings = settings(nats, role, node, limits).map_err(|error| failed(&error))?;
            info!(urls = nats.server.urls.join(", "), "connecting to nats");
            let connection = nats.server.connection(
                &format!("tidegate {} {node}", role.as_str()),
                nats.connect_within,
            );
            let connection = NatsConnection::connect(&connection).await;
            let connection = connection.map_err(|error| failed(&error))?;
            let bus = open_on(connection, &settings, nats.connect_within, tasks).await;
            Ok(Bus::Nats(bus.map_err(|error| failed(&error))?))
        }
    }
}

/// Who may not make the streams waits for whoever may, as long as for the server.
async fn open_on(
    connection: NatsConnection,
    settings: &NatsBusConfig,
    within: Duration,
    tasks: &Tasks,
) -> Result<Arc<NatsBus>, NatsBusError> {
    let mut waited = Duration::ZERO;
    loop {
        match NatsBus::open(connection.clone(), settings, tasks).await {
            Err(NatsBusError::StreamAbsent { stream }) if waited < within => {
                if waited.is_zero() {
                    info!(stream, "waiting for a stream that somebody else is to make");
                }
                tokio::time::sleep(PAUSE).await;
                waited += PAUSE;
            }
            outcome => return outcome,
        }
    }
}

/// Between two looks for a stream.
const PAUSE: Duration = Duration::from_millis(250);

impl Role {
    /// As the server's monitoring shows it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Market => "market",
        }
    }
}

/// Sends what waits to be sent, and leaves.
pub(super) async fn close(bus: &Bus, grace: Duration) {
    match bus {
        Bus::Memory(_) => {}
        Bus::Nats(bus) => bus.connection().close(grace).await,
    }
}

/// Whether it can be reached.
pub(super) fn health(bus: &Bus) -> BusHealth {
    match bus.nats_stats() {
        None => BusHealth {
            is_up: true,
            reconnects: 0,
            storms: 0,
        },
        Some(stats) => BusHealth {
            is_up: stats.connected,
            reconnects: stats.reconnects_total,
            storms: stats.storms_total,
        },
    }
}

fn settings(
    nats: &config::NatsBus,
    role: Role,
    node: &str,
    limits: MemoryConfig,
) -> Result<NatsBusConfig, SubjectError> {
    let storage = |storage: config::StreamStorage| match storage {
        config::StreamStorage::File => StreamStorage::File,
        config::StreamStorage::Memory => StreamStorage::Memory,
    };
    let stream = |stream: &config::NatsStream| {
        Ok(StreamConfig {
            name: stream.name.clone(),
            subjects: patterns(&stream.subjects)?,
            max_age: stream.max_age,
            max_bytes: stream.max_bytes,
            max_per_subject: stream.max_msgs_per_subject,
            storage: storage(stream.storage),
        })
    };
    let streams: Result<Vec<_>, SubjectError> = nats.streams.iter().map(stream).collect();
    Ok(NatsBusConfig {
        prefix: nats.prefix.clone(),
        node: node.to_owned(),
        subjects: patterns(&nats.subjects)?,
        streams: streams?,
        create: nats.create,
        replicas: nats.history.replicas.into(),
        history_max: usize::try_from(nats.history.size_max).unwrap_or(usize::MAX),
        history_bytes_max: nats.history.max_bytes,
        history_storage: storage(nats.history.storage),
        linger: nats.linger,
        keep: role == Role::Gateway,
        limits,
        ..NatsBusConfig::default()
    })
}

fn patterns(texts: &[String]) -> Result<Vec<Pattern>, SubjectError> {
    texts.iter().map(|text| Pattern::new(text)).collect()
}
