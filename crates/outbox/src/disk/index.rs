//! What is unsettled and where it lies, in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::format::{Body, Chain, Kind, Raw, Standing, clipped};
use super::segment::Segment;
use crate::face::{Entry, Mark, Priority, RecordId, State};

/// A record that is not settled.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) place: Place,
    pub(crate) standing: Standing,
    /// Whether its standing is to be written.
    dirty: bool,
}

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) offset: u32,
    /// Bytes with head and padding.
    pub(crate) len: u32,
}

/// A segment of the log and what is in it.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) segment: Arc<Segment>,
    /// What its first batch refers to.
    pub(crate) chain: Chain,
    /// Records in it that are not settled, or whose settlement is not yet synced.
    pub(crate) live: u64,
    /// Where its batches end.
    pub(crate) end: u64,
    /// The numbers of its records lie between these.
    pub(crate) seqs: (u64, u64),
    /// A record in it can't be read: it stays where it is, for operators to see.
    pub(crate) damaged: bool,
}

/// All unsettled records, and the segments from the oldest needed to the one written to.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) slots: BTreeMap<u64, Slot>,
    pub(crate) parts: VecDeque<Part>,
    /// Bytes of the unsettled records.
    pub(crate) live_bytes: u64,
    pub(crate) settled: u64,
    pub(crate) dead_dropped: u64,
    /// Records whose standing is to be written.
    dirty: Vec<u64>,
    /// Settled records whose settlement is to be written, and the segment each is in.
    ended: Vec<(u64, u64)>,
    /// Dead letters, the oldest first.
    dead: BTreeSet<(u64, u64)>,
}

impl Part {
    pub(crate) fn new(segment: Arc<Segment>, chain: Chain, end: u64) -> Self {
        Self {
            segment,
            chain,
            live: 0,
            end,
            seqs: (u64::MAX, 0),
            damaged: false,
        }
    }
}

impl Index {
    /// Takes in a record that lies at `place`, or its new place.
    pub(crate) fn insert(&mut self, seq: u64, place: Place, standing: Standing) {
        if let Some(part) = self.part_mut(place.segment) {
            part.live += 1;
            part.seqs = (part.seqs.0.min(seq), part.seqs.1.max(seq));
        }
        if let Some(dead) = &standing.dead {
            self.dead.insert((dead.1, seq));
        }
        self.live_bytes += u64::from(place.len);
        let slot = Slot {
            place,
            standing,
            dirty: false,
        };
        if let Some(old) = self.slots.insert(seq, slot) {
            self.live_bytes -= u64::from(old.place.len);
        }
    }

    /// A record was written again at `to`; `false` if it was settled meanwhile. The old place
    /// is to be released once the new one is synced.
    pub(crate) fn relocate(&mut self, seq: u64, to: Place) -> bool {
        let Some(slot) = self.slots.get_mut(&seq) else {
            return false;
        };
        self.live_bytes += u64::from(to.len);
        self.live_bytes -= u64::from(slot.place.len);
        slot.place = to;
        if let Some(part) = self.part_mut(to.segment) {
            part.live += 1;
            part.seqs = (part.seqs.0.min(seq), part.seqs.1.max(seq));
        }
        true
    }

    /// So many records of a segment are settled or moved, and that is synced.
    pub(crate) fn release(&mut self, segment: u64, records: u64) {
        if let Some(part) = self.part_mut(segment) {
            part.live = part.live.saturating_sub(records);
        }
    }

