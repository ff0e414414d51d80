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
pub(super) struct Pieces {
    lo: Vec<u64>,
    hi: Vec<u64>,
    rule: Vec<u32>,
}

impl Pieces {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lo.len()
    }

    /// The rule among the pieces `first..end` that covers the number.
    pub(super) fn find(&self, first: usize, end: usize, number: u64) -> Option<u32> {
        let starts = self.lo.get(first..end)?;
        let after = starts.partition_point(|lo| *lo <= number);
        let at = first + after.checked_sub(1)?;
        (*self.hi.get(at)? >= number)
            .then(|| self.rule.get(at).copied())
            .flatten()
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
        self.lo.shrink_to_fit();
        self.hi.shrink_to_fit();
        self.rule.shrink_to_fit();
    }

    /// Adds a piece, or makes the last one longer; pieces before `first` are of other names.
    fn push(&mut self, first: usize, lo: u64, hi: u64, rule: u32) {
        let is_same_name = self.len() > first;
        if let (true, Some(last), Some(last_rule)) =
            (is_same_name, self.hi.last_mut(), self.rule.last())
            && *last_rule == rule
            && last.checked_add(1) == Some(lo)
        {
            *last = hi;
            return;
        }
        self.lo.push(lo);
        self.hi.push(hi);
        self.rule.push(rule);
    }
}
