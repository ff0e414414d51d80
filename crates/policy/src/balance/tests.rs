use super::*;
use crate::chance::Chance;
use crate::deadline::millis;

fn ok(ms: u64) -> Outcome {
    outcome(ms, Verdict::Success)
}

fn failed() -> Outcome {
    outcome(1, Verdict::Failure)
}

fn outcome(ms: u64, verdict: Verdict) -> Outcome {
    Outcome {
        elapsed: Duration::from_millis(ms),
        verdict,
        after: None,
    }
}

/// Calls one after the other, one per millisecond from `from` on; how many each endpoint
/// got.
fn calls(
    balance: &mut Balance,
    chance: &mut Chance,
    from: u64,
    count: u64,
    mut answer: impl FnMut(usize) -> Outcome,
) -> Vec<u64> {
    let mut got = vec![0; balance.len()];
    for now in from..from + count {
        let index = balance.pick(now, chance.draw(), |_| true).unwrap();
        balance.began(index);
        balance.ended(index, now, answer(index));
        got[index] += 1;
    }
    got
}

fn eject(balance: &mut Balance, index: usize, now: u64) -> Option<Ejection> {
    (0..5)
        .filter_map(|_| {
            balance.began(index);
            balance.ended(index, now, failed())
        })
        .last()
}

#[test]
fn one_endpoint_is_always_chosen_if_admitted() {
    let mut balance = Balance::new(&[7]);
    for random in [0, u64::MAX, 1 << 40] {
        assert_eq!(balance.pick(0, random, |_| true), Some(0));
    }
    assert_eq!(eject(&mut balance, 0, 0), None);
    assert_eq!(balance.pick(0, 0, |_| true), Some(0));
    assert_eq!(balance.pick(0, 0, |_| false), None);
    assert_eq!(Balance::new(&[]).pick(0, 0, |_| true), None);
}

#[test]
fn endpoints_at_rest_are_chosen_by_weight() {
    let mut balance = Balance::new(&[1, 9]);
    let got = calls(&mut balance, &mut Chance(1), 0, 20_000, |_| ok(5));
    assert!((1_700..2_300).contains(&got[0]), "{got:?}");
}

#[test]
fn busy_endpoints_fill_by_weight() {
    let mut balance = Balance::new(&[1, 3]);
    let mut chance = Chance(2);
    for _ in 0..400 {
        let index = balance.pick(0, chance.draw(), |_| true).unwrap();
        balance.began(index);
    }
    let pending = balance.state(0, 0).unwrap().pending;
    assert!((85..115).contains(&pending), "{pending}");
}

#[test]
fn weight_zero_is_a_spare() {
    let mut balance = Balance::new(&[1, 0, 1]);
    let got = calls(&mut balance, &mut Chance(3), 0, 1_000, |_| ok(5));
    assert_eq!(got[1], 0);
    assert_eq!(balance.pick(0, 0, |index| index == 1), Some(1));
    let mut all_zero = Balance::new(&[0, 0]);
    let got = calls(&mut all_zero, &mut Chance(3), 0, 1_000, |_| ok(5));
    assert!(got.iter().all(|got| *got > 400), "{got:?}");
}

#[test]
fn the_slower_one_gets_what_the_draw_leaves_it() {
    let mut balance = Balance::new(&[1, 1, 1]);
    let slow = |index| ok(if index == 0 { 100 } else { 2 });
    let mut chance = Chance(4);
    calls(&mut balance, &mut chance, 0, 1_000, slow);
    let got = calls(&mut balance, &mut chance, 1_000, 9_000, slow);
    // Drawn twice: one ninth.
    assert!((850..1_150).contains(&got[0]), "{got:?}");
}

#[test]
fn a_slow_call_counts_at_once_and_wears_off() {
    let mut balance = Balance::new(&[1, 1]);
    balance.answered(0, 0, ok(10));
    balance.answered(0, 1, ok(500));
    let latency = |balance: &Balance, now| balance.state(0, now).unwrap().latency.unwrap();
    assert_eq!(latency(&balance, 1), Duration::from_millis(500));
    let later = latency(&balance, 10_001).as_millis();
    assert!((180..190).contains(&later), "{later}");
    balance.answered(0, 60_000, ok(10));
    let fresh = latency(&balance, 60_000).as_millis();
    assert!((10..13).contains(&fresh), "{fresh}");
}

