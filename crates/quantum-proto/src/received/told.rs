//! What the peer was told, until it is known to know.

use std::collections::VecDeque;

use crate::ranges::{Inserted, RangeSet};

/// Acknowledgements under way, and what only they can tell.
#[derive(Debug)]
pub(super) struct Told {
    /// Acknowledgements sent and not confirmed, by largest counter.
    acks: VecDeque<Ack>,
    /// How many were sent since the last confirmation.
    since_confirmed: u32,
    /// Sequence numbers rebuilt from repairs that the peer may not know of.
    recovered: RangeSet,
    /// Packets with the mark "congestion experienced", and how many of them the peer knows of.
    ce: u32,
    ce_known: u32,
}

#[derive(Debug)]
struct Ack {
    largest: u64,
    /// Once it is confirmed the peer knows of all counters below.
    counters_below: u64,
    /// Likewise of all rebuilt sequence numbers below.
    recovered_below: u64,
    ce: u32,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            acks: VecDeque::new(),
            since_confirmed: 0,
            recovered: RangeSet::new(RECOVERED_MAX),
            ce: 0,
            ce_known: 0,
        }
    }
}

impl Told {
    pub(super) fn on_ce(&mut self) {
        self.ce = self.ce.wrapping_add(1);
    }

    /// The oldest is forgotten at the limit: the peer then repeats a packet that we have.
    pub(super) fn on_recovered(&mut self, sequence: u64) {
        if self.recovered.insert(sequence) == Inserted::Full {
            self.recovered.pop_lowest();
            self.recovered.insert(sequence);
        }
        for ack in &mut self.acks {
            ack.recovered_below = ack.recovered_below.min(sequence);
        }
    }

    /// A counter arrived behind larger ones: acknowledgements under way tell those, and not it,
    /// so it must outlive their confirmation.
    pub(super) fn on_late(&mut self, counter: u64) {
        for ack in &mut self.acks {
            ack.counters_below = ack.counters_below.min(counter);
        }
    }

    /// An acknowledgement was written, with all ranges of counters if `complete`, and the lowest
    /// `rebuilt` of the rebuilt ranges.
    pub(super) fn on_told(&mut self, largest: u64, complete: bool, rebuilt: usize) {
        let told = self.recovered.iter().take(rebuilt).last();
        if self.acks.len() == ACKS_MAX {
            self.acks.pop_front();
        }
        self.acks.push_back(Ack {
            largest,
            counters_below: if complete {
                largest.saturating_add(1)
            } else {
                0
            },
            recovered_below: told.map_or(0, |(_, last)| last.saturating_add(1)),
            ce: self.ce,
        });
        self.since_confirmed = self.since_confirmed.saturating_add(1);
    }

    /// An acknowledgement that told `largest` arrived. Gives the counter below which all are known
    /// to the peer.
    pub(super) fn on_confirmed(&mut self, largest: u64) -> Option<u64> {
        let index = self.acks.partition_point(|ack| ack.largest < largest);
        let ack = self.acks.get(index).filter(|ack| ack.largest == largest)?;
        let counters_below = ack.counters_below;
        self.recovered.remove_below(ack.recovered_below);
        self.ce_known = ack.ce;
        self.since_confirmed = 0;
        // Those before it tell nothing that is still awaited; several may tell the same largest,
        // and the first of them, which this must be taken for, tells the least.
        self.acks.drain(..=index);
        Some(counters_below)
    }

    pub(super) fn recovered(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.recovered.iter()
    }

    pub(super) fn ecn_changed(&self) -> bool {
        self.ce != self.ce_known
    }

    /// The count for an ECN frame, if the peer may not know it.
    pub(super) fn ecn_to_tell(&self) -> Option<u32> {
        self.ecn_changed().then_some(self.ce)
    }

    /// True for every 16th acknowledgement without a confirmation.
    pub(super) fn wants_confirmation(&self) -> bool {
        self.since_confirmed % CONFIRM_EVERY == CONFIRM_EVERY - 1
    }
}

/// Acknowledgements whose confirmation is awaited; the oldest is forgotten at the limit.
const ACKS_MAX: usize = 64;
/// Rebuilt ranges that are told.
const RECOVERED_MAX: usize = 32;
/// Acknowledgements without confirmation before one is asked for.
const CONFIRM_EVERY: u32 = 16;
