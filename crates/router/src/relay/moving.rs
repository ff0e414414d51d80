//! Messages on their way into lanes, and from one lane to another.
//!
//! A lane is retired when no rule names its agent any more, or when it has had nothing to
//! do for long. Whoever still holds it finds the lane that is there instead. A line whose
//! first message is on its way keeps its order where it goes: what waits there does not
//! start before that message is settled, or has come back as the first.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use upstream::ws_agent::Target;

use super::lane::{Item, LineName};
use super::{Lane, LaneState, Relay, Settings, lock};

impl Relay {
    /// Puts a stored message into its lane, or into the one that is there instead; without
    /// a route it is a dead letter.
    pub(super) fn put(&self, lane: &Arc<Lane>, item: Item) {
        let unroutable = {
            let _unmoved = self.moving.read().unwrap_or_else(PoisonError::into_inner);
            let is_retired = lock(&lane.state).is_retired;
            let found = match is_retired {
                false => Some(Arc::clone(lane)),
                true => self.lane_for(&self.settings.load(), &item.client),
            };
            match found {
                Some(lane) => {
                    lock(&self.pending).place(item.id, &lane, &item);
                    self.enqueue(&lane, item);
                    None
                }
                None => {
                    lock(&self.pending).leave_unplaced();
                    Some(item)
                }
            }
        };
        self.bury_unroutable(unroutable);
    }

    /// Puts a stored message into the lane that the table says; without a route it is a
    /// dead letter.
    pub(super) fn route(&self, settings: &Settings, item: Item) {
        match self.lane_for(settings, &item.client) {
            Some(lane) => self.put(&lane, item),
            None => {
                lock(&self.pending).leave_unplaced();
                self.bury_unroutable(Some(item));
            }
        }
    }

    /// A message taken out of a lane is settled, or is to be the first of its line again.
    pub(super) fn give_back(&self, lane: &Arc<Lane>, name: &LineName, back: Option<Item>) {
        let unroutable = {
            let _unmoved = self.moving.read().unwrap_or_else(PoisonError::into_inner);
            let mut state = lock(&lane.state);
            if !state.is_retired {
                return match back {
                    Some(item) => state.queue.put_back(item),
                    None => state.queue.done(&name.0, name.1),
                };
            }
            // This lane has counted it; its line is elsewhere.
            state.queue.done(&name.0, name.1);
            let next = state.moved.remove(name);
            drop(state);
            self.give_on(next, name, back)
        };
        self.bury_unroutable(unroutable);
    }

    /// As [`Relay::give_back`], for a line that was moved; hands back what has no route.
    fn give_on(
        &self,
        mut next: Option<Arc<Lane>>,
        name: &LineName,
        back: Option<Item>,
    ) -> Option<Item> {
        while let Some(lane) = next {
            let mut state = lock(&lane.state);
            if state.is_retired {
                next = state.moved.remove(name);
                continue;
            }
            drop(state);
            if let Some(item) = &back {
                lock(&self.pending).relocate(item.id, &lane);
            }
            lock(&lane.state).queue.unreserve(name, back);
            self.stir(&lane);
            return None;
        }
        let item = back?;
        let Some(lane) = self.lane_for(&self.settings.load(), &item.client) else {
            return Some(item);
        };
        lock(&self.pending).relocate(item.id, &lane);
        self.enqueue(&lane, item);
        None
    }

    /// Moves what waits in a lane that no rule leads to any more. Everybody who adds
    /// messages waits meanwhile.
    pub(super) fn retire(&self, lane: &Arc<Lane>) {
        let settings = self.settings.load();
        let mut unroutable = Vec::new();
        {
            let _alone = self.moving.write().unwrap_or_else(PoisonError::into_inner);
            let lines = {
                let mut state = lock(&lane.state);
                state.is_retired = true;
                state.queue.take_lines()
            };
            for (name, items, is_busy) in lines {
                let Some(other) = self.lane_for(&settings, &name.0) else {
                    unroutable.extend(items);
                    continue;
                };
                if is_busy {
                    lock(&other.state).queue.reserve(&name);
                    lock(&lane.state).moved.insert(name, Arc::clone(&other));
                }
                for item in items {
                    lock(&self.pending).relocate(item.id, &other);
                    self.enqueue(&other, item);
                }
            }
            let mut lanes = lock(&self.lanes);
            lanes.remove(&lane.link);
            self.agents().release(lane.link);
        }
        for item in unroutable {
            self.bury_unroutable(Some(item));
        }
    }

    /// Lets go of lanes that have had nothing to do for long and whose agents are not
    /// connected.
    pub(super) fn retire_idle(&self, now_ms: u64) {
        let is_idle = |state: &LaneState| {
            !state.is_running
                && state.queue.is_unused()
                && now_ms.saturating_sub(state.idle_since_ms) >= LANE_IDLE_MS
        };
        let lanes: Vec<Arc<Lane>> = lock(&self.lanes).values().cloned().collect();
        for lane in lanes {
            if !is_idle(&lock(&lane.state)) {
                continue;
            }
            let _alone = self.moving.write().unwrap_or_else(PoisonError::into_inner);
            let mut lanes = lock(&self.lanes);
            let mut state = lock(&lane.state);
            if is_idle(&state) && self.agents().release_resting(lane.link) {
                state.is_retired = true;
                lanes.remove(&lane.link);
            }
        }
    }

    /// The lane of a client's agent.
    pub(super) fn lane_for(&self, settings: &Settings, client: &str) -> Option<Arc<Lane>> {
        let found = settings.table.lookup(client)?;
        Some(self.lane(settings, found.target))
    }

    /// The lane of an agent, made if there is none.
    pub(super) fn lane(&self, settings: &Settings, target: &Arc<Target>) -> Arc<Lane> {
        // The link is asked for under the lock, so that nobody lets it go meanwhile.
        let mut lanes = lock(&self.lanes);
        let link = self.agents().link(target);
        let lane = lanes.entry(link).or_insert_with(|| {
            Arc::new(Lane {
                link,
                target: Arc::clone(target),
                guard: settings.guard(self.clock, target),
                state: Mutex::new(LaneState {
                    idle_since_ms: self.clock.mono_ms(),
                    ..LaneState::default()
                }),
                stirred: Notify::new(),
            })
        });
        Arc::clone(lane)
    }

    fn enqueue(&self, lane: &Arc<Lane>, item: Item) {
        let must_start = {
            let mut state = lock(&lane.state);
            state.queue.push(item);
            !std::mem::replace(&mut state.is_running, true)
        };
        self.wake(lane, must_start);
    }

    /// Sees to it that somebody works a lane if it has something to do.
    fn stir(&self, lane: &Arc<Lane>) {
        let must_start = {
            let mut state = lock(&lane.state);
            state.queue.len() > 0 && !std::mem::replace(&mut state.is_running, true)
        };
        self.wake(lane, must_start);
    }

    fn wake(&self, lane: &Arc<Lane>, must_start: bool) {
        if must_start {
            lock(&self.starting).push(Arc::clone(lane));
            self.steward.notify_one();
        } else {
            lane.stirred.notify_one();
        }
    }

    fn bury_unroutable(&self, item: Option<Item>) {
        if let Some(item) = item {
            self.counters.dead_unroutable.one();
            self.bury(item, "no route for this client");
        }
    }
}

/// How long a lane that has nothing to do is kept, in milliseconds.
const LANE_IDLE_MS: u64 = 10 * 60 * 1_000;
