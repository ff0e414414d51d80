//! Works off one lane: as many messages at once as its agent takes, one per line.
//!
//! A courier lives while its lane has something to do. Whether a try is made, when it is
//! made again and when it is given up is decided by the guard; here a message that was not
//! sent goes back to the head of its line, without having spent a try, and the courier
//! waits until the agent can be reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use outbox::{Mark, ReadError};
use policy::Class;
use upstream::guard::{CallError, CallOptions, Cause, Classify, Ending, OnNotSent};
use upstream::ws_agent::{Delivery, DeliveryBody, Outcome, Peer};

use super::lane::Item;
use super::stored::Stored;
use super::{Lane, Relay, Stage, lock};

/// What became of a message taken out of its lane.
enum Came {
    /// So many bytes of payload.
    Delivered(usize),
    /// It goes back to its line, and the lane pauses for so long.
    Back(Duration),
    Final(String),
    Exhausted(String),
    /// Its record can't be read.
    Unreadable(String),
}

pub(super) async fn run(relay: Arc<Relay>, lane: Arc<Lane>) {
    let stopping = relay.tasks.stopping();
    let mut travelling = FuturesUnordered::new();
    // When the lane may go on, on the process's clock.
    let mut pause: Option<Duration> = None;
    loop {
        pause = pause.filter(|until| *until > relay.clock.elapsed());
        let may_send = pause.is_none() && relay.agents().is_up(lane.link);
        if may_send {
            while travelling.len() < lane.target.in_flight {
                let Some(item) = lock(&lane.state).queue.take() else {
                    break;
                };
                travelling.push(deliver(&relay, &lane, item));
            }
        } else if pause.is_none() {
            relay.agents().wake(lane.link);
        }
        if travelling.is_empty() && relay.is_idle(&lane) {
            return;
        }
        tokio::select! {
            Some((item, came)) = travelling.next(), if !travelling.is_empty() => {
                if let Some(wait) = relay.settle(&lane, item, came) {
                    pause = Some(relay.clock.elapsed() + wait).max(pause);
                }
            }
            () = lane.stirred.notified() => {}
            () = tokio::time::sleep(pause.map_or(LOOK_AGAIN, |until| {
                until.saturating_sub(relay.clock.elapsed())
            })) => {}
            () = stopping.cancelled() => break,
        }
    }
    // What is on its way may still arrive; what does not is tried again after the restart.
    let finish = async {
        while let Some((item, came)) = travelling.next().await {
            relay.settle(&lane, item, came);
        }
    };
    if tokio::time::timeout(STOP_PATIENCE, finish).await.is_err() {
        tracing::debug!(
            agent = lane.target.shown_url(),
            "messages were on their way at the end"
        );
    }
}

/// Sends one message, as often as the guard lets it.
async fn deliver(relay: &Arc<Relay>, lane: &Arc<Lane>, mut item: Item) -> (Item, Came) {
    let delivery = match &item.held {
        Some(delivery) => Arc::clone(delivery),
        None => match fetch(relay, &item).await {
            Ok(delivery) => delivery,
            Err(Unread::Later) => return (item, Came::Back(READ_PAUSE)),
            Err(Unread::Never(why)) => return (item, Came::Unreadable(why)),
        },
    };
    item.message_id = Arc::clone(&delivery.message_id);
    let attempts = AtomicU32::new(item.attempts);
    // 0 as long as none was made.
    let first_ms = AtomicU64::new(item.first_attempt_ms.unwrap_or(0));
    // The process that tried it has heard no answer.
    let was_recovered = item.was_tried_before_restart;
    let options = CallOptions {
        // The idempotency key makes it so.
        idempotent: true,
        attempts_made: item.attempts,
        on_not_sent: OnNotSent::Return,
        ..CallOptions::default()
    };
    let called = lane
        .guard
        .call(options, async |attempt| {
            let now_ms = relay.clock.unix_ms();
            let made_ms = match first_ms.load(Ordering::Relaxed) {
                0 => now_ms,
                made_ms => made_ms,
            };
            let check_first = was_recovered || now_ms.saturating_sub(made_ms) > AGENT_MEMORY_MS;
            let delivery = if check_first && !delivery.check_first {
                Arc::new(Delivery {
                    check_first,
                    ..Delivery::clone(&delivery)
                })
            } else {
                Arc::clone(&delivery)
            };
            relay.counters.attempts.one();
            if attempt.number > 1 {
                relay.counters.retries.one();
            }
            if attempt.number > attempts.swap(attempt.number, Ordering::Relaxed) {
                let mark = Mark::Attempted {
                    attempt: attempt.number,
                    at_ms: now_ms,
                };
                relay.outbox.mark(item.id, mark);
                lock(&relay.known).attempted(item.key, attempt.number);
            }
            // Held for sent until it is known not to be: a try may be given up before.
            first_ms.store(made_ms, Ordering::Relaxed);
            match relay.agents().deliver(lane.link, delivery).await {
                Outcome::Delivered => Ok(()),
                outcome => Err(Missed(outcome)),
            }
        })
        .await;
    let came = match called {
        Ok(()) => Came::Delivered(match &delivery.body {
            DeliveryBody::Text(text) => text.len(),
            DeliveryBody::Binary(bytes) => bytes.len(),
        }),
        Err(error) => {
            item.attempts = error.attempts;
            if error.attempts > 0 {
                let made_ms = first_ms.load(Ordering::Relaxed);
                item.first_attempt_ms = Some(made_ms).filter(|made_ms| *made_ms > 0);
            }
            judge(&error)
        }
    };
    (item, came)
}

