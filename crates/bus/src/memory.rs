//! The bus inside one process.
//!
//! Channels are spread over [`SHARDS`] maps by hash, each behind its own lock. The lock
//! of a channel's shard is its order: a publication is numbered, stored and handed to
//! the sinks under it. Sinks only enqueue, so it is held for microseconds.
//!
//! **Lock order:** registry of sinks, then one shard, then the tree of patterns. No two
//! shards are ever locked together.
//!
//! A lock poisoned by a panic is used on: a publication is stored before the first sink
//! hears of it, so what a panicking sink leaves behind is a gap at some sinks, which
//! positioned subscribers notice.

mod budget;
mod emitted;
mod entry;
mod limits;
mod patterns;
mod presence;
mod registry;
mod replays;
mod services;
mod stream;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use protocol::channel::Channel;
use protocol::message::ClientInfo;
use protocol::subject::Pattern;
use tokio::sync::mpsc;

use self::emitted::Emitted;
use self::entry::Entry;
use self::limits::Limits;
use self::patterns::Patterns;
use self::registry::{Attached, Registry};
use self::services::Services;
use self::stream::Version;
use crate::apps::Asked;
use crate::{
    BusError, Emit, Epoch, History, HistoryPolicy, HistoryQuery, Kind, Message, Now, Position,
    PresenceStats, Publication, Publish, Published, Sink,
};

pub use self::limits::MemoryConfig;
pub use self::registry::SinkId;

/// What a [`MemoryBus`] holds and has done; fields ending in `_total` only rise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Channels about which anything is known.
    pub channels: usize,
    /// Subscriptions: sinks times channels, without wildcards.
    pub subscriptions: usize,
    /// Wildcard subscriptions: sinks times patterns.
    pub patterns: usize,
    /// Present clients, over all channels.
    pub presence: usize,
    /// Memory taken by kept publications.
    pub history_bytes: usize,
    /// Memory taken by idempotency keys.
    pub idempotency_bytes: usize,
    /// Publications accepted and sent.
    pub published_total: u64,
    /// Publications not sent because of their idempotency key or version.
    pub suppressed_total: u64,
    /// Publications refused because a sink had no room.
    pub busy_total: u64,
    /// Publications delivered but not kept for want of memory.
    pub unkept_total: u64,
    /// Joins and leaves that a sink without room did not get.
    pub join_leave_dropped_total: u64,
    /// Idempotency keys forgotten before their time.
    pub idempotency_forgotten_total: u64,
    /// Deliveries that a sink without room did not get; it notices by positions.
    pub undelivered_total: u64,
}

/// Publish/subscribe, streams and presence in this process' memory. Share it as an `Arc`.
#[derive(Debug)]
pub struct MemoryBus {
    shards: Box<[Mutex<Shard>]>,
    registry: Registry,
    patterns: Patterns,
    services: Services,
    limits: Limits,
    /// Spreads channels over shards and, as a keyed hash of a counter, draws epochs.
    random: RandomState,
    epochs: AtomicU64,
}

