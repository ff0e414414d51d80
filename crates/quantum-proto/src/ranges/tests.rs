//! Ranges against a naive set.

use std::collections::BTreeSet;

use super::*;
use crate::chance::Random;

/// The ranges of a naive set.
fn ranges(naive: &BTreeSet<u64>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in naive {
        match ranges.last_mut() {
            Some(last) if last.1 + 1 == *number => last.1 = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    ranges
}

#[test]
fn every_operation_agrees_with_a_naive_set() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let (mut set, mut naive) = (RangeSet::new(usize::MAX), BTreeSet::new());
        let span = 4 + random.below(60);
        for _ in 0..200 {
            let number = random.below(span);
            match random.below(8) {
                0..=3 => {
                    let inserted = set.insert(number);
                    let new = naive.insert(number);
                    assert_eq!(inserted == Inserted::New, new, "seed {seed}");
                }
                4..=5 => {
                    let high = number + random.below(9);
                    let mut added = Vec::new();
                    set.insert_range(number, high, |low, high| added.extend(low..=high));
                    let new: Vec<u64> = (number..=high).filter(|it| naive.insert(*it)).collect();
                    assert_eq!(added, new, "seed {seed}");
                }
                6 => {
                    let bound = random.below(span / 4);
                    set.remove_below(bound);
                    naive.retain(|it| *it >= bound);
                }
                _ => assert_eq!(set.contains(number), naive.contains(&number), "seed {seed}"),
            }
            assert_eq!(
                set.iter().collect::<Vec<_>>(),
                ranges(&naive),
                "seed {seed}"
            );
            assert_eq!(set.first(), ranges(&naive).first().copied());
            assert_eq!(set.last(), ranges(&naive).last().copied());
        }
    }
}

#[test]
fn full_set_takes_what_needs_no_new_range() {
    let mut set = RangeSet::new(2);
    assert_eq!(set.insert(10), Inserted::New);
    assert_eq!(set.insert(20), Inserted::New);
    assert_eq!(set.insert(30), Inserted::Full);
    assert_eq!(set.insert(15), Inserted::Full);
    assert_eq!(set.insert(5), Inserted::Full);
    assert_eq!(set.insert(11), Inserted::New);
    assert_eq!(set.insert(19), Inserted::New);
    assert_eq!(set.insert(20), Inserted::Known);
    assert_eq!(set.iter().collect::<Vec<_>>(), [(10, 11), (19, 20)]);
    assert_eq!(set.pop_lowest(), Some((10, 11)));
    assert_eq!(set.insert(30), Inserted::New);
}

#[test]
fn full_set_forgets_its_lowest_range_for_another() {
    let mut set = RangeSet::new(2);
    for low in [10, 20, 30] {
        set.insert_range(low, low + 1, |_, _| ());
    }
    assert_eq!(set.iter().collect::<Vec<_>>(), [(20, 21), (30, 31)]);
}

#[test]
fn ends_of_the_range_do_not_overflow() {
    let mut set = RangeSet::new(8);
    assert_eq!(set.insert(u64::MAX), Inserted::New);
    assert_eq!(set.insert(u64::MAX - 1), Inserted::New);
    assert_eq!(set.insert(0), Inserted::New);
    let mut added = Vec::new();
    set.insert_range(0, u64::MAX, |low, high| added.push((low, high)));
    assert_eq!(added, [(1, u64::MAX - 2)]);
    set.insert_range(0, u64::MAX, |_, _| panic!("all is known"));
    set.insert_range(5, 4, |_, _| panic!("nothing is empty"));
    assert_eq!(set.len(), 1);
    set.remove_below(u64::MAX);
    assert_eq!(set.first(), Some((u64::MAX, u64::MAX)));
    assert!(!set.is_empty());
}
