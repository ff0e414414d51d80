//! What sessions ask, carried out on the bus.

mod entering;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bus::{
    Answer, Bus, BusError, HistoryLimit, HistoryPolicy, HistoryQuery, Message, Now, Position,
    Publish, SinkId,
};
use hashbrown::HashMap;
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
use entering::{At, Entering, Held};

pub use entering::{Asking, Found};

/// One worker's way to the bus and back.
pub struct Router {
    bus: Bus,
    sink: SinkId,
    fanout: Fanout,
    /// Subscribers whose subscribing the bus has not answered; a session has one at most.
    held: HashMap<u32, Held>,
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

/// How far subscribing has come.
pub enum Subscribing {
    /// The bus has answered.
    Done(Result<Subscribed, ErrorCode>),
    /// It will, and [`Router::settle`] wants to hear it.
    Later(Asking),
}

impl Router {
    /// A router for the worker behind `sink`.
    pub fn new(bus: Bus, sink: SinkId, deflater: Deflater, deflate_min: usize) -> Self {
        Self {
            bus,
            sink,
            fanout: Fanout::default(),
            held: HashMap::new(),
            deflate: (deflater, deflate_min),
        }
    }

    /// Subscribes a session, and reads what it missed if it asked for that.
    ///
    /// The sink is registered first and the stream read second: what is published in
    /// between comes both ways and is told apart by its offset. If the bus answers later,
    /// what is delivered meanwhile is held back until [`Router::settle`] is called with
    /// what it found, or [`Router::abandon`] if the session has ended before.
    pub fn subscribe(&mut self, now: Now, who: Subscriber, ask: &SubscribeAsk) -> Subscribing {
        let options = &ask.options.options;
        let entry = Entry {
            flavor: who.flavor,
            slow_client: options.slow_client,
            join_leave: ask.join_leave_pushes,
            position: None,
            waits: false,
        };
        let (at, is_first) = if ask.wildcard {
            let Ok(pattern) = Pattern::new(&ask.channel) else {
                return Subscribing::Done(Err(ErrorCode::BadRequest));
            };
            let is_first = self
                .fanout
                .enter_pattern(&ask.channel, &pattern, who.slot, entry);
            (At::Pattern(pattern), is_first)
        } else {
            let channel = self
                .fanout
                .shared_name(&ask.channel)
                .unwrap_or_else(|| ask.channel.clone());
            let is_first = self.fanout.enter(&channel, who.slot, entry);
            (At::Channel(channel), is_first)
        };
        let read = read_of(ask, options).filter(|_| !ask.wildcard);
        let entering = Entering {
            bus: self.bus.clone(),
            sink: self.sink,
            at,
            // A bus elsewhere may still be at it for another subscriber.
            subscribes: is_first || self.bus.is_remote(),
            read: read.map(|(policy, query)| (now, policy, query)),
            presence: ask.presence.clone().filter(|_| !ask.wildcard),
        };
        let mut asking: Asking = Box::pin(entering.run());
        // A bus within the process has answered by now.
        match asking
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(found) => Subscribing::Done(self.settle(who, ask, found).0),
            Poll::Pending => {
                self.fanout
                    .set_waiting(&ask.channel, ask.wildcard, who.slot, true);
                self.held.insert(who.slot, Held::new(ask));
                Subscribing::Later(asking)
            }
        }
    }

