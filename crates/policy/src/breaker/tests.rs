use super::*;

mod random;

/// Half of the range: no jitter.
const MIDDLE: u64 = 1 << 63;

fn settings() -> BreakerSettings {
    BreakerSettings {
        ramp: Duration::ZERO,
        ..BreakerSettings::default()
    }
}

fn rate_settings(minimum: u32) -> BreakerSettings {
    BreakerSettings {
        consecutive: 0,
        rate: Some(FailureRate {
            share: 0.5,
            window: Duration::from_secs(10),
            minimum,
        }),
        ..settings()
    }
}

/// One call at `now` that comes to `verdict`.
#[track_caller]
fn call(breaker: &mut Breaker, now: u64, verdict: Verdict) -> Option<Transition> {
    let pass = breaker.reserve(now, 0).unwrap();
    breaker.settle(pass, verdict, None, now, MIDDLE)
}

/// Fails five times at `now`.
#[track_caller]
fn open(breaker: &mut Breaker, now: u64) {
    let last = (0..5).map(|_| call(breaker, now, Verdict::Failure)).last();
    assert!(matches!(last, Some(Some(Transition::Opened(_)))));
}

#[test]
fn failures_in_a_row_open_it() {
    let mut breaker = Breaker::new(settings());
    for _ in 0..4 {
        assert_eq!(call(&mut breaker, 0, Verdict::Failure), None);
    }
    let span = Duration::from_secs(30);
    assert_eq!(
        call(&mut breaker, 0, Verdict::Failure),
        Some(Transition::Opened(span))
    );
    assert_eq!(breaker.state(0), BreakerState::Open { retry_after: span });
    assert_eq!(
        breaker.check(29_000),
        Err(Refusal::BreakerOpen {
            retry_after: Duration::from_secs(1)
        })
    );
}

#[test]
fn a_success_ends_the_row() {
    let mut breaker = Breaker::new(settings());
    for _ in 0..100 {
        for _ in 0..4 {
            assert_eq!(call(&mut breaker, 0, Verdict::Failure), None);
        }
        assert_eq!(call(&mut breaker, 0, Verdict::Success), None);
    }
}

#[test]
fn neutral_and_soft_outcomes_leave_the_row_alone() {
    let mut breaker = Breaker::new(settings());
    for _ in 0..4 {
        assert_eq!(call(&mut breaker, 0, Verdict::Failure), None);
        assert_eq!(call(&mut breaker, 0, Verdict::Neutral), None);
        assert_eq!(call(&mut breaker, 0, Verdict::Soft), None);
    }
    assert!(call(&mut breaker, 0, Verdict::Failure).is_some());
}

#[test]
fn a_successful_probe_closes_it() {
    let mut breaker = Breaker::new(settings());
    open(&mut breaker, 0);
    assert_eq!(breaker.state(30_000), BreakerState::HalfOpen);
    let probe = breaker.reserve(30_000, 0).unwrap();
    assert!(probe.is_probe());
    assert_eq!(breaker.reserve(30_000, 0).unwrap_err(), Refusal::ProbeTaken);
    assert_eq!(
        breaker.settle(probe, Verdict::Success, None, 30_100, MIDDLE),
        Some(Transition::Closed)
    );
    assert_eq!(breaker.state(30_100), BreakerState::Closed);
    assert!(!breaker.reserve(30_100, 0).unwrap().is_probe());
}

#[test]
fn failed_probes_double_the_open_time_up_to_the_cap() {
    let mut breaker = Breaker::new(settings());
    open(&mut breaker, 0);
    let mut now = 30_000;
    let mut spans = Vec::new();
    for _ in 0..5 {
        let Some(Transition::Opened(span)) = call(&mut breaker, now, Verdict::Failure) else {
            panic!("a failed probe opens");
        };
        spans.push(span.as_secs());
        now += millis(span);
    }
    assert_eq!(spans, [60, 120, 240, 300, 300]);
}

#[test]
fn recovery_ends_the_row_of_openings() {
    let mut breaker = Breaker::new(settings());
    open(&mut breaker, 0);
    assert!(call(&mut breaker, 30_000, Verdict::Failure).is_some());
    assert_eq!(
        call(&mut breaker, 90_000, Verdict::Success),
        Some(Transition::Closed)
    );
    open(&mut breaker, 90_000);
    assert!(breaker.check(120_000).is_ok());
}

#[test]
fn a_cancelled_probe_frees_its_place() {
    let mut breaker = Breaker::new(settings());
    open(&mut breaker, 0);
    for _ in 0..3 {
        assert_eq!(call(&mut breaker, 30_000, Verdict::Neutral), None);
        assert_eq!(breaker.state(30_000), BreakerState::HalfOpen);
    }
    assert!(breaker.reserve(30_000, 0).unwrap().is_probe());
}

#[test]
fn as_many_probes_as_configured_are_let_through() {
    let mut breaker = Breaker::new(BreakerSettings {
        probes: 2,
        ..settings()
    });
    open(&mut breaker, 0);
    let first = breaker.reserve(30_000, 0).unwrap();
    let second = breaker.reserve(30_000, 0).unwrap();
    assert_eq!(breaker.check(30_000), Err(Refusal::ProbeTaken));
    assert_eq!(
        breaker.settle(first, Verdict::Success, None, 30_000, 0),
        Some(Transition::Closed)
    );
    assert_eq!(
        breaker.settle(second, Verdict::Failure, None, 30_000, 0),
        None,
        "the other probe is of before"
    );
}

