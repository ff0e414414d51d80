//! Commits: what waits becomes one batch, is written, synced and acknowledged.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::format::{
    Batch, Chain, HEAD, Kind, LAG_MAX, MOVED_MAX, PAGE, Standing, TRAILER, flags, hash, preamble,
    runs, runs_within,
};
use super::index::{Index, Part, Place};
use super::keeper::Floor;
use super::segment::Segment;
use super::shared::Shared;
use super::supply::{Short, Supply};
use super::{Sync, read};
use crate::face::{AppendError, Done, Record, RecordId};

/// A record on its way.
pub(crate) struct Waiting {
    pub(crate) record: Record,
    pub(crate) done: Done,
}

/// The storage failed.
#[derive(Debug)]
pub(crate) struct Fault {
    /// What could not be done.
    pub(crate) what: String,
    pub(crate) source: io::Error,
}

/// The end of the log, owned by whoever writes.
pub(crate) struct Log {
    pub(crate) shared: Arc<Shared>,
    pub(crate) supply: Supply,
    pub(crate) sync: Sync,
    pub(crate) active: Arc<Segment>,
    /// Where the next batch goes.
    pub(crate) offset: u64,
    pub(crate) chain: Chain,
    pub(crate) next_seq: u64,
    /// The last batch and the last record known to be synced.
    pub(crate) synced: u64,
    pub(crate) synced_seq: u64,
    /// What can be released after the next sync: segments and how many records.
    pub(crate) releases: Vec<(u64, u64)>,
    pub(crate) batch: Batch,
    pub(crate) staged: Staged,
    /// Where compaction stands in the oldest segment.
    pub(crate) cursor: (u64, u64),
    /// Segments before this one are to be emptied whatever it costs.
    pub(crate) evacuate: u64,
    /// Nothing comes any more: what can wait for the next start does.
    pub(crate) closing: bool,
    /// A mutation that the tests must catch: acknowledges before the sync.
    #[cfg(test)]
    pub(crate) hasty: bool,
}

/// What the batch in the making consists of.
#[derive(Default)]
pub(crate) struct Staged {
    appends: Vec<(u64, usize, usize, Done)>,
    ended: Vec<(u64, u64)>,
    dirty: Vec<u64>,
    moves: Vec<(u64, usize, usize, u64)>,
}

/// Number, place and standing of a record that is to be written again.
type Movable = (u64, Place, Standing);

impl Log {
    /// Writes one batch of what waits; `false` if nothing was, or the disk is full. After an error
    /// nothing may be written any more.
    pub(crate) fn commit(&mut self, waiting: &mut VecDeque<Waiting>) -> Result<bool, Fault> {
        self.batch.clear();
        self.stage_appends(waiting);
        self.stage_marks();
        self.stage_moves();
        if self.batch.is_empty() {
            return Ok(false);
        }
        match self.room() {
            Ok(()) => {}
            Err(Short::Full) => {
                self.unstage();
                return Ok(false);
            }
            Err(Short::Fault(fault)) => return Err(fault),
        }
        let lag = u16::try_from(self.chain.batch - 1 - self.synced).unwrap_or(LAG_MAX);
        let start = self.offset;
        let (bytes, next) = self
            .batch
            .seal(self.active.seal, self.chain, lag, self.next_seq - 1);
        let length = bytes.len() as u64;
        self.active
            .file
            .write_at(bytes, start)
            .map_err(|source| Fault {
                what: format!("writing to segment {}", self.active.id),
                source,
            })?;
        self.chain = next;
        self.offset = start + length;
        #[cfg(test)]
        if self.hasty {
            self.publish(start);
            self.sync()?;
            return Ok(true);
        }
        if self.sync == Sync::Always {
            self.fdatasync(self.next_seq - 1)?;
        }
        self.publish(start);
        if self.sync == Sync::Always {
            self.release()?;
        }
        Ok(true)
    }

    /// Makes everything safe that was written.
    pub(crate) fn sync(&mut self) -> Result<(), Fault> {
        if self.unsynced() {
            self.fdatasync(self.next_seq - 1)?;
        }
        self.release()
    }

    /// Gives up all segments before one, whatever is in them.
    pub(crate) fn give_up_before(&mut self, segment: u64) -> Result<(), Fault> {
        self.sync()?;
        let mut index = self.shared.index();
        while index
            .parts
            .front()
            .is_some_and(|first| first.segment.id < segment)
            && index.parts.len() > 1
        {
            index.parts.pop_front();
        }
        let floor = self.floor(&index);
        drop(index);
        floor.map_or(Ok(()), |floor| self.supply.reclaim(floor))
    }

    /// Whether something was written and not synced.
    pub(crate) fn unsynced(&self) -> bool {
        self.synced + 1 < self.chain.batch
    }

    /// Answers everything that is staged with an error.
    pub(crate) fn refuse(&mut self, error: &AppendError) {
        for (_, _, _, done) in self.staged.appends.drain(..) {
            done(Err(error.clone()));
        }
    }

