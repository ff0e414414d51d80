//! One face for every bus.
//!
//! In one process the answer to a question is there at once; over a network it comes
//! later. So questions are answered with an [`Answer`], and nobody who asks has to know
//! which bus there is.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::channel::Channel;
use protocol::message::ClientInfo;
use protocol::subject::Pattern;
use tokio::sync::{mpsc, oneshot};

use crate::apps::{Asked, Questions, Reply, TapSink};
use crate::{
    BusError, Emit, History, HistoryPolicy, HistoryQuery, Keep, Kept, MemoryBus, Message, NatsBus,
    NatsStats, Now, PresenceStats, Publish, Published, Requests, Sink, SinkId, Stats, Tap, Told,
    WatchKept,
};

/// The bus of this process. Clones share it.
#[derive(Debug, Clone)]
pub enum Bus {
    /// Within the process.
    Memory(Arc<MemoryBus>),
    /// All gateways on one NATS.
    Nats(Arc<NatsBus>),
}

/// The answer to a question, now or later. What comes later has its own deadline.
#[must_use]
pub enum Answer<T> {
    /// It is here.
    Now(T),
    /// It will come; to be polled within the runtime.
    Later(Pin<Box<dyn Future<Output = T> + Send>>),
}

impl Bus {
    /// Lets a worker take part.
    pub fn attach(&self, sink: Arc<dyn Sink>) -> SinkId {
        match self {
            Self::Memory(bus) => bus.attach(sink),
            Self::Nats(bus) => bus.attach(sink),
        }
    }

    /// Forgets a sink and all its subscriptions.
    pub fn detach(&self, sink: SinkId) {
        match self {
            Self::Memory(bus) => bus.detach(sink),
            Self::Nats(bus) => bus.detach(sink),
        }
    }

