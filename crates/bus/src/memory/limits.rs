//! How much a bus may hold, and how much it does.

use hashbrown::hash_map;
use protocol::channel::Channel;

use super::Channels;
use super::budget::Budget;
use super::entry::Entry;
use crate::BusError;

/// Limits of a [`MemoryBus`](super::MemoryBus). Fixed for its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryConfig {
    /// Memory for kept publications, over all channels. At the limit a channel gives up
    /// its own oldest publications for a new one; if that is not enough, the new one is
    /// delivered but not kept, and recovery across it is refused.
    pub history_bytes_max: usize,
    /// Channels about which anything is known: subscribers, stream, presence or
    /// idempotency keys. At the limit a new channel is refused.
    pub channels_max: usize,
    /// Wildcard subscriptions: sinks times patterns. At the limit a new one is refused.
    pub patterns_max: usize,
    /// Present clients, over all channels. At the limit a new one is refused.
    pub presence_max: usize,
    /// Memory for idempotency keys, over all channels. At the limit a channel forgets its
    /// own oldest keys early (counted); if it has none, the publication is refused.
    pub idempotency_bytes_max: usize,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            history_bytes_max: 256 << 20,
            channels_max: 1_000_000,
            patterns_max: 100_000,
            presence_max: 4_000_000,
            idempotency_bytes_max: 64 << 20,
        }
    }
}

/// What all shards draw on together.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) channels: Budget,
    pub(super) patterns: Budget,
    pub(super) presence: Budget,
    pub(super) history_bytes: Budget,
    pub(super) idempotency_bytes: Budget,
}

impl Limits {
    pub(super) fn new(config: &MemoryConfig) -> Self {
        Self {
            channels: Budget::new("channels_max", config.channels_max),
            patterns: Budget::new("patterns_max", config.patterns_max),
            presence: Budget::new("presence_max", config.presence_max),
            history_bytes: Budget::new("history_bytes_max", config.history_bytes_max),
            idempotency_bytes: Budget::new("idempotency_bytes_max", config.idempotency_bytes_max),
        }
    }

    /// The channel's entry, made if it does not exist, and the name that the map holds
    /// (messages share it, so that kept ones do not each keep a name).
    pub(super) fn open<'a>(
        &self,
        channels: &'a mut Channels,
        channel: &Channel,
    ) -> Result<(Channel, &'a mut Entry), BusError> {
        match channels.entry(channel.clone()) {
            hash_map::Entry::Occupied(entry) => Ok((entry.key().clone(), entry.into_mut())),
            hash_map::Entry::Vacant(vacant) => {
                self.channels.take(1)?;
                Ok((channel.clone(), vacant.insert(Entry::default())))
            }
        }
    }

    pub(super) fn close_if_empty(&self, channels: &mut Channels, channel: &Channel) {
        if channels.get(channel.as_str()).is_some_and(Entry::is_empty) {
            channels.remove(channel.as_str());
            self.channels.give(1);
        }
    }
}
