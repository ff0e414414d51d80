//! The task that owns all subscriptions.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::Subscriber;
use async_nats::client::{Request, RequestErrorKind};
use futures_util::stream::{AbortHandle, Abortable, SelectAll};
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use hashbrown::HashMap;
use lifecycle::{CancellationToken, Clock};
use protocol::channel::Channel;
use protocol::subject::Pattern;
use tokio::sync::{broadcast, mpsc};
use tracing::{error, warn};

use super::{CHECK_EVERY_MS, Change, Interests, Key, Wanted};
use crate::nats::connection::NatsConnection;
use crate::nats::figures::{Figures, add};
use crate::nats::names::Names;
use crate::nats::store::PATIENCE;
use crate::nats::wire;
use crate::{BusError, MemoryBus, Message};

/// What the pump works with.
pub(in crate::nats) struct Pump {
    pub(in crate::nats) connection: NatsConnection,
    pub(in crate::nats) names: Arc<Names>,
    pub(in crate::nats) interests: Arc<Interests>,
    pub(in crate::nats) memory: Arc<MemoryBus>,
    pub(in crate::nats) figures: Arc<Figures>,
    pub(in crate::nats) clock: Clock,
    pub(in crate::nats) changes: mpsc::Receiver<Change>,
    /// What the server said of subjects that it does not allow.
    pub(in crate::nats) denials: broadcast::Receiver<Arc<str>>,
}

/// A subscription, and for how many wishes.
struct Subscription {
    stop: AbortHandle,
    uses: usize,
}

/// Where a message came from.
struct Origin {
    subject: String,
    /// The channel, if it is one.
    channel: Option<Channel>,
    /// When it was last noted that positions come by it; in milliseconds, 0 for never.
    noted_ms: AtomicU64,
}

type Heard = (Arc<Origin>, async_nats::Message);
type Subscriptions = HashMap<Key, Subscription>;
/// A round trip for these wishes, and whether it was answered.
type Round = Pin<Box<dyn Future<Output = (Vec<Wanted>, bool)> + Send>>;

/// What is listened to, and what is asked of it.
struct Listening {
    streams: SelectAll<Abortable<OneStream>>,
    subscriptions: Subscriptions,
    /// Those of them that are patterns, in the order of their texts.
    patterns: BTreeMap<String, Pattern>,
    /// Which pattern subscription is the pattern sinks', by subject; for the present set.
    first: HashMap<String, bool>,
}

/// Messages of one subscription with their origin.
struct OneStream {
    origin: Arc<Origin>,
    messages: Subscriber,
}

/// Runs until the group stops.
pub(in crate::nats) async fn run(mut pump: Pump, stopping: CancellationToken) {
    let mut listening = Listening {
        streams: SelectAll::new(),
        subscriptions: HashMap::new(),
        patterns: BTreeMap::new(),
        first: HashMap::new(),
    };
    // Wishes whose subscription is written, and those that the present round covers.
    let mut written: Vec<Wanted> = Vec::new();
    let mut round: Option<Round> = None;
    loop {
        if round.is_none() && !written.is_empty() {
            round = Some(pump.round(std::mem::take(&mut written)));
        }
        tokio::select! {
            () = stopping.cancelled() => break,
            Some(change) = pump.changes.recv() => {
                let mut changes = VecDeque::from([change]);
                while let Ok(next) = pump.changes.try_recv() {
                    changes.push_back(next);
                    if changes.len() >= CHANGES_AT_ONCE {
                        break;
                    }
                }
                for change in changes {
                    pump.change(&mut listening, &mut written, change).await;
                }
            }
            Some((covered, answered)) = async { Some(round.as_mut()?.await) }, if round.is_some() => {
                round = None;
                if answered {
                    pump.end_round(&mut listening, covered);
                } else {
                    pump.give_up(&mut listening, covered);
                }
            }
            Ok(text) = pump.denials.recv() => pump.denied(&mut listening, &text),
            Some(heard) = listening.streams.next(), if !listening.streams.is_empty() => {
                pump.hand_out(&mut listening, heard);
                pump.hand_out_ready(&mut listening, MESSAGES_AT_ONCE);
            }
        }
    }
}

