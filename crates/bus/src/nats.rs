//! The bus over NATS.
//!
//! What is published goes to NATS and comes back from it, for this process too, so all
//! gateways hear one order. Here a bus in memory only hands out what comes. Which subjects
//! and streams there are is told by [`names`] and [`provision`], what travels by [`wire`],
//! how positions are given by [`history`], how subscriptions live by [`interest`], and what
//! happens beside all that by [`upkeep`]. What the bus says of subjects of others stands in
//! [`foreign`], requests in [`services`], words and state of the cluster in [`cluster`].
//!
//! Where this bus differs from the one in memory:
//!
//! - A receiver without room does not refuse a publication, which others may have already:
//!   it misses a delivery, counted, and notices by the next position.
//! - How long a stream's position is remembered counts from its last publication, not from
//!   its last reading.
//! - On subjects of others a publication has no history here, and joins and leaves stay
//!   within the process.

mod cluster;
mod config;
mod connection;
mod error;
mod figures;
mod foreign;
pub mod fuzzing;
mod history;
mod interest;
mod listening;
mod names;
mod outgoing;
mod presence;
mod provision;
mod services;
mod store;
mod two_generations;
mod upkeep;
mod version;
mod wire;

use std::sync::{Arc, Mutex};

use async_nats::HeaderMap;
use bytes::Bytes;
use lifecycle::{Clock, Tasks};
use protocol::channel::Channel;
use protocol::message::ClientInfo;
use protocol::subject::Pattern;
use tokio::sync::mpsc;

use self::figures::Figures;
use self::history::Streams;
use self::interest::{Interests, Pump, Wanted};
use self::names::Names;
use self::outgoing::{Outgoing, Queue};
use self::presence::Presence;
use self::provision::{Foreign, IDEMPOTENCY_WINDOW};
use self::store::Store;
use crate::{
    Answer, BusError, Emit, History, HistoryPolicy, HistoryQuery, Keep, MemoryBus, Now,
    PresenceStats, Publish, Published, Sink, SinkId, Stats, Suppression,
};

pub(crate) use self::cluster::{NatsKept, NatsTold};
pub use self::config::{NatsBusConfig, StreamConfig, StreamStorage};
pub use self::connection::{NatsConfig, NatsConnection, NatsCredentials, NatsError, NatsState};
pub use self::error::NatsBusError;
pub use self::figures::{LATENCY_BOUNDS_MS, NatsStats};
pub(crate) use self::services::NatsRequests;

/// Publish/subscribe, streams and presence of all gateways on one NATS.
#[derive(Debug)]
pub struct NatsBus {
    connection: NatsConnection,
    names: Arc<Names>,
    node: String,
    clock: Clock,
    keeps: bool,
    memory: Arc<MemoryBus>,
    interests: Arc<Interests>,
    streams: Arc<Streams>,
    presence: Presence,
    foreign: Mutex<Arc<[Foreign]>>,
    config: NatsBusConfig,
    store: Store,
    queue: Queue,
    figures: Arc<Figures>,
}

