//! Which messages were taken already, how far they are, and who waits for that.
//!
//! Within the window a message sent again is not taken again: it is answered with what
//! became of the first. The table is bounded; what is settled and oldest is forgotten
//! first, and a message that nobody remembers is only delivered once more, under the same
//! idempotency key.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use protocol::stratix::Level;

use super::{Receipt, Refused, Told};

/// How far a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Taken; lost if the process dies now.
    Accepted,
    /// Safe on disk.
    Durable,
    /// The agent has it.
    Delivered,
    /// Given up: a dead letter.
    Dead {
        /// Why.
        reason: Arc<str>,
    },
}

/// What became of a message that was asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How far it is.
    pub stage: Stage,
    /// Tries made so far.
    pub attempts: u32,
}

#[derive(Default)]
pub(super) struct Known {
    entries: HashMap<u128, Entry>,
    /// When each may be forgotten, in ms.
    order: VecDeque<(u64, u128)>,
}

/// How long messages are remembered, and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) now_ms: u64,
    pub(super) length_ms: u64,
    pub(super) messages_max: usize,
}

struct Entry {
    status: Status,
    /// There is room for it: its stage holds.
    is_taken: bool,
    /// When it may be forgotten; what `order` says about it otherwise is out of date.
    until_ms: u64,
    waiting: Vec<Waiting>,
}

struct Waiting {
    level: Level,
    is_duplicate: bool,
    message_id: Arc<str>,
    told: Told,
}

/// What is to be said now, outside the lock.
#[derive(Default)]
pub(super) struct Due(Vec<(Told, Result<Receipt, Refused>)>);

impl Due {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn tell(self) {
        for (told, what) in self.0 {
            told(what);
        }
    }
}

impl Known {
    /// Enters a message; `true` if it is new and now to be taken. Nobody is told about a new
    /// one before [`Known::advance`].
    pub(super) fn enter(
        &mut self,
        window: Window,
        key: u128,
        level: Level,
        message_id: &Arc<str>,
        told: Told,
        due: &mut Due,
    ) -> bool {
        self.forget_old(window, due);
        let until_ms = window.now_ms + window.length_ms;
        let is_new = !self.entries.contains_key(&key);
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            status: Status {
                stage: Stage::Accepted,
                attempts: 0,
            },
            is_taken: false,
            until_ms,
            waiting: Vec::new(),
        });
        if is_new {
            self.order.push_back((until_ms, key));
        } else if let Stage::Dead { reason } = &entry.status.stage {
            due.0
                .push((told, Err(Refused::GivenUp(Arc::clone(reason)))));
            return false;
        }
        // Sent again and again while the first waits: only so many are told.
        if entry.waiting.len() >= WAITING_MAX {
            due.0.push((told, Err(Refused::TooMany)));
            return false;
        }
        entry.waiting.push(Waiting {
            level,
            is_duplicate: !is_new,
            message_id: Arc::clone(message_id),
            told,
        });
        entry.collect(due);
        is_new
    }

    /// Enters a message that a recovery found.
    pub(super) fn restore(&mut self, window: Window, key: u128, status: Status) {
        let until_ms = window.now_ms + window.length_ms;
        let entry = Entry {
            status,
            is_taken: true,
            until_ms,
            waiting: Vec::new(),
        };
        self.entries.insert(key, entry);
        self.order.push_back((until_ms, key));
    }

    /// Notes how far a message is.
    pub(super) fn advance(&mut self, key: u128, stage: Stage, due: &mut Due) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.status.stage = stage;
            entry.is_taken = true;
            entry.collect(due);
        }
    }

    /// Notes a try.
    pub(super) fn attempted(&mut self, key: u128, attempts: u32) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.status.attempts = attempts;
        }
    }

    /// Forgets a message that was not taken after all.
    pub(super) fn withdraw(&mut self, key: u128, why: &Refused, due: &mut Due) {
        if let Some(entry) = self.entries.remove(&key) {
            for waiting in entry.waiting {
                due.0.push((waiting.told, Err(why.clone())));
            }
        }
    }

    /// What became of a message; `None` if nobody remembers.
    pub(super) fn status(&self, key: u128) -> Option<Status> {
        self.entries.get(&key).map(|entry| entry.status.clone())
    }

    /// Messages remembered.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn forget_old(&mut self, window: Window, due: &mut Due) {
        let max = window.messages_max;
        // Two per message keep pace with one that comes.
        for _ in 0..2 {
            let Some(&(until_ms, key)) = self.order.front() else {
                return;
            };
            if until_ms > window.now_ms && self.entries.len() < max {
                return;
            }
            self.order.pop_front();
            let count = self.entries.len();
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            if entry.until_ms != until_ms {
                continue;
            }
            if entry.is_open() && count < 2 * max {
                // Somebody still waits, or it is not safe yet: it keeps its place.
                entry.until_ms += REPRIEVE_MS;
                self.order.push_back((entry.until_ms, key));
            } else {
                self.withdraw(key, &Refused::Unavailable, due);
            }
        }
    }
}

