//! Who is on which channel, over all gateways.
//!
//! Each gateway knows its own clients, and notes them in a bucket for the others: an entry
//! per client, which expires after a minute unless renewed. So what a gateway that died
//! had noted is gone a minute later. A reader takes its own from memory and everybody
//! else's from the bucket.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::HeaderMap;
use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use protocol::channel::Channel;
use protocol::message::ClientInfo;

use super::names::Names;
use super::outgoing::{Outgoing, Queue};
use super::store::Store;
use super::wire;
use crate::{BusError, PresenceStats};

/// Presence of the cluster.
#[derive(Debug)]
pub(super) struct Presence {
    own: Mutex<Own>,
    max: usize,
    node: String,
    names: Arc<Names>,
    queue: Queue,
    store: Store,
}

#[derive(Debug, Default)]
struct Own {
    channels: HashMap<Channel, HashMap<Box<str>, Present>>,
    /// How many there are.
    count: usize,
    /// When which entry is to be renewed, soonest first. One that is gone, or came anew, is
    /// found out when its turn comes.
    renewals: VecDeque<Renewal>,
    last_id: u64,
}

#[derive(Debug)]
struct Present {
    info: Arc<ClientInfo>,
    /// Tells this coming from others of the same client.
    id: u64,
}

#[derive(Debug)]
struct Renewal {
    due_ms: u64,
    channel: Channel,
    client: Box<str>,
    id: u64,
}

impl Presence {
    pub(super) fn new(
        max: usize,
        node: String,
        names: Arc<Names>,
        queue: Queue,
        store: Store,
    ) -> Self {
        Self {
            own: Mutex::default(),
            max,
            node,
            names,
            queue,
            store,
        }
    }

    pub(super) fn add(
        &self,
        channel: &Channel,
        info: Arc<ClientInfo>,
        now_ms: u64,
    ) -> Result<(), BusError> {
        let own = &mut *self.own();
        let known = own.channels.get(channel.as_str());
        let known = known.and_then(|clients| clients.get(info.client.as_str()));
        let known = known.map(|present| present.id);
        if known.is_none() && own.count >= self.max {
            return Err(BusError::LimitExceeded {
                limit: "presence_max",
            });
        }
        self.note(channel, &info)?;
        let client: Box<str> = info.client.as_str().into();
        let id = known.unwrap_or_else(|| {
            own.count += 1;
            own.last_id += 1;
            own.renewals.push_back(Renewal {
                due_ms: now_ms + RENEW_EVERY_MS,
                channel: channel.clone(),
                client: client.clone(),
                id: own.last_id,
            });
            own.last_id
        });
        let clients = own.channels.entry(channel.clone()).or_default();
        clients.insert(client, Present { info, id });
        Ok(())
    }

    pub(super) fn remove(&self, channel: &Channel, client: &str) {
        {
            let own = &mut *self.own();
            let Some(clients) = own.channels.get_mut(channel.as_str()) else {
                return;
            };
            if clients.remove(client).is_none() {
                return;
            }
            own.count -= 1;
            if clients.is_empty() {
                own.channels.remove(channel.as_str());
            }
        }
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", "DEL");
        headers.insert(wire::NODE, &*self.node);
        let gone = Outgoing {
            subject: self.names.presence(channel, client),
            headers: Some(headers),
            payload: Bytes::new(),
        };
        // If the queue is full the entry expires instead; that is counted.
        self.queue.send(gone).unwrap_or_default();
    }

    pub(super) async fn list(&self, channel: &Channel) -> Result<Vec<Arc<ClientInfo>>, BusError> {
        let bucket = format!("KV_{}", self.names.presence_bucket);
        let filter = self.names.presence_of(channel);
        let noted = self.store.all(&bucket, &filter).await?;
        let others = noted.into_iter().filter_map(|entry| {
            let headers = entry.headers.as_ref();
            let is_ours = wire::text(headers, wire::NODE) == Some(&*self.node);
            let is_gone = wire::text(headers, "KV-Operation").is_some();
            let text = std::str::from_utf8(&entry.payload).ok()?;
            let info = (!is_ours && !is_gone).then(|| wire::read_info(text))??;
            Some((info.client.clone(), Arc::new(info)))
        });
        // Renewed between two answers, an entry may come twice.
        let mut present: HashMap<_, _> = others.collect();
        if let Some(own) = self.own().channels.get(channel.as_str()) {
            let own = own.values();
            present.extend(own.map(|own| (own.info.client.clone(), Arc::clone(&own.info))));
        }
        Ok(present.into_values().collect())
    }

    pub(super) async fn stats(&self, channel: &Channel) -> Result<PresenceStats, BusError> {
        let present = self.list(channel).await?;
        let users: HashSet<_> = present.iter().map(|info| info.user.as_str()).collect();
        Ok(PresenceStats {
            clients: present.len(),
            users: users.len(),
        })
    }

    /// Renews what is due.
    pub(super) fn renew(&self, now_ms: u64) {
        let own = &mut *self.own();
        while let Some(mut renewal) = own.renewals.pop_front() {
            if renewal.due_ms > now_ms {
                own.renewals.push_front(renewal);
                break;
            }
            let clients = own.channels.get(renewal.channel.as_str());
            let present = clients.and_then(|clients| clients.get(&renewal.client));
            let Some(present) = present.filter(|present| present.id == renewal.id) else {
                continue;
            };
            if self.note(&renewal.channel, &present.info).is_err() {
                own.renewals.push_front(renewal);
                break;
            }
            renewal.due_ms = now_ms + RENEW_EVERY_MS;
            own.renewals.push_back(renewal);
        }
    }

    /// Makes everything due: the servers may have forgotten it.
    pub(super) fn renew_all(&self, now_ms: u64) {
        for renewal in &mut self.own().renewals {
            renewal.due_ms = renewal.due_ms.min(now_ms);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.own().count
    }

    fn note(&self, channel: &Channel, info: &ClientInfo) -> Result<(), BusError> {
        let mut headers = HeaderMap::new();
        headers.insert(wire::NODE, &*self.node);
        self.queue.send(Outgoing {
            subject: self.names.presence(channel, &info.client),
            headers: Some(headers),
            payload: wire::write_info(info).into(),
        })
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A third of what an entry lives.
const RENEW_EVERY_MS: u64 = 20_000;
