//! Messages that were given up and are kept for operators.

use std::collections::BTreeMap;
use std::sync::Arc;

use outbox::{Priority, RecordId};

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where the outbox keeps it.
    pub id: RecordId,
    /// The client it came from.
    pub client: Arc<str>,
    /// How urgent it was.
    pub priority: Priority,
    /// Its key among the messages known.
    pub(super) key: u128,
    /// When it was accepted, in Unix ms.
    pub at_ms: u64,
    /// When it was given up, in Unix ms.
    pub dead_ms: u64,
    /// Why.
    pub reason: Arc<str>,
    /// Bytes of its record.
    pub size: usize,
}

#[derive(Debug, Default)]
pub(super) struct DeadLetters {
    letters: BTreeMap<RecordId, DeadLetter>,
}

impl DeadLetters {
    /// Keeps a letter; those beyond `max`, the oldest, are handed back to be forgotten.
    pub(super) fn keep(&mut self, letter: DeadLetter, max: usize) -> Vec<DeadLetter> {
        self.letters.insert(letter.id, letter);
        let surplus = self.letters.len().saturating_sub(max);
        std::iter::from_fn(|| self.letters.pop_first())
            .take(surplus)
            .map(|(_, letter)| letter)
            .collect()
    }

    /// Takes those out that were given up before `before_ms`.
    pub(super) fn expire(&mut self, before_ms: u64) -> Vec<DeadLetter> {
        let old: Vec<RecordId> = self
            .letters
            .values()
            .filter(|letter| letter.dead_ms < before_ms)
            .map(|letter| letter.id)
            .collect();
        old.iter()
            .filter_map(|id| self.letters.remove(id))
            .collect()
    }

    /// The letter that operators know by this number.
    pub(super) fn get(&self, seq: u64) -> Option<&DeadLetter> {
        let low = RecordId { seq, place: 0 };
        let (_, letter) = self.letters.range(low..).next()?;
        (letter.id.seq == seq).then_some(letter)
    }

    /// Takes a letter out.
    pub(super) fn take(&mut self, seq: u64) -> Option<DeadLetter> {
        let id = self.get(seq)?.id;
        self.letters.remove(&id)
    }

    /// Those after `after`, oldest first, of this client if one is given.
    pub(super) fn list(&self, after: u64, client: Option<&str>, limit: usize) -> Vec<DeadLetter> {
        let low = RecordId {
            seq: after.saturating_add(1),
            place: 0,
        };
        self.letters
            .range(low..)
            .map(|(_, letter)| letter)
            .filter(|letter| client.is_none_or(|client| *letter.client == *client))
            .take(limit)
            .cloned()
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.letters.len()
    }
}
