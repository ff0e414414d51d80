use super::*;
use crate::breaker::BreakerSettings;
use crate::concurrency::ConcurrencySettings;
use crate::settings::Settings;

/// One call at once and one that queues, one call per second, open after one failure.
fn gate() -> Gate {
    Gate::new(&Policy::new(settings()).unwrap())
}

fn settings() -> Settings {
    Settings {
        concurrency: ConcurrencySettings {
            limit: 1,
            waiting_max: 1,
            wait_max: Duration::from_secs(1),
            ..ConcurrencySettings::default()
        },
        rate: Some(Rate::new(1.0, 1).unwrap()),
        breaker: Some(BreakerSettings {
            consecutive: 1,
            ramp: Duration::ZERO,
            ..BreakerSettings::default()
        }),
        ..Settings::default()
    }
}

#[track_caller]
fn admitted(entry: Entry) -> Pass {
    match entry {
        Entry::Admitted(Some(pass)) => pass,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(entry: Entry) -> Refusal {
    match entry {
        Entry::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn never(gate: &mut Gate, now: u64) -> Entry {
    gate.enter(now, Deadline::NEVER, 1 << 63)
}

#[test]
fn what_is_too_late_takes_nothing() {
    let mut gate = gate();
    let late = gate.enter(5, Deadline::at(5), 0);
    assert_eq!(refused(late), Refusal::DeadlinePassed);
    let _pass = admitted(never(&mut gate, 5));
}

#[test]
fn an_open_breaker_answers_before_slots_and_rate() {
    let mut gate = gate();
    let pass = admitted(never(&mut gate, 0));
    assert!(
        gate.settle(pass, Verdict::Failure, None, 0, 1 << 63)
            .is_some()
    );
    assert!(matches!(
        refused(never(&mut gate, 0)),
        Refusal::BreakerOpen { .. }
    ));
    gate.leave();
    assert!(matches!(
        refused(never(&mut gate, 1)),
        Refusal::BreakerOpen { .. }
    ));
}

#[test]
fn a_call_without_a_slot_spends_no_token() {
    let mut gate = gate();
    let _first = admitted(never(&mut gate, 0));
    assert!(matches!(never(&mut gate, 1_000), Entry::Waits));
    assert_eq!(refused(never(&mut gate, 1_000)), Refusal::Concurrency);
    gate.leave();
    assert!(gate.hand_on());
    assert!(gate.pass(1_000, Deadline::NEVER, 0).is_ok());
}

#[test]
fn a_call_that_the_rate_refuses_gives_its_slot_back() {
    let mut gate = gate();
    let _pass = admitted(never(&mut gate, 0));
    gate.leave();
    assert!(matches!(refused(never(&mut gate, 1)), Refusal::Rate { .. }));
    let state = gate.state(1);
    assert_eq!((state.in_flight, state.waiting), (0, 0));
}

#[test]
fn a_call_that_the_rate_refuses_takes_no_probe() {
    let mut gate = gate();
    let pass = admitted(never(&mut gate, 0));
    gate.leave();
    assert!(
        gate.settle(pass, Verdict::Failure, None, 0, 1 << 63)
            .is_some()
    );
    let probe = admitted(never(&mut gate, 30_000));
    gate.leave();
    assert!(
        gate.settle(probe, Verdict::Neutral, None, 30_000, 0)
            .is_none()
    );
    assert!(matches!(
        refused(never(&mut gate, 30_001)),
        Refusal::Rate { .. }
    ));
    assert!(admitted(never(&mut gate, 31_000)).is_probe());
}

#[test]
fn a_policy_without_limits_admits_everything() {
    let mut gate = Gate::new(&Policy::new(Settings::default()).unwrap());
    for _ in 0..1_000 {
        assert!(matches!(never(&mut gate, 0), Entry::Admitted(None)));
    }
    let state = gate.state(0);
    assert_eq!(
        (state.in_flight, state.breaker),
        (1_000, BreakerState::Closed)
    );
}

fn adopt(gate: &mut Gate, settings: Settings) {
    gate.adopt(&Policy::new(settings).unwrap());
}

#[test]
fn another_policy_leaves_calls_where_they_are() {
    let mut gate = gate();
    let _pass = admitted(never(&mut gate, 0));
    assert!(matches!(never(&mut gate, 0), Entry::Waits));
    adopt(
        &mut gate,
        Settings {
            rate: None,
            concurrency: ConcurrencySettings {
                limit: 2,
                ..settings().concurrency
            },
            ..settings()
        },
    );
    let state = gate.state(0);
    assert_eq!((state.limit, state.in_flight, state.waiting), (2, 1, 1));
    assert!(gate.hand_on());
}

#[test]
fn a_breaker_and_a_rate_that_stay_the_same_go_on() {
    let mut gate = gate();
    let pass = admitted(never(&mut gate, 0));
    let opened = gate.settle(pass, Verdict::Failure, None, 0, 1 << 63);
    assert!(opened.is_some());
    gate.leave();
    let mut other = settings();
    other.concurrency.limit = 9;
    adopt(&mut gate, other.clone());
    assert!(matches!(gate.state(1).breaker, BreakerState::Open { .. }));
    other.breaker = None;
    adopt(&mut gate, other);
    assert!(matches!(refused(never(&mut gate, 1)), Refusal::Rate { .. }));
}

#[test]
fn a_new_breaker_knows_no_pass_of_an_earlier_one() {
    let mut gate = gate();
    let early = admitted(never(&mut gate, 0));
    let without = Settings {
        breaker: None,
        ..settings()
    };
    let mut strict = settings();
    strict.breaker = Some(BreakerSettings {
        consecutive: 1,
        probes: 2,
        ..BreakerSettings::default()
    });
    adopt(&mut gate, without.clone());
    adopt(&mut gate, strict.clone());
    assert_eq!(gate.settle(early, Verdict::Failure, None, 0, 0), None);
    let late = gate.pass(5_000, Deadline::NEVER, 0).unwrap().unwrap();
    adopt(&mut gate, settings());
    adopt(&mut gate, without);
    adopt(&mut gate, strict);
    assert_eq!(gate.settle(late, Verdict::Failure, None, 5_000, 0), None);
    assert_eq!(gate.state(5_000).breaker, BreakerState::Closed);
}