    /// Notes something; `true` if it is to be written.
    pub(crate) fn mark(&mut self, seq: u64, mark: Mark) -> bool {
        let Some(slot) = self.slots.get_mut(&seq) else {
            return false;
        };
        let standing = &mut slot.standing;
        match mark {
            Mark::Attempted { attempt, at_ms } => {
                standing.attempts = attempt;
                standing.first_attempt_ms.get_or_insert(at_ms);
            }
            Mark::Settled => {
                self.settle(seq);
                return true;
            }
            Mark::Dead { reason, at_ms } => {
                if let Some(dead) = &standing.dead {
                    self.dead.remove(&(dead.1, seq));
                }
                let reason = if reason.len() > super::format::REASON_MAX {
                    Arc::from(clipped(&reason))
                } else {
                    reason
                };
                standing.dead = Some(Box::new((reason, at_ms)));
                self.dead.insert((at_ms, seq));
            }
            Mark::Revived => {
                if let Some(dead) = standing.dead.take() {
                    self.dead.remove(&(dead.1, seq));
                }
                standing.attempts = 0;
                standing.first_attempt_ms = None;
            }
        }
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(seq);
        }
        true
    }

    /// Drops dead letters that are too old or too many; `true` if there were any.
    pub(crate) fn expire(&mut self, before_ms: u64, most: usize) -> bool {
        let mut dropped = false;
        while let Some(&(at_ms, seq)) = self.dead.first()
            && (at_ms < before_ms || self.dead.len() > most)
        {
            self.settle(seq);
            self.dead.remove(&(at_ms, seq));
            self.settled -= 1;
            self.dead_dropped += 1;
            dropped = true;
        }
        dropped
    }

    /// Whether there is something to be written, and whether it is much.
    pub(crate) fn marks(&self) -> usize {
        self.dirty.len() + self.ended.len()
    }

    /// Takes at most so many settlements: numbers and segments.
    pub(crate) fn take_ended(&mut self, most: usize) -> Vec<(u64, u64)> {
        let keep = self.ended.len().saturating_sub(most);
        self.ended.split_off(keep)
    }

    /// Takes one standing that is to be written.
    pub(crate) fn take_dirty(&mut self) -> Option<(u64, Standing)> {
        while let Some(seq) = self.dirty.pop() {
            if let Some(slot) = self.slots.get_mut(&seq) {
                slot.dirty = false;
                return Some((seq, slot.standing.clone()));
            }
        }
        None
    }

    /// Gives back what was taken and not written.
    pub(crate) fn give_back(&mut self, ended: Vec<(u64, u64)>, dirty: Vec<u64>) {
        self.ended.extend(ended);
        for seq in dirty {
            if let Some(slot) = self.slots.get_mut(&seq)
                && !slot.dirty
            {
                slot.dirty = true;
                self.dirty.push(seq);
            }
        }
    }

    /// Bytes from the oldest needed segment to the end.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.end).sum()
    }

    /// The segment with this id, if it is needed.
    pub(crate) fn part(&self, id: u64) -> Option<&Part> {
        let first = self.parts.front()?.segment.id;
        self.parts
            .get(usize::try_from(id.checked_sub(first)?).ok()?)
    }

    /// As [`Self::part`].
    pub(crate) fn part_mut(&mut self, id: u64) -> Option<&mut Part> {
        let first = self.parts.front()?.segment.id;
        self.parts
            .get_mut(usize::try_from(id.checked_sub(first)?).ok()?)
    }

    /// Repeats what a record of the log says. `offset` is where its segment's bytes start
    /// being counted from: the whole segment was read.
    pub(crate) fn replay(
        &mut self,
        segment: u64,
        raw: &Raw<'_>,
        entries: &mut BTreeMap<u64, Seen>,
    ) -> Result<(), &'static str> {
        let place = Place {
            segment,
            offset: u32::try_from(raw.start).map_err(|_| "the segment is too long")?,
            len: u32::try_from(raw.len).map_err(|_| "a record is too long")?,
        };
        match raw.body()? {
            Body::Record(content) => {
                entries.insert(raw.seq, Seen::new(raw, &content));
                self.drop_place(raw.seq);
                self.insert(raw.seq, place, Standing::default());
            }
            Body::Moved(standing, content) => {
                entries.insert(raw.seq, Seen::new(raw, &content));
                self.drop_place(raw.seq);
                self.insert(raw.seq, place, standing);
            }
            Body::State(standing) => {
                if let Some(slot) = self.slots.get_mut(&raw.seq) {
                    if let Some(dead) = &slot.standing.dead {
                        self.dead.remove(&(dead.1, raw.seq));
                    }
                    if let Some(dead) = &standing.dead {
                        self.dead.insert((dead.1, raw.seq));
                    }
                    slot.standing = standing;
                }
            }
            Body::Settled(runs) => {
                for (first, count) in runs {
                    let run = first..first.saturating_add(u64::from(count));
                    let there: Vec<u64> = self.slots.range(run).map(|(seq, _)| *seq).collect();
                    for seq in there {
                        entries.remove(&seq);
                        self.drop_place(seq);
                    }
                }
            }
        }
        Ok(())
    }

    /// What a recovery gives back of a record.
    pub(crate) fn entry(&self, seq: u64, seen: Seen) -> Option<Entry> {
        let slot = self.slots.get(&seq)?;
        let state = match &slot.standing.dead {
            None => State::Pending,
            Some(dead) => State::Dead {
                reason: Arc::clone(&dead.0),
                at_ms: dead.1,
            },
        };
        Some(Entry {
            id: RecordId { seq, place: 0 },
            client: seen.client,
            priority: seen.priority,
            at_ms: seen.at_ms,
            key: seen.key,
            attempts: slot.standing.attempts,
            first_attempt_ms: slot.standing.first_attempt_ms,
            size: seen.size,
            state,
        })
    }

    fn settle(&mut self, seq: u64) {
        if let Some(slot) = self.slots.remove(&seq) {
            if let Some(dead) = &slot.standing.dead {
                self.dead.remove(&(dead.1, seq));
            }
            self.live_bytes -= u64::from(slot.place.len);
            self.settled += 1;
            self.ended.push((seq, slot.place.segment));
        }
    }

    fn drop_place(&mut self, seq: u64) {
        if let Some(slot) = self.slots.remove(&seq) {
            if let Some(dead) = &slot.standing.dead {
                self.dead.remove(&(dead.1, seq));
            }
            self.live_bytes -= u64::from(slot.place.len);
            self.release(slot.place.segment, 1);
        }
    }
}

/// What a recovery keeps of a record beside its place.
#[derive(Debug)]
pub(crate) struct Seen {
    client: Arc<str>,
    priority: Priority,
    at_ms: u64,
    key: u128,
    size: usize,
}

impl Seen {
    fn new(raw: &Raw<'_>, content: &super::format::Content<'_>) -> Self {
        debug_assert!(matches!(raw.kind, Kind::Record | Kind::Moved));
        Self {
            client: Arc::from(content.client),
            priority: content.priority,
            at_ms: raw.at_ms,
            key: content.key,
            size: content.payload.len(),
        }
    }
}
