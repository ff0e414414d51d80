//! What operators ask of the relay, carried out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use admin::OperatorError;
use admin::control::{
    DeadLetter, RelayAgent, RelayAnswers, RelayClients, RelayDead, RelayHeld, RelayLinks,
    RelayMessages, RelayOperator, RelayOutbox, RelayRefused, RelayRoute, RelayRule, RelaySummary,
};
use lifecycle::Tasks;
use outbox::{Priority, ReadError};
use policy::BreakerState;
use router::relay::{Counters, LaneGlimpse, Relay, ReplayError};
use router::table::{Candidate, Explanation};
use upstream::ws_agent::{LinkFigures, LinkState};

use crate::assembly::chain;

/// Rules that lose and are shown.
const LOSERS_MAX: usize = 50;

/// The relay as the admin face sees it.
pub(in crate::assembly) struct Desk {
    pub(in crate::assembly) relay: Arc<Relay>,
    pub(in crate::assembly) tasks: Tasks,
}

impl RelayOperator for Desk {
    fn summary(&self) -> RelaySummary {
        summary(&self.relay)
    }

    fn agents(&self) -> Vec<RelayAgent> {
        let links = self.relay.links();
        let mut lanes: HashMap<_, _> = self
            .relay
            .lanes()
            .into_iter()
            .map(|lane| (lane.link, lane))
            .collect();
        links
            .into_iter()
            .map(|link| {
                let lane = lanes.remove(&link.id);
                agent(link, lane)
            })
            .collect()
    }

    async fn route(&self, client: &str) -> Result<RelayRoute, OperatorError> {
        let (settings, client) = (self.relay.settings(), client.to_owned());
        // A table may have millions of rules, and this looks at each.
        let explain = move || settings.table.explain(&client);
        let explained = self.tasks.blocking(explain).await;
        explained
            .map(route)
            .ok_or_else(|| OperatorError::Failed("the gateway is stopping".to_owned()))
    }

    fn dead_letters(&self, after: u64, client: Option<&str>, limit: usize) -> Vec<DeadLetter> {
        let found = self.relay.dead_letters(after, client, limit);
        found.iter().map(letter).collect()
    }

    async fn dead_message(&self, id: u64) -> Result<Option<serde_json::Value>, OperatorError> {
        let Some(before) = id.checked_sub(1) else {
            return Ok(None);
        };
        let found = self.relay.dead_letters(before, None, 1);
        let Some(letter) = found.first().filter(|letter| letter.id.seq == id) else {
            return Ok(None);
        };
        let message = match self.relay.dead_message(letter).await {
            Ok(message) => message,
            // It was settled since.
            Err(ReadError::Missing(_)) => return Ok(None),
            Err(error) => return Err(OperatorError::Failed(chain(&error))),
        };
        serde_json::to_value(message)
            .map(Some)
            .map_err(|error| OperatorError::Failed(error.to_string()))
    }

    async fn replay(&self, id: u64) -> Result<bool, OperatorError> {
        match self.relay.replay(id).await {
            Ok(()) => Ok(true),
            Err(ReplayError::Missing(_)) => Ok(false),
            Err(error @ ReplayError::NoRoute(_)) => Err(OperatorError::Refused(error.to_string())),
            Err(error @ ReplayError::Unreadable(_)) => Err(OperatorError::Failed(chain(&error))),
        }
    }

    fn discard(&self, id: u64) -> bool {
        self.relay.discard(id)
    }
}

/// How the relay fares.
pub(in crate::assembly) fn summary(relay: &Relay) -> RelaySummary {
    let counters = relay.counters();
    let gauges = relay.gauges();
    let links = relay.agent_totals();
    let outbox = relay.outbox().figures();
    RelaySummary {
        clients: RelayClients {
            connected: relay.connections() as u64,
            connections: counters.connections.value(),
        },
        messages: messages(counters),
        answers: RelayAnswers {
            passed: counters.answers.value(),
            passed_bytes: counters.answer_bytes.value(),
            dropped: counters.answers_dropped.value(),
            repeated: counters.answers_repeated.value(),
            foreign: counters.answers_foreign.value(),
        },
        held: RelayHeld {
            pending: gauges.pending as u64,
            oldest_seconds: gauges.oldest_seconds,
            bytes: gauges.held_bytes as u64,
            dead_letters: gauges.dead as u64,
            remembered: gauges.known as u64,
            agents_waited_for: gauges.lanes as u64,
            queue_depth_max: gauges.lane_depth_max as u64,
            history_clients: gauges.history_clients as u64,
            history_messages: gauges.history_messages as u64,
        },
        agents: RelayLinks {
            known: links.links as u64,
            up: links.up as u64,
            waiting: links.waiting as u64,
            in_flight: links.in_flight as u64,
            connects: links.connects,
            failures: links.failures,
            sent_bytes: links.sent_bytes,
            received_bytes: links.received_bytes,
        },
        outbox: RelayOutbox {
            appended: outbox.appended,
            settled: outbox.settled,
            unsettled: outbox.unsettled,
            bytes: outbox.bytes,
            syncs: outbox.syncs,
            sync_seconds: outbox.sync_seconds,
            sync_p99_seconds: outbox.sync_p99_seconds,
            corrupt: outbox.corrupt,
            failed: outbox.failed.map(|why| why.to_string()),
        },
    }
}

