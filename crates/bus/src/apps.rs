//! The bus as programs beside the sessions see it: the market's aggregator for one.
//!
//! They listen to subjects ([`Tap`]), publish channels that nobody else publishes
//! ([`Emit`]), answer questions ([`Requests`]) and ask them. All of it is bounded, and
//! says what happens at the bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use protocol::channel::Channel;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use crate::nats::NatsRequests;
use crate::{Bus, BusError, Message, Position, Sink, SinkId};

/// A message of a channel that has one publisher, which numbers it itself.
#[derive(Debug, Clone)]
pub struct Emit {
    /// Where it goes.
    pub channel: Channel,
    /// The payload; must own its memory.
    pub data: Bytes,
    /// Its place among the publisher's messages on this channel, if it counts them.
    /// Offsets rise by one; the epoch names this life of the publisher.
    pub position: Option<Position>,
    /// Whether the last one is to be remembered for [`Bus::latest`] and for whoever
    /// subscribes later. Only a bus in memory asks: over NATS the streams decide.
    pub keep: bool,
}

/// Messages of the subjects that a pattern covers, as they come. Dropping it ends the
/// subscription.
#[derive(Debug)]
pub struct Tap {
    bus: Bus,
    sink: SinkId,
    queue: mpsc::Receiver<Arc<Message>>,
    dropped: Arc<AtomicU64>,
}

/// What a tap's sink puts messages into.
pub(crate) struct TapSink {
    queue: mpsc::Sender<Arc<Message>>,
    dropped: Arc<AtomicU64>,
}

/// Questions to the subjects that a pattern covers, as they come. Dropping it ends that.
#[derive(Debug)]
pub struct Requests(pub(crate) Questions);

/// Where questions come from.
#[derive(Debug)]
pub(crate) enum Questions {
    Here(mpsc::Receiver<Asked>),
    Nats(NatsRequests),
}

/// A question that waits for its answer. Dropped without one, it counts as refused.
#[derive(Debug)]
pub struct Asked {
    /// What was asked for.
    pub subject: Channel,
    /// The question.
    pub data: Bytes,
    pub(crate) reply: Reply,
}

/// Where an answer goes.
pub(crate) enum Reply {
    Here(oneshot::Sender<Result<Bytes, BusError>>),
    /// Called with the answer, or with why there is none.
    There(Option<Respond>),
}

pub(crate) type Respond = Box<dyn FnOnce(Result<Bytes, String>) + Send>;

impl Tap {
    pub(crate) fn new(
        bus: Bus,
        sink: SinkId,
        queue: mpsc::Receiver<Arc<Message>>,
        dropped: Arc<AtomicU64>,
    ) -> Self {
        Self {
            bus,
            sink,
            queue,
            dropped,
        }
    }

    /// The next message; safe to cancel. `None` does not come while the tap lives.
    pub async fn next(&mut self) -> Option<Arc<Message>> {
        self.queue.recv().await
    }

    /// A message that has come already.
    pub fn try_next(&mut self) -> Option<Arc<Message>> {
        self.queue.try_recv().ok()
    }

    /// How many messages came while the queue was full, and are lost.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.bus.detach(self.sink);
    }
}

impl TapSink {
    pub(crate) fn new(
        capacity: usize,
    ) -> (Arc<Self>, mpsc::Receiver<Arc<Message>>, Arc<AtomicU64>) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let dropped = Arc::new(AtomicU64::new(0));
        let sink = Self {
            queue: sender,
            dropped: Arc::clone(&dropped),
        };
        (Arc::new(sink), receiver, dropped)
    }
}

impl Sink for TapSink {
    /// Always: who listens beside must not hold up who publishes.
    fn has_room(&self) -> bool {
        true
    }

    fn deliver(&self, message: Arc<Message>) {
        if self.queue.try_send(message).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Requests {
    /// The next question; safe to cancel. `None` once the bus is gone.
    pub async fn next(&mut self) -> Option<Asked> {
        match &mut self.0 {
            Questions::Here(queue) => queue.recv().await,
            Questions::Nats(questions) => questions.next().await,
        }
    }
}

impl Asked {
    /// Answers.
    pub fn respond(mut self, answer: Bytes) {
        match std::mem::replace(&mut self.reply, Reply::There(None)) {
            // Whoever asked may have given up.
            Reply::Here(sender) => drop(sender.send(Ok(answer))),
            Reply::There(Some(send)) => send(Ok(answer)),
            Reply::There(None) => {}
        }
    }

    /// Says that there is no answer, and why; who asked gets [`BusError::Refused`].
    pub fn refuse(mut self, why: &str) {
        self.refuse_with(why);
    }

    fn refuse_with(&mut self, why: &str) {
        match std::mem::replace(&mut self.reply, Reply::There(None)) {
            Reply::Here(sender) => {
                debug!(subject = %self.subject, why, "request refused");
                drop(sender.send(Err(BusError::Refused)));
            }
            Reply::There(Some(send)) => send(Err(why.to_owned())),
            // Answered before.
            Reply::There(None) => {}
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.refuse_with("no answer");
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Here(_) => "Here(…)",
            Self::There(_) => "There(…)",
        })
    }
}
