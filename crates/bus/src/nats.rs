//! The bus over NATS.
//!
//! What is published goes to NATS and comes back from it, for this process too, so all
//! gateways hear one order. Here a bus in memory only hands out what comes. Which subjects
//! and streams there are is told by [`names`] and [`provision`], what travels by [`wire`],
//! how positions are given by [`history`], how subscriptions live by [`interest`], and what
//! happens beside all that by [`upkeep`].
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
mod figures;
pub mod fuzzing;
mod history;
mod interest;
mod names;
mod outgoing;
mod presence;
mod provision;
mod store;
mod two_generations;
mod upkeep;
mod wire;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::client::{Request, RequestErrorKind};
use bytes::Bytes;
use futures_util::StreamExt as _;
use lifecycle::{Clock, Tasks};
use protocol::channel::Channel;
use protocol::message::ClientInfo;
use protocol::subject::Pattern;
use tokio::sync::mpsc;
use tracing::{error, warn};

use self::figures::Figures;
use self::history::Streams;
use self::interest::{Interests, Pump, Wanted};
use self::names::Names;
use self::outgoing::{Outgoing, Queue};
use self::presence::Presence;
use self::provision::{Foreign, IDEMPOTENCY_WINDOW};
use self::store::Store;
use crate::apps::{Asked, Reply};
use crate::{
    Answer, BusError, Emit, History, HistoryPolicy, HistoryQuery, Keep, Kept, MemoryBus, Message,
    Now, Position, PresenceStats, Publish, Published, Sink, SinkId, Stats, Suppression, Told,
    WatchKept,
};

pub(crate) use self::cluster::{NatsKept, NatsTold};
pub use self::config::{NatsBusConfig, StreamConfig, StreamStorage};
pub use self::connection::{NatsConfig, NatsConnection, NatsCredentials, NatsError, NatsState};
pub use self::figures::{LATENCY_BOUNDS_MS, NatsStats};

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

