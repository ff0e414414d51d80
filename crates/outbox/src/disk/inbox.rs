//! The queue in front of the writer.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::log::{Waiting, encoded, locked};
use crate::face::AppendError;

/// Bounded by records and bytes; what does not fit is refused.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    came: Condvar,
    records_max: usize,
    bytes_max: usize,
}

struct State {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// The writer waits to be woken.
    idle: bool,
    /// There is something to be noted.
    marked: bool,
    /// There is so much to be noted that it should not wait.
    urgent: bool,
    closing: bool,
    /// Why nothing is taken.
    closed: Option<AppendError>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

/// What the writer is woken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Records wait, or notes have waited long enough.
    Work,
    /// It is time to sync.
    Due,
    /// Nothing comes any more.
    Closing,
}

impl Inbox {
    pub(crate) fn new(records_max: usize, bytes_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                bytes: 0,
                idle: false,
                marked: false,
                urgent: false,
                closing: false,
                closed: None,
            }),
            came: Condvar::new(),
            records_max,
            bytes_max,
        }
    }

    /// Queues a record if there is room for it, as `admits` says of how much waits already.
    pub(crate) fn push(&self, waiting: Waiting, admits: impl FnOnce(usize, usize) -> bool) {
        let bytes = encoded(&waiting.record);
        let mut state = locked(&self.state);
        let refusal = if let Some(error) = &state.closed {
            Some(error.clone())
        } else if state.waiting.len() >= self.records_max
            || (state.bytes + bytes > self.bytes_max && !state.waiting.is_empty())
            || !admits(state.waiting.len() + 1, state.bytes + bytes)
        {
            Some(AppendError::Busy)
        } else {
            None
        };
        if let Some(error) = refusal {
            drop(state);
            (waiting.done)(Err(error));
            return;
        }
        state.bytes += bytes;
        state.waiting.push_back(waiting);
        let wake = std::mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.came.notify_one();
        }
    }

    /// There is something to be noted, soon or at once.
    pub(crate) fn mark(&self, urgent: bool) {
        let mut state = locked(&self.state);
        if state.marked && (!urgent || state.urgent) {
            return;
        }
        state.marked = true;
        state.urgent |= urgent;
        let wake = std::mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.came.notify_one();
        }
    }

    /// Moves what waits to `into`, which is empty. Waits if nothing does: until something comes,
    /// or for `sync_in`, or until notes have waited for [`NOTES_WAIT`].
    pub(crate) fn take(
        &self,
        into: &mut VecDeque<Waiting>,
        sync_in: Option<Duration>,
        elapsed: impl Fn() -> Duration,
    ) -> Woken {
        let began = elapsed();
        let mut notes_since = None;
        let mut state = locked(&self.state);
        loop {
            if !state.waiting.is_empty() {
                std::mem::swap(&mut state.waiting, into);
                state.bytes = 0;
                state.marked = false;
                state.urgent = false;
                return Woken::Work;
            }
            if state.closing {
                return Woken::Closing;
            }
            let now = elapsed();
            if state.marked {
                let since = *notes_since.get_or_insert(now);
                if state.urgent || now.saturating_sub(since) >= NOTES_WAIT {
                    state.marked = false;
                    state.urgent = false;
                    return Woken::Work;
                }
            }
            let notes = notes_since.map(|since| (since + NOTES_WAIT).saturating_sub(now));
            let sync = sync_in.map(|sync| (began + sync).saturating_sub(now));
            if sync.is_some_and(|sync| sync.is_zero()) {
                return Woken::Due;
            }
            state.idle = true;
            state = match notes.into_iter().chain(sync).min() {
                Some(wait) => {
                    self.came
                        .wait_timeout(state, wait)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self
                    .came
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
            state.idle = false;
        }
    }

    /// Takes nothing any more; what waits is still written.
    pub(crate) fn close(&self) {
        let mut state = locked(&self.state);
        state.closing = true;
        state
            .closed
            .get_or_insert_with(|| AppendError::Failed(Arc::from("it is closed")));
        drop(state);
        self.came.notify_one();
    }

    /// Takes nothing any more and refuses what waits.
    pub(crate) fn fail(&self, error: &AppendError) {
        let mut state = locked(&self.state);
        state.closed = Some(error.clone());
        let waiting = std::mem::take(&mut state.waiting);
        state.bytes = 0;
        drop(state);
        for waiting in waiting {
            (waiting.done)(Err(error.clone()));
        }
    }
}

/// How long notes wait for a record to travel with.
pub(crate) const NOTES_WAIT: Duration = Duration::from_millis(100);