    /// Whether answers may come later.
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::Nats(_) => true,
        }
    }

    /// From when this is answered on the sink gets what is published on the channel. Once
    /// is enough, and more does no harm.
    pub fn subscribe(&self, sink: SinkId, channel: &Channel) -> Answer<Result<(), BusError>> {
        match self {
            Self::Memory(bus) => Answer::Now(bus.subscribe(sink, channel)),
            Self::Nats(bus) => bus.subscribe(sink, channel),
        }
    }

    /// Ends what [`Bus::subscribe`] began.
    pub fn unsubscribe(&self, sink: SinkId, channel: &Channel) {
        match self {
            Self::Memory(bus) => bus.unsubscribe(sink, channel),
            Self::Nats(bus) => bus.unsubscribe(sink, channel),
        }
    }

    /// From when this is answered on the sink gets publications (not joins and leaves) on
    /// all channels that the pattern covers; each once, whatever else it is subscribed to.
    pub fn subscribe_pattern(
        &self,
        sink: SinkId,
        pattern: &Pattern,
    ) -> Answer<Result<(), BusError>> {
        match self {
            Self::Memory(bus) => Answer::Now(bus.subscribe_pattern(sink, pattern)),
            Self::Nats(bus) => bus.subscribe_pattern(sink, pattern),
        }
    }

    /// Ends what [`Bus::subscribe_pattern`] began.
    pub fn unsubscribe_pattern(&self, sink: SinkId, pattern: &Pattern) {
        match self {
            Self::Memory(bus) => bus.unsubscribe_pattern(sink, pattern),
            Self::Nats(bus) => bus.unsubscribe_pattern(sink, pattern),
        }
    }

    /// Publishes; what has no history is never answered later than now.
    pub fn publish(&self, now: Now, publish: Publish) -> Answer<Result<Published, BusError>> {
        match self {
            Self::Memory(bus) => Answer::Now(bus.publish(now, publish)),
            Self::Nats(bus) => bus.publish(now, publish),
        }
    }

    /// Tells the channel's subscribers that a client came, as far as there is room.
    pub fn publish_join(&self, channel: &Channel, info: Arc<ClientInfo>) {
        match self {
            Self::Memory(bus) => bus.publish_join(channel, info),
            Self::Nats(bus) => bus.publish_join(channel, info),
        }
    }

    /// Tells the channel's subscribers that a client went, as far as there is room.
    pub fn publish_leave(&self, channel: &Channel, info: Arc<ClientInfo>) {
        match self {
            Self::Memory(bus) => bus.publish_leave(channel, info),
            Self::Nats(bus) => bus.publish_leave(channel, info),
        }
    }

    /// Reads the channel's stream, which is created if it does not exist.
    pub fn history(
        &self,
        now: Now,
        channel: &Channel,
        policy: &HistoryPolicy,
        query: HistoryQuery,
    ) -> Answer<Result<History, BusError>> {
        match self {
            Self::Memory(bus) => Answer::Now(bus.history(now, channel, policy, query)),
            Self::Nats(bus) => bus.history(now, channel, policy, query),
        }
    }

    /// Drops the channel's publications; its position stays.
    pub fn remove_history(&self, channel: &Channel) -> Answer<Result<(), BusError>> {
        match self {
            Self::Memory(bus) => {
                bus.remove_history(channel);
                Answer::Now(Ok(()))
            }
            Self::Nats(bus) => bus.remove_history(channel),
        }
    }

    /// Notes that a client, named by `info.client`, is on the channel.
    pub fn presence_add(
        &self,
        channel: &Channel,
        info: Arc<ClientInfo>,
    ) -> Answer<Result<(), BusError>> {
        match self {
            Self::Memory(bus) => Answer::Now(bus.presence_add(channel, info)),
            Self::Nats(bus) => bus.presence_add(channel, info),
        }
    }

    /// Notes that a client is no longer on the channel.
    pub fn presence_remove(&self, channel: &Channel, client: &str) {
        match self {
            Self::Memory(bus) => bus.presence_remove(channel, client),
            Self::Nats(bus) => bus.presence_remove(channel, client),
        }
    }

    /// Who is on the channel, in no order.
    pub fn presence(&self, channel: &Channel) -> Answer<Result<Vec<Arc<ClientInfo>>, BusError>> {
        match self {
            Self::Memory(bus) => Answer::Now(Ok(bus.presence(channel))),
            Self::Nats(bus) => bus.presence(channel),
        }
    }

    /// How many are on the channel.
    pub fn presence_stats(&self, channel: &Channel) -> Answer<Result<PresenceStats, BusError>> {
        match self {
            Self::Memory(bus) => Answer::Now(Ok(bus.presence_stats(channel))),
            Self::Nats(bus) => bus.presence_stats(channel),
        }
    }

    /// Listens to the publications of all subjects that the pattern covers. What comes
    /// while `capacity` messages wait is dropped and counted.
    pub fn tap(&self, pattern: &Pattern, capacity: usize) -> Answer<Result<Tap, BusError>> {
        let (sink, queue, dropped) = TapSink::new(capacity);
        let sink = self.attach(sink);
        let tap = Tap::new(self.clone(), sink, queue, dropped);
        let subscribed = self.subscribe_pattern(sink, pattern);
        subscribed.map(|subscribed| subscribed.map(|()| tap))
    }

    /// Publishes for the only publisher of a channel, which numbers what it sends.
    ///
    /// # Errors
    ///
    /// [`BusError::LimitExceeded`] if the channel is new to a bus in memory.
    pub fn emit(&self, now: Now, emit: Emit) -> Result<(), BusError> {
        match self {
            Self::Memory(bus) => bus.emit(now, emit),
            Self::Nats(bus) => bus.emit(now, emit),
        }
    }

    /// Takes requests for the subjects that the pattern covers. What comes while
    /// `capacity` of them wait is refused as busy; over NATS, while as many wait as its
    /// client has room for, it is lost. Of several that answer the same, each
    /// request gets to one.
    pub fn serve(&self, pattern: &Pattern, capacity: usize) -> Answer<Result<Requests, BusError>> {
        match self {
            Self::Memory(bus) => {
                let (sender, queue) = mpsc::channel(capacity.max(1));
                let offered = bus.offer(pattern, sender);
                Answer::Now(offered.map(|()| Requests(Questions::Here(queue))))
            }
            Self::Nats(bus) => {
                let serving = bus.serve(pattern);
                serving.map(|serving| serving.map(|own| Requests(Questions::Nats(own))))
            }
        }
    }

    /// Asks whoever answers the subject.
    ///
    /// # Errors
    ///
    /// When answered: [`BusError::NoResponder`], [`BusError::Refused`], [`BusError::Busy`],
    /// and [`BusError::Unavailable`] if no answer came within the time.
    pub fn request(
        &self,
        subject: &Channel,
        data: Bytes,
        within: Duration,
    ) -> Answer<Result<Bytes, BusError>> {
        match self {
            Self::Memory(bus) => {
                let (sender, answer) = oneshot::channel();
                let asked = Asked {
                    subject: subject.clone(),
                    data,
                    reply: Reply::Here(sender),
                };
                if let Err(error) = bus.ask(subject, asked) {
                    return Answer::Now(Err(error));
                }
                Answer::Later(Box::pin(async move {
                    match tokio::time::timeout(within, answer).await {
                        Ok(Ok(answer)) => answer,
                        Ok(Err(_dropped)) => Err(BusError::Refused),
                        Err(_late) => Err(BusError::Unavailable),
                    }
                }))
            }
            Self::Nats(bus) => bus.request(subject, data, within),
        }
    }

    /// The last message of every subject below the pattern that is kept, in no order.
    pub fn latest(&self, pattern: &Pattern) -> Answer<Result<Vec<Arc<Message>>, BusError>> {
        match self {
            Self::Memory(bus) => Answer::Now(Ok(bus.latest(pattern))),
            Self::Nats(bus) => bus.latest(pattern),
        }
    }

    /// What was published below the pattern from a time on (milliseconds since 1970 UTC, by
    /// the servers' clock) and is kept, in order on each subject. A bus in memory keeps the
    /// last message of each subject only, whenever that was.
    ///
    /// # Errors
    ///
    /// [`BusError::LimitExceeded`] if these are more than 100,000.
    pub fn since(
        &self,
        pattern: &Pattern,
        unix_ms: u64,
    ) -> Answer<Result<Vec<Arc<Message>>, BusError>> {
        match self {
            Self::Memory(bus) => Answer::Now(Ok(bus.latest(pattern))),
            Self::Nats(bus) => bus.since(pattern, unix_ms),
        }
    }

    /// Tells all other gateways of the cluster something; `kind` says what about.
    ///
    /// # Errors
    ///
    /// [`BusError::Busy`], [`BusError::LimitExceeded`] if it is too large, and
    /// [`BusError::Unavailable`] while the bus is away: it is not told later.
    pub fn tell_all(&self, kind: &str, body: Bytes) -> Result<(), BusError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Nats(bus) => bus.tell_all(kind, body),
        }
    }

    /// Listens to what other gateways tell all.
    pub fn told(&self) -> Answer<Result<Told, BusError>> {
        match self {
            Self::Memory(_) => Answer::Now(Ok(Told(None))),
            Self::Nats(bus) => bus.told(),
        }
    }

    /// Keeps or forgets a piece of state for all gateways; the answer is its revision, 0
    /// on a bus in memory, which keeps none. Meant for little: it is all read at starts.
    ///
    /// # Errors
    ///
    /// When answered: [`BusError::Outdated`] if [`Keep::after`] does not hold.
    pub fn keep(&self, keep: Keep) -> Answer<Result<u64, BusError>> {
        match self {
            Self::Memory(_) => Answer::Now(Ok(0)),
            Self::Nats(bus) => bus.keep(keep),
        }
    }

    /// The state that is kept below a key (`a` has `a.b` below it, not itself), and what was
    /// forgotten there.
    pub fn kept(&self, below: &str) -> Answer<Result<Vec<Kept>, BusError>> {
        match self {
            Self::Memory(_) => Answer::Now(Ok(Vec::new())),
            Self::Nats(bus) => bus.kept(below),
        }
    }

    /// Listens to the state below a key: first what is there, then what changes.
    pub fn watch_kept(&self, below: &str) -> Answer<Result<WatchKept, BusError>> {
        match self {
            Self::Memory(_) => Answer::Now(Ok(WatchKept(None))),
            Self::Nats(bus) => bus.watch_kept(below),
        }
    }

    /// Counts for metrics of NATS, if it is used.
    pub fn nats_stats(&self) -> Option<NatsStats> {
        match self {
            Self::Memory(_) => None,
            Self::Nats(bus) => Some(bus.nats_stats()),
        }
    }

    /// Frees what has expired; to be called every few seconds.
    pub fn sweep(&self, now: Now) {
        match self {
            Self::Memory(bus) => bus.sweep(now),
            Self::Nats(bus) => bus.sweep(now),
        }
    }

    /// Counts for metrics.
    pub fn stats(&self) -> Stats {
        match self {
            Self::Memory(bus) => bus.stats(),
            Self::Nats(bus) => bus.stats(),
        }
    }
}

impl<T> Answer<T> {
    /// An answer made of this one.
    pub fn map<U>(self, change: impl FnOnce(T) -> U + Send + 'static) -> Answer<U>
    where
        T: 'static,
    {
        match self {
            Self::Now(value) => Answer::Now(change(value)),
            Self::Later(later) => Answer::Later(Box::pin(async move { change(later.await) })),
        }
    }
}

impl<T: Send + 'static> IntoFuture for Answer<T> {
    type Output = T;
    type IntoFuture = Pin<Box<dyn Future<Output = T> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        match self {
            Self::Now(value) => Box::pin(std::future::ready(value)),
            Self::Later(later) => later,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Answer<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(value) => formatter.debug_tuple("Now").field(value).finish(),
            Self::Later(_) => formatter.write_str("Later(…)"),
        }
    }
}