    /// Ends subscribing with what the bus has found: the answer, and what was held back
    /// for [`Router::release`], which comes after the client has heard the answer.
    pub fn settle(
        &mut self,
        who: Subscriber,
        ask: &SubscribeAsk,
        found: Found,
    ) -> (Result<Subscribed, ErrorCode>, Vec<Arc<Message>>) {
        let held = self.held.remove(&who.slot);
        let mut held = held.map_or_else(Vec::new, |held| held.messages);
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                if ask.wildcard {
                    self.leave_pattern(&ask.channel, who.slot);
                } else {
                    self.leave_channel(&ask.channel, who.slot);
                }
                return (Err(code(error)), Vec::new());
            }
        };
        self.fanout
            .set_waiting(&ask.channel, ask.wildcard, who.slot, false);
        let Some(found) = found else {
            return (Ok(Subscribed::default()), held);
        };
        if ask.positioned {
            self.fanout.set_position(&ask.channel, who.slot, found.top);
        } else if ask.recover.is_some() {
            // Nobody counts here, and what lies before the latest must not come after it.
            held.retain(|message| !is_up_to(message, found.top));
        }
        let subscribed = Subscribed {
            top: Some(found.top.into()),
            publications: publications(&found.publications),
        };
        (Ok(subscribed), held)
    }

    /// Spreads to one subscriber what was held back for it.
    pub fn release(
        &mut self,
        slot: u32,
        ask: &SubscribeAsk,
        held: &[Arc<Message>],
        receiver: &mut impl Receiver,
    ) -> Delivered {
        let mut delivered = Delivered::default();
        for message in held {
            delivered.frames += self
                .fanout
                .deliver_to(
                    slot,
                    &ask.channel,
                    ask.wildcard,
                    message,
                    &mut self.deflate,
                    receiver,
                )
                .frames;
        }
        delivered
    }

    /// Whether a session waits for [`Router::settle`]; one that was abandoned does not.
    pub fn awaits(&self, slot: u32) -> bool {
        self.held.contains_key(&slot)
    }

    /// Forgets a session that has ended while the bus was asked for it.
    pub fn abandon(&mut self, slot: u32) {
        let Some(held) = self.held.remove(&slot) else {
            return;
        };
        if held.wildcard {
            self.leave_pattern(&held.channel, slot);
        } else {
            self.leave_channel(&held.channel, slot);
        }
    }

    /// Forgets a session of which nothing more is known, so that whoever gets its slot does
    /// not get its messages. Looks at every channel.
    pub fn purge(&mut self, slot: u32) {
        self.held.remove(&slot);
        let (channels, patterns) = self.fanout.places_of(slot);
        for channel in &channels {
            self.leave_channel(channel, slot);
        }
        for pattern in &patterns {
            self.leave_pattern(pattern, slot);
        }
    }

    /// Takes back what the bus has done for a session that had ended before.
    pub fn undo(&self, ask: &SubscribeAsk) {
        if let Some(info) = &ask.presence {
            self.bus.presence_remove(&ask.channel, &info.client);
        }
    }

    /// Ends a subscription: no more frames, no presence.
    pub fn leave(&mut self, slot: u32, client: ClientId, sub: &Subscription) {
        if sub.is_wildcard() {
            return self.leave_pattern(&sub.channel, slot);
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
    ) -> Answer<Result<Published, ErrorCode>> {
        let publish = Publish {
            info: Some(info),
            history: policy(options),
            ..Publish::new(channel, data)
        };
        self.bus
            .publish(now, publish)
            .map(|published| published.map(|_| Published).map_err(code))
    }

    /// Publishes that a subscriber came.
    pub fn join(&self, channel: &Channel, info: Arc<ClientInfo>) {
        self.bus.publish_join(channel, info);
    }

    /// Publishes that a subscriber went.
    pub fn announce_leave(&self, channel: &Channel, info: Arc<ClientInfo>) {
        self.bus.publish_leave(channel, info);
    }

    /// Asks whoever serves a subject.
    pub fn call(
        &self,
        subject: &Channel,
        data: bytes::Bytes,
    ) -> Answer<Result<bytes::Bytes, ErrorCode>> {
        self.bus
            .request(subject, data, CALL_TIMEOUT)
            .map(|answer| answer.map_err(code))
    }

    /// Reads history.
    pub fn history(&self, now: Now, ask: &HistoryAsk) -> Answer<Result<HistoryResult, ErrorCode>> {
        let Some(policy) = policy(&ask.options.options) else {
            return Answer::Now(Err(ErrorCode::NotAvailable));
        };
        let query = HistoryQuery {
            since: ask.since.as_ref().map(|since| since.offset),
            limit: match ask.limit {
                0 => HistoryLimit::PositionOnly,
                limit => HistoryLimit::AtMost(limit),
            },
            reverse: ask.reverse,
        };
        let since = ask.since.clone();
        self.bus
            .history(now, &ask.channel, &policy, query)
            .map(move |found| {
                let found = found.map_err(code)?;
                let top = StreamPosition::from(found.top);
                if let Some(since) = &since
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
            })
    }

    /// Reads who is in a channel.
    pub fn presence(&self, channel: &Channel) -> Answer<Result<PresenceResult, ErrorCode>> {
        self.bus.presence(channel).map(|present| {
            let present = present.map_err(code)?;
            Ok(PresenceResult {
                presence: present
                    .into_iter()
                    .map(|info| (info.client.clone(), info.as_ref().clone()))
                    .collect(),
            })
        })
    }

    /// Counts who is in a channel.
    pub fn presence_stats(
        &self,
        channel: &Channel,
    ) -> Answer<Result<PresenceStatsResult, ErrorCode>> {
        self.bus.presence_stats(channel).map(|stats| {
            let stats = stats.map_err(code)?;
            Ok(PresenceStatsResult {
                num_clients: u32::try_from(stats.clients).unwrap_or(u32::MAX),
                num_users: u32::try_from(stats.users).unwrap_or(u32::MAX),
            })
        })
    }

    /// Spreads what the bus delivered.
    pub fn deliver(&mut self, message: &Arc<Message>, receiver: &mut impl Receiver) -> Delivered {
        let delivered = self.fanout.deliver(message, &mut self.deflate, receiver);
        for slot in self.fanout.take_waiting() {
            if let Some(held) = self.held.get_mut(&slot) {
                held.keep(message);
            }
        }
        delivered
    }

    /// How many subscribers each channel has on this worker.
    pub fn channels(&self) -> impl Iterator<Item = (&Channel, usize)> {
        self.fanout.counts()
    }

    fn leave_channel(&mut self, channel: &Channel, slot: u32) {
        if self.fanout.leave(channel, slot) {
            self.bus.unsubscribe(self.sink, channel);
        }
    }

    fn leave_pattern(&mut self, channel: &Channel, slot: u32) {
        if let Some(pattern) = self.fanout.leave_pattern(channel, slot) {
            self.bus.unsubscribe_pattern(self.sink, &pattern);
        }
    }
}

