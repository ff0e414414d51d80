//! The numeric ranges of all names, cut into pieces that do not overlap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A range of one name as its rule has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    /// Which name.
    pub(super) name: u32,
    /// First number.
    pub(super) lo: u64,
    /// Last number.
    pub(super) hi: u64,
    /// Which rule.
    pub(super) rule: u32,
}

/// Pieces in ascending order, those of a name next to each other.
#[derive(Debug, Default)]
pub(super) struct Pieces(Vec<Piece>);

/// Numbers of one name that belong to one rule.
#[derive(Debug, Clone, Copy)]
struct Piece {
    lo: u64,
    hi: u64,
    rule: u32,
}

impl Pieces {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The rule among the pieces `first..end` that covers the number.
    pub(super) fn find(&self, first: usize, end: usize, number: u64) -> Option<u32> {
        let pieces = self.0.get(first..end)?;
        let after = pieces.partition_point(|piece| piece.lo <= number);
        let piece = pieces.get(after.checked_sub(1)?)?;
        (piece.hi >= number).then_some(piece.rule)
    }

    /// Adds the ranges of one name, sorted by their first number. Where several cover a
    /// number, the first rule has it; `overlap` is told of pairs, the stronger one first.
    pub(super) fn add(&mut self, ranges: &[Range], mut overlap: impl FnMut(u32, u32)) {
        let mut bounds: Vec<u64> = ranges.iter().map(|range| range.lo).collect();
        bounds.extend(ranges.iter().filter_map(|range| range.hi.checked_add(1)));
        bounds.sort_unstable();
        bounds.dedup();
        let first = self.len();
        let mut waiting = ranges.iter().peekable();
        // The ranges that have begun, the strongest on top; ended ones go when they get there.
        let mut begun: BinaryHeap<Reverse<(u32, u64)>> = BinaryHeap::new();
        for (index, &start) in bounds.iter().enumerate() {
            let drop_ended = |begun: &mut BinaryHeap<Reverse<(u32, u64)>>| {
                while begun.peek().is_some_and(|Reverse((_, hi))| *hi < start) {
                    begun.pop();
                }
            };
            drop_ended(&mut begun);
            while let Some(range) = waiting.next_if(|range| range.lo <= start) {
                if let Some(Reverse((other, _))) = begun.peek() {
                    overlap(range.rule.min(*other), range.rule.max(*other));
                }
                begun.push(Reverse((range.rule, range.hi)));
            }
            let Some(Reverse((rule, _))) = begun.peek() else {
                continue;
            };
            // Every end is a bound, so nothing ends inside a piece.
            let end = bounds.get(index + 1).map_or(u64::MAX, |next| next - 1);
            self.push(first, start, end, *rule);
        }
    }

    /// Gives back what growing has taken too much.
    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Adds a piece, or makes the last one longer; pieces before `first` are of other names.
    fn push(&mut self, first: usize, lo: u64, hi: u64, rule: u32) {
        let is_same_name = self.len() > first;
        match self.0.last_mut().filter(|_| is_same_name) {
            Some(last) if last.rule == rule && last.hi.checked_add(1) == Some(lo) => last.hi = hi,
            _ => self.0.push(Piece { lo, hi, rule }),
        }
    }
}