#[test]
fn a_cancelled_call_raises_the_latency_and_never_lowers_it() {
    let mut balance = Balance::new(&[1, 1]);
    balance.answered(0, 0, ok(50));
    balance.answered(0, 0, outcome(1, Verdict::Neutral));
    let latency = |balance: &Balance| balance.state(0, 0).unwrap().latency.unwrap();
    assert_eq!(latency(&balance), Duration::from_millis(50));
    balance.answered(0, 0, outcome(900, Verdict::Neutral));
    assert_eq!(latency(&balance), Duration::from_millis(900));
}

#[test]
fn a_fast_failure_does_not_attract() {
    let mut balance = Balance::new(&[1, 1]);
    let mut chance = Chance(5);
    calls(&mut balance, &mut chance, 0, 100, |_| ok(20));
    balance.answered(0, 100, failed());
    let got: Vec<_> = (0..1_000)
        .map(|_| balance.pick(100, chance.draw(), |_| true).unwrap())
        .collect();
    let failing = got.iter().filter(|index| **index == 0).count();
    assert!((200..300).contains(&failing), "only drawn twice: {failing}");
}

#[test]
fn successes_forgive_a_failure() {
    let mut balance = Balance::new(&[1, 1]);
    let mut chance = Chance(6);
    calls(&mut balance, &mut chance, 0, 100, |_| ok(20));
    balance.answered(0, 100, failed());
    let got = calls(&mut balance, &mut chance, 100, 1_000, |_| ok(20));
    assert!(got[0] > 400, "{got:?}");
}

#[test]
fn who_asks_for_a_pause_is_avoided_for_as_long() {
    let mut balance = Balance::new(&[1, 1]);
    let busy = Outcome {
        after: Some(Duration::from_secs(60)),
        ..outcome(1, Verdict::Soft)
    };
    balance.answered(0, 0, busy);
    let share = |balance: &mut Balance, now| {
        let mut chance = Chance(7);
        (0..1_000)
            .filter(|_| balance.pick(now, chance.draw(), |_| true) == Some(0))
            .count()
    };
    assert!(share(&mut balance, 59_000) < 300);
    assert!(share(&mut balance, 60_000) > 400);
}

#[test]
fn failures_in_a_row_eject_and_the_ramp_brings_back() {
    let mut balance = Balance::new(&[1, 1, 1]);
    let ejection = eject(&mut balance, 0, 0).unwrap();
    assert_eq!(ejection.length, Duration::from_secs(30));
    let mut chance = Chance(8);
    let got = calls(&mut balance, &mut chance, 0, 29_999, |_| ok(1));
    assert_eq!(got[0], 0);
    let share = |balance: &mut Balance, chance: &mut Chance, from| {
        calls(balance, chance, from, 1_000, |_| ok(1))[0]
    };
    let begin = share(&mut balance, &mut chance, 30_000);
    let middle = share(&mut balance, &mut chance, 35_000);
    let end = share(&mut balance, &mut chance, 45_000);
    assert!((20..90).contains(&begin), "{begin}");
    assert!((170..270).contains(&middle), "{middle}");
    assert!((280..390).contains(&end), "{end}");
}

#[test]
fn ejections_in_a_row_grow_up_to_five_minutes() {
    let mut balance = Balance::new(&[1, 1]);
    let mut now = 0;
    let mut lengths = Vec::new();
    for _ in 0..12 {
        let ejection = eject(&mut balance, 0, now).unwrap();
        lengths.push(ejection.length.as_secs());
        now += millis(ejection.length);
    }
    assert_eq!(
        lengths,
        [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]
    );
    now += 300_000;
    let ejection = eject(&mut balance, 0, now).unwrap();
    assert_eq!((ejection.row, ejection.length.as_secs()), (1, 30));
}

#[test]
fn at_most_half_are_out() {
    let mut balance = Balance::new(&[1; 5]);
    let ejected: Vec<_> = (0..5)
        .map(|index| eject(&mut balance, index, 0).is_some())
        .collect();
    assert_eq!(ejected, [true, true, false, false, false]);
}

#[test]
fn if_only_the_ejected_are_admitted_they_are_used() {
    let mut balance = Balance::new(&[1, 1]);
    assert!(eject(&mut balance, 0, 0).is_some());
    assert_eq!(balance.pick(1, 0, |_| true), Some(1));
    assert_eq!(balance.pick(1, 0, |index| index == 0), Some(0));
    assert_eq!(balance.pick(1, 0, |_| false), None);
}

