//! Links in numbers.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::super::link::{Link, Phase};
use super::LinkId;

/// Where a link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// No connection, and none is asked for.
    Resting,
    /// A connection is asked for and waits for a place or for its time.
    Waiting,
    /// Being made or closed.
    Changing,
    /// Deliveries may be sent.
    Up,
}

/// One link in numbers; counts are since the link was made.
#[derive(Debug, Clone)]
pub struct LinkFigures {
    /// Which one.
    pub id: LinkId,
    /// URL of the agent without its query.
    pub url: Arc<str>,
    /// Where it stands.
    pub state: LinkState,
    /// Messages without an outcome.
    pub in_flight: usize,
    /// Connections that were ready.
    pub connects: u64,
    /// Connections that could not be made or were not ready in time.
    pub failures: u64,
    /// Why there is no connection; `None` while there is one.
    pub last_error: Option<String>,
    /// Messages that the agent has.
    pub delivered: u64,
    /// What it said to clients.
    pub answers: u64,
    /// Bytes to it, after handshakes and before TLS.
    pub sent_bytes: u64,
    /// Bytes from it.
    pub received_bytes: u64,
}

impl LinkFigures {
    pub(super) fn of(link: &Link) -> Self {
        let (state, in_flight, last_error) = {
            let state = link.state();
            let error = state.last_error.as_deref().map(str::to_owned);
            (state.phase, state.waiting.len(), error)
        };
        let counts = &link.counts;
        Self {
            id: link.id,
            url: link.shown_url().into(),
            state: match state {
                Phase::Rest => LinkState::Resting,
                Phase::Queued | Phase::Paused => LinkState::Waiting,
                Phase::Dialling | Phase::Closing => LinkState::Changing,
                Phase::Up => LinkState::Up,
            },
            in_flight,
            connects: counts.connects.load(Relaxed),
            failures: counts.failures.load(Relaxed),
            last_error,
            delivered: counts.delivered.load(Relaxed),
            answers: counts.answers.load(Relaxed),
            sent_bytes: counts.sent_bytes.load(Relaxed),
            received_bytes: counts.received_bytes.load(Relaxed),
        }
    }
}

/// Sums over links.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AgentTotals {
    /// Links there are.
    pub links: usize,
    /// Links that are up.
    pub up: usize,
    /// Links that wait for a place or for their time.
    pub waiting: usize,
    /// Messages without an outcome.
    pub in_flight: usize,
    /// Connections that were ready.
    pub connects: u64,
    /// Connections that could not be made or were not ready in time.
    pub failures: u64,
    /// Messages that agents have.
    pub delivered: u64,
    /// What agents said to clients.
    pub answers: u64,
    /// Bytes to agents.
    pub sent_bytes: u64,
    /// Bytes from agents.
    pub received_bytes: u64,
}

impl AgentTotals {
    pub(super) fn with(self, link: &LinkFigures) -> Self {
        Self {
            links: self.links + 1,
            up: self.up + usize::from(link.state == LinkState::Up),
            waiting: self.waiting + usize::from(link.state == LinkState::Waiting),
            in_flight: self.in_flight + link.in_flight,
            connects: self.connects + link.connects,
            failures: self.failures + link.failures,
            delivered: self.delivered + link.delivered,
            answers: self.answers + link.answers,
            sent_bytes: self.sent_bytes + link.sent_bytes,
            received_bytes: self.received_bytes + link.received_bytes,
        }
    }
}