/// Why there is no bus over NATS.
#[derive(Debug, thiserror::Error)]
pub enum NatsBusError {
    /// A setting is wrong.
    #[error("setting {setting} of the bus over NATS can't be used: {why}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The server lacks what is used of it.
    #[error("nats-server {found} is too old; 2.12 or later is needed")]
    TooOld {
        /// Its version.
        found: String,
    },
    /// History, presence or streams are asked for.
    #[error("the NATS server or account has no JetStream, which history and streams need")]
    JetStreamOff,
    /// It is not there and may not be made.
    #[error("stream {stream:?} does not exist, and creating it is not allowed by the settings")]
    StreamAbsent {
        /// Which one.
        stream: String,
    },
    /// The server has no room for it.
    #[error("stream {stream:?} has no room at the server: {why}")]
    NoRoom {
        /// Which one.
        stream: String,
        /// What the server says.
        why: String,
    },
    /// It could not be made, or can't be used as it is.
    #[error("stream {stream:?} can't be used: {why}")]
    StreamFailed {
        /// Which one.
        stream: String,
        /// What the server says, or what is wrong.
        why: String,
    },
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
        check_version(&connection.server_version())?;
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
        let first = Keep {
            key: format!("once.{id}"),
            value: Some(Bytes::new()),
            ttl: Some(IDEMPOTENCY_WINDOW),
            after: Some(0),
        };
        match cluster::keep(&self.store, &self.names, first).await {
            Ok(_) => self.send(now, publish),
            Err(BusError::Outdated) => Ok(Published {
                position: None,
                suppressed: Some(Suppression::Duplicate),
            }),
            Err(error) => Err(error),
        }
    }

    fn send(&self, now: Now, publish: Publish) -> Result<Published, BusError> {
        self.queue.send(Outgoing {
            subject: self.names.live(&publish.channel),
            headers: Some(history::headers(now, &publish)),
            payload: publish.data,
        })?;
        Ok(Published {
            position: None,
            suppressed: None,
        })
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

    /// A subject of others: its last message, as far as a stream keeps it.
    async fn read_verbatim(
        &self,
        channel: &Channel,
        query: HistoryQuery,
    ) -> Result<History, BusError> {
        let check_at_ms = self.clock.mono_ms() + self.spread_out(channel);
        self.interests.is_positioned(channel, false, check_at_ms);
        let Some(last) = self.last_verbatim(channel).await? else {
            let top = self.unpublished(channel);
            return Ok(history::select(Vec::new(), top, query));
        };
        let headers = last.headers.as_ref();
        let Some(top) = wire::position(headers) else {
            let top = self.unpublished(channel);
            return Ok(history::select(Vec::new(), top, query));
        };
        let unix_ms = self.clock.unix_ms();
        let message = wire::message(channel.clone(), headers, last.payload, unix_ms);
        let kept = message.map(Arc::new).into_iter().collect();
        Ok(history::select(kept, top, query))
    }

    async fn last_verbatim(&self, channel: &Channel) -> Result<Option<store::Stored>, BusError> {
        match self.stream_over(channel) {
            Some(stream) => {
                let subject = self.names.live(channel);
                self.store.last(&stream.name, &subject).await
            }
            None => Ok(None),
        }
    }

    fn stream_over(&self, channel: &Channel) -> Option<Foreign> {
        let foreign = self.foreign();
        let covering = foreign.iter().find(|stream| {
            let mut subjects = stream.subjects.iter();
            subjects.any(|pattern| pattern.covers_text(channel))
        });
        covering.cloned()
    }

    fn foreign(&self) -> Arc<[Foreign]> {
        Arc::clone(&self.foreign.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Finds or makes the streams again: those in memory are gone with a server that
    /// restarted. Whether that is done.
    async fn provision_again(&self) -> bool {
        let client = self.connection.client();
        let found = Box::pin(provision::provision(client, &self.config, &self.names)).await;
        match found {
            Ok(found) => {
                *self.foreign.lock().unwrap_or_else(PoisonError::into_inner) = found.into();
                true
            }
            Err(error) => {
                error!(%error, "streams are not as they were");
                false
            }
        }
    }

    /// Where a subject of others stands on which nothing has been published.
    fn unpublished(&self, channel: &Channel) -> Position {
        let stream = self.stream_over(channel);
        Position {
            offset: 0,
            epoch: stream.map_or_else(|| wire::derived_epoch(&[channel]), |stream| stream.epoch),
        }
    }

    /// Where a channel stands; `None` where nobody counts.
    async fn top(&self, now: Now, channel: &Channel) -> Result<Option<Position>, BusError> {
        if self.names.is_verbatim(channel) {
            let last = self.last_verbatim(channel).await?;
            return Ok(last.and_then(|last| wire::position(last.headers.as_ref())));
        }
        let subject = self.names.history(channel);
        let top = self.streams.top(now, BIRTH, &subject).await?;
        Ok(Some(top))
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

    pub(crate) fn latest(
        self: &Arc<Self>,
        pattern: &Pattern,
    ) -> Answer<Result<Vec<Arc<Message>>, BusError>> {
        self.read_streams(pattern, None)
    }

    pub(crate) fn since(
        self: &Arc<Self>,
        pattern: &Pattern,
        unix_ms: u64,
    ) -> Answer<Result<Vec<Arc<Message>>, BusError>> {
        self.read_streams(pattern, Some(unix_ms))
    }

    /// What the streams over subjects of others keep: all since a time, or the last of each
    /// subject.
    fn read_streams(
        self: &Arc<Self>,
        pattern: &Pattern,
        since_unix_ms: Option<u64>,
    ) -> Answer<Result<Vec<Arc<Message>>, BusError>> {
        let (bus, pattern) = (Arc::clone(self), pattern.clone());
        Answer::Later(Box::pin(async move {
            let mut found = Vec::new();
            for stream in bus.foreign().iter() {
                let filters = stream.subjects.iter();
                for filter in filters.filter_map(|own| names::intersection(own, &pattern)) {
                    let kept = match since_unix_ms {
                        Some(since) => bus.store.since(&stream.name, &filter, since).await?,
                        None => bus.store.last_of_each(&stream.name, &filter).await?,
                    };
                    found.extend(kept.into_iter().filter_map(|one| {
                        let channel = bus.names.channel(&one.subject)?;
                        let unix_ms = bus.clock.unix_ms();
                        wire::message(channel, one.headers.as_ref(), one.payload, unix_ms)
                            .map(Arc::new)
                    }));
                }
            }
            Ok(found)
        }))
    }

    pub(crate) fn serve(
        self: &Arc<Self>,
        pattern: &Pattern,
    ) -> Answer<Result<NatsRequests, BusError>> {
        let (bus, pattern) = (Arc::clone(self), pattern.to_string());
        Answer::Later(Box::pin(async move {
            let client = bus.connection.client();
            let denials = bus.connection.denials();
            let group = "tidegate".to_owned();
            let subscribed = client.queue_subscribe(pattern.clone(), group).await;
            let questions = subscribed.map_err(|_| BusError::Unavailable)?;
            bus.sync(&pattern, denials).await?;
            Ok(NatsRequests {
                questions,
                queue: bus.queue.clone(),
                names: Arc::clone(&bus.names),
            })
        }))
    }

    pub(crate) fn request(
        self: &Arc<Self>,
        subject: &Channel,
        data: Bytes,
        within: Duration,
    ) -> Answer<Result<Bytes, BusError>> {
        let bus = Arc::clone(self);
        let subject = self.names.live(subject);
        Answer::Later(Box::pin(async move {
            let started = bus.clock.elapsed();
            let request = Request::new().payload(data).timeout(None);
            let lost = bus.connection.lost();
            let asking = async {
                tokio::select! {
                    reply = bus.connection.client().send_request(subject, request) => reply,
                    () = lost => Err(RequestErrorKind::Other.into()),
                }
            };
            let outcome = tokio::time::timeout(within, asking).await;
            bus.figures
                .took(bus.clock.elapsed().saturating_sub(started));
            let reply = match outcome {
                Ok(Ok(reply)) => reply,
                Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => {
                    return Err(BusError::NoResponder);
                }
                Ok(Err(_)) | Err(_) => return Err(BusError::Unavailable),
            };
            match wire::text(reply.headers.as_ref(), SERVICE_ERROR) {
                Some(_why) => Err(BusError::Refused),
                None => Ok(reply.payload),
            }
        }))
    }

    pub(crate) fn tell_all(&self, kind: &str, body: Bytes) -> Result<(), BusError> {
        self.queue.send(Outgoing {
            subject: self.names.control(),
            headers: Some(cluster::word_headers(&self.node, kind)),
            payload: body,
        })
    }

    pub(crate) fn told(self: &Arc<Self>) -> Answer<Result<Told, BusError>> {
        let bus = Arc::clone(self);
        Answer::Later(Box::pin(async move {
            let subject = bus.names.control();
            let denials = bus.connection.denials();
            let subscribed = bus.connection.client().subscribe(subject.clone()).await;
            let messages = subscribed.map_err(|_| BusError::Unavailable)?;
            bus.sync(&subject, denials).await?;
            Ok(Told(Some(NatsTold {
                messages,
                node: bus.node.clone(),
            })))
        }))
    }

    pub(crate) fn keep(self: &Arc<Self>, keep: Keep) -> Answer<Result<u64, BusError>> {
        if !self.keeps {
            return Answer::Now(Err(BusError::Unavailable));
        }
        let bus = Arc::clone(self);
        Answer::Later(Box::pin(async move {
            cluster::keep(&bus.store, &bus.names, keep).await
        }))
    }

    pub(crate) fn kept(self: &Arc<Self>, below: &str) -> Answer<Result<Vec<Kept>, BusError>> {
        if !self.keeps {
            return Answer::Now(Err(BusError::Unavailable));
        }
        let (bus, filter) = (Arc::clone(self), self.names.state_below(below));
        Answer::Later(Box::pin(async move {
            let found = cluster::kept(&bus.store, &bus.names, &filter).await?;
            let there = found.into_iter().filter(|kept| kept.value.is_some());
            Ok(there.collect())
        }))
    }

    pub(crate) fn watch_kept(self: &Arc<Self>, below: &str) -> Answer<Result<WatchKept, BusError>> {
        if !self.keeps {
            return Answer::Now(Err(BusError::Unavailable));
        }
        let (bus, filter) = (Arc::clone(self), self.names.state_below(below));
        Answer::Later(Box::pin(async move {
            let subject = bus.names.state_told(&filter);
            let denials = bus.connection.denials();
            let subscribed = bus.connection.client().subscribe(subject.clone()).await;
            let changes = subscribed.map_err(|_| BusError::Unavailable)?;
            bus.sync(&subject, denials).await?;
            let mut state = bus.connection.state();
            state.mark_unchanged();
            Ok(WatchKept(Some(NatsKept {
                changes,
                state,
                store: bus.store.clone(),
                names: Arc::clone(&bus.names),
                filter,
                found: std::collections::VecDeque::new(),
                stale: true,
            })))
        }))
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

    /// Waits until the server has done what was asked before, and whether it allowed it.
    /// `denials` since before that.
    async fn sync(&self, subject: &str, mut denials: Denials) -> Result<(), BusError> {
        let request = Request::new().timeout(None);
        let asked = self
            .connection
            .client()
            .send_request(self.names.sync(), request);
        match tokio::time::timeout(store::PATIENCE, asked).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => {}
            Ok(Err(_)) | Err(_) => return Err(BusError::Unavailable),
        }
        // What the server refused was said before its answer, but takes another way here.
        let named = format!("\"{subject}\"");
        let refused = async {
            while let Ok(text) = denials.recv().await {
                if text.contains(&named) {
                    return;
                }
            }
        };
        match tokio::time::timeout(interest::DENIAL_GRACE, refused).await {
            Ok(()) => Err(BusError::Denied),
            Err(_none) => Ok(()),
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

type Denials = tokio::sync::broadcast::Receiver<Arc<str>>;

/// Questions from NATS.
#[derive(Debug)]
pub(crate) struct NatsRequests {
    questions: async_nats::Subscriber,
    queue: Queue,
    names: Arc<Names>,
}

impl NatsRequests {
    pub(crate) async fn next(&mut self) -> Option<Asked> {
        loop {
            let question = self.questions.next().await?;
            // Without a reply nobody waits for an answer.
            let (Some(reply), Some(subject)) =
                (question.reply, self.names.channel(&question.subject))
            else {
                continue;
            };
            let queue = self.queue.clone();
            let answer = move |answer: Result<Bytes, String>| {
                let (headers, payload) = match answer {
                    Ok(payload) => (None, payload),
                    Err(why) => {
                        let mut headers = HeaderMap::new();
                        headers.insert(SERVICE_ERROR, why.replace(['\r', '\n'], " "));
                        (Some(headers), Bytes::new())
                    }
                };
                let outgoing = Outgoing {
                    subject: reply.to_string(),
                    headers,
                    payload,
                };
                if let Err(error) = queue.send(outgoing) {
                    warn!(%error, "answer could not be sent");
                }
            };
            return Some(Asked {
                subject,
                data: question.payload,
                reply: Reply::There(Some(Box::new(answer))),
            });
        }
    }
}

/// Refuses what lacks a needed feature, and warns of what has a known hole.
fn check_version(found: &str) -> Result<(), NatsBusError> {
    let mut numbers = found.split(['.', '-']).map(|part| part.parse::<u64>().ok());
    let mut next = || numbers.next().flatten().unwrap_or_default();
    let version = (next(), next(), next());
    if version < (2, 12, 0) {
        return Err(NatsBusError::TooOld {
            found: found.to_owned(),
        });
    }
    if version < (2, 12, 7) || (version.0, version.1) == (2, 13) {
        warn!(
            version = found,
            "this version of nats-server has published security advisories; 2.12.7 or 2.14 and \
             later have not"
        );
    }
    Ok(())
}

/// A stream that is found gone while somebody is subscribed begins anew like this.
const BIRTH: HistoryPolicy = HistoryPolicy {
    size: 0,
    ttl_ms: 3_600_000,
    meta_ttl_ms: 0,
};

/// Says that there is no answer, and why, as other services of NATS do.
const SERVICE_ERROR: &str = "Nats-Service-Error";

/// Wishes that wait to be taken up; one beyond is refused as busy.
const CHANGES: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused() {
        for fine in ["2.12.0", "2.12.7", "2.14.1", "2.15.0-RC.1", "3.0.0"] {
            assert!(check_version(fine).is_ok(), "{fine}");
        }
        for old in ["2.11.9", "2.9.0", "1.4", "", "x"] {
            assert!(check_version(old).is_err(), "{old}");
        }
    }

    #[test]
    fn settings_are_checked() {
        let config = |change: fn(&mut NatsBusConfig)| {
            let mut config = NatsBusConfig {
                node: "a".to_owned(),
                subjects: vec![Pattern::new("xy.>").unwrap()],
                ..NatsBusConfig::default()
            };
            change(&mut config);
            config.check().err().map(|error| error.to_string())
        };
        assert_eq!(config(|_| {}), None);
        let refused = [
            config(|config| config.prefix = "a.b".to_owned()),
            config(|config| config.node.clear()),
            config(|config| config.subjects.push(Pattern::new("*.md").unwrap())),
            config(|config| config.subjects = vec![Pattern::new(">").unwrap()]),
            config(|config| config.replicas = 0),
        ];
        assert!(refused.iter().all(Option::is_some), "{refused:?}");
    }
}
