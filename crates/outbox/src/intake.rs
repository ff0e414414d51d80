//! What waits to be written to a broker, and what is known of the records it holds.
//!
//! Shared by the kinds whose storage is another process: callers put appends and marks in
//! and never wait, one writer task takes them out in batches. Appends wait in a queue with
//! limits; marks change what is known of a record and name it as changed, so that however
//! many marks come while the broker is away, one note per record is all that waits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle::{CancellationToken, Clock};
use tokio::sync::Notify;

use crate::envelope::{CLIENT_MAX, OVERHEAD};
use crate::face::{AppendError, Done, Entry, Figures, Mark, Record, RecordId, State};
use crate::note::Note;

/// How much may wait and how much is kept, for the kinds that keep records in a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most unsettled records, dead letters included; each takes about 100 bytes of memory.
    /// Beyond it appending answers `Busy`. Default 1,000,000.
    pub records_max: usize,
    /// Most records that wait for the broker; beyond it appending answers `Busy`.
    /// Default 8,192.
    pub waiting_max: usize,
    /// Most bytes that wait for the broker; a single record is taken whatever its size.
    /// Default 64 MiB.
    pub waiting_bytes_max: usize,
    /// How long dead letters are kept. Default 7 days.
    pub dead_retention: Duration,
    /// How many dead letters are kept; the oldest goes first. Default 100,000.
    pub dead_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            records_max: 1_000_000,
            waiting_max: 8_192,
            waiting_bytes_max: 64 << 20,
            dead_retention: Duration::from_secs(7 * 24 * 3600),
            dead_max: 100_000,
        }
    }
}

/// An append that waits.
pub(crate) struct Waiting {
    pub(crate) record: Record,
    pub(crate) done: Done,
}

/// What the writer is to do next.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) appends: Vec<Waiting>,
    pub(crate) changes: Vec<Change>,
}

/// What is to be written about a record that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It may be forgotten; whether a note about it has been written.
    Forget { seq: u64, noted: bool },
    /// What is noted about it.
    Note { seq: u64, note: Note },
}

pub(crate) struct Intake {
    limits: Limits,
    /// Most bytes of one record.
    record_bytes_max: usize,
    clock: Clock,
    state: Mutex<Inner>,
    wake: Notify,
    failed: CancellationToken,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Taken by the writer and not answered yet.
    writing: usize,
    /// Unsettled records.
    live: BTreeMap<u64, Live>,
    /// Dead letters in the order they died, with when. May name some that live again.
    dead: VecDeque<(u64, u64)>,
    /// Records to forget: settled or dropped.
    forget: VecDeque<(u64, bool)>,
    /// Records whose note changed in a way that should be written soon.
    changed: VecDeque<u64>,
    /// Records that were attempted, and when that is worth a note: most settle before.
    attempted: VecDeque<(u64, u64)>,
    connected: bool,
    closing: bool,
    figures: Figures,
    rounds: Rounds,
}

#[derive(Default)]
struct Live {
    note: Note,
    /// Whether the note was written, or is about to be.
    noted: bool,
    /// Whether it is in one of the queues of changes.
    queued: bool,
}

/// Durations of the last round trips, in seconds.
#[derive(Default)]
struct Rounds {
    last: VecDeque<f64>,
}

impl Intake {
    pub(crate) fn new(
        limits: Limits,
        record_bytes_max: usize,
        clock: Clock,
        entries: &[Entry],
    ) -> Self {
        let mut state = Inner {
            connected: true,
            ..Inner::default()
        };
        for entry in entries {
            let note = Note::of(entry);
            if let State::Dead { at_ms, .. } = &entry.state {
                state.dead.push_back((entry.id.seq, *at_ms));
            }
            let noted = note != Note::default();
            state.live.insert(
                entry.id.seq,
                Live {
                    note,
                    noted,
                    queued: false,
                },
            );
        }
        state.dead.make_contiguous().sort_by_key(|(_, at)| *at);
        Self {
            limits,
            record_bytes_max,
            clock,
            state: Mutex::new(state),
            wake: Notify::new(),
            failed: CancellationToken::new(),
        }
    }

    pub(crate) fn append(&self, record: Record, done: Done) {
        let size = OVERHEAD + record.client.len() + record.payload.len();
        let mut state = self.lock();
        let refusal = if let Some(reason) = &state.figures.failed {
            Some(AppendError::Failed(Arc::clone(reason)))
        } else if record.client.len() > CLIENT_MAX || size > self.record_bytes_max {
            Some(AppendError::TooLarge {
                size,
                max: self.record_bytes_max,
            })
        } else if !state.has_room(&self.limits, size) {
            Some(AppendError::Busy)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            drop(state);
            done(Err(refusal));
            return;
        }
        state.waiting_bytes += size;
        state.waiting.push_back(Waiting { record, done });
        drop(state);
        self.wake.notify_one();
    }

