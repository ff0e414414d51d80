//! Subjects of others: what the streams over them keep, and where they stand.

use std::sync::{Arc, PoisonError};

use protocol::channel::Channel;
use protocol::subject::Pattern;
use tracing::error;

use super::provision::{self, Foreign};
use super::{NatsBus, history, names, store, wire};
use crate::{Answer, BusError, History, HistoryPolicy, HistoryQuery, Message, Now, Position};

impl NatsBus {
    /// A subject of others: its last message, as far as a stream keeps it.
    pub(super) async fn read_verbatim(
        &self,
        channel: &Channel,
        query: HistoryQuery,
    ) -> Result<History, BusError> {
        // Positions begin somewhere: without a stream nobody could say where.
        if self.stream_over(channel).is_none() {
            return Err(BusError::NotKept);
        }
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
    pub(super) async fn provision_again(&self) -> bool {
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
    pub(super) async fn top(
        &self,
        now: Now,
        channel: &Channel,
    ) -> Result<Option<Position>, BusError> {
        if self.names.is_verbatim(channel) {
            let last = self.last_verbatim(channel).await?;
            return Ok(last.and_then(|last| wire::position(last.headers.as_ref())));
        }
        let subject = self.names.history(channel);
        let top = self.streams.top(now, BIRTH, &subject).await?;
        Ok(Some(top))
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
}

/// A stream that is found gone while somebody is subscribed begins anew like this.
const BIRTH: HistoryPolicy = HistoryPolicy {
    size: 0,
    ttl_ms: 3_600_000,
    meta_ttl_ms: 0,
};
