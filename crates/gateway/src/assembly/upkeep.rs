//! What has to be looked after now and then: old streams, old revocations, memory.

use std::sync::Arc;
use std::time::Duration;

use auth::Revocations;
use bus::{Bus, Now};
use edge::door::Door;
use edge::fleet::Fleet;
use edge::metrics::Metrics;
use lifecycle::{CancellationToken, Clock, Tasks};

use super::memory;

/// How often memory is looked at: often enough that a flood is noticed in time.
const MEMORY_EVERY: Duration = Duration::from_millis(500);

/// Every so many looks at memory, the rest is done as well.
const REST_EVERY: u32 = 10;

/// Does the upkeep.
pub(super) struct Upkeep {
    pub(super) clock: Clock,
    pub(super) tasks: Tasks,
    pub(super) bus: Bus,
    pub(super) door: Arc<Door>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) revocations: Arc<Revocations>,
    pub(super) metrics: Arc<Metrics>,
}

impl Upkeep {
    /// Runs until told to stop.
    pub(super) async fn run(self, stopping: CancellationToken) {
        let mut round = 0_u32;
        loop {
            let resident = memory::resident();
            self.door.note_resident(resident);
            self.metrics
                .note_memory(resident, self.fleet.connection_count());
            if round.is_multiple_of(REST_EVERY) {
                self.sweep().await;
            }
            round = round.wrapping_add(1);
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(MEMORY_EVERY) => {}
            }
        }
    }

    async fn sweep(&self) {
        let now = Now {
            mono_ms: self.clock.mono_ms(),
            unix_ms: self.clock.unix_ms(),
        };
        self.bus.sweep(now);
        self.fleet.measure().await;
        let revocations = Arc::clone(&self.revocations);
        // It writes to disk.
        let swept = self
            .tasks
            .blocking(move || revocations.sweep(now.unix_ms / 1_000))
            .await;
        if let Some(Err(error)) = swept {
            tracing::error!(%error, "expired revocations could not be removed");
        }
    }
}