fn judge(error: &CallError<Missed>) -> Came {
    let why = match &error.last {
        None => error.to_string(),
        Some(Cause::Upstream(missed)) => missed.to_string(),
        Some(Cause::TimedOut { waited }) => format!("no answer within {waited:?}"),
    };
    match error.ending {
        // The link says when it is up again; one that is up has its hands full.
        Ending::NotSent => Came::Back(UNSENT_PAUSE),
        Ending::Refused(refusal) => Came::Back(refusal.retry_after().unwrap_or(REFUSED_PAUSE)),
        Ending::Exhausted(upstream::guard::Spent::Budget) => Came::Back(REFUSED_PAUSE),
        Ending::Exhausted(_) | Ending::Unknown => {
            Came::Exhausted(format!("{why} ({} tries)", error.attempts))
        }
        Ending::Final => Came::Final(why),
    }
}

/// An outcome that is no success.
#[derive(Debug, thiserror::Error)]
#[error("{}", why(.0))]
struct Missed(Outcome);

fn why(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Delivered => "delivered",
        Outcome::Retryable { reason, .. }
        | Outcome::Final { reason }
        | Outcome::Unknown { reason }
        | Outcome::NotSent { reason } => reason,
    }
}

impl Classify for Missed {
    fn class(&self) -> Class {
        match &self.0 {
            Outcome::Delivered => Class::Success,
            Outcome::Retryable { after, .. } => Class::Retryable { after: *after },
            // The message was refused, not the agent ill: others go on.
            Outcome::Final { .. } => Class::Neutral,
            Outcome::Unknown { .. } => Class::Unknown,
            Outcome::NotSent { .. } => Class::NotSent,
        }
    }

    fn verdict(&self) -> policy::Verdict {
        match self.0 {
            // The link knows best when it is down, and says when it is up.
            Outcome::NotSent { .. } | Outcome::Final { .. } => policy::Verdict::Neutral,
            Outcome::Delivered => policy::Verdict::Success,
            Outcome::Retryable { .. } | Outcome::Unknown { .. } => policy::Verdict::Failure,
        }
    }
}

enum Unread {
    Later,
    Never(String),
}

/// Reads a message that was not held in memory.
async fn fetch(relay: &Relay, item: &Item) -> Result<Arc<Delivery>, Unread> {
    let record = match relay.outbox.read(item.id).await {
        Ok(record) => record,
        Err(ReadError::Io(error)) => {
            tracing::warn!(%error, "record can't be read at the moment");
            return Err(Unread::Later);
        }
        Err(error @ (ReadError::Missing(_) | ReadError::Damaged { .. })) => {
            return Err(Unread::Never(error.to_string()));
        }
    };
    Stored::read(&record.payload)
        .and_then(Stored::into_delivery)
        .map(Arc::new)
        .map_err(|error| Unread::Never(error.to_string()))
}

impl Relay {
    /// Notes what became of a message; `Some` if the lane is to pause for so long.
    fn settle(self: &Arc<Self>, lane: &Arc<Lane>, item: Item, came: Came) -> Option<Duration> {
        let line = (Arc::clone(&item.client), item.priority);
        match came {
            Came::Delivered(bytes) => {
                self.conclude(lane, &item);
                self.counters.delivered.one();
                self.counters.bytes_delivered.add(bytes as u64);
                lock(&self.pending).settle(item.id);
                self.release(&item);
                tracing::debug!(client = %item.client, message_id = %item.message_id, agent = lane.target.shown_url(), "message was delivered");
                self.advance(item.key, Stage::Delivered);
            }
            Came::Back(pause) => {
                self.give_back(lane, &line, Some(item));
                return Some(pause);
            }
            Came::Final(why) => {
                self.counters.dead_final.one();
                self.bury(item, &why);
            }
            Came::Exhausted(why) => {
                self.counters.dead_exhausted.one();
                self.bury(item, &why);
            }
            Came::Unreadable(why) => {
                tracing::error!(client = %item.client, why, "stored message can't be delivered");
                self.counters.dead_unroutable.one();
                self.bury(item, &why);
            }
        }
        self.give_back(lane, &line, None);
        None
    }

    /// An agent has acknowledged a message: its record is settled, or stays until the
    /// answer has come.
    fn conclude(&self, lane: &Lane, item: &Item) {
        let done = match lane.target.peer {
            Peer::Stratix => Some(item.id),
            Peer::OpenClaw => lock(&self.runs).open(self.clock.mono_ms(), item.key, item.id),
        };
        if let Some(id) = done {
            self.outbox.mark(id, Mark::Settled);
        }
    }

    /// Whether a lane has nothing to do; its courier must then end.
    fn is_idle(&self, lane: &Lane) -> bool {
        let mut state = lock(&lane.state);
        let is_idle = state.queue.len() == 0;
        if is_idle {
            state.is_running = false;
            state.idle_since_ms = self.clock.mono_ms();
        }
        is_idle
    }
}

/// How long an agent remembers idempotency keys, in milliseconds (`contracts`: openclaw
/// 2.9); later it is asked first.
const AGENT_MEMORY_MS: u64 = 5 * 60 * 1_000;

/// How long messages that are on their way at the end are waited for.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// How long a lane pauses when its policy refuses without saying for how long.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// How long a lane pauses after a message that could not be sent.
const UNSENT_PAUSE: Duration = Duration::from_millis(20);

/// How long a lane pauses when the outbox does not answer.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// A link that is down says when it is up; this is only against words that get lost.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
