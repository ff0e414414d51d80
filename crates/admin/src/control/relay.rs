//! What operators may ask of the relay.
//!
//! These types are the JSON of `/admin/relay…` as it stands; names are written as in the
//! relay's own messages.

use serde::Serialize;

use crate::error::OperatorError;

/// The relay as operators see it.
pub trait RelayOperator: Send + Sync + 'static {
    /// How it fares.
    fn summary(&self) -> RelaySummary;

    /// The agents that have a lane or a connection, in no order.
    fn agents(&self) -> Vec<RelayAgent>;

    /// Where a client's messages go, and why. Looks at every rule.
    fn route(&self, client: &str)
    -> impl Future<Output = Result<RelayRoute, OperatorError>> + Send;

    /// Dead letters whose id is above `after`, oldest first, of one client or of all, at
    /// most `limit`.
    fn dead_letters(&self, after: u64, client: Option<&str>, limit: usize) -> Vec<DeadLetter>;

    /// The message behind a dead letter, as the client sent it; `None` if there is no
    /// letter of this id. A record that can't be read is [`OperatorError::Failed`].
    fn dead_message(
        &self,
        id: u64,
    ) -> impl Future<Output = Result<Option<serde_json::Value>, OperatorError>> + Send;

    /// Delivers a dead letter after all; `false` if there is none of this id. Without a
    /// route for its client it stays, and that is [`OperatorError::Refused`].
    fn replay(&self, id: u64) -> impl Future<Output = Result<bool, OperatorError>> + Send;

    /// Forgets a dead letter; `false` if there was none of this id.
    fn discard(&self, id: u64) -> bool;
}

/// How the relay fares. Counts are from the process's start on.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelaySummary {
    /// Clients of the relay's own dialect.
    pub clients: RelayClients,
    /// Messages of clients.
    pub messages: RelayMessages,
    /// Answers of agents.
    pub answers: RelayAnswers,
    /// What is held at this moment.
    pub held: RelayHeld,
    /// Connections to agents.
    pub agents: RelayLinks,
    /// The outbox.
    pub outbox: RelayOutbox,
}

/// Clients of the relay's own dialect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayClients {
    /// Connected now.
    pub connected: u64,
    /// Have connected.
    pub connections: u64,
}

/// Messages of clients, by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayMessages {
    /// Sent by clients, whatever became of them.
    pub received: u64,
    /// Bytes of their payloads.
    pub received_bytes: u64,
    /// Over 1 MiB among them.
    pub large: u64,
    /// Bytes of those.
    pub large_bytes: u64,
    /// Taken and appended.
    pub accepted: u64,
    /// Safe in the outbox.
    pub durable: u64,
    /// Sent again within the window, and not taken again.
    pub duplicate: u64,
    /// Tries that left the process.
    pub attempted: u64,
    /// Tries after the first of a message.
    pub retried: u64,
    /// Acknowledged by the agent.
    pub delivered: u64,
    /// Bytes of their payloads.
    pub delivered_bytes: u64,
    /// Not taken.
    pub refused: RelayRefused,
    /// Given up.
    pub dead: RelayDead,
    /// Dead letters that were sent on their way again.
    pub replayed: u64,
    /// Dead letters forgotten: by an operator, by age or by number.
    pub forgotten: u64,
    /// Unsettled in the outbox at the start.
    pub recovered: u64,
}

/// Messages that were not taken, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayRefused {
    /// No rule matches the client.
    pub route: u64,
    /// Over the rate of the client or its agent.
    pub rate: u64,
    /// Too large, or not a message.
    pub invalid: u64,
    /// Signature missing or wrong.
    pub signature: u64,
    /// The buffer is full, or the outbox is busy.
    pub full: u64,
    /// The outbox has failed.
    pub failed: u64,
}

/// Messages that were given up, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayDead {
    /// The agent refused for good.
    pub refused: u64,
    /// Tries were used up.
    pub exhausted: u64,
    /// The buffer was full and they were the oldest.
    pub dropped: u64,
    /// There is no route any more, or the record can't be read.
    pub unroutable: u64,
}