    /// Whether the log holds so much that is settled that the rest should be written again.
    pub(crate) fn wants_compaction(&self, index: &Index) -> bool {
        let Some(first) = index.parts.front() else {
            return false;
        };
        if first.segment.id < self.evacuate {
            return true;
        }
        let log = index.log_bytes();
        index.parts.len() > 2
            && !first.damaged
            && log > self.shared.compact_from
            && index.live_bytes < log / 4 * 3
    }

    fn stage_appends(&mut self, waiting: &mut VecDeque<Waiting>) {
        if self.shared.short.load(Ordering::Relaxed) {
            for waiting in waiting.drain(..) {
                (waiting.done)(Err(AppendError::Busy));
            }
        }
        let most = BATCH_BYTES.min(self.capacity());
        while self.staged.appends.len() < BATCH_RECORDS
            && let Some(Waiting { record, .. }) = waiting.front()
            && (self.batch.is_empty() || self.batch.len() + encoded(record) <= most)
            && let Some(Waiting { record, done }) = waiting.pop_front()
        {
            let seq = self.next_seq;
            self.next_seq += 1;
            let (start, len) = self.batch.record(
                Kind::Record,
                flags(record.priority),
                seq,
                record.at_ms,
                hash(record.client.as_bytes()),
                &[&preamble(record.key, &record.client), &record.payload],
            );
            self.staged.appends.push((seq, start, len, done));
        }
    }

    fn stage_marks(&mut self) {
        let allowance = self.allowance(MARK_BYTES);
        let end = self.batch.len() + allowance;
        let mut index = self.shared.index();
        let mut ended = index.take_ended(runs_within(allowance / 2));
        if !ended.is_empty() {
            let mut numbers: Vec<u64> = ended.iter().map(|(seq, _)| *seq).collect();
            self.batch
                .record(Kind::Settled, 0, 0, 0, 0, &[&runs(&mut numbers)]);
        }
        self.staged.ended.append(&mut ended);
        while self.batch.len() + HEAD + MOVED_MAX <= end
            && let Some((seq, standing)) = index.take_dirty()
        {
            self.batch
                .record(Kind::State, 0, seq, 0, 0, &[&standing.encode()]);
            self.staged.dirty.push(seq);
        }
    }

    /// Writes some records of the oldest segment again, so that it can be given up.
    fn stage_moves(&mut self) {
        let Some((oldest, found)) = self.movable() else {
            return;
        };
        for (seq, place, standing) in found {
            if place.len as usize + MOVED_MAX > self.allowance(usize::MAX) {
                self.cursor.1 = seq;
                break;
            }
            match read::record(&oldest, place, seq) {
                Ok((raw_flags, at_ms, hash, body)) => {
                    let (start, len) = self.batch.record(
                        Kind::Moved,
                        raw_flags,
                        seq,
                        at_ms,
                        hash,
                        &[&standing.encode(), &body],
                    );
                    self.staged.moves.push((seq, start, len, place.segment));
                }
                Err(what) => {
                    tracing::error!(segment = oldest.id, seq, %what, "record is damaged and stays where it is");
                    self.shared.corrupt.fetch_add(1, Ordering::Relaxed);
                    if let Some(part) = self.shared.index().part_mut(oldest.id) {
                        part.damaged = true;
                    }
                }
            }
        }
    }

    /// The next records of the oldest segment, if that is to be emptied. The cursor goes past
    /// them.
    fn movable(&mut self) -> Option<(Arc<Segment>, Vec<Movable>)> {
        if self.closing && self.evacuate == 0 {
            return None;
        }
        let mut found = Vec::new();
        let mut bytes = 0;
        loop {
            let index = self.shared.index();
            if !self.wants_compaction(&index) {
                return None;
            }
            let first = index.parts.front()?;
            let oldest = Arc::clone(&first.segment);
            let (low, high) = first.seqs;
            if self.cursor.0 != oldest.id {
                self.cursor = (oldest.id, low);
            }
            if self.cursor.1 > high {
                return Some((oldest, found));
            }
            let mut looked = 0;
            let mut rest = high + 1;
            for (seq, slot) in index.slots.range(self.cursor.1..=high) {
                looked += 1;
                let here = slot.place.segment == oldest.id;
                let size = slot.place.len as usize + MOVED_MAX;
                if looked > LOOK || here && !found.is_empty() && bytes + size > MOVE_BYTES {
                    rest = *seq;
                    break;
                }
                if here {
                    bytes += size;
                    found.push((*seq, slot.place, slot.standing.clone()));
                }
            }
            self.cursor.1 = rest;
            // Whoever marks waits for the index: a long look is taken in parts.
            if looked <= LOOK {
                return Some((oldest, found));
            }
        }
    }

