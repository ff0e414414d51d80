//! The source parts that the peer may not have yet.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::code::{LENGTH, Scheme};
use super::field::multiply_accumulate;
use super::{LARGEST_SOURCE, OVERHEAD};
use crate::frame::write_repair_head;
use crate::packet::Numbering;

/// The newest source parts without those that arrived; all within 32 sequence numbers, which is
/// what a mask can name.
#[derive(Debug, Default)]
pub(super) struct Window {
    sources: VecDeque<(u64, Bytes)>,
    newest: u64,
}

/// What a repair is to cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cover {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) mask: u32,
    symbol: usize,
}

impl Cover {
    /// Bytes of the frame.
    pub(super) fn frame(&self) -> usize {
        OVERHEAD - LENGTH + self.symbol
    }
}

impl Window {
    /// Adds a source part, or finds it if it is sent again; tells whether it can be covered.
    pub(super) fn add(&mut self, seq: u64, part: &Bytes) -> bool {
        if seq <= self.newest {
            return self.sources.iter().any(|(it, _)| *it == seq);
        }
        self.newest = seq;
        while self
            .sources
            .front()
            .is_some_and(|(oldest, _)| seq - oldest >= SPAN)
        {
            self.sources.pop_front();
        }
        let fits = (1..=LARGEST_SOURCE).contains(&part.len());
        if fits {
            self.sources.push_back((seq, part.clone()));
        }
        fits
    }

    /// The newest number that was added, even if it has left since.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    pub(super) fn remove(&mut self, seq: u64) {
        if let Some(at) = self.sources.iter().position(|(it, _)| *it == seq) {
            self.sources.remove(at);
        }
    }

    pub(super) fn clear(&mut self) {
        self.sources.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The newest `count` from `from` on that a REPAIR frame of `room` bytes can cover.
    pub(super) fn cover(&self, from: u64, count: usize, room: usize) -> Option<Cover> {
        let mut cover: Option<Cover> = None;
        let newest_first = self.sources.iter().rev();
        let fitting = newest_first
            .take_while(|(seq, _)| *seq >= from)
            .filter(|(_, part)| part.len() + OVERHEAD <= room);
        for (seq, part) in fitting.take(count) {
            let symbol = LENGTH + part.len();
            cover = Some(match cover {
                None => Cover {
                    first: *seq,
                    last: *seq,
                    mask: 1,
                    symbol,
                },
                Some(cover) => Cover {
                    first: *seq,
                    last: cover.last,
                    mask: cover.mask << (cover.first - seq) | 1,
                    symbol: cover.symbol.max(symbol),
                },
            });
        }
        cover
    }

    /// Appends the REPAIR frame.
    pub(super) fn write(
        &self,
        cover: &Cover,
        (scheme, row): (Scheme, u8),
        numbering: &Numbering,
        out: &mut BytesMut,
    ) {
        let first = numbering.to_wire(cover.first);
        write_repair_head(out, (scheme as u8, row), first, cover.mask, cover.symbol);
        let start = out.len();
        out.put_bytes(0, cover.symbol);
        let (length, body) = out[start..].split_at_mut(LENGTH);
        let covered = self.sources.iter().filter(|(seq, _)| cover.has(*seq));
        for (place, (seq, part)) in (0..).zip(covered) {
            let coefficient = scheme.coefficient(row, place, numbering.to_wire(*seq));
            multiply_accumulate(length, &(part.len() as u16).to_be_bytes(), coefficient);
            multiply_accumulate(body, part, coefficient);
        }
    }
}

impl Cover {
    fn has(&self, seq: u64) -> bool {
        (self.first..=self.last).contains(&seq) && self.mask >> (seq - self.first) & 1 == 1
    }
}

/// Sequence numbers that a mask spans.
pub(super) const SPAN: u64 = 32;