impl Pump {
    async fn change(&self, listening: &mut Listening, written: &mut Vec<Wanted>, change: Change) {
        let (wanted, is_new) = match change {
            Change::Listen(wanted) => (wanted, true),
            Change::Unlisten(wanted) => (wanted, false),
        };
        let keys = wanted.keys(&self.names);
        if !is_new {
            listening.drop_uses(&keys);
            return;
        }
        let mut failed = false;
        for key in &keys {
            failed |= !self.subscribe(listening, &wanted, key).await;
        }
        if failed {
            listening.drop_uses(&keys);
            self.interests.fail(&wanted, BusError::Unavailable);
        } else {
            written.push(wanted);
        }
    }

    async fn subscribe(&self, listening: &mut Listening, wanted: &Wanted, key: &Key) -> bool {
        if let Some(known) = listening.subscriptions.get_mut(key) {
            known.uses += 1;
            return true;
        }
        let subject = &*key.subject;
        let subscribing = self.connection.client().subscribe(subject.to_owned());
        // The client's queue is full while the connection is away for long.
        let Ok(Ok(messages)) = tokio::time::timeout(PATIENCE, subscribing).await else {
            warn!(subject, "subscription could not be sent");
            return false;
        };
        add(&self.figures.subscribed_lately, 1);
        let origin = Arc::new(Origin {
            subject: subject.to_owned(),
            channel: match wanted {
                Wanted::Channel(channel) => Some(channel.clone()),
                Wanted::Pattern(_) => None,
            },
            noted_ms: AtomicU64::new(0),
        });
        let (stop, registration) = AbortHandle::new_pair();
        if key.is_pattern
            && let Ok(pattern) = Pattern::new(subject)
        {
            listening.patterns.insert(subject.to_owned(), pattern);
            listening.first.clear();
        }
        let subscription = Subscription { stop, uses: 1 };
        listening.subscriptions.insert(key.clone(), subscription);
        let stream = OneStream { origin, messages };
        listening.streams.push(Abortable::new(stream, registration));
        true
    }

    /// A round trip after which the servers have done what was asked before.
    fn round(&self, covered: Vec<Wanted>) -> Round {
        let connection = self.connection.clone();
        let subject = self.names.sync();
        Box::pin(async move {
            let asking = async {
                loop {
                    let lost = connection.lost();
                    let request = Request::new().timeout(None);
                    let asked = connection.client().send_request(subject.clone(), request);
                    tokio::select! {
                        answer = asked => break answer,
                        // The next connection is told of all subscriptions before this.
                        () = lost => {}
                    }
                }
            };
            let answered = match tokio::time::timeout(PATIENCE, asking).await {
                Ok(Ok(_)) => true,
                // Nobody serves it: that is the server's own word.
                Ok(Err(error)) => error.kind() == RequestErrorKind::NoResponders,
                Err(_late) => false,
            };
            // What the server refused was said before its answer, but takes another way here.
            tokio::time::sleep(DENIAL_GRACE).await;
            (covered, answered)
        })
    }

    fn end_round(&mut self, listening: &mut Listening, covered: Vec<Wanted>) {
        while let Ok(text) = self.denials.try_recv() {
            self.denied(listening, &text);
        }
        // Those who were here before get what came before.
        self.hand_out_ready(listening, usize::MAX);
        let now_ms = self.clock.mono_ms();
        for wanted in covered {
            self.interests.confirm(&wanted, now_ms);
        }
    }

    fn give_up(&self, listening: &mut Listening, covered: Vec<Wanted>) {
        warn!("nats did not confirm subscriptions in time");
        for wanted in covered {
            listening.drop_uses(&wanted.keys(&self.names));
            self.interests.fail(&wanted, BusError::Unavailable);
        }
    }

    /// The server does not allow a subject.
    fn denied(&self, listening: &mut Listening, text: &str) {
        add(&self.figures.denied, 1);
        let Some(subject) = subject_of_denial(text) else {
            return;
        };
        error!(subject, "nats does not allow to subscribe to this subject");
        for wanted in self.interests.wanted() {
            let keys = wanted.keys(&self.names);
            if keys.iter().any(|key| key.subject == subject) {
                listening.drop_uses(&keys);
                self.interests.fail(&wanted, BusError::Denied);
            }
        }
    }

