use super::*;

fn admitted(rate: &Rate, line: &mut TokenLine, now: u64, calls: u32) -> u32 {
    (0..calls)
        .map(|_| u32::from(rate.take(line, now).is_ok()))
        .sum()
}

#[test]
fn a_burst_then_the_rate() {
    let rate = Rate::new(10.0, 5).unwrap();
    let mut line = TokenLine::default();
    assert_eq!(admitted(&rate, &mut line, 0, 100), 5);
    assert_eq!(admitted(&rate, &mut line, 99, 100), 0);
    assert_eq!(admitted(&rate, &mut line, 100, 100), 1);
    assert_eq!(admitted(&rate, &mut line, 350, 100), 2);
}

#[test]
fn the_wait_that_is_named_is_enough_and_not_too_long() {
    let rate = Rate::new(10.0, 1).unwrap();
    let mut line = TokenLine::default();
    rate.take(&mut line, 1_000).unwrap();
    assert_eq!(rate.take(&mut line, 1_040), Err(Duration::from_millis(60)));
    assert!(rate.take(&mut line, 1_099).is_err());
    assert!(rate.take(&mut line, 1_100).is_ok());
}

#[test]
fn over_a_long_time_the_rate_is_exact() {
    let rate = Rate::new(1_000.0, 2_000).unwrap();
    let mut line = TokenLine::default();
    let total: u32 = (0..10_000)
        .map(|now| admitted(&rate, &mut line, now, 5))
        .sum();
    assert_eq!(total, 2_000 + 9_999);
}

#[test]
fn rest_does_not_save_more_than_the_burst() {
    let rate = Rate::new(10.0, 5).unwrap();
    let mut line = TokenLine::default();
    assert_eq!(admitted(&rate, &mut line, 1_000_000, 100), 5);
}

#[test]
fn a_clock_that_lags_admits_no_more() {
    let rate = Rate::new(10.0, 1).unwrap();
    let mut line = TokenLine::default();
    rate.take(&mut line, 1_000).unwrap();
    assert!(rate.take(&mut line, 0).is_err());
}

#[test]
fn the_end_of_time_does_not_overflow() {
    let rate = Rate::new(0.000_01, u32::MAX).unwrap();
    let mut line = TokenLine::default();
    assert!(rate.take(&mut line, u64::MAX).is_ok());
    assert!(rate.take(&mut line, u64::MAX).is_ok());
}

#[test]
fn nonsense_is_refused() {
    for per_second in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e7] {
        assert!(Rate::new(per_second, 1).is_err());
    }
    assert!(Rate::new(1.0, 0).is_err());
}

#[test]
fn keys_do_not_share() {
    let mut table = RateTable::new(Rate::new(1.0, 1).unwrap(), 10);
    assert!(table.take(&"a", 0).is_ok());
    assert!(table.take(&"b", 0).is_ok());
    assert!(table.take(&"a", 0).is_err());
    assert_eq!(table.len(), 2);
}

#[test]
fn beyond_the_cap_new_keys_share_one_line() {
    let mut table = RateTable::new(Rate::new(1.0, 1).unwrap(), 2);
    assert!(table.take(&1, 0).is_ok());
    assert!(table.take(&2, 0).is_ok());
    let extra = (3..1_000).filter(|key| table.take(key, 0).is_ok()).count();
    assert_eq!(extra, 1);
    assert_eq!(table.len(), 2);
    assert!(table.take(&1, 1_000).is_ok(), "known keys keep their own");
}

#[test]
fn idle_keys_make_room() {
    let mut table = RateTable::new(Rate::new(1.0, 1).unwrap(), 2);
    assert!(table.take(&1, 0).is_ok());
    assert!(table.take(&2, 500).is_ok());
    assert!(table.take(&3, 900).is_ok(), "by the shared line");
    assert!(table.take(&4, 1_000).is_ok(), "key 1 is idle by now");
    assert_eq!(table.len(), 2);
    assert!(table.take(&4, 1_000).is_err());
}

#[test]
fn sweeps_are_apart_however_many_keys_are_made_up() {
    let keys_max: u32 = 1_000;
    let mut table = RateTable::new(Rate::new(1.0, 1).unwrap(), 1_000);
    for key in 0..keys_max {
        assert!(table.take(&key, u64::from(key)).is_ok());
    }
    // From here on a key falls idle every millisecond; they make room together.
    let mut known = Vec::new();
    for now in 1_000..1_200 {
        let _by_the_shared_line = table.take(&(keys_max + now), u64::from(now));
        known.push(table.len());
    }
    let sweeps = known.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!(sweeps <= 2, "{sweeps}");
}
