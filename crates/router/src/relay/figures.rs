//! What the relay counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts one.
    pub fn one(&self) {
        self.add(1);
    }

    /// Counts several.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How much it is.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters from the relay's start on.
#[derive(Debug, Default)]
pub struct Counters {
    /// Clients of the relay's own dialect that have connected.
    pub connections: Count,
    /// Messages clients have sent, whatever became of them.
    pub received: Count,
    /// Bytes of their payloads.
    pub bytes_received: Count,
    /// Messages over 1 MiB among them.
    pub large: Count,
    /// Bytes of those.
    pub large_bytes: Count,
    /// Taken and appended.
    pub accepted: Count,
    /// Safe in the outbox.
    pub durable: Count,
    /// Sent again within the window, and not taken again.
    pub duplicates: Count,
    /// Tries made, those included that turned out not to have left this process.
    pub attempts: Count,
    /// Tries after the first of a message.
    pub retries: Count,
    /// Acknowledged by the agent.
    pub delivered: Count,
    /// Bytes of their payloads.
    pub bytes_delivered: Count,
    /// Refused: no route.
    pub refused_route: Count,
    /// Refused: over the rate of client or agent.
    pub refused_rate: Count,
    /// Refused: too large, or not a message.
    pub refused_invalid: Count,
    /// Refused: signature missing or wrong.
    pub refused_signature: Count,
    /// Refused: the buffer is full, or the outbox is busy.
    pub refused_full: Count,
    /// Refused: the outbox has failed.
    pub refused_failed: Count,
    /// Dead letters: the agent refused for good.
    pub dead_final: Count,
    /// Dead letters: tries were used up.
    pub dead_exhausted: Count,
    /// Dead letters: the buffer was full and they were the oldest.
    pub dead_dropped: Count,
    /// Dead letters: there is no route any more, or the record can't be read.
    pub dead_unroutable: Count,
    /// Dead letters delivered after all.
    pub dead_replayed: Count,
    /// Dead letters forgotten: by an operator, by age or by number.
    pub dead_forgotten: Count,
    /// Unsettled records found at the start.
    pub recovered: Count,
    /// Answers passed to clients, partial ones included.
    pub answers: Count,
    /// Bytes of those.
    pub answer_bytes: Count,
    /// Answers dropped because their client, or its worker, was too slow.
    pub answers_dropped: Count,
    /// Answers that were told before.
    pub answers_repeated: Count,
    /// Answers for clients that are not the agent's.
    pub answers_foreign: Count,
}

impl Counters {
    /// Messages that were not and will not be delivered, as the seed counts them.
    pub fn failed(&self) -> u64 {
        [
            &self.refused_route,
            &self.refused_rate,
            &self.refused_invalid,
            &self.refused_signature,
            &self.refused_full,
            &self.refused_failed,
            &self.dead_final,
            &self.dead_exhausted,
            &self.dead_dropped,
            &self.dead_unroutable,
            &self.answers_dropped,
        ]
        .into_iter()
        .map(Count::value)
        .sum()
    }
}

/// How things stand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gauges {
    /// Messages taken and neither delivered nor given up.
    pub pending: usize,
    /// Age of the oldest of them, in seconds.
    pub oldest_seconds: f64,
    /// Bytes of messages held in memory.
    pub held_bytes: usize,
    /// Messages acknowledged by an agent whose answer has not come.
    pub unanswered: usize,
    /// Dead letters kept.
    pub dead: usize,
    /// Messages remembered against being taken twice.
    pub known: usize,
    /// Agents with something waiting.
    pub lanes: usize,
    /// Most messages waiting for one agent.
    pub lane_depth_max: usize,
    /// Clients with a history.
    pub history_clients: usize,
    /// Messages in histories.
    pub history_messages: usize,
}