    fn hand_out_ready(&self, listening: &mut Listening, most: usize) {
        for _ in 0..most {
            // Otherwise the runtime's budget would end it before what waits does.
            let next = tokio::task::coop::unconstrained(listening.streams.next());
            let Some(Some(heard)) = next.now_or_never() else {
                break;
            };
            self.hand_out(listening, heard);
        }
    }

    fn hand_out(&self, listening: &mut Listening, (origin, heard): Heard) {
        add(&self.figures.received, 1);
        let channel = match &origin.channel {
            Some(channel) => channel.clone(),
            None if listening.is_first(&origin.subject, &heard.subject) => {
                match self.names.channel(&heard.subject) {
                    Some(channel) => channel,
                    None => return,
                }
            }
            None => return,
        };
        let now_ms = self.clock.unix_ms();
        let headers = heard.headers.as_ref();
        let Some(message) = wire::message(channel, headers, heard.payload, now_ms) else {
            return;
        };
        self.spread(&origin, Arc::new(message));
    }

    fn spread(&self, origin: &Origin, message: Arc<Message>) {
        if origin.channel.is_none() {
            self.memory.spread_to_patterns(&message);
            return;
        }
        let publication = message.publication();
        if publication.is_some_and(|publication| publication.position.is_some()) {
            let now_ms = self.clock.mono_ms();
            let noted_ms = origin.noted_ms.load(Ordering::Relaxed);
            if noted_ms == 0 || now_ms >= noted_ms + NOTE_EVERY_MS {
                origin.noted_ms.store(now_ms.max(1), Ordering::Relaxed);
                self.interests
                    .is_positioned(&message.channel, true, now_ms + CHECK_EVERY_MS);
            }
        }
        self.memory.spread_to_subscribed(&message);
    }
}

impl Listening {
    /// One wish less for each subscription; those that nobody wants are ended.
    fn drop_uses(&mut self, keys: &[Key]) {
        for key in keys {
            let Some(known) = self.subscriptions.get_mut(key) else {
                continue;
            };
            known.uses -= 1;
            if known.uses > 0 {
                continue;
            }
            known.stop.abort();
            self.subscriptions.remove(key);
            if key.is_pattern {
                self.patterns.remove(&key.subject);
                self.first.clear();
            }
        }
    }

    /// Whether, of the pattern subscriptions that a subject comes by, this is the one that
    /// counts: the first in the order of their texts.
    fn is_first(&mut self, origin: &str, subject: &str) -> bool {
        // One pattern is the usual case.
        if self.patterns.len() < 2 {
            return true;
        }
        if self.first.len() >= FIRST_MAX {
            self.first.clear();
        }
        let key = format!("{origin} {subject}");
        let patterns = &self.patterns;
        *self.first.entry(key).or_insert_with(|| {
            let mut covering = patterns
                .iter()
                .filter(|(_, pattern)| pattern.covers_text(subject));
            covering.next().is_some_and(|(text, _)| text == origin)
        })
    }
}

impl Stream for OneStream {
    type Item = Heard;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Heard>> {
        let origin = Arc::clone(&self.origin);
        self.messages
            .poll_next_unpin(context)
            .map(|message| Some((origin, message?)))
    }
}

/// `Permissions Violation for Subscription to "x"`, perhaps with a queue group behind.
fn subject_of_denial(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("for Subscription to \"")?;
    Some(rest.split_once('"')?.0)
}

/// Wishes taken up before messages get their turn.
const CHANGES_AT_ONCE: usize = 1_024;

/// Messages handed out before wishes get their turn.
const MESSAGES_AT_ONCE: usize = 256;

/// How long after the answer that it preceded a refusal may take to arrive. One that takes
/// longer ends the interest all the same, but those who waited for it were let in.
pub(in crate::nats) const DENIAL_GRACE: Duration = Duration::from_millis(3);

/// Decisions remembered about subjects that come by several patterns.
const FIRST_MAX: usize = 10_000;

/// How often it is noted that a channel is heard of; well within [`CHECK_EVERY_MS`].
const NOTE_EVERY_MS: u64 = 10_000;
