//! Takes connections off their shelves that are closed or have rested for too long.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use lifecycle::CancellationToken;
use tokio::sync::Notify;

use super::Shared;

/// Runs until the pool is gone or the gateway stops.
pub(super) async fn run(shared: Weak<Shared>, bell: Arc<Notify>, stopping: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let is_thorough = tokio::select! {
            () = stopping.cancelled() => return,
            () = bell.notified() => false,
            _ = ticks.tick() => true,
        };
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if let Some(trunks) = shared.quantum.as_ref().filter(|_| is_thorough) {
            trunks.sweep();
        }
        let shelves = shared
            .shelves
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mut has_forgotten = false;
        for shelf in shelves.values() {
            shelf.sweep(is_thorough);
            has_forgotten |= is_thorough && shelf.is_forgotten();
        }
        drop(shelves);
        if has_forgotten {
            let mut shelves = shared
                .shelves
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            // One that somebody holds is about to be used.
            shelves.retain(|_, shelf| Arc::strong_count(shelf) > 1 || !shelf.is_forgotten());
        }
    }
}

const EVERY: Duration = Duration::from_secs(1);
