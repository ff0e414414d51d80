//! Streams with positions on JetStream.
//!
//! A channel's publications lie in the one history stream under a subject of its own. The
//! stream counts over all of them, so the position travels in headers: a publication says
//! which offset it has, and is stored only if the subject's last message is still the one
//! that its publisher counted from. Whoever loses that race reads the last message and
//! counts again. Subscribers hear of a publication from the stream, so what they hear is
//! in that order and was accepted.
//!
//! A channel that is read before anything was published gets a *birth* marker, so that all
//! gateways agree on its epoch; a channel whose history is removed gets a marker that
//! carries the position on.
//!
//! What must hold: of one channel the stored offsets rise by one and end at the top.
//! [`Streams::read`] gives what follows the last place where that does not hold.

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

use async_nats::HeaderMap;
use bytes::Bytes;
use futures_util::FutureExt as _;
use protocol::channel::Channel;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::warn;

use super::store::{PATIENCE, Put, Store, Stored};
use super::two_generations::TwoGenerations;
use super::wire::{self, Mark, Version};
use crate::{
    Answer, BusError, Epoch, History, HistoryLimit, HistoryPolicy, HistoryQuery, Message, Now,
    Position, Publish, Published, Suppression,
};

/// The history of our own channels.
#[derive(Debug)]
pub(super) struct Streams {
    store: Store,
    stream: String,
    tails: Mutex<TwoGenerations<Channel, Arc<Line>>>,
}

/// Those who publish on one channel from here, one after the other.
#[derive(Debug)]
struct Line {
    turn: Arc<Semaphore>,
    /// What the stream ended with when it was last published to from here.
    tail: Mutex<Option<Tail>>,
}

/// The end of a channel's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tail {
    /// Sequence of the last message on the subject; 0 if there is none.
    seq: u64,
    top: Position,
    version: Version,
}

impl Streams {
    pub(super) fn new(store: Store, stream: String) -> Self {
        Self {
            store,
            stream,
            tails: Mutex::new(TwoGenerations::new(LINES_MAX)),
        }
    }

    /// Publishes; calls for one channel take effect in their order. Whoever has not had its
    /// turn in time gives up.
    pub(super) fn publish(
        self: &Arc<Self>,
        now: Now,
        publish: Publish,
        policy: HistoryPolicy,
        subject: String,
    ) -> Answer<Result<Published, BusError>> {
        let line = self.line(&publish.channel);
        let streams = Arc::clone(self);
        let mut turn = Box::pin(Arc::clone(&line.turn).acquire_owned());
        // The place in the line is taken now, not when somebody first waits for the answer.
        let early = turn.as_mut().now_or_never();
        Answer::Later(Box::pin(async move {
            let publishing = async {
                let turn = match early {
                    Some(turn) => turn,
                    None => turn.await,
                };
                let _turn = turn.map_err(|_| BusError::Unavailable)?;
                streams
                    .publish_in_turn(now, publish, policy, &subject, &line)
                    .await
            };
            let published = timeout(PATIENCE, publishing).await;
            published.unwrap_or(Err(BusError::Unavailable))
        }))
    }

    /// Publishes once it is this one's turn.
    async fn publish_in_turn(
        &self,
        now: Now,
        publish: Publish,
        policy: HistoryPolicy,
        subject: &str,
        line: &Line,
    ) -> Result<Published, BusError> {
        let version = Version::new(publish.version, &publish.version_epoch);
        let mut base = headers(now, &publish);
        if let Some(key) = &publish.idempotency_key {
            base.insert("Nats-Msg-Id", message_id(&publish.channel, key));
        }
        put_ttl(&mut base, policy.meta_ttl_ms, policy.ttl_ms);
        for _ in 0..TRIES_MAX {
            let known = line.take();
            let tail = match known {
                Some(tail) => tail,
                None => self.tail(subject).await?,
            };
            if version.is_outdated_by(tail.version) {
                line.put(tail);
                return Ok(Published {
                    position: Some(tail.top),
                    suppressed: Some(Suppression::Outdated),
                });
            }
            let next = Tail {
                seq: 0,
                top: Position {
                    offset: tail.top.offset + 1,
                    epoch: tail.top.epoch,
                },
                version: if version.number > 0 {
                    version
                } else {
                    tail.version
                },
            };
            let mut headers = base.clone();
            wire::put_position(&mut headers, next.top);
            wire::put_version(&mut headers, next.version);
            headers.insert(EXPECTED, tail.seq.to_string());
            let put = self
                .store
                .put(subject, headers, publish.data.clone())
                .await?;
            match put {
                Put::Stored { seq } => {
                    line.put(Tail { seq, ..next });
                    return Ok(Published {
                        position: Some(next.top),
                        suppressed: None,
                    });
                }
                Put::Duplicate { seq } => {
                    line.put(tail);
                    let first = self.store.at(&self.stream, seq).await?;
                    let first = first.and_then(|first| wire::position(first.headers.as_ref()));
                    return Ok(Published {
                        position: first,
                        suppressed: Some(Suppression::Duplicate),
                    });
                }
                // Somebody else was first; what was known here is no longer so.
                Put::Conflict => {}
            }
        }
        Err(BusError::Busy)
    }