/// Answers of agents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayAnswers {
    /// Passed to clients, partial ones included.
    pub passed: u64,
    /// Bytes of those.
    pub passed_bytes: u64,
    /// Dropped because their client was too slow.
    pub dropped: u64,
    /// Told before.
    pub repeated: u64,
    /// For clients that are not the agent's.
    pub foreign: u64,
}

/// What the relay holds at a moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayHeld {
    /// Messages taken and neither delivered nor given up.
    pub pending: u64,
    /// Age of the oldest of them.
    pub oldest_seconds: f64,
    /// Bytes of messages in memory.
    pub bytes: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Messages remembered against being taken twice.
    pub remembered: u64,
    /// Agents with something waiting.
    pub agents_waited_for: u64,
    /// Most messages that wait for one agent.
    pub queue_depth_max: u64,
    /// Clients with a history.
    pub history_clients: u64,
    /// Messages in histories.
    pub history_messages: u64,
}

/// Connections to agents. Counts are over those there are now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayLinks {
    /// Agents known: with a connection, or with a place for one.
    pub known: u64,
    /// Connected.
    pub up: u64,
    /// Waiting for a place or for their time to connect.
    pub waiting: u64,
    /// Messages sent that have no outcome yet.
    pub in_flight: u64,
    /// Connections that were ready.
    pub connects: u64,
    /// Connections that could not be made.
    pub failures: u64,
    /// Bytes to agents, before TLS.
    pub sent_bytes: u64,
    /// Bytes from agents.
    pub received_bytes: u64,
}

/// The outbox.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayOutbox {
    /// Records made safe.
    pub appended: u64,
    /// Records settled.
    pub settled: u64,
    /// Records that are not, dead letters included.
    pub unsettled: u64,
    /// Bytes on disk; 0 if it is not on our disk.
    pub bytes: u64,
    /// Syncs.
    pub syncs: u64,
    /// Time spent in them.
    pub sync_seconds: f64,
    /// Time of one at the 99th percentile of the last few thousand.
    pub sync_p99_seconds: f64,
    /// Records found damaged.
    pub corrupt: u64,
    /// Why it takes nothing any more; `None` if all is well.
    pub failed: Option<String>,
}

/// How one agent fares. Counts are since it got its place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayAgent {
    /// Its URL without the query, which may hold secrets.
    pub url: String,
    /// `resting`, `waiting`, `changing` or `up`.
    pub state: &'static str,
    /// Messages that wait for it or are on their way.
    pub queue_depth: u64,
    /// Messages sent that have no outcome yet.
    pub in_flight: u64,
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
    /// Until the next probe, in milliseconds, if the breaker is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Why there is no connection.
    pub last_error: Option<String>,
    /// Connections that were ready.
    pub connects: u64,
    /// Connections that could not be made.
    pub failures: u64,
    /// Messages that it has acknowledged.
    pub delivered: u64,
    /// What it said to clients.
    pub answers: u64,
}

/// Where a client's messages go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayRoute {
    /// The client.
    pub client_id: String,
    /// URL of the agent without its query; `None` if no rule matches.
    pub agent: Option<String>,
    /// The rule that wins.
    pub winner: Option<RelayRule>,
    /// Other rules that match, strongest first; at most 50.
    pub losers: Vec<RelayRule>,
    /// If no rule matches: what comes near.
    pub hints: Vec<String>,
}

/// A rule that matches a client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayRule {
    /// Where it is written, and its text.
    pub rule: String,
    /// Why it matches, and why it loses if it does.
    pub reason: String,
}

/// A message that was given up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// Its number; later letters were accepted later.
    pub id: u64,
    /// The client it came from.
    pub client_id: String,
    /// `control`, `interactive` or `bulk`.
    pub priority: &'static str,
    /// Why it was given up.
    pub reason: String,
    /// When it was accepted, in Unix milliseconds.
    pub accepted_at: u64,
    /// When it was given up, in Unix milliseconds.
    pub dead_at: u64,
    /// Bytes of its record.
    pub size: u64,
}
