//! What subscribing asks of the bus, step by step, and what is held back meanwhile.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bus::{Bus, BusError, History, HistoryPolicy, HistoryQuery, Message, Now, SinkId};
use protocol::channel::Channel;
use protocol::message::ClientInfo;
use protocol::session::SubscribeAsk;
use protocol::subject::Pattern;

/// What the bus found of the channel's stream, if that was asked for.
pub type Found = Result<Option<History>, BusError>;

/// The bus is being asked; to be polled within the runtime.
pub type Asking = Pin<Box<dyn Future<Output = Found> + Send>>;

/// One subscription on its way through the bus.
pub(super) struct Entering {
    pub(super) bus: Bus,
    pub(super) sink: SinkId,
    pub(super) at: At,
    /// The bus may not know yet that this worker wants it.
    pub(super) subscribes: bool,
    pub(super) read: Option<(Now, HistoryPolicy, HistoryQuery)>,
    pub(super) presence: Option<Arc<ClientInfo>>,
}

/// Where to.
pub(super) enum At {
    Channel(Channel),
    Pattern(Pattern),
}

impl Entering {
    /// First the sink, then the stream: what is published in between comes both ways.
    pub(super) async fn run(self) -> Found {
        let Self {
            bus,
            sink,
            at,
            subscribes,
            read,
            presence,
        } = self;
        let channel = match at {
            At::Pattern(pattern) => {
                if subscribes {
                    bus.subscribe_pattern(sink, &pattern).await?;
                }
                return Ok(None);
            }
            At::Channel(channel) => {
                if subscribes {
                    bus.subscribe(sink, &channel).await?;
                }
                channel
            }
        };
        let found = match read {
            None => None,
            Some((now, policy, query)) => Some(bus.history(now, &channel, &policy, query).await?),
        };
        if let Some(info) = presence {
            bus.presence_add(&channel, info).await?;
        }
        Ok(found)
    }
}

/// What came for a subscriber before the bus had answered its subscribing.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) channel: Channel,
    pub(super) wildcard: bool,
    pub(super) messages: Vec<Arc<Message>>,
}

impl Held {
    pub(super) fn new(ask: &SubscribeAsk) -> Self {
        Self {
            channel: ask.channel.clone(),
            wildcard: ask.wildcard,
            messages: Vec::new(),
        }
    }

    /// Keeps the newest; whoever counts positions notices what is missing.
    pub(super) fn keep(&mut self, message: &Arc<Message>) {
        if self.messages.len() == HELD_MAX {
            self.messages.remove(0);
        }
        self.messages.push(Arc::clone(message));
    }
}

/// Most messages held back for one subscriber; the bus answers within seconds.
const HELD_MAX: usize = 1_024;
