//! Where the writer gets segments from and gives them back to.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex};

use super::keeper::{Floor, Keeper};
use super::log::{Fault, locked};
use super::segment::Segment;

/// The keeper itself, or the shelf that a thread with the keeper fills.
#[derive(Debug)]
pub(crate) enum Supply {
    /// Everything is done at once.
    Inline(Keeper),
    /// A thread does it.
    Shelf(Arc<Shelf>),
}

/// Why there is no segment.
#[derive(Debug)]
pub(crate) enum Short {
    /// The disk is full; later there may be one.
    Full,
    /// The storage failed.
    Fault(Fault),
}

/// What the writer and the keeper's thread hand each other.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) state: Mutex<ShelfState>,
    /// Tells the keeper that there is work.
    pub(crate) wanted: Condvar,
    /// Tells the writer that something came.
    pub(crate) came: Condvar,
}

/// What lies on the shelf.
#[derive(Debug, Default)]
pub(crate) struct ShelfState {
    /// At most [`READY_MAX`].
    pub(crate) ready: VecDeque<Arc<Segment>>,
    /// The latest floor; earlier ones are covered by it.
    pub(crate) floor: Option<Floor>,
    pub(crate) full: bool,
    pub(crate) fault: Option<(String, io::Error)>,
    /// The writer has ended, and how far it came if all was well.
    pub(crate) stop: bool,
    pub(crate) last: Option<Last>,
    /// The keeper has ended.
    pub(crate) stopped: bool,
}

/// How far the writer came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Last {
    pub(crate) next_seq: u64,
    pub(crate) synced: u64,
}

impl Supply {
    pub(crate) fn next(&mut self) -> Result<Arc<Segment>, Short> {
        match self {
            Self::Inline(keeper) => keeper.prepare().map_err(short),
            Self::Shelf(shelf) => shelf.next(),
        }
    }

    pub(crate) fn reclaim(&mut self, floor: Floor) -> Result<(), Fault> {
        match self {
            Self::Inline(keeper) => keeper.reclaim(floor).map_err(|source| Fault {
                what: "giving up old segments".to_owned(),
                source,
            }),
            Self::Shelf(shelf) => {
                locked(&shelf.state).floor = Some(floor);
                shelf.wanted.notify_one();
                Ok(())
            }
        }
    }
}

impl Shelf {
    /// The writer has ended.
    pub(crate) fn stop(&self, last: Option<Last>) {
        let mut state = locked(&self.state);
        state.stop = true;
        state.last = last;
        drop(state);
        self.wanted.notify_all();
    }

    /// Waits if the next segment is still being made; its making ends in one way or another.
    fn next(&self) -> Result<Arc<Segment>, Short> {
        let mut state = locked(&self.state);
        loop {
            if let Some(segment) = state.ready.pop_front() {
                self.wanted.notify_one();
                return Ok(segment);
            }
            if let Some((what, source)) = state.fault.take() {
                return Err(Short::Fault(Fault { what, source }));
            }
            if state.full {
                return Err(Short::Full);
            }
            if state.stopped {
                return Err(Short::Fault(Fault {
                    what: "making a segment".to_owned(),
                    source: io::Error::other("the keeper's thread has ended"),
                }));
            }
            state = self
                .came
                .wait(state)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

/// A disk that is full before anything was promised is no failure.
pub(crate) fn short(source: io::Error) -> Short {
    if is_full(&source) {
        Short::Full
    } else {
        Short::Fault(Fault {
            what: "making a segment".to_owned(),
            source,
        })
    }
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// How many segments are made ahead.
pub(crate) const READY_MAX: usize = 2;
