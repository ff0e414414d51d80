//! Everything the bus knows about one channel.

use std::sync::Arc;

use super::SinkId;
use super::budget::Budget;
use super::limits::Limits;
use super::presence::Presence;
use super::registry::Attached;
use super::replays::Replays;
use super::stream::{Stream, Version};
use crate::{Epoch, HistoryPolicy, Message, Now, Publish, Published, Suppression};

/// One channel. What is absent costs a pointer: most channels have subscribers only.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) sinks: Vec<Arc<Attached>>,
    pub(super) stream: Option<Box<Stream>>,
    pub(super) presence: Option<Box<Presence>>,
    pub(super) replays: Option<Box<Replays>>,
}

impl Entry {
    /// The stream, with `policy` in force; made if there is none or its time is over.
    pub(super) fn stream(
        &mut self,
        now: Now,
        policy: HistoryPolicy,
        memory: &Budget,
        epoch: impl FnOnce() -> Epoch,
    ) -> &mut Stream {
        self.forget_stream_if_over(now, memory);
        let stream = self
            .stream
            .get_or_insert_with(|| Box::new(Stream::new(epoch(), policy, now.mono_ms)));
        stream.touch(now.mono_ms, policy, memory);
        stream
    }

    /// Whether `publish` repeats an earlier one, and the answer if it does.
    pub(super) fn suppressed(
        &mut self,
        now: Now,
        publish: &Publish,
        version: Version,
        limits: &Limits,
    ) -> Option<Published> {
        if let Some(replays) = &mut self.replays {
            replays.expire(now.mono_ms, &limits.idempotency_bytes);
            let key = publish.idempotency_key.as_deref();
            if let Some(position) = key.and_then(|key| replays.answer(key)) {
                return Some(Published {
                    position,
                    suppressed: Some(Suppression::Duplicate),
                });
            }
        }
        self.forget_stream_if_over(now, &limits.history_bytes);
        let stream = self
            .stream
            .as_deref()
            .filter(|stream| stream.is_outdated(version))?;
        Some(Published {
            position: Some(stream.top()),
            suppressed: Some(Suppression::Outdated),
        })
    }

    pub(super) fn is_subscribed(&self, sink: SinkId) -> bool {
        self.sinks.iter().any(|known| known.id == sink)
    }

    /// Returns whether the sink was subscribed.
    pub(super) fn unsubscribe(&mut self, sink: SinkId) -> bool {
        let Some(index) = self.sinks.iter().position(|known| known.id == sink) else {
            return false;
        };
        self.sinks.swap_remove(index);
        if self.sinks.is_empty() {
            self.sinks = Vec::new();
        }
        true
    }

    /// Hands a join or leave to the subscribers that have room; returns how many had none.
    pub(super) fn notify(&self, message: &Arc<Message>) -> u64 {
        let mut dropped = 0;
        for attached in &self.sinks {
            if attached.sink.has_room() {
                attached.sink.deliver(Arc::clone(message));
            } else {
                dropped += 1;
            }
        }
        dropped
    }

    /// Drops what time has ended.
    pub(super) fn expire(&mut self, now: Now, limits: &Limits) {
        self.forget_stream_if_over(now, &limits.history_bytes);
        if let Some(stream) = &mut self.stream {
            stream.expire(now.mono_ms, &limits.history_bytes);
        }
        if let Some(replays) = &mut self.replays {
            replays.expire(now.mono_ms, &limits.idempotency_bytes);
            if replays.is_empty() {
                self.replays = None;
            }
        }
    }

    /// Whether nothing is known that the map must keep.
    pub(super) fn is_empty(&self) -> bool {
        self.sinks.is_empty()
            && self.stream.is_none()
            && self.presence.is_none()
            && self.replays.is_none()
    }

    fn forget_stream_if_over(&mut self, now: Now, memory: &Budget) {
        if let Some(stream) = &mut self.stream
            && stream.is_over(now.mono_ms)
        {
            stream.clear(memory);
            self.stream = None;
        }
    }
}