fn messages(counters: &Counters) -> RelayMessages {
    RelayMessages {
        received: counters.received.value(),
        received_bytes: counters.bytes_received.value(),
        large: counters.large.value(),
        large_bytes: counters.large_bytes.value(),
        accepted: counters.accepted.value(),
        durable: counters.durable.value(),
        duplicate: counters.duplicates.value(),
        attempted: counters.attempts.value(),
        retried: counters.retries.value(),
        delivered: counters.delivered.value(),
        delivered_bytes: counters.bytes_delivered.value(),
        refused: RelayRefused {
            route: counters.refused_route.value(),
            rate: counters.refused_rate.value(),
            invalid: counters.refused_invalid.value(),
            signature: counters.refused_signature.value(),
            full: counters.refused_full.value(),
            failed: counters.refused_failed.value(),
        },
        dead: RelayDead {
            refused: counters.dead_final.value(),
            exhausted: counters.dead_exhausted.value(),
            dropped: counters.dead_dropped.value(),
            unroutable: counters.dead_unroutable.value(),
        },
        replayed: counters.dead_replayed.value(),
        forgotten: counters.dead_forgotten.value(),
        recovered: counters.recovered.value(),
    }
}

fn agent(link: LinkFigures, lane: Option<LaneGlimpse>) -> RelayAgent {
    let breaker = lane.as_ref().map(|lane| lane.guard.gate.breaker);
    let (breaker, retry_after) = match breaker {
        None | Some(BreakerState::Closed) => ("closed", None),
        Some(BreakerState::Open { retry_after }) => ("open", Some(retry_after)),
        Some(BreakerState::HalfOpen) => ("half_open", None),
    };
    RelayAgent {
        url: link.url.to_string(),
        state: match link.state {
            LinkState::Resting => "resting",
            LinkState::Waiting => "waiting",
            LinkState::Changing => "changing",
            LinkState::Up => "up",
        },
        queue_depth: lane.map_or(0, |lane| lane.depth as u64),
        in_flight: link.in_flight as u64,
        breaker,
        retry_after_ms: retry_after.map(in_ms),
        last_error: link.last_error,
        connects: link.connects,
        failures: link.failures,
        delivered: link.delivered,
        answers: link.answers,
    }
}

fn route(explanation: Explanation) -> RelayRoute {
    let rule = |candidate: Candidate| RelayRule {
        rule: candidate.title,
        reason: candidate.reason,
    };
    let losers = explanation.losers.into_iter().take(LOSERS_MAX);
    RelayRoute {
        client_id: explanation.client,
        agent: explanation.agent.map(|url| shown_url(&url).to_owned()),
        winner: explanation.winner.map(rule),
        losers: losers.map(rule).collect(),
        hints: explanation.hints,
    }
}

fn letter(letter: &router::relay::DeadLetter) -> DeadLetter {
    DeadLetter {
        id: letter.id.seq,
        client_id: letter.client.to_string(),
        priority: match letter.priority {
            Priority::Control => "control",
            Priority::Interactive => "interactive",
            Priority::Bulk => "bulk",
        },
        reason: letter.reason.to_string(),
        accepted_at: letter.at_ms,
        dead_at: letter.dead_ms,
        size: letter.size as u64,
    }
}

/// An agent's URL without its query, which may hold secrets.
pub(in crate::assembly) fn shown_url(url: &str) -> &str {
    url.split_once('?').map_or(url, |(shown, _)| shown)
}

fn in_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
