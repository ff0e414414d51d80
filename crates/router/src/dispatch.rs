//! What sessions ask, carried out on the bus.

use std::sync::Arc;

use bus::{
    BusError, HistoryLimit, HistoryPolicy, HistoryQuery, MemoryBus, Message, Now, Publish, SinkId,
};
use protocol::channel::Channel;
use protocol::code::ErrorCode;
use protocol::message::{
    ClientInfo, HistoryResult, PresenceResult, PresenceStatsResult, StreamPosition,
};
use protocol::session::{ClientId, HistoryAsk, Published, SubscribeAsk, Subscribed, Subscription};
use protocol::settings::{ChannelOptions, RecoveryMode};
use protocol::subject::Pattern;
use websocket::Deflater;

use crate::fanout::{Delivered, Entry, Fanout, Receiver};
use crate::frame::{self, Flavor};

/// One worker's way to the bus and back.
pub struct Router {
    bus: Arc<MemoryBus>,
    sink: SinkId,
    fanout: Fanout,
    /// The worker's compressor, and from how many bytes on it is used.
    deflate: (Deflater, usize),
}

/// A session as the router knows it.
#[derive(Debug, Clone, Copy)]
pub struct Subscriber {
    /// Where the worker keeps it.
    pub slot: u32,
    /// Its public id.
    pub client: ClientId,
    /// How its frames are made.
    pub flavor: Flavor,
}

impl Router {
    /// A router for the worker behind `sink`.
    pub fn new(bus: Arc<MemoryBus>, sink: SinkId, deflater: Deflater, deflate_min: usize) -> Self {
        Self {
            bus,
            sink,
            fanout: Fanout::default(),
            deflate: (deflater, deflate_min),
        }
    }

    /// Subscribes a session, and reads what it missed if it asked for that.
    ///
    /// The sink is registered first and the stream read second: what is published in
    /// between comes both ways and is told apart by its offset.
    pub fn subscribe(
        &mut self,
        now: Now,
        who: Subscriber,
        ask: &SubscribeAsk,
    ) -> Result<Subscribed, ErrorCode> {
        let options = &ask.options.options;
        let entry = Entry {
            flavor: who.flavor,
            slow_client: options.slow_client,
            join_leave: ask.join_leave_pushes,
            position: None,
        };
        if ask.wildcard {
            return self.subscribe_pattern(who, &ask.channel, entry);
        }
        let channel = self
            .fanout
            .shared_name(&ask.channel)
            .unwrap_or_else(|| ask.channel.clone());
        if self.fanout.enter(&channel, who.slot, entry)
            && let Err(error) = self.bus.subscribe(self.sink, &channel)
        {
            self.fanout.leave(&channel, who.slot);
            return Err(code(error));
        }
        let found = self.read_stream(now, &channel, ask, options);
        let kept = found.and_then(|found| {
            if let Some(info) = &ask.presence {
                self.bus
                    .presence_add(&channel, Arc::clone(info))
                    .map_err(code)?;
            }
            Ok(found)
        });
        match kept {
            Ok((position, found)) => {
                self.fanout
                    .enter(&channel, who.slot, Entry { position, ..entry });
                Ok(found)
            }
            Err(error) => {
                self.leave_channel(&channel, who.slot);
                Err(error)
            }
        }
    }

    /// Ends a subscription: no more frames, no presence.
    pub fn leave(&mut self, slot: u32, client: ClientId, sub: &Subscription) {
        if sub.is_wildcard() {
            if let Some(pattern) = self.fanout.leave_pattern(&sub.channel, slot) {
                self.bus.unsubscribe_pattern(self.sink, &pattern);
            }
            return;
        }
        if sub.has_presence() {
            self.bus.presence_remove(&sub.channel, &client.to_string());
        }
        self.leave_channel(&sub.channel, slot);
    }

    /// Publishes what a client sent.
    pub fn publish(
        &self,
        now: Now,
        channel: Channel,
        data: bytes::Bytes,
        info: Arc<ClientInfo>,
        options: &ChannelOptions,
    ) -> Result<Published, ErrorCode> {
        let publish = Publish {
            info: Some(info),
            history: policy(options),
            ..Publish::new(channel, data)
        };
        self.bus
            .publish(now, publish)
            .map(|_| Published)
            .map_err(code)
    }

    /// Publishes that a subscriber came.
    pub fn join(&self, channel: &Channel, info: Arc<ClientInfo>) {
        self.bus.publish_join(channel, info);
    }

    /// Publishes that a subscriber went.
    pub fn announce_leave(&self, channel: &Channel, info: Arc<ClientInfo>) {
        self.bus.publish_leave(channel, info);
    }