#[test]
fn what_began_before_a_transition_is_ignored_after_it() {
    let mut breaker = Breaker::new(settings());
    let slow = breaker.reserve(0, 0).unwrap();
    let slower = breaker.reserve(0, 0).unwrap();
    open(&mut breaker, 0);
    assert_eq!(breaker.settle(slow, Verdict::Success, None, 1, 0), None);
    assert!(breaker.check(1).is_err(), "a late success does not close");
    let probe = breaker.reserve(30_000, 0).unwrap();
    assert_eq!(
        breaker.settle(slower, Verdict::Failure, None, 30_000, 0),
        None,
        "a late failure is not the probe's"
    );
    assert_eq!(
        breaker.settle(probe, Verdict::Success, None, 30_000, 0),
        Some(Transition::Closed)
    );
}

#[test]
fn it_stays_open_as_long_as_the_upstream_asks_up_to_the_cap() {
    let opened = |asked| {
        let mut breaker = Breaker::new(BreakerSettings {
            consecutive: 1,
            ..settings()
        });
        let pass = breaker.reserve(0, 0).unwrap();
        breaker.settle(
            pass,
            Verdict::Failure,
            Some(Duration::from_secs(asked)),
            0,
            MIDDLE,
        )
    };
    let span = |seconds| Some(Transition::Opened(Duration::from_secs(seconds)));
    assert_eq!(opened(1), span(30));
    assert_eq!(opened(77), span(77));
    assert_eq!(opened(100_000), span(300));
}

#[test]
fn a_share_of_failures_opens_it() {
    let mut breaker = Breaker::new(rate_settings(20));
    for step in 0..19 {
        let verdict = if step % 2 == 0 {
            Verdict::Failure
        } else {
            Verdict::Success
        };
        assert_eq!(call(&mut breaker, step * 100, verdict), None, "{step}");
    }
    assert!(
        call(&mut breaker, 1_900, Verdict::Success).is_some(),
        "the minimum may be reached by a success"
    );
}

#[test]
fn soft_outcomes_count_for_the_share() {
    let mut breaker = Breaker::new(rate_settings(2));
    assert_eq!(call(&mut breaker, 0, Verdict::Soft), None);
    assert!(call(&mut breaker, 0, Verdict::Soft).is_some());
}

#[test]
fn the_window_forgets_exactly_by_bucket() {
    let mut breaker = Breaker::new(rate_settings(10));
    for _ in 0..9 {
        assert_eq!(call(&mut breaker, 0, Verdict::Failure), None);
    }
    assert_eq!(
        call(&mut breaker, 10_000, Verdict::Failure),
        None,
        "the first bucket has left the window"
    );
    for _ in 0..8 {
        assert_eq!(call(&mut breaker, 19_999, Verdict::Failure), None);
    }
    assert!(
        call(&mut breaker, 19_999, Verdict::Failure).is_some(),
        "the bucket of 10,000 is still in it"
    );
}

#[test]
fn a_long_rest_empties_the_window() {
    let mut breaker = Breaker::new(rate_settings(10));
    for _ in 0..9 {
        assert_eq!(call(&mut breaker, 0, Verdict::Failure), None);
    }
    assert_eq!(call(&mut breaker, u64::MAX, Verdict::Failure), None);
    assert_eq!(
        call(&mut breaker, 0, Verdict::Failure),
        None,
        "a clock that lags counts for now"
    );
}

#[test]
fn after_recovery_a_growing_share_passes() {
    let mut breaker = Breaker::new(BreakerSettings::default());
    open(&mut breaker, 0);
    assert!(call(&mut breaker, 30_000, Verdict::Success).is_some());
    let passes = |breaker: &mut Breaker, now: u64| {
        (0..100_u64)
            .filter(|step| {
                let random = (u64::MAX / 100) * step;
                match breaker.reserve(now, random) {
                    Ok(pass) => {
                        assert_eq!(breaker.settle(pass, Verdict::Success, None, now, 0), None);
                        true
                    }
                    Err(refusal) => {
                        let left = Duration::from_millis(40_000 - now);
                        assert_eq!(refusal, Refusal::Recovering { retry_after: left });
                        false
                    }
                }
            })
            .count()
    };
    assert!((10..=11).contains(&passes(&mut breaker, 30_000)));
    assert!((50..=51).contains(&passes(&mut breaker, 35_000)));
    assert!((90..=91).contains(&passes(&mut breaker, 39_000)));
    assert_eq!(passes(&mut breaker, 40_000), 100);
}

#[test]
fn a_relapse_within_the_ramp_continues_the_row() {
    let mut breaker = Breaker::new(BreakerSettings::default());
    open(&mut breaker, 0);
    assert!(call(&mut breaker, 30_000, Verdict::Success).is_some());
    open(&mut breaker, 39_999);
    assert!(breaker.check(39_999 + 59_999).is_err(), "60 s, not 30 s");
    assert!(call(&mut breaker, 39_999 + 60_000, Verdict::Success).is_some());
    open(&mut breaker, 110_000);
    assert!(breaker.check(140_000).is_ok(), "30 s again");
}
