//! Messages that an agent has acknowledged and not answered yet.
//!
//! An `OpenClaw` gateway acknowledges a message when it has begun to work on it, and may
//! take minutes for the answer. Until that has come the record stays in the outbox: after
//! a restart the agent is asked about it, so that an answer given meanwhile is not lost.
//! Such a record is not pending: it holds no place in the buffer and nobody waits behind
//! it.

use std::collections::{HashMap, HashSet, VecDeque};

use outbox::RecordId;

#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Records by the keys of their messages.
    open: HashMap<u128, RecordId>,
    /// Since when they wait, in ms, oldest first; some have ended.
    order: VecDeque<(u64, u128)>,
    /// Messages whose answer was faster than the word that they were acknowledged.
    early: HashSet<u128>,
    early_order: VecDeque<u128>,
}

impl Runs {
    /// Waits for the answer to a message. Hands back the record that needs to be kept no
    /// longer: this one, if the answer has come already, or the oldest of too many.
    pub(super) fn open(&mut self, now_ms: u64, key: u128, id: RecordId) -> Option<RecordId> {
        if self.early.remove(&key) {
            return Some(id);
        }
        self.open.insert(key, id);
        self.order.push_back((now_ms, key));
        if self.open.len() > RUNS_MAX {
            return self.drop_oldest();
        }
        if self.order.len() > 2 * self.open.len() + 1_024 {
            let open = &self.open;
            self.order.retain(|(_, key)| open.contains_key(key));
        }
        None
    }

    /// The answer to a message has come: its record, if that waited.
    pub(super) fn end(&mut self, key: u128) -> Option<RecordId> {
        let ended = self.open.remove(&key);
        if ended.is_none() && self.early.insert(key) {
            self.early_order.push_back(key);
            if self.early_order.len() > EARLY_MAX
                && let Some(oldest) = self.early_order.pop_front()
            {
                self.early.remove(&oldest);
            }
        }
        ended
    }

    /// Gives up on answers that take too long.
    pub(super) fn expire(&mut self, now_ms: u64) -> Vec<RecordId> {
        let mut expired = Vec::new();
        while let Some(&(since_ms, _)) = self.order.front() {
            if now_ms.saturating_sub(since_ms) < ANSWER_PATIENCE_MS {
                break;
            }
            expired.extend(self.drop_oldest());
        }
        expired
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    fn drop_oldest(&mut self) -> Option<RecordId> {
        let (_, key) = self.order.pop_front()?;
        self.open.remove(&key)
    }
}

/// How long an answer is waited for, in milliseconds: longer than agents work.
const ANSWER_PATIENCE_MS: u64 = 60 * 60 * 1_000;

/// Most answers waited for at once.
const RUNS_MAX: usize = 100_000;

/// Most answers remembered that came before their acknowledgement.
const EARLY_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seq: u64) -> RecordId {
        RecordId { seq, place: 0 }
    }

    #[test]
    fn a_record_is_kept_until_its_answer_has_come_in_either_order() {
        let mut runs = Runs::default();
        assert_eq!(runs.open(0, 1, id(1)), None);
        assert_eq!(runs.end(1), Some(id(1)));
        assert_eq!(runs.end(2), None);
        assert_eq!(runs.open(0, 2, id(2)), Some(id(2)));
        assert_eq!(runs.len(), 0);
    }

    #[test]
    fn what_is_never_answered_is_let_go() {
        let mut runs = Runs::default();
        runs.open(0, 1, id(1));
        runs.open(1_000, 2, id(2));
        assert_eq!(runs.expire(ANSWER_PATIENCE_MS), [id(1)]);
        let dropped: Vec<RecordId> = (0..RUNS_MAX as u64)
            .filter_map(|seq| runs.open(2_000, u128::from(seq + 10), id(seq + 10)))
            .collect();
        assert_eq!(dropped, [id(2)]);
        for key in 0..3 * EARLY_MAX as u128 {
            runs.end(1_000_000 + key);
        }
        assert_eq!(runs.early.len(), EARLY_MAX);
    }
}
