use super::*;

/// Half of the range: no jitter.
const MIDDLE: u64 = 1 << 63;

#[test]
fn the_default_waits_are_one_two_four_seconds() {
    let retries = Retries::default();
    let waits: Vec<_> = (1..=4)
        .map(|made| retries.wait(made, None, MIDDLE))
        .collect();
    let seconds = |n| Some(Duration::from_secs(n));
    assert_eq!(waits, [seconds(1), seconds(2), seconds(4), None]);
}

#[test]
fn jitter_stays_within_its_share() {
    let retries = Retries::default();
    let least = retries.wait(2, None, 0).unwrap();
    let most = retries.wait(2, None, u64::MAX).unwrap();
    assert_eq!(least, Duration::from_millis(1_600));
    assert!(most > Duration::from_millis(2_399) && most <= Duration::from_millis(2_400));
}

#[test]
fn the_cap_holds_for_any_number_of_failures() {
    let backoff = Backoff::new(
        Duration::from_millis(1),
        100.0,
        Duration::from_secs(30),
        0.0,
    )
    .unwrap();
    assert_eq!(backoff.delay(u32::MAX, 0), Duration::from_secs(30));
    assert_eq!(backoff.delay(1, 0), Duration::from_millis(100));
}

#[test]
fn no_base_is_no_wait() {
    let backoff = Backoff::new(Duration::ZERO, 100.0, Duration::from_secs(1), 1.0).unwrap();
    assert_eq!(backoff.delay(u32::MAX, u64::MAX), Duration::ZERO);
}

#[test]
fn an_upstream_lengthens_the_wait_up_to_the_limit() {
    let retries = Retries::default();
    let wait = |after| retries.wait(1, Some(Duration::from_secs(after)), MIDDLE);
    assert_eq!(wait(0), Some(Duration::from_secs(1)));
    assert_eq!(wait(7), Some(Duration::from_secs(7)));
    assert_eq!(wait(1_000_000), Some(Duration::from_secs(300)));
}

#[test]
fn nonsense_is_refused() {
    let second = Duration::from_secs(1);
    let nonsense = [
        Backoff::new(second * 2, 2.0, second, 0.0),
        Backoff::new(second, 0.5, second, 0.0),
        Backoff::new(second, f64::NAN, second, 0.0),
        Backoff::new(second, f64::INFINITY, second, 0.0),
        Backoff::new(second, 2.0, second, 1.1),
        Backoff::new(second, 2.0, second, -0.1),
        Backoff::new(second, 2.0, Duration::MAX, 0.0),
    ];
    assert!(nonsense.iter().all(Result::is_err));
}