impl MemoryBus {
    /// An empty bus.
    pub fn new(config: &MemoryConfig) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            registry: Registry::default(),
            patterns: Patterns::default(),
            services: Services::new(),
            limits: Limits::new(config),
            random: RandomState::new(),
            epochs: AtomicU64::new(0),
        }
    }

    /// Makes a sink known, so that it can be subscribed.
    pub fn attach(&self, sink: Arc<dyn Sink>) -> SinkId {
        self.registry.attach(sink)
    }

    /// Forgets a sink and all its subscriptions. Looks at every channel.
    pub fn detach(&self, sink: SinkId) {
        self.registry.detach(sink);
        self.patterns.remove_sink(sink, &self.limits.patterns);
        for shard in &self.shards {
            let Shard {
                channels, totals, ..
            } = &mut *lock(shard);
            channels.retain(|_, entry| {
                totals.subscriptions -= usize::from(entry.unsubscribe(sink));
                let empty = entry.is_empty();
                self.limits.channels.give(usize::from(empty));
                !empty
            });
        }
    }

    /// From now on the sink gets what is published on the channel. Once is enough, and
    /// more does no harm.
    ///
    /// # Errors
    ///
    /// [`BusError::SinkDetached`]; [`BusError::LimitExceeded`] if the channel is new.
    pub fn subscribe(&self, sink: SinkId, channel: &Channel) -> Result<(), BusError> {
        self.registry.with(sink, |attached| {
            let Shard {
                channels, totals, ..
            } = &mut *self.shard(channel);
            let (_, entry) = self.limits.open(channels, channel)?;
            if !entry.is_subscribed(sink) {
                entry.sinks.push(Arc::clone(attached));
                totals.subscriptions += 1;
            }
            Ok(())
        })
    }

    /// Ends what [`MemoryBus::subscribe`] began.
    pub fn unsubscribe(&self, sink: SinkId, channel: &Channel) {
        let Shard {
            channels, totals, ..
        } = &mut *self.shard(channel);
        if let Some(entry) = channels.get_mut(channel.as_str()) {
            totals.subscriptions -= usize::from(entry.unsubscribe(sink));
            self.limits.close_if_empty(channels, channel);
        }
    }

    /// From now on the sink gets publications (not joins and leaves) on all channels that
    /// the pattern covers; each once, whatever else it is subscribed to.
    ///
    /// # Errors
    ///
    /// [`BusError::SinkDetached`]; [`BusError::LimitExceeded`] of `patterns_max`.
    pub fn subscribe_pattern(&self, sink: SinkId, pattern: &Pattern) -> Result<(), BusError> {
        self.registry.with(sink, |attached| {
            self.patterns
                .insert(pattern, attached, &self.limits.patterns)
        })
    }

    /// Ends what [`MemoryBus::subscribe_pattern`] began.
    pub fn unsubscribe_pattern(&self, sink: SinkId, pattern: &Pattern) {
        self.patterns.remove(pattern, sink, &self.limits.patterns);
    }

    /// Numbers and keeps a publication if the channel has history, and hands it to every
    /// sink concerned: all or nothing, and in the same order everywhere.
    ///
    /// # Errors
    ///
    /// [`BusError::Busy`] if a sink has no room; [`BusError::LimitExceeded`] if the
    /// channel is new, or if there is no memory for its idempotency key.
    pub fn publish(&self, now: Now, publish: Publish) -> Result<Published, BusError> {
        let Shard {
            channels, totals, ..
        } = &mut *self.shard(&publish.channel);
        let version = self.version(&publish);
        let mut covering = self.patterns.covering(publish.channel.as_str());
        let mut known = channels.get_mut(publish.channel.as_str());
        if let Some(entry) = &mut known {
            if let Some(answer) = entry.suppressed(now, &publish, version, &self.limits) {
                totals.suppressed += 1;
                return Ok(answer);
            }
            covering.retain(|sink| !entry.is_subscribed(sink.id));
        }
        let subscribed = known.as_deref().map_or(&[][..], |entry| &entry.sinks);
        if !subscribed
            .iter()
            .chain(&covering)
            .all(|sink| sink.sink.has_room())
        {
            totals.busy += 1;
            return Err(BusError::Busy);
        }
        // Something to remember makes the channel known; from here on nothing fails
        // halfway, because the key's memory is taken before anything is stored.
        let (channel, mut entry) = if publish.history.is_some() || publish.idempotency_key.is_some()
        {
            let (channel, entry) = self.limits.open(channels, &publish.channel)?;
            (channel, Some(entry))
        } else {
            (
                publish.channel.clone(),
                channels.get_mut(publish.channel.as_str()),
            )
        };
        if let (Some(entry), Some(key)) = (entry.as_deref_mut(), &publish.idempotency_key) {
            let replays = entry.replays.get_or_insert_default();
            match replays.make_room(key, &self.limits.idempotency_bytes) {
                Ok(forgotten) => totals.idempotency_forgotten += forgotten,
                Err(error) => {
                    entry.replays = None;
                    self.limits.close_if_empty(channels, &publish.channel);
                    return Err(error);
                }
            }
        }
        let (message, position) = match entry.as_deref_mut() {
            Some(entry) => self.store(now, channel, entry, publish, version, totals),
            None => (message(now, channel, publish, None), None),
        };
        totals.published += 1;
        let subscribed = entry.map_or(&[][..], |entry| &entry.sinks);
        for attached in subscribed.iter().chain(&covering) {
            attached.sink.deliver(Arc::clone(&message));
        }
        Ok(Published {
            position,
            suppressed: None,
        })
    }

    /// Tells the channel's subscribers that a client came. A sink without room does not
    /// hear of it; that is counted.
    pub fn publish_join(&self, channel: &Channel, info: Arc<ClientInfo>) {
        self.notify(channel, Kind::Join(info));
    }

    /// Tells the channel's subscribers that a client went. A sink without room does not
    /// hear of it; that is counted.
    pub fn publish_leave(&self, channel: &Channel, info: Arc<ClientInfo>) {
        self.notify(channel, Kind::Leave(info));
    }

    /// The top of the channel's stream, which is created if it does not exist.
    ///
    /// # Errors
    ///
    /// [`BusError::LimitExceeded`] if the channel is new.
    pub fn position(
        &self,
        now: Now,
        channel: &Channel,
        policy: &HistoryPolicy,
    ) -> Result<Position, BusError> {
        let Shard { channels, .. } = &mut *self.shard(channel);
        let (_, entry) = self.limits.open(channels, channel)?;
        Ok(entry
            .stream(now, *policy, &self.limits.history_bytes, || self.epoch())
            .top())
    }

    /// Reads the channel's stream, which is created if it does not exist: the epoch of a
    /// position must not change between two calls.
    ///
    /// # Errors
    ///
    /// [`BusError::LimitExceeded`] if the channel is new.
    pub fn history(
        &self,
        now: Now,
        channel: &Channel,
        policy: &HistoryPolicy,
        query: HistoryQuery,
    ) -> Result<History, BusError> {
        let Shard {
            channels, emitted, ..
        } = &mut *self.shard(channel);
        if let Some(history) = emitted
            .get(channel.as_str())
            .and_then(|emitted| emitted.read(query))
        {
            return Ok(history);
        }
        let (_, entry) = self.limits.open(channels, channel)?;
        Ok(entry
            .stream(now, *policy, &self.limits.history_bytes, || self.epoch())
            .read(query))
    }

    /// Publishes for the channel's only publisher, at the position that it counts itself;
    /// from then on the channel's stream is what was sent so. A sink without room does not
    /// get it, which is counted; it notices by the next position.
    ///
    /// # Errors
    ///
    /// [`BusError::LimitExceeded`] if something is to be remembered and the channel is new.
    pub fn emit(&self, now: Now, emit: Emit) -> Result<(), BusError> {
        let Emit {
            channel,
            data,
            position,
            keep,
        } = emit;
        let Shard {
            channels,
            emitted,
            totals,
        } = &mut *self.shard(&channel);
        let publication = Publication {
            data,
            info: None,
            tags: None,
            position,
            time_ms: now.unix_ms,
        };
        let message = Arc::new(Message {
            channel,
            kind: Kind::Publication(publication),
        });
        if keep || position.is_some() {
            if !emitted.contains_key(message.channel.as_str()) {
                self.limits.channels.take(1)?;
            }
            let sent = emitted.entry_ref(message.channel.as_str()).or_default();
            sent.top = position;
            sent.last = keep.then(|| Arc::clone(&message));
        }
        totals.published += 1;
        let entry = channels.get(message.channel.as_str());
        let mut covering = self.patterns.covering(message.channel.as_str());
        covering.retain(|sink| !entry.is_some_and(|entry| entry.is_subscribed(sink.id)));
        let subscribed = entry.map_or(&[][..], |entry| &entry.sinks);
        totals.undelivered += deliver(subscribed, &message) + deliver(&covering, &message);
        Ok(())
    }

    /// Hands a message from elsewhere to the channel's own subscribers. One without room
    /// does not get it, which is counted.
    pub(crate) fn spread_to_subscribed(&self, message: &Arc<Message>) {
        let Shard {
            channels, totals, ..
        } = &mut *self.shard(&message.channel);
        if let Some(entry) = channels.get(message.channel.as_str()) {
            totals.published += u64::from(message.publication().is_some());
            totals.undelivered += deliver(&entry.sinks, message);
        }
    }

    /// Hands a publication from elsewhere to the sinks whose patterns cover the channel
    /// and that do not subscribe to it besides.
    pub(crate) fn spread_to_patterns(&self, message: &Arc<Message>) {
        if message.publication().is_none() {
            return;
        }
        let Shard {
            channels, totals, ..
        } = &mut *self.shard(&message.channel);
        let entry = channels.get(message.channel.as_str());
        let mut covering = self.patterns.covering(message.channel.as_str());
        covering.retain(|sink| !entry.is_some_and(|entry| entry.is_subscribed(sink.id)));
        totals.undelivered += deliver(&covering, message);
    }

    /// The last message of every channel below the pattern whose only publisher wants it
    /// kept, in no order. Looks at every channel.
    pub fn latest(&self, pattern: &Pattern) -> Vec<Arc<Message>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let covered = shard
                .emitted
                .iter()
                .filter(|(channel, _)| pattern.covers_text(channel));
            found.extend(covered.filter_map(|(_, sent)| sent.last.clone()));
        }
        found
    }

    /// Offers answers to requests for the subjects that the pattern covers.
    pub(crate) fn offer(
        &self,
        pattern: &Pattern,
        sender: mpsc::Sender<Asked>,
    ) -> Result<(), BusError> {
        self.services.offer(pattern, sender)
    }

    /// Hands a request to one of those that answer it.
    pub(crate) fn ask(&self, subject: &Channel, asked: Asked) -> Result<(), BusError> {
        self.services.ask(subject, asked)
    }

    /// Drops the channel's publications; its position stays.
    pub fn remove_history(&self, channel: &Channel) {
        let Shard { channels, .. } = &mut *self.shard(channel);
        if let Some(stream) = channels
            .get_mut(channel.as_str())
            .and_then(|entry| entry.stream.as_deref_mut())
        {
            stream.clear(&self.limits.history_bytes);
        }
    }

    /// Notes that a client, named by `info.client`, is on the channel; what was known
    /// about it is replaced.
    ///
    /// # Errors
    ///
    /// [`BusError::LimitExceeded`] if the channel is new, or of `presence_max`.
    pub fn presence_add(&self, channel: &Channel, info: Arc<ClientInfo>) -> Result<(), BusError> {
        let Shard { channels, .. } = &mut *self.shard(channel);
        let (_, entry) = self.limits.open(channels, channel)?;
        let presence = entry.presence.get_or_insert_default();
        let added = presence.add(info, &self.limits.presence);
        if presence.is_empty() {
            entry.presence = None;
            self.limits.close_if_empty(channels, channel);
        }
        added
    }

    /// Notes that a client is no longer on the channel.
    pub fn presence_remove(&self, channel: &Channel, client: &str) {
        let Shard { channels, .. } = &mut *self.shard(channel);
        let Some(entry) = channels.get_mut(channel.as_str()) else {
            return;
        };
        let Some(presence) = &mut entry.presence else {
            return;
        };
        presence.remove(client, &self.limits.presence);
        if presence.is_empty() {
            entry.presence = None;
            self.limits.close_if_empty(channels, channel);
        }
    }

    /// Who is on the channel, in no order.
    pub fn presence(&self, channel: &Channel) -> Vec<Arc<ClientInfo>> {
        self.with_presence(channel, presence::Presence::list)
    }

    /// How many are on the channel.
    pub fn presence_stats(&self, channel: &Channel) -> PresenceStats {
        self.with_presence(channel, presence::Presence::stats)
    }

    /// The channels that have subscribers (wildcards aside), in no order. Shards are
    /// looked at one after the other, so it is no single moment's picture.
    pub fn channels(&self) -> Vec<Channel> {
        let mut names = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let subscribed = shard
                .channels
                .iter()
                .filter(|(_, entry)| !entry.sinks.is_empty());
            names.extend(subscribed.map(|(channel, _)| channel.clone()));
        }
        names
    }

    /// Frees what has expired. Expired things are never returned whether or not this is
    /// called; a call every few seconds keeps their memory from lingering.
    pub fn sweep(&self, now: Now) {
        for shard in &self.shards {
            let Shard { channels, .. } = &mut *lock(shard);
            channels.retain(|_, entry| {
                entry.expire(now, &self.limits);
                let empty = entry.is_empty();
                self.limits.channels.give(usize::from(empty));
                !empty
            });
            // A crowd that has gone must not leave its map behind.
            if channels.capacity() > 4 * channels.len() + CAPACITY_SPARE {
                channels.shrink_to(2 * channels.len());
            }
        }
    }

    /// Counts for metrics.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            channels: self.limits.channels.used(),
            patterns: self.limits.patterns.used(),
            presence: self.limits.presence.used(),
            history_bytes: self.limits.history_bytes.used(),
            idempotency_bytes: self.limits.idempotency_bytes.used(),
            ..Stats::default()
        };
        for shard in &self.shards {
            let totals = lock(shard).totals;
            stats.subscriptions += totals.subscriptions;
            stats.published_total += totals.published;
            stats.suppressed_total += totals.suppressed;
            stats.busy_total += totals.busy;
            stats.unkept_total += totals.unkept;
            stats.join_leave_dropped_total += totals.join_leave_dropped;
            stats.idempotency_forgotten_total += totals.idempotency_forgotten;
            stats.undelivered_total += totals.undelivered;
        }
        stats
    }

    /// Makes the message, in the stream if the channel has one.
    fn store(
        &self,
        now: Now,
        channel: Channel,
        entry: &mut Entry,
        publish: Publish,
        version: Version,
        totals: &mut Totals,
    ) -> (Arc<Message>, Option<Position>) {
        let key = publish.idempotency_key.clone();
        let memory = &self.limits.history_bytes;
        let (message, position) = match publish.history {
            Some(policy) => {
                let stream = entry.stream(now, policy, memory, || self.epoch());
                let position = stream.advance();
                stream.note_version(version);
                let message = message(now, channel, publish, Some(position));
                let kept = stream.keep(Arc::clone(&message), now.mono_ms, memory);
                totals.unkept += u64::from(!kept);
                (message, Some(position))
            }
            None => (message(now, channel, publish, None), None),
        };
        if let (Some(replays), Some(key)) = (&mut entry.replays, key) {
            replays.remember(
                &key,
                position,
                now.mono_ms.saturating_add(IDEMPOTENCY_TTL_MS),
            );
        }
        (message, position)
    }

    fn notify(&self, channel: &Channel, kind: Kind) {
        let Shard {
            channels, totals, ..
        } = &mut *self.shard(channel);
        let Some((channel, entry)) = channels.get_key_value(channel.as_str()) else {
            return;
        };
        let message = Arc::new(Message {
            channel: channel.clone(),
            kind,
        });
        totals.join_leave_dropped += entry.notify(&message);
    }

    fn with_presence<T: Default>(
        &self,
        channel: &Channel,
        read: impl FnOnce(&presence::Presence) -> T,
    ) -> T {
        let shard = self.shard(channel);
        let entry = shard.channels.get(channel.as_str());
        entry
            .and_then(|entry| entry.presence.as_deref())
            .map(read)
            .unwrap_or_default()
    }

    fn version(&self, publish: &Publish) -> Version {
        let epoch = &publish.version_epoch;
        Version {
            number: publish.version,
            epoch: (!epoch.is_empty()).then(|| self.random.hash_one(epoch)),
        }
    }

    fn epoch(&self) -> Epoch {
        Epoch::from_random(
            self.random
                .hash_one(self.epochs.fetch_add(1, Ordering::Relaxed)),
        )
    }

    fn shard(&self, channel: &Channel) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.random.hash_one(channel.as_str()) as usize % SHARDS])
    }
}

