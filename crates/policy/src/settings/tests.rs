use std::time::Duration;

use super::*;
use crate::breaker::FailureRate;

#[test]
fn the_default_is_accepted() {
    assert!(Policy::new(Settings::default()).is_ok());
    let settings = Settings {
        retries: Retries::default(),
        breaker: Some(BreakerSettings::default()),
        ..Settings::default()
    };
    assert!(Policy::new(settings).is_ok());
}

#[test]
fn every_part_is_checked() {
    let share = |share| {
        Some(BreakerSettings {
            rate: Some(FailureRate {
                share,
                window: Duration::from_secs(10),
                minimum: 20,
            }),
            ..BreakerSettings::default()
        })
    };
    let mut cases = vec![Settings::default(); 7];
    cases[0].timeouts.total = Some(Duration::ZERO);
    cases[1].timeouts.per_try = Some(Duration::MAX);
    cases[2].retries.attempts = 1_001;
    cases[3].budget.share = f64::NAN;
    cases[4].concurrency.waiting_max = 1;
    cases[5].breaker = share(0.0);
    cases[6].breaker = share(1.5);
    let refused: Vec<_> = cases
        .into_iter()
        .map(|settings| Policy::new(settings).unwrap_err().setting)
        .collect();
    assert_eq!(
        refused,
        [
            "total timeout in seconds",
            "timeout per try in seconds",
            "retries",
            "budget share",
            "longest wait for a slot in seconds",
            "breaker failure share",
            "breaker failure share",
        ]
    );
}

#[test]
fn the_error_says_what_is_accepted() {
    let error = within("retries", 2_000.0, 0.0, 1_000.0).unwrap_err();
    assert_eq!(error.to_string(), "retries is 2000; accepted is 0 to 1000");
}
