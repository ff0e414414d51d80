//! Words to all gateways, and state that they keep together.

use std::collections::VecDeque;
use std::sync::Arc;

use async_nats::{HeaderMap, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;

use super::connection::NatsState;
use super::names::Names;
use super::outgoing::Outgoing;
use super::store::{Put, Store, Stored, stored};
use super::{NatsBus, wire};
use crate::{Answer, BusError, Keep, Kept, Told, WatchKept, Word};

/// What other gateways tell.
#[derive(Debug)]
pub(crate) struct NatsTold {
    pub(super) messages: Subscriber,
    pub(super) node: String,
}

/// State below a key.
#[derive(Debug)]
pub(crate) struct NatsKept {
    pub(super) changes: Subscriber,
    pub(super) state: watch::Receiver<NatsState>,
    pub(super) store: Store,
    pub(super) names: Arc<Names>,
    pub(super) filter: String,
    pub(super) found: VecDeque<Kept>,
    /// What is there is to be read (again).
    pub(super) stale: bool,
    /// The last change that was read: what comes later and is older is over.
    pub(super) read_to: u64,
}

const KIND: &str = "Tidegate-Word";
const OPERATION: &str = "KV-Operation";

impl NatsBus {
    pub(crate) fn tell_all(&self, kind: &str, body: Bytes) -> Result<(), BusError> {
        // Said later, it would be done to those who have come back by then.
        if !self.connection.is_connected() {
            return Err(BusError::Unavailable);
        }
        self.queue.send(Outgoing {
            subject: self.names.control(),
            headers: Some(word_headers(&self.node, kind)),
            payload: body,
        })
    }

    pub(crate) fn told(self: &Arc<Self>) -> Answer<Result<Told, BusError>> {
        let bus = Arc::clone(self);
        Answer::Later(Box::pin(async move {
            Ok(Told(Some(NatsTold {
                messages: bus.listen(&bus.names.control(), None).await?,
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
            self::keep(&bus.store, &bus.names, keep).await
        }))
    }

    pub(crate) fn kept(self: &Arc<Self>, below: &str) -> Answer<Result<Vec<Kept>, BusError>> {
        if !self.keeps {
            return Answer::Now(Err(BusError::Unavailable));
        }
        let (bus, filter) = (Arc::clone(self), self.names.state_below(below));
        Answer::Later(Box::pin(async move {
            kept(&bus.store, &bus.names, &filter).await
        }))
    }

    pub(crate) fn watch_kept(self: &Arc<Self>, below: &str) -> Answer<Result<WatchKept, BusError>> {
        if !self.keeps {
            return Answer::Now(Err(BusError::Unavailable));
        }
        let (bus, filter) = (Arc::clone(self), self.names.state_below(below));
        Answer::Later(Box::pin(async move {
            let changes = bus.listen(&bus.names.state_told(&filter), None).await?;
            let mut state = bus.connection.state();
            state.mark_unchanged();
            Ok(WatchKept(Some(NatsKept {
                changes,
                state,
                store: bus.store.clone(),
                names: Arc::clone(&bus.names),
                filter,
                found: VecDeque::new(),
                stale: true,
                read_to: 0,
            })))
        }))
    }
}

pub(super) fn word_headers(node: &str, kind: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(wire::NODE, node);
    headers.insert(KIND, kind);
    headers
}

/// Keeps or forgets; the answer is the revision.
pub(super) async fn keep(store: &Store, names: &Names, keep: Keep) -> Result<u64, BusError> {
    let mut headers = HeaderMap::new();
    if keep.value.is_none() {
        headers.insert(OPERATION, "DEL");
    }
    if let Some(ttl) = keep.ttl {
        headers.insert("Nats-TTL", format!("{}s", ttl.as_secs().max(1)));
    }
    let subject = names.state(&keep.key);
    if let Some(after) = keep.after {
        headers.insert("Nats-Expected-Last-Subject-Sequence", after.to_string());
    }
    let value = keep.value.unwrap_or_default();
    match store.put(&subject, headers, value).await? {
        Put::Stored { seq } | Put::Duplicate { seq } => Ok(seq),
        Put::Conflict => Err(BusError::Outdated),
    }
}

/// What is kept below a key.
pub(super) async fn kept(
    store: &Store,
    names: &Names,
    filter: &str,
) -> Result<Vec<Kept>, BusError> {
    let bucket = format!("KV_{}", names.state_bucket);
    let stored = store.all(&bucket, filter).await?;
    Ok(stored
        .into_iter()
        .filter_map(|stored| read(names, stored))
        .collect())
}

fn read(names: &Names, stored: Stored) -> Option<Kept> {
    let gone = wire::text(stored.headers.as_ref(), OPERATION).is_some()
        || wire::text(stored.headers.as_ref(), "Nats-Marker-Reason").is_some();
    Some(Kept {
        key: names.state_key(&stored.subject)?,
        value: (!gone).then_some(stored.payload),
        revision: stored.seq,
    })
}

impl NatsTold {
    pub(crate) async fn next(&mut self) -> Option<Word> {
        loop {
            let message = self.messages.next().await?;
            let headers = message.headers.as_ref();
            let (Some(from), Some(kind)) =
                (wire::text(headers, wire::NODE), wire::text(headers, KIND))
            else {
                continue;
            };
            if from != self.node {
                return Some(Word {
                    from: from.to_owned(),
                    kind: kind.to_owned(),
                    body: message.payload,
                });
            }
        }
    }
}

impl NatsKept {
    /// What was read, or has been heard and is newer than that.
    pub(crate) fn try_next(&mut self) -> Option<Kept> {
        while !self.stale && self.found.is_empty() {
            let message = self.changes.next().now_or_never()??;
            self.hear(message);
        }
        self.found.pop_front()
    }

    fn hear(&mut self, message: async_nats::Message) {
        // The stream passes on what it accepted, with its number.
        let heard = stored(message).and_then(|heard| read(&self.names, heard));
        let newer = heard.filter(|heard| heard.revision > self.read_to);
        self.found.extend(newer);
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Kept>, BusError> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Ok(Some(found));
            }
            if self.stale {
                // Subscribed before: a change after this reading comes as a message.
                self.found = kept(&self.store, &self.names, &self.filter).await?.into();
                self.read_to = self.found.iter().map(|it| it.revision).max().unwrap_or(0);
                self.stale = false;
                continue;
            }
            tokio::select! {
                changed = self.state.changed() => {
                    if changed.is_err() {
                        return Ok(None);
                    }
                    self.stale = *self.state.borrow_and_update() == NatsState::Connected;
                }
                message = self.changes.next() => {
                    let Some(message) = message else {
                        return Ok(None);
                    };
                    self.hear(message);
                }
            }
        }
    }
}