impl NatsBus {
    /// Checks the server, finds or makes the streams, and begins. Its tasks end with the
    /// group; what waits to be sent is handed to the connection before.
    ///
    /// # Errors
    ///
    /// [`NatsBusError`] says what is missing.
    pub async fn open(
        connection: NatsConnection,
        config: &NatsBusConfig,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, NatsBusError> {
        config.check()?;
        version::check_version(&connection.server_version())?;
        let client = connection.client().clone();
        let names = Arc::new(Names::new(&config.prefix, &config.subjects));
        let foreign = Box::pin(provision::provision(&client, config, &names)).await?;
        let clock = Clock::start();
        let figures = Arc::new(Figures::default());
        let store = Store::new(connection.clone(), clock, Arc::clone(&figures));
        let queue = Queue::open(client, config.queue, Arc::clone(&figures), tasks);
        let memory = Arc::new(MemoryBus::new(&config.limits));
        let (changes, changing) = mpsc::channel(CHANGES);
        let interests = Arc::new(Interests::new(
            changes,
            Arc::clone(&memory),
            config.limits.channels_max,
            config.linger,
        ));
        let pump = Pump {
            connection: connection.clone(),
            names: Arc::clone(&names),
            interests: Arc::clone(&interests),
            memory: Arc::clone(&memory),
            figures: Arc::clone(&figures),
            clock,
            changes: changing,
            denials: connection.denials(),
        };
        tasks.spawn("nats-pump", interest::run(pump, tasks.stopping()));
        let bus = Arc::new(Self {
            streams: Arc::new(Streams::new(store.clone(), names.history_stream.clone())),
            presence: Presence::new(
                config.limits.presence_max,
                config.node.clone(),
                Arc::clone(&names),
                queue.clone(),
                store.clone(),
            ),
            connection,
            names,
            node: config.node.clone(),
            clock,
            keeps: config.keep,
            memory,
            interests,
            foreign: Mutex::new(foreign.into()),
            config: config.clone(),
            store,
            queue,
            figures,
        });
        tasks.spawn(
            "nats-upkeep",
            upkeep::run(Arc::clone(&bus), tasks.stopping()),
        );
        Ok(bus)
    }

    /// The connection it uses.
    pub fn connection(&self) -> &NatsConnection {
        &self.connection
    }

    /// Counts for metrics of NATS.
    pub fn nats_stats(&self) -> NatsStats {
        NatsStats {
            connected: self.connection.is_connected(),
            server_version: self.connection.server_version(),
            interests: self.interests.len(),
            dropped_total: self.memory.stats().undelivered_total + self.connection.drops(),
            ..self.figures.stats()
        }
    }

    pub(crate) fn attach(&self, sink: Arc<dyn Sink>) -> SinkId {
        self.memory.attach(sink)
    }

    pub(crate) fn detach(&self, sink: SinkId) {
        self.interests.remove_sink(sink, self.clock.mono_ms());
    }

    pub(crate) fn subscribe(
        &self,
        sink: SinkId,
        channel: &Channel,
    ) -> Answer<Result<(), BusError>> {
        self.interests.add(&Wanted::Channel(channel.clone()), sink)
    }

    pub(crate) fn unsubscribe(&self, sink: SinkId, channel: &Channel) {
        let wanted = Wanted::Channel(channel.clone());
        self.interests.remove(&wanted, sink, self.clock.mono_ms());
    }

    pub(crate) fn subscribe_pattern(
        &self,
        sink: SinkId,
        pattern: &Pattern,
    ) -> Answer<Result<(), BusError>> {
        self.interests.add(&Wanted::Pattern(pattern.clone()), sink)
    }

    pub(crate) fn unsubscribe_pattern(&self, sink: SinkId, pattern: &Pattern) {
        let wanted = Wanted::Pattern(pattern.clone());
        self.interests.remove(&wanted, sink, self.clock.mono_ms());
    }

    pub(crate) fn publish(
        self: &Arc<Self>,
        now: Now,
        publish: Publish,
    ) -> Answer<Result<Published, BusError>> {
        let is_own = !self.names.is_verbatim(&publish.channel);
        match (publish.history, &publish.idempotency_key) {
            (Some(policy), _) if is_own => {
                if !self.keeps {
                    return Answer::Now(Err(BusError::Unavailable));
                }
                let subject = self.names.history(&publish.channel);
                self.streams.publish(now, publish, policy, subject)
            }
            (_, Some(key)) if self.keeps => {
                let bus = Arc::clone(self);
                let id = history::message_id(&publish.channel, key);
                Answer::Later(Box::pin(
                    async move { bus.publish_once(now, publish, id).await },
                ))
            }
            (_, _) => Answer::Now(self.send(now, publish)),
        }
    }

    /// Publishes without history, if nobody did so under this name in the last minutes.
    async fn publish_once(
        &self,
        now: Now,
        publish: Publish,
        id: String,
    ) -> Result<Published, BusError> {
        // Kept without being sent, the name would refuse the next try as well.
        let room = self.queue.room(Self::outgoing(&self.names, now, publish))?;
        let first = Keep {
            key: format!("once.{id}"),
            value: Some(Bytes::new()),
            ttl: Some(IDEMPOTENCY_WINDOW),
            after: Some(0),
        };
        match cluster::keep(&self.store, &self.names, first).await {
            Ok(_) => {
                room.send();
                Ok(SENT)
            }
            Err(BusError::Outdated) => Ok(Published {
                position: None,
                suppressed: Some(Suppression::Duplicate),
            }),
            Err(error) => Err(error),
        }
    }

    fn send(&self, now: Now, publish: Publish) -> Result<Published, BusError> {
        self.queue.send(Self::outgoing(&self.names, now, publish))?;
        Ok(SENT)
    }

    fn outgoing(names: &Names, now: Now, publish: Publish) -> Outgoing {
        Outgoing {
            subject: names.live(&publish.channel),
            headers: Some(history::headers(now, &publish)),
            payload: publish.data,
        }
    }

    pub(crate) fn emit(&self, now: Now, emit: Emit) -> Result<(), BusError> {
        let mut headers = HeaderMap::new();
        headers.insert(wire::TIME, now.unix_ms.to_string());
        if let Some(position) = emit.position {
            wire::put_position(&mut headers, position);
        }
        self.queue.send(Outgoing {
            subject: self.names.live(&emit.channel),
            headers: Some(headers),
            payload: emit.data,
        })
    }

    pub(crate) fn publish_join(&self, channel: &Channel, info: Arc<ClientInfo>) {
        if self.names.is_verbatim(channel) {
            self.memory.publish_join(channel, info);
        } else {
            self.tell_subscribers(channel, "join", &info);
        }
    }

    pub(crate) fn publish_leave(&self, channel: &Channel, info: Arc<ClientInfo>) {
        if self.names.is_verbatim(channel) {
            self.memory.publish_leave(channel, info);
        } else {
            self.tell_subscribers(channel, "leave", &info);
        }
    }

    fn tell_subscribers(&self, channel: &Channel, kind: &str, info: &ClientInfo) {
        let mut headers = HeaderMap::new();
        headers.insert(wire::KIND, kind);
        headers.insert(wire::INFO, wire::write_info(info));
        let outgoing = Outgoing {
            subject: self.names.live(channel),
            headers: Some(headers),
            payload: Bytes::new(),
        };
        // As far as there is room; what there was none for is counted.
        self.queue.send(outgoing).unwrap_or_default();
    }

    pub(crate) fn history(
        self: &Arc<Self>,
        now: Now,
        channel: &Channel,
        policy: &HistoryPolicy,
        query: HistoryQuery,
    ) -> Answer<Result<History, BusError>> {
        let (bus, channel, policy) = (Arc::clone(self), channel.clone(), *policy);
        if self.names.is_verbatim(&channel) {
            return Answer::Later(Box::pin(
                async move { bus.read_verbatim(&channel, query).await },
            ));
        }
        if !self.keeps {
            return Answer::Now(Err(BusError::Unavailable));
        }
        let check_at_ms = self.clock.mono_ms() + self.spread_out(&channel);
        self.interests.is_positioned(&channel, false, check_at_ms);
        let subject = self.names.history(&channel);
        Answer::Later(Box::pin(async move {
            let streams = Arc::clone(&bus.streams);
            streams.read(now, channel, policy, query, &subject).await
        }))
    }

    pub(crate) fn remove_history(
        self: &Arc<Self>,
        channel: &Channel,
    ) -> Answer<Result<(), BusError>> {
        if self.names.is_verbatim(channel) || !self.keeps {
            return Answer::Now(Ok(()));
        }
        let (bus, channel) = (Arc::clone(self), channel.clone());
        Answer::Later(Box::pin(async move {
            let subject = bus.names.history(&channel);
            bus.streams.remove(bus.now(), &channel, &subject).await
        }))
    }

    pub(crate) fn presence_add(
        &self,
        channel: &Channel,
        info: Arc<ClientInfo>,
    ) -> Answer<Result<(), BusError>> {
        if !self.keeps {
            return Answer::Now(Err(BusError::Unavailable));
        }
        Answer::Now(self.presence.add(channel, info, self.clock.mono_ms()))
    }

    pub(crate) fn presence_remove(&self, channel: &Channel, client: &str) {
        self.presence.remove(channel, client);
    }

    pub(crate) fn presence(
        self: &Arc<Self>,
        channel: &Channel,
    ) -> Answer<Result<Vec<Arc<ClientInfo>>, BusError>> {
        let (bus, channel) = (Arc::clone(self), channel.clone());
        Answer::Later(Box::pin(async move { bus.presence.list(&channel).await }))
    }

    pub(crate) fn presence_stats(
        self: &Arc<Self>,
        channel: &Channel,
    ) -> Answer<Result<PresenceStats, BusError>> {
        let (bus, channel) = (Arc::clone(self), channel.clone());
        Answer::Later(Box::pin(async move { bus.presence.stats(&channel).await }))
    }

    pub(crate) fn sweep(&self, now: Now) {
        self.memory.sweep(now);
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            presence: self.presence.len(),
            ..self.memory.stats()
        }
    }

    fn now(&self) -> Now {
        Now {
            mono_ms: self.clock.mono_ms(),
            unix_ms: self.clock.unix_ms(),
        }
    }

    /// A time within the period of looking after channels, of the channel's own.
    fn spread_out(&self, channel: &Channel) -> u64 {
        let epoch = wire::derived_epoch(&[&self.node, channel]);
        let letters = epoch.as_str().bytes();
        let number = letters.fold(0_u64, |number, letter| number * 31 + u64::from(letter));
        interest::CHECK_EVERY_MS / 2 + number % interest::CHECK_EVERY_MS
    }
}

/// What was published where nobody counts.
const SENT: Published = Published {
    position: None,
    suppressed: None,
};

/// Wishes that wait to be taken up; one beyond is refused as busy.
const CHANGES: usize = 65_536;
