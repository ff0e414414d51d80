//! Which idempotency keys a channel has seen, and what was answered.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::budget::Budget;
use crate::{BusError, Position};

/// Keys live equally long, so the order of arrival is the order of expiry.
#[derive(Debug, Default)]
pub(super) struct Replays {
    answers: HashMap<Arc<str>, Option<Position>>,
    order: VecDeque<(u64, Arc<str>)>,
}

impl Replays {
    /// What was answered to `key`, if it is still known.
    pub(super) fn answer(&self, key: &str) -> Option<Option<Position>> {
        self.answers.get(key).copied()
    }

    /// Remembers an answer, after [`Replays::make_room`].
    pub(super) fn remember(&mut self, key: &str, answer: Option<Position>, expires_ms: u64) {
        let key: Arc<str> = key.into();
        self.order.push_back((expires_ms, Arc::clone(&key)));
        self.answers.insert(key, answer);
    }

    /// Takes memory for `key`. Where there is too little, the channel's own oldest keys
    /// are forgotten before their time; returns how many.
    pub(super) fn make_room(&mut self, key: &str, memory: &Budget) -> Result<u64, BusError> {
        let mut forgotten = 0;
        while let Err(error) = memory.take(cost_bytes(key)) {
            if !self.forget_oldest(memory) {
                return Err(error);
            }
            forgotten += 1;
        }
        Ok(forgotten)
    }

    pub(super) fn expire(&mut self, now_ms: u64, memory: &Budget) {
        while self
            .order
            .front()
            .is_some_and(|(expires_ms, _)| *expires_ms <= now_ms)
        {
            self.forget_oldest(memory);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn forget_oldest(&mut self, memory: &Budget) -> bool {
        let Some((_, key)) = self.order.pop_front() else {
            return false;
        };
        self.answers.remove(&key);
        memory.give(cost_bytes(&key));
        true
    }
}

/// Text, the counters before it, a map slot and a queue slot.
fn cost_bytes(key: &str) -> usize {
    key.len()
        + 2 * size_of::<usize>()
        + size_of::<(Arc<str>, Option<Position>)>()
        + size_of::<(u64, Arc<str>)>()
}
