//! The thread that makes segments, takes them back, and looks after what rests.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use lifecycle::CancellationToken;

use super::format::{Chain, PAGE};
use super::inbox::Inbox;
use super::keeper::{Floor, Keeper};
use super::log::locked;
use super::scan;
use super::segment::Segment;
use super::shared::Shared;
use super::supply::{READY_MAX, Shelf, is_full};
use crate::face::AppendError;

/// What it works with.
pub(crate) struct Keeping {
    pub(crate) keeper: Keeper,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbox: Arc<Inbox>,
    /// Fires when everything is done and the folder is free.
    pub(crate) closed: CancellationToken,
    pub(crate) dead_retention: Duration,
    pub(crate) dead_max: usize,
    pub(crate) scrub_bytes: u64,
}

enum Job {
    Reclaim(Floor),
    Prepare,
    Tick,
    Stop,
}

impl Keeping {
    /// Works until the writer has ended.
    pub(crate) fn run(self) {
        let alarm = Alarm {
            shared: Arc::clone(&self.shared),
            inbox: Arc::clone(&self.inbox),
            shelf: Arc::clone(&self.shelf),
            thread: "keeper",
        };
        self.serve();
        drop(alarm);
    }

    fn serve(mut self) {
        let mut scrub = Scrub::default();
        let mut next_tick = self.shared.clock.elapsed() + TICK;
        let mut ticks = 0_u32;
        loop {
            let done = match self.job(next_tick) {
                Job::Reclaim(floor) => self.keeper.reclaim(floor).map(|()| {
                    locked(&self.shelf.state).full = false;
                }),
                Job::Prepare => self.prepare(),
                Job::Tick => {
                    next_tick = self.shared.clock.elapsed() + TICK;
                    self.expire();
                    scrub.step(&self.shared, self.scrub_bytes);
                    // A try fills what is left of the disk for a moment: not too often.
                    ticks = ticks.wrapping_add(1);
                    if ticks.is_multiple_of(TICKS_FULL) {
                        locked(&self.shelf.state).full = false;
                    }
                    Ok(())
                }
                Job::Stop => break,
            };
            if let Err(error) = done {
                self.fail(error);
                break;
            }
        }
        self.end();
    }