    /// Reads history.
    pub fn history(&self, now: Now, ask: &HistoryAsk) -> Result<HistoryResult, ErrorCode> {
        let policy = policy(&ask.options.options).ok_or(ErrorCode::NotAvailable)?;
        let query = HistoryQuery {
            since: ask.since.as_ref().map(|since| since.offset),
            limit: match ask.limit {
                0 => HistoryLimit::PositionOnly,
                limit => HistoryLimit::AtMost(limit),
            },
            reverse: ask.reverse,
        };
        let found = self
            .bus
            .history(now, &ask.channel, &policy, query)
            .map_err(code)?;
        let top = StreamPosition::from(found.top);
        if let Some(since) = &ask.since
            && !since.epoch.is_empty()
            && since.epoch != top.epoch
        {
            return Err(ErrorCode::UnrecoverablePosition);
        }
        Ok(HistoryResult {
            publications: publications(&found.publications),
            epoch: top.epoch,
            offset: top.offset,
        })
    }

    /// Reads who is in a channel.
    pub fn presence(&self, channel: &Channel) -> PresenceResult {
        let present = self.bus.presence(channel);
        PresenceResult {
            presence: present
                .into_iter()
                .map(|info| (info.client.clone(), info.as_ref().clone()))
                .collect(),
        }
    }

    /// Counts who is in a channel.
    pub fn presence_stats(&self, channel: &Channel) -> PresenceStatsResult {
        let stats = self.bus.presence_stats(channel);
        PresenceStatsResult {
            num_clients: u32::try_from(stats.clients).unwrap_or(u32::MAX),
            num_users: u32::try_from(stats.users).unwrap_or(u32::MAX),
        }
    }

    /// Spreads what the bus delivered.
    pub fn deliver(&mut self, message: &Message, receiver: &mut impl Receiver) -> Delivered {
        self.fanout.deliver(message, &mut self.deflate, receiver)
    }

    /// How many subscribers each channel has on this worker.
    pub fn channels(&self) -> impl Iterator<Item = (&Channel, usize)> {
        self.fanout.counts()
    }

    fn subscribe_pattern(
        &mut self,
        who: Subscriber,
        channel: &Channel,
        entry: Entry,
    ) -> Result<Subscribed, ErrorCode> {
        let pattern = Pattern::new(channel).map_err(|_| ErrorCode::BadRequest)?;
        if self
            .fanout
            .enter_pattern(channel, &pattern, who.slot, entry)
            && let Err(error) = self.bus.subscribe_pattern(self.sink, &pattern)
        {
            self.fanout.leave_pattern(channel, who.slot);
            return Err(code(error));
        }
        Ok(Subscribed::default())
    }

    fn leave_channel(&mut self, channel: &Channel, slot: u32) {
        if self.fanout.leave(channel, slot) {
            self.bus.unsubscribe(self.sink, channel);
        }
    }

    fn read_stream(
        &self,
        now: Now,
        channel: &Channel,
        ask: &SubscribeAsk,
        options: &ChannelOptions,
    ) -> Result<(Option<bus::Position>, Subscribed), ErrorCode> {
        let policy = match policy(options) {
            Some(policy) if ask.positioned || ask.recover.is_some() => policy,
            _ => return Ok((None, Subscribed::default())),
        };
        let query = match &ask.recover {
            None => HistoryQuery {
                since: None,
                limit: HistoryLimit::PositionOnly,
                reverse: false,
            },
            Some(recover) => match recover.mode {
                RecoveryMode::Cache => HistoryQuery {
                    since: None,
                    limit: HistoryLimit::AtMost(1),
                    reverse: true,
                },
                RecoveryMode::Stream => HistoryQuery {
                    since: Some(recover.since.offset),
                    limit: HistoryLimit::AtMost(ask.recovery_max.saturating_add(1)),
                    reverse: false,
                },
            },
        };
        let found = self
            .bus
            .history(now, channel, &policy, query)
            .map_err(code)?;
        let subscribed = Subscribed {
            top: Some(found.top.into()),
            publications: publications(&found.publications),
        };
        Ok((ask.positioned.then_some(found.top), subscribed))
    }
}

fn publications(messages: &[Arc<Message>]) -> Vec<protocol::message::Publication> {
    messages
        .iter()
        .filter_map(|message| message.publication())
        .map(frame::publication)
        .collect()
}

/// How the bus keeps a channel's publications; `None` without history.
pub fn policy(options: &ChannelOptions) -> Option<HistoryPolicy> {
    let millis =
        |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    options.has_history().then(|| HistoryPolicy {
        size: options.history_size,
        ttl_ms: millis(options.history_ttl),
        meta_ttl_ms: millis(options.history_meta_ttl),
    })
}

/// What a client is told when the bus does not do as asked.
fn code(error: BusError) -> ErrorCode {
    match error {
        BusError::Busy => ErrorCode::TooManyRequests,
        BusError::LimitExceeded { .. } => ErrorCode::LimitExceeded,
        BusError::SinkDetached => ErrorCode::Internal,
    }
}

#[cfg(test)]
mod tests;
