//! What an operator may set about the relay.

use std::sync::Arc;
use std::time::Duration;

use lifecycle::Clock;
use policy::{Policy, PolicyError, Rate, RateTable};
use protocol::stratix::Level;
use upstream::guard::Guard;
use upstream::ws_agent::Target;

use super::history::HistoryLimits;
use super::known::Window;
use crate::table::RouteTable;

/// Everything that a reload may change.
#[derive(Clone)]
pub struct Settings {
    /// Who goes where.
    pub table: Arc<RouteTable>,
    /// When clients are told, unless they say.
    pub level: Level,
    /// For all agents; time per try and messages in flight are the target's own.
    pub policy: policy::Settings,
    /// How much clients may send.
    pub rates: Rates,
    /// Most messages that wait; at least 1.
    pub buffer_size: usize,
    /// What happens beyond that.
    pub overflow: Overflow,
    /// Most bytes of a message's `data`.
    pub message_size_max: usize,
    /// How long a message is remembered, so that it is not taken twice, in milliseconds.
    pub dedup_window_ms: u64,
    /// Most messages remembered.
    pub dedup_max: usize,
    /// Bounds of the histories.
    pub history: HistoryLimits,
    /// Most dead letters kept; the oldest is forgotten.
    pub dead_max: usize,
    /// How long dead letters are kept, in milliseconds.
    pub dead_retention_ms: u64,
    /// Most bytes of waiting messages held in memory; others are read from the outbox.
    pub held_bytes_max: usize,
    /// How often a line with the main figures is logged; zero means never.
    pub log_interval: Duration,
}

/// How much clients may send; `None` means as much as they like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// One client.
    pub client: Option<Rate>,
    /// All clients of one agent.
    pub agent: Option<Rate>,
}

/// What happens when the buffer is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest message becomes a dead letter.
    DropOldest,
    /// The new one is refused.
    Reject,
}

/// Lines of one rate, if there is one.
pub(super) type Lines = Option<RateTable<Arc<str>>>;

impl Rates {
    pub(super) fn client_lines(&self) -> Lines {
        self.client.map(|rate| RateTable::new(rate, RATED_MAX))
    }

    pub(super) fn agent_lines(&self) -> Lines {
        self.agent.map(|rate| RateTable::new(rate, RATED_MAX))
    }
}

impl Settings {
    /// The policy for one agent.
    pub fn policy_of(&self, target: &Target) -> Result<Policy, PolicyError> {
        let mut settings = self.policy.clone();
        settings.timeouts.per_try = Some(target.try_timeout);
        settings.concurrency.limit = u32::try_from(target.in_flight).unwrap_or(u32::MAX);
        Policy::new(settings)
    }

    /// The same where there must be one. Settings whose policy is no policy are refused
    /// before they come here; if one comes all the same, its agent is called without one.
    pub(super) fn policy_or_none(&self, target: &Target) -> Policy {
        self.policy_of(target).unwrap_or_else(|error| {
            tracing::error!(%error, "policy of an agent is refused, calls go without");
            Policy::new(policy::Settings::default()).expect("the default policy is one")
        })
    }

    /// A guard for an agent.
    pub(super) fn guard(&self, clock: Clock, target: &Target) -> Guard {
        let seed = uuid::Uuid::new_v4().as_u64_pair().0;
        Guard::new(target.shown_url(), self.policy_or_none(target), clock, seed)
    }

    pub(super) fn window(&self, now_ms: u64) -> Window {
        Window {
            now_ms,
            length_ms: self.dedup_window_ms,
            messages_max: self.dedup_max.max(1),
        }
    }
}

/// How often the log may say that there is no route: clients can cause it at will.
pub(super) fn warning_rate() -> Rate {
    Rate::new(10.0, 20).expect("ten per second is a rate")
}

/// Most clients and agents with a rate line of their own.
const RATED_MAX: usize = 1_000_000;