    /// Bytes that may be added to the batch without making it larger than a segment holds.
    fn allowance(&self, most: usize) -> usize {
        self.capacity().saturating_sub(self.batch.len()).min(most)
    }

    /// Bytes of records that a batch may have.
    fn capacity(&self) -> usize {
        usize::try_from(self.shared.segment_bytes)
            .unwrap_or(usize::MAX)
            .saturating_sub(2 * PAGE + TRAILER)
    }

    /// Goes on to the next segment if the batch has no room in this one.
    fn room(&mut self) -> Result<(), Short> {
        if self.offset + self.batch.sealed_len() as u64 <= self.active.size {
            return Ok(());
        }
        let next = self.supply.next()?;
        // What follows in another file must not outlive what is before it.
        if self.unsynced() {
            let staged = self.staged.appends.len() as u64;
            self.fdatasync(self.next_seq - 1 - staged)
                .map_err(Short::Fault)?;
        }
        self.offset = PAGE as u64;
        self.active = Arc::clone(&next);
        let part = Part::new(next, self.chain, self.offset);
        self.shared.index().parts.push_back(part);
        // Whoever never syncs would never give anything up.
        self.release().map_err(Short::Fault)
    }

    /// Syncs all that was written: the records up to number `seq`.
    fn fdatasync(&mut self, seq: u64) -> Result<(), Fault> {
        let began = self.shared.clock.elapsed();
        self.active.file.sync().map_err(|source| Fault {
            what: format!("syncing segment {}", self.active.id),
            source,
        })?;
        self.shared.synced(self.shared.clock.elapsed() - began);
        self.synced = self.chain.batch - 1;
        self.synced_seq = seq;
        Ok(())
    }

    /// Makes the batch at `start` known, and calls back.
    fn publish(&mut self, start: u64) {
        let mut index = self.shared.index();
        let segment = self.active.id;
        let place = |at: usize, len: usize| Place {
            segment,
            offset: u32::try_from(start).unwrap_or(u32::MAX) + u32::try_from(at).unwrap_or(0),
            len: u32::try_from(len).unwrap_or(u32::MAX),
        };
        for (seq, at, len, _) in &self.staged.appends {
            index.insert(*seq, place(*at, *len), Standing::default());
        }
        for (seq, at, len, old) in self.staged.moves.drain(..) {
            // One that was settled meanwhile is released with its settlement.
            if index.relocate(seq, place(at, len)) {
                self.releases.push((old, 1));
            }
        }
        self.releases
            .extend(self.staged.ended.drain(..).map(|(_, segment)| (segment, 1)));
        self.staged.dirty.clear();
        if let Some(part) = index.part_mut(segment) {
            part.end = self.offset;
        }
        self.shared.admitted(&index);
        drop(index);
        self.shared
            .appended
            .fetch_add(self.staged.appends.len() as u64, Ordering::Relaxed);
        for (seq, _, _, done) in self.staged.appends.drain(..) {
            done(Ok(RecordId { seq, place: 0 }));
        }
    }

    /// Gives up segments that nobody needs any more.
    pub(crate) fn release(&mut self) -> Result<(), Fault> {
        let mut index = self.shared.index();
        for (segment, records) in self.releases.drain(..) {
            index.release(segment, records);
        }
        let mut moved = false;
        while index.parts.len() > 1
            && let Some(first) = index.parts.front()
            && first.live == 0
        {
            index.parts.pop_front();
            moved = true;
        }
        if moved {
            self.shared.admitted(&index);
        }
        let floor = self.floor(&index);
        drop(index);
        match floor {
            Some(floor) if moved => self.supply.reclaim(floor),
            _ => Ok(()),
        }
    }

    fn floor(&self, index: &Index) -> Option<Floor> {
        index.parts.front().map(|first| Floor {
            segment: first.segment.id,
            chain: first.chain,
            next_seq: self.next_seq,
            synced: self.synced,
        })
    }

    /// There is no room for the batch: what it consists of is given back or refused.
    fn unstage(&mut self) {
        self.next_seq -= self.staged.appends.len() as u64;
        self.shared.index().give_back(
            std::mem::take(&mut self.staged.ended),
            std::mem::take(&mut self.staged.dirty),
        );
        self.staged.moves.clear();
        self.cursor = (0, 0);
        self.refuse(&AppendError::Busy);
    }
}

/// Bytes a record takes in a batch.
pub(crate) fn encoded(record: &Record) -> usize {
    super::format::padded(HEAD + 18 + record.client.len() + record.payload.len())
}

/// Locks, whatever happened to others who had the lock.
pub(crate) fn locked<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const BATCH_BYTES: usize = 1 << 20;
const BATCH_RECORDS: usize = 1024;
/// Most bytes of notes in a batch.
const MARK_BYTES: usize = 128 << 10;
/// Most records that are looked at under one lock.
const LOOK: usize = 4096;
/// Most bytes that are written again in a batch.
const MOVE_BYTES: usize = 256 << 10;
