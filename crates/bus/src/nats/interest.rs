//! What this process listens to: one NATS subscription per subject, whoever wants it.
//!
//! A sink's wish is answered once the servers know of the interest: the subscription is
//! written, then one round trip is made for all that wait, and what came before its answer
//! is handed out to those who were there before. When the last sink leaves, the interest
//! lingers.
//!
//! One task ([`pump`]) owns all subscriptions, so a channel costs no task. A subject may
//! come by several of them: a channel's own reaches the channel's sinks, and of the
//! patterns that cover it one is the pattern sinks', so that nobody
//! hears a message twice.
//!
//! **Lock order:** the table, then the bus in memory.

mod pump;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use protocol::channel::Channel;
use protocol::subject::Pattern;
use tokio::sync::{mpsc, oneshot};

use super::names::Names;
use crate::{Answer, BusError, MemoryBus, SinkId};

pub(super) use pump::{DENIAL_GRACE, Pump, run};

/// What somebody wants to hear.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Wanted {
    Channel(Channel),
    Pattern(Pattern),
}

/// For the pump, in the order of the table's changes.
#[derive(Debug)]
pub(super) enum Change {
    Listen(Wanted),
    Unlisten(Wanted),
}

/// All that is wanted here.
#[derive(Debug)]
pub(super) struct Interests {
    table: Mutex<HashMap<Wanted, Interest>>,
    changes: mpsc::Sender<Change>,
    memory: Arc<MemoryBus>,
    max: usize,
    linger: Duration,
}

#[derive(Debug)]
struct Interest {
    state: State,
    holders: Vec<SinkId>,
    /// Positions travel on it, so it is to be looked after.
    positioned: bool,
    /// A position came since it was last looked at.
    heard: bool,
    /// When to look whether something was missed.
    check_at_ms: u64,
}

#[derive(Debug)]
enum State {
    /// The servers don't know yet.
    Pending(Vec<oneshot::Sender<Result<(), BusError>>>),
    Active,
    /// Nobody holds it any more.
    Lingering {
        until_ms: u64,
    },
}

impl Interests {
    pub(super) fn new(
        changes: mpsc::Sender<Change>,
        memory: Arc<MemoryBus>,
        max: usize,
        linger: Duration,
    ) -> Self {
        Self {
            table: Mutex::default(),
            changes,
            memory,
            max,
            linger,
        }
    }

    pub(super) fn add(&self, wanted: &Wanted, sink: SinkId) -> Answer<Result<(), BusError>> {
        let mut table = self.table();
        if let Some(interest) = table.get_mut(wanted) {
            if !interest.holders.contains(&sink) {
                interest.holders.push(sink);
            }
            return match &mut interest.state {
                State::Pending(waiting) => later(waiting),
                State::Active => Answer::Now(self.register(interest, wanted, sink)),
                State::Lingering { .. } => {
                    interest.state = State::Active;
                    Answer::Now(self.register(interest, wanted, sink))
                }
            };
        }
        if table.len() >= self.max {
            return Answer::Now(Err(BusError::LimitExceeded {
                limit: "channels_max",
            }));
        }
        if self
            .changes
            .try_send(Change::Listen(wanted.clone()))
            .is_err()
        {
            return Answer::Now(Err(BusError::Busy));
        }
        let mut waiting = Vec::with_capacity(1);
        let answer = later(&mut waiting);
        let interest = Interest {
            state: State::Pending(waiting),
            holders: vec![sink],
            positioned: false,
            heard: false,
            check_at_ms: 0,
        };
        table.insert(wanted.clone(), interest);
        answer
    }

    pub(super) fn remove(&self, wanted: &Wanted, sink: SinkId, now_ms: u64) {
        let mut table = self.table();
        match wanted {
            Wanted::Channel(channel) => self.memory.unsubscribe(sink, channel),
            Wanted::Pattern(pattern) => self.memory.unsubscribe_pattern(sink, pattern),
        }
        if let Some(interest) = table.get_mut(wanted) {
            interest.holders.retain(|holder| *holder != sink);
            self.let_linger(interest, now_ms);
        }
    }

    /// Forgets a sink everywhere. Looks at every interest.
    pub(super) fn remove_sink(&self, sink: SinkId, now_ms: u64) {
        let mut table = self.table();
        self.memory.detach(sink);
        for interest in table.values_mut() {
            interest.holders.retain(|holder| *holder != sink);
            self.let_linger(interest, now_ms);
        }
    }