#[test]
fn what_an_ejected_endpoint_answers_ejects_nobody() {
    let mut balance = Balance::new(&[1, 1, 1, 1]);
    assert!(eject(&mut balance, 0, 0).is_some());
    assert_eq!(eject(&mut balance, 0, 100), None);
}

#[test]
fn one_far_behind_the_others_is_ejected() {
    let mut balance = Balance::new(&[1, 1, 1]);
    let mut ejection = None;
    for step in 0..40_u64 {
        for index in 0..3 {
            let fails = index == 0 && step % 2 == 0;
            let outcome = if fails { failed() } else { ok(5) };
            ejection = ejection.or(balance.answered(index, step, outcome));
        }
    }
    assert!(ejection.unwrap().by_comparison);
    assert!(balance.state(0, 40).unwrap().ejected.is_some());
}

#[test]
fn if_all_are_as_bad_none_is_ejected() {
    let mut balance = Balance::new(&[1, 1, 1]);
    for step in 0..400_u64 {
        for index in 0..3 {
            let outcome = if step % 2 == 0 { failed() } else { ok(5) };
            assert_eq!(balance.answered(index, step, outcome), None);
        }
    }
}

#[test]
fn a_recovered_breaker_begins_a_ramp() {
    let mut balance = Balance::new(&[1, 1]);
    let mut chance = Chance(9);
    calls(&mut balance, &mut chance, 0, 100, |_| ok(5));
    balance.recovered(0, 100);
    let got = calls(&mut balance, &mut chance, 100, 1_000, |_| ok(5));
    assert!(got[0] < 200, "{got:?}");
}

#[test]
fn a_new_endpoint_ramps_and_the_others_are_remembered() {
    let mut old = Balance::new(&[1, 1]);
    old.began(1);
    old.answered(1, 0, ok(70));
    assert!(eject(&mut old, 0, 0).is_some());
    let mut new = old.renewed(&[1, 1, 2], &[Some(1), None, Some(0)], 10);
    let state = new.state(0, 10).unwrap();
    assert_eq!(state.pending, 0);
    assert!(state.latency.is_some());
    assert!(new.state(2, 10).unwrap().ejected.is_some());
    let got = calls(&mut new, &mut Chance(10), 10, 1_000, |_| ok(70));
    assert!(got[1] < 200 && got[2] == 0, "{got:?}");
}

/// Whatever happens, a choice is admitted, and who is out is chosen only for want of others.
#[test]
fn random_histories_keep_the_invariants() {
    for seed in 0..100 {
        let mut chance = Chance(seed);
        let count = 1 + usize::try_from(chance.below(6)).unwrap();
        let weights: Vec<u32> = (0..count)
            .map(|_| u32::try_from(chance.below(4)).unwrap())
            .collect();
        let mut balance = Balance::new(&weights);
        let mut under_way: Vec<usize> = Vec::new();
        let mut now = 0;
        for step in 0..2_000 {
            now += chance.below(400);
            let mask = chance.draw() | chance.draw();
            let admits = |index: usize| mask >> index & 1 == 1;
            let at = format!("seed {seed} step {step}");
            let out = |index| balance.state(index, now).unwrap().ejected.is_some();
            let all_out: Vec<bool> = (0..count).map(out).collect();
            let number_out = all_out.iter().filter(|out| **out).count();
            assert!(number_out * 2 <= count, "{at}");
            match balance.pick(now, chance.draw(), admits) {
                None => assert!(!(0..count).any(admits), "{at}"),
                Some(index) => {
                    assert!(admits(index), "{at}");
                    let others = (0..count).any(|other| admits(other) && !all_out[other]);
                    assert!(!(all_out[index] && others), "{at}");
                    balance.began(index);
                    under_way.push(index);
                }
            }
            if !under_way.is_empty() && chance.below(2) == 0 {
                let at = usize::try_from(chance.below(under_way.len() as u64)).unwrap();
                let index = under_way.swap_remove(at);
                let verdict = match chance.below(5) {
                    0 | 1 => Verdict::Failure,
                    2 => Verdict::Soft,
                    3 => Verdict::Neutral,
                    _ => Verdict::Success,
                };
                balance.ended(index, now, outcome(chance.below(500), verdict));
            }
        }
        let pending: u32 = (0..count)
            .map(|index| balance.state(index, now).unwrap().pending)
            .sum();
        assert_eq!(pending as usize, under_way.len(), "seed {seed}");
    }
}