    pub(crate) fn mark(&self, id: RecordId, mark: Mark) {
        let now = self.clock.mono_ms();
        let mut state = self.lock();
        state.mark(id.seq, mark, now);
        state.drop_dead(&self.limits, self.clock.unix_ms());
        drop(state);
        self.wake.notify_one();
    }

    /// Waits until there is something to write and takes it; `None` when everything is
    /// written and the outbox was asked to close, or when it failed.
    pub(crate) async fn work(&self, records_max: usize, bytes_max: usize) -> Option<Work> {
        loop {
            let due = {
                let now = self.clock.mono_ms();
                let mut state = self.lock();
                if state.figures.failed.is_some() {
                    return None;
                }
                state.drop_dead(&self.limits, self.clock.unix_ms());
                let work = state.take(records_max, bytes_max, now);
                if !work.appends.is_empty() || !work.changes.is_empty() {
                    return Some(work);
                }
                if state.closing {
                    return None;
                }
                let due = state.attempted.front().map(|(_, due)| *due);
                due.map_or(IDLE, |due| {
                    Duration::from_millis(due.saturating_sub(now) + 1)
                })
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = self.failed.cancelled() => {}
                () = tokio::time::sleep(due.min(IDLE)) => {}
            }
        }
    }

    /// A record is stored: from here on it can be marked. Its `done` is called.
    pub(crate) fn stored(&self, id: RecordId, done: Done) {
        let mut state = self.lock();
        state.live.insert(id.seq, Live::default());
        state.figures.appended += 1;
        state.writing = state.writing.saturating_sub(1);
        drop(state);
        done(Ok(id));
    }

    /// The broker did not take a record.
    pub(crate) fn refused(&self, done: Done, error: AppendError) {
        let mut state = self.lock();
        state.writing = state.writing.saturating_sub(1);
        drop(state);
        done(Err(error));
    }

    /// Changes could not be written: they are to be taken again.
    pub(crate) fn put_back(&self, changes: Vec<Change>) {
        let mut state = self.lock();
        for change in changes {
            match change {
                Change::Forget { seq, noted } => state.forget.push_back((seq, noted)),
                Change::Note { seq, .. } => state.change(seq),
            }
        }
    }

    /// While the broker is away nothing is taken in; what waits, waits on.
    pub(crate) fn set_connected(&self, connected: bool) {
        self.lock().connected = connected;
    }

    /// A round trip ended that made `done` and changes safe.
    pub(crate) fn round(&self, took: Duration) {
        let mut state = self.lock();
        state.figures.syncs += 1;
        state.figures.sync_seconds += took.as_secs_f64();
        state.rounds.add(took.as_secs_f64());
    }

    /// A record was found damaged.
    pub(crate) fn corrupt(&self) {
        self.lock().figures.corrupt += 1;
    }

    /// Nothing can be taken any more; everything that waits fails.
    pub(crate) fn fail(&self, reason: &str) {
        let reason: Arc<str> = Arc::from(reason);
        let mut state = self.lock();
        if state.figures.failed.is_some() {
            return;
        }
        tracing::error!(%reason, "outbox failed");
        state.figures.failed = Some(Arc::clone(&reason));
        let waiting = std::mem::take(&mut state.waiting);
        state.waiting_bytes = 0;
        drop(state);
        self.failed.cancel();
        for waiting in waiting {
            (waiting.done)(Err(AppendError::Failed(Arc::clone(&reason))));
        }
    }