type Channels = HashMap<Channel, Entry>;

#[derive(Debug, Default)]
struct Shard {
    channels: Channels,
    /// Never forgotten: programs of our own make these, and few.
    emitted: HashMap<Channel, Emitted>,
    totals: Totals,
}

/// A shard's part of [`Stats`], counted under its lock.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    subscriptions: usize,
    published: u64,
    suppressed: u64,
    busy: u64,
    unkept: u64,
    join_leave_dropped: u64,
    idempotency_forgotten: u64,
    undelivered: u64,
}

fn message(
    now: Now,
    channel: Channel,
    publish: Publish,
    position: Option<Position>,
) -> Arc<Message> {
    let Publish {
        data, info, tags, ..
    } = publish;
    let publication = Publication {
        data,
        info,
        tags,
        position,
        time_ms: now.unix_ms,
    };
    Arc::new(Message {
        channel,
        kind: Kind::Publication(publication),
    })
}

/// Hands a message to the sinks that have room; returns how many had none.
fn deliver(sinks: &[Arc<Attached>], message: &Arc<Message>) -> u64 {
    let mut without_room = 0;
    for attached in sinks {
        if attached.sink.has_room() {
            attached.sink.deliver(Arc::clone(message));
        } else {
            without_room += 1;
        }
    }
    without_room
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enough that workers rarely meet on one, few enough that walking them is cheap.
const SHARDS: usize = 64;

/// Room for channels that a shard's map may keep beyond four times its need.
const CAPACITY_SPARE: usize = 64;

/// How long an idempotency key is remembered (contract centrifuge 11.14).
const IDEMPOTENCY_TTL_MS: u64 = 5 * 60 * 1000;

#[cfg(test)]
mod tests;
