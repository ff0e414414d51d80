//! A relay with three agents and as many dead letters as a test wants.

use std::sync::{Arc, Mutex};

use admin::OperatorError;
use admin::control::{DeadLetter, RelayAgent, RelayOperator, RelayRoute, RelayRule, RelaySummary};

#[derive(Clone)]
pub(crate) struct FakeRelay(Arc<Mutex<Vec<DeadLetter>>>);

impl FakeRelay {
    pub(super) fn with_letters(count: u64) -> Self {
        let letters = (1..=count).map(|id| DeadLetter {
            id,
            client_id: if id % 2 == 0 { "even" } else { "odd" }.to_owned(),
            priority: "interactive",
            reason: "refused".to_owned(),
            accepted_at: 1_000,
            dead_at: 2_000,
            size: 6_000_000,
        });
        Self(Arc::new(Mutex::new(letters.collect())))
    }

    fn take(&self, id: u64) -> bool {
        let mut letters = self.0.lock().unwrap();
        let before = letters.len();
        letters.retain(|letter| letter.id != id);
        letters.len() < before
    }

    fn has(&self, id: u64) -> bool {
        self.0.lock().unwrap().iter().any(|letter| letter.id == id)
    }
}

impl RelayOperator for FakeRelay {
    fn summary(&self) -> RelaySummary {
        let mut summary = RelaySummary::default();
        summary.messages.delivered = 7;
        summary.held.oldest_seconds = 1.5;
        summary
    }

    fn agents(&self) -> Vec<RelayAgent> {
        let agent = |url: &str, queue_depth, failures| RelayAgent {
            url: url.to_owned(),
            state: "up",
            queue_depth,
            breaker: "closed",
            failures,
            ..RelayAgent::default()
        };
        let troubled = RelayAgent {
            state: "waiting",
            breaker: "open",
            retry_after_ms: Some(250),
            last_error: Some("refused".to_owned()),
            ..agent("ws://b", 5, 0)
        };
        vec![agent("ws://c", 0, 4), troubled, agent("ws://a", 2, 0)]
    }

    async fn route(&self, client: &str) -> Result<RelayRoute, OperatorError> {
        Ok(RelayRoute {
            client_id: client.to_owned(),
            agent: Some("ws://a".to_owned()),
            winner: Some(RelayRule {
                rule: "relay.routes[0] (\"client-1-9\")".to_owned(),
                reason: "in the range".to_owned(),
            }),
            ..RelayRoute::default()
        })
    }

    fn dead_letters(&self, after: u64, client: Option<&str>, limit: usize) -> Vec<DeadLetter> {
        let letters = self.0.lock().unwrap();
        let matching = letters.iter().filter(|letter| {
            letter.id > after && client.is_none_or(|client| client == letter.client_id)
        });
        matching.take(limit).cloned().collect()
    }

    /// The fourth is damaged.
    async fn dead_message(&self, id: u64) -> Result<Option<serde_json::Value>, OperatorError> {
        match id {
            4 => Err(OperatorError::Failed("record is damaged".to_owned())),
            id if self.has(id) => Ok(Some(serde_json::json!({"messageId": format!("m{id}")}))),
            _ => Ok(None),
        }
    }

    /// The third has no route.
    async fn replay(&self, id: u64) -> Result<bool, OperatorError> {
        match id {
            3 if self.has(id) => Err(OperatorError::Refused("no route".to_owned())),
            id => Ok(self.take(id)),
        }
    }

    fn discard(&self, id: u64) -> bool {
        self.take(id)
    }
}
