use std::time::Duration;

use super::Loss;
use crate::time::Time;

#[test]
fn a_new_path_is_assumed_to_lose_some() {
    let loss = Loss::new();
    assert_eq!((loss.probability(), loss.burst()), (0.01, 1.0));
    assert!(!loss.is_over(Time::after(Duration::from_secs(3_600))));
}

#[test]
fn estimates_settle_at_the_truth() {
    let mut loss = Loss::new();
    for packet in 0..20_000 {
        // Two of forty, in a row.
        loss.on_fate(Time::ZERO, packet % 40 < 2);
    }
    assert!((0.04..0.07).contains(&loss.probability()), "{loss:?}");
    assert!((1.9..2.1).contains(&loss.burst()), "{loss:?}");
}

#[test]
fn a_path_that_turns_bad_is_noticed_within_dozens_of_packets() {
    let mut loss = Loss::new();
    for _ in 0..10_000 {
        loss.on_fate(Time::ZERO, false);
    }
    assert!(loss.probability() < 1e-4);
    for packet in 0..60 {
        loss.on_fate(Time::ZERO, packet % 10 == 0);
    }
    assert!(loss.probability() > 0.0316, "{loss:?}");
}

#[test]
fn loss_is_over_after_ten_clean_seconds_and_back_with_the_first_one() {
    let mut loss = Loss::new();
    let second = |at| Time::after(Duration::from_secs(at));
    for _ in 0..999 {
        loss.on_fate(second(5), false);
    }
    assert!(!loss.is_over(second(60)), "too few to tell");
    loss.on_fate(second(6), false);
    assert!(!loss.is_over(second(14)));
    assert!(loss.is_over(second(15)));
    loss.on_fate(second(16), true);
    assert!(!loss.is_over(second(100)));
}
