//! Who answers requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use protocol::channel::Channel;
use protocol::subject::Pattern;
use tokio::sync::mpsc;

use super::budget::Budget;
use crate::BusError;
use crate::apps::Asked;

/// The programs that answer requests: few, so they are looked through.
#[derive(Debug)]
pub(super) struct Services {
    offered: RwLock<Vec<(Pattern, mpsc::Sender<Asked>)>>,
    max: Budget,
    /// Whose turn it is, where several answer the same.
    turn: AtomicU64,
}

impl Services {
    pub(super) fn new() -> Self {
        Self {
            offered: RwLock::default(),
            max: Budget::new("services", SERVICES_MAX),
            turn: AtomicU64::new(0),
        }
    }

    /// Offers answers; those that are gone are forgotten at this occasion.
    pub(super) fn offer(
        &self,
        pattern: &Pattern,
        sender: mpsc::Sender<Asked>,
    ) -> Result<(), BusError> {
        let mut offered = self.offered.write().unwrap_or_else(PoisonError::into_inner);
        offered.retain(|(_, known)| {
            let gone = known.is_closed();
            self.max.give(usize::from(gone));
            !gone
        });
        self.max.take(1)?;
        offered.push((pattern.clone(), sender));
        Ok(())
    }

    /// Hands a question to one of those that answer it.
    pub(super) fn ask(&self, subject: &Channel, asked: Asked) -> Result<(), BusError> {
        let offered = self.offered.read().unwrap_or_else(PoisonError::into_inner);
        let fitting: Vec<_> = offered
            .iter()
            .filter(|(pattern, sender)| pattern.covers_text(subject) && !sender.is_closed())
            .map(|(_, sender)| sender)
            .collect();
        if fitting.is_empty() {
            return Err(BusError::NoResponder);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) as usize % fitting.len();
        fitting[turn].try_send(asked).map_err(|_| BusError::Busy)
    }
}

/// Most programs that answer at once.
const SERVICES_MAX: usize = 1_000;
