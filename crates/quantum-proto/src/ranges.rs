//! Sets of numbers, kept as ranges.

use std::collections::VecDeque;

/// A set of numbers, kept as ranges from the lowest up; never more ranges than its limit.
///
/// Appending at the top is cheap, and so is everything near either end; a range in the middle
/// costs at most half the limit. What happens at the limit is the caller's choice: [`insert`]
/// refuses, and [`pop_lowest`] makes room.
///
/// [`insert`]: Self::insert
/// [`pop_lowest`]: Self::pop_lowest
#[derive(Debug, Clone)]
pub struct RangeSet {
    /// First and last of each range, ascending, never touching each other.
    ranges: VecDeque<(u64, u64)>,
    limit: usize,
}

/// What became of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is in the set now.
    New,
    /// It was in the set before.
    Known,
    /// It would be a range of its own, and there are as many as the limit allows.
    Full,
}

impl RangeSet {
    /// An empty set of at most `limit` ranges, at least one.
    pub fn new(limit: usize) -> Self {
        Self {
            ranges: VecDeque::new(),
            limit: limit.max(1),
        }
    }

    /// Adds one number.
    pub fn insert(&mut self, number: u64) -> Inserted {
        // The first range that begins above the number; what lies before it may hold it.
        let above = self.first_above(number);
        let below = above.checked_sub(1);
        if let Some(range) = below.and_then(|below| self.ranges.get_mut(below)) {
            if number <= range.1 {
                return Inserted::Known;
            }
            if number - range.1 == 1 {
                range.1 = number;
                self.join(above);
                return Inserted::New;
            }
        }
        let full = self.ranges.len() >= self.limit;
        match self.ranges.get_mut(above) {
            Some(range) if range.0 - number == 1 => range.0 = number,
            Some(_) | None if full => return Inserted::Full,
            Some(_) | None => self.ranges.insert(above, (number, number)),
        }
        Inserted::New
    }

    /// Adds `low` to `high`, both included, and tells `added` each part that was not in the set
    /// before, from the lowest up. At the limit the lowest range is forgotten.
    pub fn insert_range(&mut self, low: u64, high: u64, mut added: impl FnMut(u64, u64)) {
        if low > high {
            return;
        }
        // The ranges that touch the new one, which they and it become.
        let first = self
            .ranges
            .partition_point(|range| range.1.saturating_add(1) < low);
        let (mut whole, mut end, mut next) = ((low, high), first, Some(low));
        while let Some((start, last)) = self.ranges.get(end).copied() {
            if start > high.saturating_add(1) {
                break;
            }
            if let Some(next) = next.filter(|next| *next < start) {
                added(next, high.min(start - 1));
            }
            next = next.and_then(|next| Some(next.max(last.checked_add(1)?)));
            whole = (whole.0.min(start), whole.1.max(last));
            end += 1;
        }
        if let Some(next) = next.filter(|next| *next <= high) {
            added(next, high);
        }
        if first == end {
            self.ranges.insert(first, whole);
            if self.ranges.len() > self.limit {
                self.ranges.pop_front();
            }
        } else {
            self.ranges[first] = whole;
            if end - first > 1 {
                self.ranges.drain(first + 1..end);
            }
        }
    }

    /// Forgets all numbers below `bound`.
    pub fn remove_below(&mut self, bound: u64) {
        while let Some(range) = self.ranges.front_mut() {
            if range.1 >= bound {
                range.0 = range.0.max(bound);
                return;
            }
            self.ranges.pop_front();
        }
    }

    /// Takes the lowest range, both ends included.
    pub fn pop_lowest(&mut self) -> Option<(u64, u64)> {
        self.ranges.pop_front()
    }

    /// Whether the number is in the set.
    pub fn contains(&self, number: u64) -> bool {
        let below = self.first_above(number).checked_sub(1);
        below.is_some_and(|below| number <= self.ranges[below].1)
    }

    /// The ranges from the lowest up, both ends included.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + Clone + '_ {
        self.ranges.iter().copied()
    }

    /// The lowest range.
    pub fn first(&self) -> Option<(u64, u64)> {
        self.ranges.front().copied()
    }

    /// The highest range.
    pub fn last(&self) -> Option<(u64, u64)> {
        self.ranges.back().copied()
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The index of the first range that begins above the number.
    fn first_above(&self, number: u64) -> usize {
        match self.ranges.back() {
            Some(last) if last.0 <= number => self.ranges.len(),
            Some(_) => self.ranges.partition_point(|range| range.0 <= number),
            None => 0,
        }
    }

    /// Joins the range at the index with the one before, if they touch.
    fn join(&mut self, index: usize) {
        if let Some((start, last)) = self.ranges.get(index).copied()
            && let Some(before) = self.ranges.get_mut(index.saturating_sub(1))
            && start - before.1 == 1
        {
            before.1 = last;
            self.ranges.remove(index);
        }
    }
}

#[cfg(test)]
mod tests;
