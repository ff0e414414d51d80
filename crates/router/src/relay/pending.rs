//! All messages that were taken and are neither delivered nor given up.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use outbox::{Priority, RecordId};

use super::Lane;
use super::lane::Item;

#[derive(Default)]
pub(super) struct Pending {
    placed: BTreeMap<RecordId, Place>,
    /// On their way into the outbox.
    unplaced: usize,
}

struct Place {
    lane: Arc<Lane>,
    client: Arc<str>,
    priority: Priority,
    at_ms: u64,
}

/// A message and where it waits.
pub(super) type Waiting = (RecordId, Arc<Lane>, Arc<str>, Priority);

impl Pending {
    /// Takes a place for a message if there are fewer than `max`.
    pub(super) fn enter(&mut self, max: usize) -> bool {
        let has_room = self.len() < max;
        self.unplaced += usize::from(has_room);
        has_room
    }

    /// A message that entered is in the outbox and goes to this lane.
    pub(super) fn place(&mut self, id: RecordId, lane: &Arc<Lane>, item: &Item) {
        self.unplaced = self.unplaced.saturating_sub(1);
        let place = Place {
            lane: Arc::clone(lane),
            client: Arc::clone(&item.client),
            priority: item.priority,
            at_ms: item.at_ms,
        };
        self.placed.insert(id, place);
    }

    /// A message goes to another lane.
    pub(super) fn relocate(&mut self, id: RecordId, lane: &Arc<Lane>) {
        if let Some(place) = self.placed.get_mut(&id) {
            place.lane = Arc::clone(lane);
        }
    }

    /// A message that entered was not stored.
    pub(super) fn leave_unplaced(&mut self) {
        self.unplaced = self.unplaced.saturating_sub(1);
    }

    /// A message is delivered or given up.
    pub(super) fn settle(&mut self, id: RecordId) {
        self.placed.remove(&id);
    }

    /// The oldest message, or the oldest behind `after`.
    pub(super) fn oldest_after(&self, after: Option<RecordId>) -> Option<Waiting> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (&id, place) = self.placed.range((from, Bound::Unbounded)).next()?;
        let client = Arc::clone(&place.client);
        Some((id, Arc::clone(&place.lane), client, place.priority))
    }

    /// When the oldest message was accepted, in Unix ms.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        self.placed.first_key_value().map(|(_, place)| place.at_ms)
    }

    pub(super) fn len(&self) -> usize {
        self.placed.len() + self.unplaced
    }
}
