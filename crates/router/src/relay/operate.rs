//! What operators and clients may ask of the relay.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outbox::{Mark, ReadError};
use protocol::stratix::Message;
use upstream::guard::GuardState;
use upstream::ws_agent::{AgentTotals, LinkFigures, LinkId};

use super::dead::DeadLetter;
use super::figures::Gauges;
use super::history::Remembered;
use super::known::Status;
use super::lane::Item;
use super::stored::Stored;
use super::{Relay, Stage, key, lock};

/// How one agent fares.
#[derive(Debug, Clone)]
pub struct LaneGlimpse {
    /// Its URL.
    pub url: Arc<str>,
    /// Its link.
    pub link: LinkId,
    /// Messages that wait or travel.
    pub depth: usize,
    /// Its policy.
    pub guard: GuardState,
}

/// A dead letter was not replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is none of this number.
    #[error("there is no dead letter {0}")]
    Missing(u64),
    /// Nobody would take it.
    #[error("there is no route for client {0:?}")]
    NoRoute(Arc<str>),
    /// Its record can't be read.
    #[error("record of the dead letter can't be read")]
    Unreadable(#[from] ReadError),
}

impl Relay {
    /// What became of a message, as long as it is remembered.
    pub fn status(&self, client: &str, message_id: &str) -> Option<Status> {
        lock(&self.known).status(key(client, message_id))
    }

    /// A client's history, oldest first: what came after the message `after`, or the
    /// newest, at most `limit`.
    pub fn history(&self, client: &str, after: Option<&str>, limit: usize) -> Vec<Remembered> {
        let limits = self.settings.load().history;
        lock(&self.history).read(self.clock.unix_ms(), &limits, client, after, limit)
    }

    /// Dead letters whose number is above `after`, oldest first.
    pub fn dead_letters(&self, after: u64, client: Option<&str>, limit: usize) -> Vec<DeadLetter> {
        lock(&self.dead).list(after, client, limit)
    }

    /// The message behind a dead letter.
    pub async fn dead_message(&self, letter: &DeadLetter) -> Result<Message, ReadError> {
        let record = self.outbox.read(letter.id).await?;
        Stored::read(&record.payload)
            .map(|stored| stored.message().clone())
            .map_err(|error| ReadError::Damaged {
                id: letter.id,
                what: error.to_string(),
            })
    }

    /// Delivers a dead letter after all, behind what waits already and under the same
    /// idempotency key.
    pub async fn replay(self: &Arc<Self>, seq: u64) -> Result<(), ReplayError> {
        let settings = self.settings.load_full();
        let letter = lock(&self.dead)
            .get(seq)
            .cloned()
            .ok_or(ReplayError::Missing(seq))?;
        if settings.table.lookup(&letter.client).is_none() {
            return Err(ReplayError::NoRoute(letter.client));
        }
        let message = self.dead_message(&letter).await?;
        // Taken only now: whoever asks may go away while the record is read. Somebody else
        // may have been faster meanwhile.
        let letter = lock(&self.dead)
            .take(seq)
            .ok_or(ReplayError::Missing(seq))?;
        self.outbox.mark(letter.id, Mark::Revived);
        self.counters.dead_replayed.one();
        self.advance(letter.key, Stage::Durable);
        lock(&self.pending).enter(usize::MAX);
        let item = Item {
            id: letter.id,
            client: letter.client,
            message_id: message.message_id.into(),
            priority: letter.priority,
            key: letter.key,
            at_ms: letter.at_ms,
            size: letter.size,
            attempts: 0,
            was_tried_before_restart: false,
            first_attempt_ms: Some(letter.at_ms),
            held: None,
        };
        self.route(&settings, item);
        Ok(())
    }

    /// Forgets a dead letter; whether there was one.
    pub fn discard(&self, seq: u64) -> bool {
        let letter = lock(&self.dead).take(seq);
        let found = letter.is_some();
        self.forget_letters(letter.as_slice());
        found
    }

    /// The agents with something waiting, or with a connection.
    pub fn lanes(&self) -> Vec<LaneGlimpse> {
        let lanes: Vec<_> = lock(&self.lanes).values().cloned().collect();
        lanes
            .iter()
            .map(|lane| LaneGlimpse {
                url: lane.target.shown_url().into(),
                link: lane.link,
                depth: lock(&lane.state).queue.len(),
                guard: lane.guard.state(),
            })
            .collect()
    }

    /// The connections to agents.
    pub fn links(&self) -> Vec<LinkFigures> {
        self.agents().figures()
    }

    /// All connections to agents in sum.
    pub fn agent_totals(&self) -> AgentTotals {
        self.agents().totals()
    }

    /// How things stand.
    pub fn gauges(&self) -> Gauges {
        let (pending, oldest_ms) = {
            let pending = lock(&self.pending);
            (pending.len(), pending.oldest_ms())
        };
        let now_ms = self.clock.unix_ms();
        let depths: Vec<usize> = self.lanes().iter().map(|lane| lane.depth).collect();
        let history = lock(&self.history).figures();
        Gauges {
            pending,
            oldest_seconds: oldest_ms.map_or(0.0, |at_ms| {
                Duration::from_millis(now_ms.saturating_sub(at_ms)).as_secs_f64()
            }),
            held_bytes: self.held_bytes.load(Ordering::Relaxed),
            unanswered: lock(&self.runs).len(),
            dead: lock(&self.dead).len(),
            known: lock(&self.known).len(),
            lanes: depths.iter().filter(|depth| **depth > 0).count(),
            lane_depth_max: depths.into_iter().max().unwrap_or(0),
            history_clients: history.clients,
            history_messages: history.messages,
        }
    }

    /// Lets go of the agents and makes everything safe that was noted. Couriers end with
    /// the tasks of the relay, before this is called.
    pub async fn close(&self, grace: Duration) {
        self.agents().close(grace).await;
        self.outbox.close().await;
    }
}