    /// Why nothing is taken any more, if so.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        self.lock().figures.failed.clone()
    }

    pub(crate) fn failed(&self) -> CancellationToken {
        self.failed.clone()
    }

    /// Takes nothing more and lets the writer end once everything is written.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        // What was attempted is worth a note now.
        let attempted = std::mem::take(&mut state.attempted);
        state
            .changed
            .extend(attempted.into_iter().map(|(seq, _)| seq));
        drop(state);
        self.wake.notify_one();
    }

    /// The lowest unsettled record: everything before it may go.
    pub(crate) fn floor(&self) -> Option<u64> {
        self.lock().live.keys().next().copied()
    }

    pub(crate) fn figures(&self) -> Figures {
        let state = self.lock();
        Figures {
            unsettled: state.live.len() as u64,
            sync_p99_seconds: state.rounds.p99(),
            ..state.figures.clone()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn has_room(&self, limits: &Limits, size: usize) -> bool {
        let waiting = self.waiting.len() + self.writing;
        self.connected
            && !self.closing
            && waiting < limits.waiting_max
            && (self.waiting.is_empty() || self.waiting_bytes + size <= limits.waiting_bytes_max)
            && self.live.len() + waiting < limits.records_max
    }

    fn mark(&mut self, seq: u64, mark: Mark, now_ms: u64) {
        let Some(live) = self.live.get_mut(&seq) else {
            return;
        };
        match mark {
            Mark::Settled => {
                self.figures.settled += 1;
                self.forget(seq);
            }
            Mark::Attempted { attempt, at_ms } => {
                live.note.attempts = attempt;
                live.note.first_attempt_ms.get_or_insert(at_ms);
                if !std::mem::replace(&mut live.queued, true) {
                    self.attempted
                        .push_back((seq, now_ms + ATTEMPT_NOTED_AFTER_MS));
                }
            }
            Mark::Dead { reason, at_ms } => {
                if live.note.dead.is_some() {
                    self.dead.retain(|(dead, _)| *dead != seq);
                }
                live.note.dead = Some((Note::short(&reason), at_ms));
                self.dead.push_back((seq, at_ms));
                self.change(seq);
            }
            Mark::Revived => {
                live.note = Note::default();
                self.dead.retain(|(dead, _)| *dead != seq);
                self.change(seq);
            }
        }
    }

    fn forget(&mut self, seq: u64) {
        if let Some(live) = self.live.remove(&seq) {
            self.forget.push_back((seq, live.noted));
            if live.note.dead.is_some() {
                self.dead.retain(|(dead, _)| *dead != seq);
            }
        }
    }

    fn change(&mut self, seq: u64) {
        if let Some(live) = self.live.get_mut(&seq) {
            live.queued = true;
            self.changed.push_back(seq);
        }
    }

    /// Dead letters that are too old or too many go.
    fn drop_dead(&mut self, limits: &Limits, unix_ms: u64) {
        let retention = u64::try_from(limits.dead_retention.as_millis()).unwrap_or(u64::MAX);
        while let Some((seq, at_ms)) = self.dead.front().copied() {
            let old = unix_ms.saturating_sub(at_ms) > retention;
            if self.dead.len() <= limits.dead_max && !old {
                return;
            }
            self.dead.pop_front();
            if self.live.contains_key(&seq) {
                self.figures.dead_dropped += 1;
                self.forget(seq);
            }
        }
    }

    fn take(&mut self, records_max: usize, bytes_max: usize, now_ms: u64) -> Work {
        let mut work = Work::default();
        let mut bytes = 0;
        while let Some(next) = self.waiting.front() {
            let size = OVERHEAD + next.record.client.len() + next.record.payload.len();
            let full = work.appends.len() >= records_max || bytes + size > bytes_max;
            if full && !work.appends.is_empty() {
                break;
            }
            bytes += size;
            self.waiting_bytes = self.waiting_bytes.saturating_sub(size);
            work.appends.extend(self.waiting.pop_front());
        }
        self.writing += work.appends.len();
        while let Some((seq, due)) = self.attempted.front().copied() {
            if due > now_ms {
                break;
            }
            self.attempted.pop_front();
            self.changed.push_back(seq);
        }
        while work.changes.len() < CHANGES_AT_ONCE {
            if let Some((seq, noted)) = self.forget.pop_front() {
                work.changes.push(Change::Forget { seq, noted });
            } else if let Some(seq) = self.changed.pop_front() {
                // It may be settled by now, or named twice.
                let Some(live) = self.live.get_mut(&seq) else {
                    continue;
                };
                if std::mem::replace(&mut live.queued, false) {
                    live.noted = true;
                    let note = live.note.clone();
                    work.changes.push(Change::Note { seq, note });
                }
            } else {
                break;
            }
        }
        work
    }
}

impl Rounds {
    fn add(&mut self, seconds: f64) {
        if self.last.len() >= ROUNDS_KEPT {
            self.last.pop_front();
        }
        self.last.push_back(seconds);
    }

    fn p99(&self) -> f64 {
        let mut sorted: Vec<f64> = self.last.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let index = sorted.len() * 99 / 100;
        sorted.get(index).or(sorted.last()).copied().unwrap_or(0.0)
    }
}

/// Most changes that ride along with one batch.
const CHANGES_AT_ONCE: usize = 1024;

/// An attempt is noted only if the record is still there after this long: whoever crashes
/// before tries once more, which a lost note means anyway.
const ATTEMPT_NOTED_AFTER_MS: u64 = 500;

/// How often the age of dead letters is looked at when nothing else happens.
const IDLE: Duration = Duration::from_secs(60);

/// How many round trips the percentile is taken over.
const ROUNDS_KEPT: usize = 4096;

#[cfg(test)]
mod tests;