    /// The end of a subject's stream; of one with nothing in it, where it is to begin.
    async fn tail(&self, subject: &str) -> Result<Tail, BusError> {
        let last = self.store.last(&self.stream, subject).await?;
        Ok(last.map_or_else(fresh, |last| tail(&last)))
    }

    /// Reads a channel's stream; one that does not exist is born.
    pub(super) async fn read(
        &self,
        now: Now,
        channel: Channel,
        policy: HistoryPolicy,
        query: HistoryQuery,
        subject: &str,
    ) -> Result<History, BusError> {
        let mut stored = self.stored(query.limit, subject).await?;
        if stored.is_empty() {
            let top = self.bear(now, policy, subject).await?;
            // Somebody may have published just now.
            if top.offset > 0 {
                stored = self.stored(query.limit, subject).await?;
            }
            if stored.is_empty() {
                return Ok(select(Vec::new(), top, query));
            }
        }
        let top = stored.last().map_or_else(fresh, tail).top;
        let messages = kept(stored, &channel, now, policy, top);
        Ok(select(messages, top, query))
    }

    async fn stored(&self, limit: HistoryLimit, subject: &str) -> Result<Vec<Stored>, BusError> {
        match limit {
            HistoryLimit::PositionOnly => {
                let last = self.store.last(&self.stream, subject).await?;
                Ok(last.into_iter().collect())
            }
            HistoryLimit::AtMost(_) | HistoryLimit::All => {
                self.store.all(&self.stream, subject).await
            }
        }
    }

    /// The position of a channel; born if it does not exist.
    pub(super) async fn top(
        &self,
        now: Now,
        policy: HistoryPolicy,
        subject: &str,
    ) -> Result<Position, BusError> {
        match self.store.last(&self.stream, subject).await? {
            Some(last) => Ok(tail(&last).top),
            None => self.bear(now, policy, subject).await,
        }
    }

    /// Stores a marker for a stream in which nothing was published.
    async fn bear(
        &self,
        now: Now,
        policy: HistoryPolicy,
        subject: &str,
    ) -> Result<Position, BusError> {
        for _ in 0..TRIES_MAX {
            let born = fresh();
            let mut headers = HeaderMap::new();
            headers.insert(wire::KIND, "birth");
            headers.insert(wire::TIME, now.unix_ms.to_string());
            headers.insert(EXPECTED, "0");
            // It proves nothing, and clients can make it at will.
            put_ttl(&mut headers, policy.ttl_ms.max(UNUSED_MS_MIN), 0);
            wire::put_position(&mut headers, born.top);
            match self.store.put(subject, headers, Bytes::new()).await? {
                Put::Stored { .. } => return Ok(born.top),
                Put::Duplicate { .. } | Put::Conflict => {
                    if let Some(last) = self.store.last(&self.stream, subject).await? {
                        return Ok(tail(&last).top);
                    }
                }
            }
        }
        Err(BusError::Busy)
    }

    /// Drops what was published; the position stays.
    pub(super) async fn remove(
        &self,
        now: Now,
        channel: &Channel,
        subject: &str,
    ) -> Result<(), BusError> {
        let line = self.line(channel);
        let turn = Arc::clone(&line.turn).acquire_owned().await;
        let _turn = turn.map_err(|_| BusError::Unavailable)?;
        for _ in 0..TRIES_MAX {
            line.take();
            let Some(last) = self.store.last(&self.stream, subject).await? else {
                return Ok(());
            };
            let tail = tail(&last);
            let mut headers = HeaderMap::new();
            headers.insert(wire::KIND, "removed");
            headers.insert(wire::TIME, now.unix_ms.to_string());
            headers.insert(EXPECTED, tail.seq.to_string());
            if let Some(ttl) = wire::text(last.headers.as_ref(), TTL) {
                headers.insert(TTL, ttl);
            }
            wire::put_position(&mut headers, tail.top);
            wire::put_version(&mut headers, tail.version);
            if let Put::Stored { seq } = self.store.put(subject, headers, Bytes::new()).await? {
                line.put(Tail { seq, ..tail });
                return self.store.drop_before(&self.stream, subject, seq).await;
            }
        }
        Err(BusError::Busy)
    }