    fn job(&self, next_tick: Duration) -> Job {
        let mut state = locked(&self.shelf.state);
        loop {
            if let Some(floor) = state.floor.take() {
                return Job::Reclaim(floor);
            }
            if state.stop {
                return Job::Stop;
            }
            let now = self.shared.clock.elapsed();
            if state.ready.len() < READY_MAX && !state.full {
                return Job::Prepare;
            }
            if now >= next_tick {
                return Job::Tick;
            }
            state = self
                .shelf
                .wanted
                .wait_timeout(state, next_tick - now)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn prepare(&mut self) -> std::io::Result<()> {
        let made = self.keeper.prepare();
        let mut state = locked(&self.shelf.state);
        let result = match made {
            Ok(segment) => {
                state.ready.push_back(segment);
                Ok(false)
            }
            Err(error) if is_full(&error) => {
                state.full = true;
                Ok(true)
            }
            Err(error) => Err(error),
        };
        self.shelf.came.notify_one();
        drop(state);
        let short = result?;
        if self.shared.short.swap(short, Ordering::Relaxed) == short {
            return Ok(());
        }
        if short {
            tracing::warn!("disk has no room for another segment, records are refused");
        } else {
            tracing::info!("disk has room again");
            // Notes may wait that found none.
            self.inbox.mark(true);
        }
        Ok(())
    }

    fn expire(&self) {
        let retention = u64::try_from(self.dead_retention.as_millis()).unwrap_or(u64::MAX);
        let before_ms = self.shared.clock.unix_ms().saturating_sub(retention);
        let mut index = self.shared.index();
        let expired = index.expire(before_ms, self.dead_max);
        self.shared.lighter(&index);
        drop(index);
        if expired {
            self.inbox.mark(false);
        }
    }

    fn fail(&self, source: std::io::Error) {
        let reason = format!("keeping segments: {source}");
        let reason = self.shared.fail(Arc::from(reason));
        tracing::error!(%reason, "outbox has failed and takes nothing until a restart");
        self.inbox.fail(&AppendError::Failed(reason));
        locked(&self.shelf.state).fault = Some(("keeping segments".to_owned(), source));
        // The writer notices at its next turn.
        self.inbox.mark(true);
    }

    /// Waits for the writer, notes how far it came, frees the folder.
    fn end(mut self) {
        let mut state = locked(&self.shelf.state);
        state.stopped = true;
        self.shelf.came.notify_all();
        while !state.stop {
            state = self
                .shelf
                .wanted
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let last = state.last;
        drop(state);
        if let Some(last) = last
            && self.shared.reason().is_none()
            && let Err(error) = self.keeper.note(last.next_seq, last.synced)
        {
            tracing::warn!(%error, "manifest was not written at the end");
        }
        drop(self.keeper);
        self.closed.cancel();
    }
}

/// A thread that panics must not leave the others waiting for it, nor records without an answer.
pub(crate) struct Alarm {
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) thread: &'static str,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let reason = format!("the {}'s thread has panicked", self.thread);
        let reason = self.shared.fail(Arc::from(reason));
        tracing::error!(%reason, "outbox has failed and takes nothing until a restart");
        self.inbox.fail(&AppendError::Failed(reason));
        self.inbox.mark(true);
        if self.thread == "keeper" {
            locked(&self.shelf.state).stopped = true;
            self.shelf.came.notify_all();
        } else {
            self.shelf.stop(None);
        }
    }
}

/// Reads sealed segments again, a little at a time.
#[derive(Debug, Default)]
struct Scrub {
    segment: u64,
    at: u64,
    chain: Option<Chain>,
}

impl Scrub {
    /// Reads on for so many bytes.
    fn step(&mut self, shared: &Shared, bytes: u64) {
        let mut left = bytes;
        while left > 0 {
            let Some((segment, end)) = self.next(shared) else {
                return;
            };
            match self.read(&segment, end, CHUNK.max(left.min(4 * CHUNK))) {
                Ok(read) => left = left.saturating_sub(read),
                // It was given up and written over while it was read.
                Err(_) if shared.index().part(segment.id).is_none() => return,
                Err(what) => {
                    tracing::error!(segment = segment.id, at = self.at, %what, "segment is damaged");
                    shared.corrupt.fetch_add(1, Ordering::Relaxed);
                    self.at = end;
                    return;
                }
            }
        }
    }

    /// The segment that is read, from the oldest to the last sealed one, and its end. `None`
    /// ends a turn.
    fn next(&mut self, shared: &Shared) -> Option<(Arc<Segment>, u64)> {
        let index = shared.index();
        let sealed = index.parts.len().checked_sub(1)?;
        let current = index
            .parts
            .iter()
            .take(sealed)
            .find(|part| part.segment.id == self.segment && self.at < part.end);
        if let Some(part) = current {
            return Some((Arc::clone(&part.segment), part.end));
        }
        let next = index
            .parts
            .iter()
            .take(sealed)
            .find(|part| part.segment.id > self.segment);
        let Some(part) = next else {
            self.segment = 0;
            return None;
        };
        self.segment = part.segment.id;
        self.at = PAGE as u64;
        self.chain = Some(part.chain);
        (self.at < part.end).then(|| (Arc::clone(&part.segment), part.end))
    }

    fn read(&mut self, segment: &Segment, end: u64, most: u64) -> Result<u64, String> {
        let rest = end - self.at;
        let mut length = rest.min(most);
        loop {
            let size = usize::try_from(length).map_err(|error| error.to_string())?;
            let mut bytes = vec![0; size];
            segment
                .file
                .read_at(&mut bytes, self.at)
                .map_err(|error| error.to_string())?;
            let mut at = 0;
            let stopped = loop {
                match scan::batch(&bytes, at, segment.seal, self.chain) {
                    Ok(whole) => {
                        at = whole.end;
                        self.chain = Some(whole.next);
                    }
                    Err(what) => break what,
                }
            };
            self.at += at as u64;
            if at > 0 {
                return Ok(length);
            }
            // A batch may be longer than what was read of it.
            if length == rest {
                return Err(stopped.to_owned());
            }
            length = rest;
        }
    }
}

const TICK: Duration = Duration::from_secs(1);
/// A full disk is tried again after so many ticks.
const TICKS_FULL: u32 = 5;
const CHUNK: u64 = 1 << 20;