    /// Ends interests whose time is over.
    pub(super) fn end_lingering(&self, now_ms: u64) {
        let mut table = self.table();
        table.retain(|wanted, interest| match interest.state {
            State::Lingering { until_ms } if until_ms <= now_ms => {
                let ended = Change::Unlisten(wanted.clone());
                // Where the pump is behind it lingers a little longer.
                self.changes.try_send(ended).is_err()
            }
            State::Lingering { .. } | State::Pending(_) | State::Active => true,
        });
    }

    /// The servers know of it: whoever waited is in.
    pub(super) fn confirm(&self, wanted: &Wanted, now_ms: u64) {
        let mut table = self.table();
        let Some(interest) = table.get_mut(wanted) else {
            return;
        };
        let State::Pending(waiting) = std::mem::replace(&mut interest.state, State::Active) else {
            return;
        };
        let holders = std::mem::take(&mut interest.holders);
        let mut outcome = Ok(());
        for sink in holders {
            interest.holders.push(sink);
            if let Err(error) = self.register(interest, wanted, sink) {
                outcome = Err(error);
            }
        }
        self.let_linger(interest, now_ms);
        for answer in waiting {
            // Whoever gave up meanwhile has said so by unsubscribing.
            let _ = answer.send(outcome);
        }
    }

    /// The servers won't have it, or did not answer.
    pub(super) fn fail(&self, wanted: &Wanted, error: BusError) {
        let gone = self.table().remove(wanted);
        if let Some(State::Pending(waiting)) = gone.map(|interest| interest.state) {
            for answer in waiting {
                let _ = answer.send(Err(error));
            }
        }
    }

    /// Notes that positions travel on a channel.
    pub(super) fn is_positioned(&self, channel: &Channel, heard: bool, check_at_ms: u64) {
        let mut table = self.table();
        // A lookup without a copy of the name would need a key of another type.
        if let Some(interest) = table.get_mut(&Wanted::Channel(channel.clone())) {
            if !interest.positioned {
                interest.positioned = true;
                interest.check_at_ms = check_at_ms;
            }
            interest.heard |= heard;
        }
    }

    /// Channels where something may have been missed: those not heard of for a period, or
    /// all with positions.
    pub(super) fn to_check(&self, now_ms: u64, all: bool) -> Vec<Channel> {
        let mut due = Vec::new();
        for (wanted, interest) in self.table().iter_mut() {
            let Wanted::Channel(channel) = wanted else {
                continue;
            };
            let active = interest.positioned && matches!(interest.state, State::Active);
            if !active || !all && interest.check_at_ms > now_ms {
                continue;
            }
            interest.check_at_ms = now_ms + CHECK_EVERY_MS;
            if all || !std::mem::take(&mut interest.heard) {
                due.push(channel.clone());
            }
        }
        due
    }

    /// Everything wanted, in no order.
    pub(super) fn wanted(&self) -> Vec<Wanted> {
        self.table().keys().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.table().len()
    }

    fn register(
        &self,
        interest: &mut Interest,
        wanted: &Wanted,
        sink: SinkId,
    ) -> Result<(), BusError> {
        let registered = match wanted {
            Wanted::Channel(channel) => self.memory.subscribe(sink, channel),
            Wanted::Pattern(pattern) => self.memory.subscribe_pattern(sink, pattern),
        };
        if registered.is_err() {
            interest.holders.retain(|holder| *holder != sink);
        }
        registered
    }

    fn let_linger(&self, interest: &mut Interest, now_ms: u64) {
        if interest.holders.is_empty() && matches!(interest.state, State::Active) {
            let linger_ms = u64::try_from(self.linger.as_millis()).unwrap_or(u64::MAX);
            interest.state = State::Lingering {
                until_ms: now_ms.saturating_add(linger_ms),
            };
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Wanted, Interest>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscription: one for a channel's own subscribers, one for those of patterns. A pattern
/// without a wildcard has the same subject as a channel, and a subscription beside its.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    subject: String,
    is_pattern: bool,
}

impl Wanted {
    /// What to listen on for it.
    fn keys(&self, names: &Names) -> Vec<Key> {
        let (subjects, is_pattern) = match self {
            Self::Channel(channel) => (vec![names.live(channel)], false),
            Self::Pattern(pattern) => (names.live_patterns(pattern), true),
        };
        let key = |subject| Key {
            subject,
            is_pattern,
        };
        subjects.into_iter().map(key).collect()
    }
}

fn later(waiting: &mut Vec<oneshot::Sender<Result<(), BusError>>>) -> Answer<Result<(), BusError>> {
    let (sender, answer) = oneshot::channel();
    waiting.push(sender);
    Answer::Later(Box::pin(async move {
        answer.await.unwrap_or(Err(BusError::Unavailable))
    }))
}

/// How often a channel that is silent is looked at.
pub(super) const CHECK_EVERY_MS: u64 = 30_000;
