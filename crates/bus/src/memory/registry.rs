//! Which sinks are attached.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use hashbrown::HashMap;

use crate::{BusError, Sink};

/// Names an attached sink. Never used twice by one bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkId(u32);

/// A sink with its name, as subscriptions hold it.
pub(super) struct Attached {
    pub(super) id: SinkId,
    pub(super) sink: Arc<dyn Sink>,
}

impl std::fmt::Debug for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.id.fmt(f)
    }
}

/// All attached sinks. They come and go with workers, so there are few and it is rare.
#[derive(Debug, Default)]
pub(super) struct Registry {
    sinks: RwLock<HashMap<SinkId, Arc<Attached>>>,
    last_id: AtomicU32,
}

impl Registry {
    pub(super) fn attach(&self, sink: Arc<dyn Sink>) -> SinkId {
        let id = SinkId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1);
        let mut sinks = self.sinks.write().unwrap_or_else(PoisonError::into_inner);
        sinks.insert(id, Arc::new(Attached { id, sink }));
        id
    }

    pub(super) fn detach(&self, id: SinkId) {
        self.sinks
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
    }

    /// Runs `register` with the sink, which stays attached meanwhile: a registration is
    /// complete before [`Registry::detach`] returns, so that who detaches can remove it.
    pub(super) fn with<T>(
        &self,
        id: SinkId,
        register: impl FnOnce(&Arc<Attached>) -> Result<T, BusError>,
    ) -> Result<T, BusError> {
        let sinks: RwLockReadGuard<'_, _> =
            self.sinks.read().unwrap_or_else(PoisonError::into_inner);
        register(sinks.get(&id).ok_or(BusError::SinkDetached)?)
    }
}