/// Which part of the channel's stream a subscriber has to be told.
fn read_of(ask: &SubscribeAsk, options: &ChannelOptions) -> Option<(HistoryPolicy, HistoryQuery)> {
    let policy = policy(options).filter(|_| ask.positioned || ask.recover.is_some())?;
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
    Some((policy, query))
}

/// Whether a message lies before the top of its stream, or is it.
fn is_up_to(message: &Message, top: Position) -> bool {
    let position = message.publication().and_then(|one| one.position);
    position.is_some_and(|at| at.epoch == top.epoch && at.offset <= top.offset)
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
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    options.has_history().then(|| HistoryPolicy {
        size: options.history_size,
        ttl_ms: millis(options.history_ttl),
        meta_ttl_ms: millis(options.history_meta_ttl),
    })
}

/// How long whoever serves a subject may take to answer a client's call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// What a client is told when the bus does not do as asked.
fn code(error: BusError) -> ErrorCode {
    match error {
        BusError::Busy => ErrorCode::TooManyRequests,
        BusError::LimitExceeded { .. } => ErrorCode::LimitExceeded,
        // A temporary error: SDKs try again.
        BusError::Unavailable | BusError::SinkDetached => ErrorCode::Internal,
        BusError::NoResponder | BusError::NotKept => ErrorCode::NotAvailable,
        BusError::Refused | BusError::Outdated => ErrorCode::BadRequest,
        BusError::Denied => ErrorCode::PermissionDenied,
    }
}

#[cfg(test)]
mod tests;