    fn line(&self, channel: &Channel) -> Arc<Line> {
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        tails.get_or_insert_with(channel, || {
            Arc::new(Line {
                turn: Arc::new(Semaphore::new(1)),
                tail: Mutex::default(),
            })
        })
    }
}

impl Line {
    /// What is known is taken out while it is used: a try that is given up half way leaves
    /// nothing that may be wrong.
    fn take(&self) -> Option<Tail> {
        self.tail
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn put(&self, tail: Tail) {
        *self.tail.lock().unwrap_or_else(PoisonError::into_inner) = Some(tail);
    }
}

/// The headers of a publication, without its position.
pub(super) fn headers(now: Now, publish: &Publish) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(wire::TIME, now.unix_ms.to_string());
    if let Some(info) = &publish.info {
        headers.insert(wire::INFO, wire::write_info(info));
    }
    if let Some(tags) = &publish.tags {
        headers.insert(wire::TAGS, wire::write_tags(tags));
    }
    headers
}

/// Names a publication among all of the stream.
pub(super) fn message_id(channel: &Channel, key: &str) -> String {
    // An escape never has a space.
    format!(
        "{} {}",
        protocol::channel::escape(channel),
        protocol::channel::escape(key)
    )
}

fn put_ttl(headers: &mut HeaderMap, meta_ttl_ms: u64, ttl_ms: u64) {
    if meta_ttl_ms > 0 {
        let seconds = meta_ttl_ms.max(ttl_ms).div_ceil(1000).max(1);
        headers.insert(TTL, format!("{seconds}s"));
    }
}

fn fresh() -> Tail {
    let mut random = [0; 8];
    // Without chance two streams are told apart by their offsets only.
    if getrandom::fill(&mut random).is_err() {
        warn!("no random numbers for an epoch");
    }
    Tail {
        seq: 0,
        top: Position {
            offset: 0,
            epoch: Epoch::from_random(u64::from_le_bytes(random)),
        },
        version: Version::default(),
    }
}

fn tail(last: &Stored) -> Tail {
    let headers = last.headers.as_ref();
    // Whoever else writes there without a position begins a stream that nobody was in.
    let top = wire::position(headers).unwrap_or_else(|| fresh().top);
    Tail {
        seq: last.seq,
        top,
        version: wire::version(headers),
    }
}

/// The publications that are kept: the last ones without a gap, not too many, not too old.
fn kept(
    stored: Vec<Stored>,
    channel: &Channel,
    now: Now,
    policy: HistoryPolicy,
    top: Position,
) -> Vec<Arc<Message>> {
    let mut expected = top.offset;
    let mut messages = Vec::new();
    for stored in stored.into_iter().rev() {
        let headers = stored.headers.as_ref();
        if wire::mark(headers) != Mark::Publication {
            // Nothing before a marker counts, even if it is not dropped yet.
            break;
        }
        let position = wire::position(headers);
        let message = wire::message(channel.clone(), headers, stored.payload, now.unix_ms);
        let (Some(position), Some(message)) = (position, message) else {
            break;
        };
        let age_ms = message.publication().map_or(0, |publication| {
            now.unix_ms.saturating_sub(publication.time_ms)
        });
        let in_line = position.epoch == top.epoch && position.offset == expected;
        if !in_line || messages.len() >= policy.size || age_ms >= policy.ttl_ms {
            break;
        }
        expected -= 1;
        messages.push(Arc::new(message));
    }
    messages.reverse();
    messages
}

/// What was asked for, of messages that end at the top without a gap.
pub(super) fn select(messages: Vec<Arc<Message>>, top: Position, query: HistoryQuery) -> History {
    let first = (top.offset + 1).saturating_sub(messages.len() as u64);
    let limit = match query.limit {
        HistoryLimit::PositionOnly => 0,
        HistoryLimit::AtMost(limit) => limit,
        HistoryLimit::All => usize::MAX,
    };
    let numbered = (first..).zip(messages);
    let publications = if query.reverse {
        let before = query.since.unwrap_or(u64::MAX);
        let mut fitting: Vec<_> = numbered
            .take_while(|(offset, _)| *offset < before)
            .map(|(_, message)| message)
            .collect();
        fitting.reverse();
        fitting.truncate(limit);
        fitting
    } else {
        numbered
            .skip_while(|(offset, _)| query.since.is_some_and(|since| *offset <= since))
            .take(limit)
            .map(|(_, message)| message)
            .collect()
    };
    History {
        publications,
        first,
        top,
    }
}

const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";

/// How long a message is kept, whatever the stream says.
const TTL: &str = "Nats-TTL";

/// Races lost before a publication is refused as busy.
const TRIES_MAX: usize = 16;

/// Channels whose end is remembered.
const LINES_MAX: usize = 100_000;

/// A stream without publications is worth keeping for at least so long.
const UNUSED_MS_MIN: u64 = 60_000;