impl Entry {
    fn is_open(&self) -> bool {
        !self.waiting.is_empty() || matches!(self.status.stage, Stage::Accepted)
    }

    /// Moves those who can be told to `due`.
    fn collect(&mut self, due: &mut Due) {
        if !self.is_taken {
            return;
        }
        let stage = &self.status.stage;
        let reached = match stage {
            Stage::Accepted => Some(Level::Accepted),
            Stage::Durable => Some(Level::Durable),
            Stage::Delivered => Some(Level::Delivered),
            Stage::Dead { .. } => None,
        };
        let mut still = Vec::new();
        for waiting in self.waiting.drain(..) {
            match (reached, stage) {
                (Some(reached), _) if reached >= waiting.level => {
                    let receipt = Receipt {
                        message_id: waiting.message_id,
                        level: reached,
                        is_duplicate: waiting.is_duplicate,
                    };
                    due.0.push((waiting.told, Ok(receipt)));
                }
                (_, Stage::Dead { reason }) => {
                    let why = Refused::Failed(Arc::clone(reason));
                    due.0.push((waiting.told, Err(why)));
                }
                _ => still.push(waiting),
            }
        }
        self.waiting = still;
    }
}

/// Most that wait for one message.
const WAITING_MAX: usize = 8;

/// How much longer an unfinished message is remembered at a time.
const REPRIEVE_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(known: &mut Known, now_ms: u64, key: u128) -> (bool, Due) {
        let window = Window {
            now_ms,
            length_ms: 100,
            messages_max: 1_000,
        };
        let mut due = Due::default();
        let told = Box::new(|_| {});
        let is_new = known.enter(window, key, Level::Accepted, &"m".into(), told, &mut due);
        (is_new, due)
    }

    #[test]
    fn a_message_that_was_refused_first_is_remembered_for_the_whole_window() {
        let mut known = Known::default();
        assert!(enter(&mut known, 0, 1).0);
        known.withdraw(1, &Refused::Full, &mut Due::default());
        assert!(enter(&mut known, 50, 1).0);
        known.advance(1, Stage::Durable, &mut Due::default());
        assert!(!enter(&mut known, 120, 1).0, "50 + 100 is not over");
        assert!(enter(&mut known, 200, 1).0);
    }

    #[test]
    fn nobody_is_told_before_a_message_is_taken() {
        let mut known = Known::default();
        assert!(enter(&mut known, 0, 1).1.is_empty());
        assert!(enter(&mut known, 0, 1).1.is_empty(), "sent again meanwhile");
        let mut due = Due::default();
        known.advance(1, Stage::Accepted, &mut due);
        assert_eq!(due.0.len(), 2);
        assert!(due.0.iter().all(|(_, what)| what.is_ok()));
    }
}
