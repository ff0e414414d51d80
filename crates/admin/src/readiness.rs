//! Whether new work may come here, as load balancers see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A shared flag behind `/readyz`. Clones show the same state.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicU8>);

/// The stages of a process; it only moves forward.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not everything is bound yet.
    #[default]
    Starting,
    /// New connections are welcome.
    Ready,
    /// It runs, and what it needs does not: nothing new is wanted.
    Failed,
    /// Going down: what is open is being finished, nothing new is wanted.
    Draining,
}

impl Readiness {
    /// Moves forward to a stage. Going back is ignored: once draining, always draining.
    pub fn advance(&self, stage: Stage) {
        self.0.fetch_max(stage as u8, Ordering::AcqRel);
    }

    /// The stage reached.
    pub fn stage(&self) -> Stage {
        match self.0.load(Ordering::Acquire) {
            0 => Stage::Starting,
            1 => Stage::Ready,
            2 => Stage::Failed,
            _ => Stage::Draining,
        }
    }
}

impl Stage {
    /// The word `/readyz` answers with.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Draining => "draining",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Readiness, Stage};

    #[test]
    fn a_draining_process_does_not_become_ready_again() {
        let readiness = Readiness::default();
        assert_eq!(readiness.stage(), Stage::Starting);
        readiness.clone().advance(Stage::Ready);
        assert_eq!(readiness.stage(), Stage::Ready);
        readiness.advance(Stage::Draining);
        readiness.advance(Stage::Ready);
        assert_eq!(readiness.stage(), Stage::Draining);
    }
}
