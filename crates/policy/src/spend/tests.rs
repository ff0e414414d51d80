use std::collections::BTreeMap;

use super::*;
use crate::chance::Chance;

const MINUTE: u64 = 60_000;
const DAY: u64 = 86_400_000;
/// 2026-11-21 00:00 UTC.
const TODAY: u64 = 1_795_219_200_000;
const NO_LIMITS: SpendLimits = SpendLimits {
    tokens_per_minute: 0,
    tokens_per_day: 0,
    micro_cost_per_day: 0,
    micro_cost_per_month: 0,
};

fn amount(tokens: u64, micro_cost: u64) -> Amount {
    Amount { tokens, micro_cost }
}

fn per_minute(tokens: u64) -> SpendLimits {
    SpendLimits {
        tokens_per_minute: tokens,
        ..NO_LIMITS
    }
}

#[test]
fn what_is_reserved_counts_like_what_is_spent() {
    let mut ledger = Ledger::new(10);
    let limits = per_minute(100);
    let first = ledger.reserve(&"a", amount(60, 0), &limits, TODAY).unwrap();
    let exceeded = ledger
        .reserve(&"a", amount(41, 0), &limits, TODAY + 20_000)
        .unwrap_err();
    assert_eq!(exceeded.which, SpendLimit::TokensPerMinute);
    assert_eq!(exceeded.retry_after, Duration::from_secs(40));
    ledger.settle(first, amount(10, 0), TODAY + 20_000);
    let second = ledger.reserve(&"a", amount(90, 0), &limits, TODAY + 20_000);
    assert!(second.is_ok());
    assert!(ledger.reserve(&"b", amount(100, 0), &limits, TODAY).is_ok());
}

#[test]
fn a_reservation_that_is_dropped_counts_in_full_until_its_window_is_over() {
    let mut ledger = Ledger::new(10);
    let limits = per_minute(100);
    drop(ledger.reserve(&"a", amount(100, 0), &limits, TODAY));
    let again = |ledger: &mut Ledger<_>, now| ledger.reserve(&"a", amount(1, 0), &limits, now);
    assert!(again(&mut ledger, TODAY + MINUTE - 1).is_err());
    assert!(again(&mut ledger, TODAY + MINUTE).is_ok());
}

#[test]
fn each_limit_refuses_until_its_window_ends() {
    let limits = SpendLimits {
        tokens_per_minute: 10,
        tokens_per_day: 20,
        micro_cost_per_day: 30,
        micro_cost_per_month: 40,
    };
    let day_end = Duration::from_millis(DAY);
    // The 21st; November has 30 days.
    let month_end = Duration::from_millis(10 * DAY);
    let cases = [
        (
            amount(11, 0),
            SpendLimit::TokensPerMinute,
            Duration::from_secs(60),
        ),
        (amount(21, 0), SpendLimit::TokensPerDay, day_end),
        (amount(21, 31), SpendLimit::CostPerDay, day_end),
        (amount(21, 41), SpendLimit::CostPerMonth, month_end),
    ];
    for (asked, which, retry_after) in cases {
        let exceeded = Ledger::new(1)
            .reserve(&(), asked, &limits, TODAY)
            .unwrap_err();
        assert_eq!(exceeded, Exceeded { which, retry_after });
    }
    assert!(
        Ledger::new(1)
            .reserve(&(), amount(10, 30), &limits, TODAY)
            .is_ok()
    );
}

#[test]
fn a_call_that_costs_more_than_it_reserved_is_seen_by_the_next() {
    let mut ledger = Ledger::new(10);
    let limits = per_minute(100);
    let call = ledger.reserve(&"a", amount(10, 0), &limits, TODAY).unwrap();
    ledger.settle(call, amount(500, 0), TODAY);
    assert!(ledger.reserve(&"a", amount(1, 0), &limits, TODAY).is_err());
}

#[test]
fn a_call_over_midnight_belongs_to_the_day_before() {
    let mut ledger = Ledger::new(10);
    let call = ledger
        .reserve(&"a", amount(10, 10), &NO_LIMITS, TODAY + DAY - 1)
        .unwrap();
    let other = ledger
        .reserve(&"a", amount(1, 1), &NO_LIMITS, TODAY + DAY)
        .unwrap();
    ledger.settle(call, amount(7, 7), TODAY + DAY + 5);
    ledger.settle(other, amount(1, 1), TODAY + DAY + 5);
    let (day, month) = ledger.spent(&"a", TODAY + DAY + 5);
    assert_eq!((day, month), (amount(1, 1), amount(8, 8)));
    let mut rows = sums(ledger.export(100));
    assert_eq!(
        rows.remove(&("a", SpendWindow::Day, TODAY)),
        Some(amount(7, 7))
    );
    assert_eq!(
        rows.remove(&("a", SpendWindow::Day, TODAY + DAY)),
        Some(amount(1, 1))
    );
    assert_eq!(rows.len(), 1, "and the month");
}

#[test]
fn a_clock_that_goes_back_opens_no_window_again() {
    let mut ledger = Ledger::new(10);
    let limits = per_minute(100);
    drop(ledger.reserve(&"a", amount(100, 0), &limits, TODAY + MINUTE));
    assert!(ledger.reserve(&"a", amount(1, 0), &limits, TODAY).is_err());
}

#[test]
fn beyond_the_cap_keys_share_one_account_until_there_is_room() {
    let mut ledger = Ledger::new(2);
    let limits = SpendLimits {
        micro_cost_per_month: 100,
        ..NO_LIMITS
    };
    let reserve =
        |ledger: &mut Ledger<u32>, key, now| ledger.reserve(&key, amount(0, 60), &limits, now);
    let known: Vec<_> = (0..2)
        .map(|key| reserve(&mut ledger, key, TODAY).unwrap())
        .collect();
    let third = reserve(&mut ledger, 3, TODAY).unwrap();
    assert!(reserve(&mut ledger, 4, TODAY).is_err(), "shared with 3");
    assert!(reserve(&mut ledger, 0, TODAY).is_err());
    assert_eq!(ledger.len(), 2);
    for call in known.into_iter().chain([third]) {
        ledger.settle(call, amount(0, 50), TODAY);
    }
    let rows = sums(ledger.export(100));
    let month = TODAY - 20 * DAY;
    assert_eq!(rows[&(3, SpendWindow::Month, month)], amount(0, 50));
    let next_month = TODAY + 10 * DAY;
    let fourth = reserve(&mut ledger, 4, next_month).unwrap();
    assert!(!fourth.shared);
    assert_eq!(ledger.len(), 1);
}

#[test]
fn an_export_is_given_once_or_again_if_it_is_restored() {
    let mut ledger = Ledger::new(10);
    for key in ["a", "b", "c"] {
        let call = ledger
            .reserve(&key, amount(5, 5), &NO_LIMITS, TODAY)
            .unwrap();
        ledger.settle(call, amount(2, 3), TODAY);
    }
    let mut rows = Vec::new();
    loop {
        let part = ledger.export(2);
        assert!(part.len() <= 3);
        if part.is_empty() {
            break;
        }
        rows.extend(part);
    }
    assert_eq!(rows.len(), 6);
    ledger.restore(rows.clone());
    assert_eq!(sums(ledger.export(100)), sums(rows));
    assert!(ledger.export(100).is_empty());
}

#[test]
fn sums_of_a_store_are_taken_with_what_it_has_not_got() {
    let mut ledger = Ledger::new(10);
    let call = ledger
        .reserve(&"a", amount(5, 5), &NO_LIMITS, TODAY)
        .unwrap();
    ledger.settle(call, amount(5, 5), TODAY);
    let sum = |window, start_ms| Spent {
        key: "a",
        window,
        start_ms,
        amount: amount(100, 100),
    };
    ledger.import(&sum(SpendWindow::Day, TODAY), TODAY);
    ledger.import(&sum(SpendWindow::Month, TODAY), TODAY);
    assert_eq!(ledger.spent(&"a", TODAY), (amount(105, 105), amount(5, 5)));
    assert_eq!(ledger.spent(&"b", TODAY), (Amount::ZERO, Amount::ZERO));
    let limits = SpendLimits {
        tokens_per_day: 110,
        ..NO_LIMITS
    };
    assert!(ledger.reserve(&"a", amount(6, 0), &limits, TODAY).is_err());
    assert!(ledger.reserve(&"a", amount(5, 0), &limits, TODAY).is_ok());
}

#[test]
fn names_of_windows_are_read_as_they_are_written() {
    for window in [SpendWindow::Day, SpendWindow::Month] {
        assert_eq!(SpendWindow::parse(window.as_str()), Some(window));
    }
    assert_eq!(SpendWindow::parse("minute"), None);
}

fn sums<K: Ord>(rows: Vec<Spent<K>>) -> BTreeMap<(K, SpendWindow, u64), Amount> {
    let mut sums = BTreeMap::new();
    for row in rows {
        let sum = sums
            .entry((row.key, row.window, row.start_ms))
            .or_insert(Amount::ZERO);
        *sum = sum.plus(row.amount);
    }
    sums
}

/// A window of the model: what all reservations made in it come to, spent or reserved.
type Model = BTreeMap<(u64, u8, u64), Amount>;

/// Calls that cost at most what they reserved, over many windows, some never settled:
/// every window of every key stays within its limits at all times, a refusal is right, and
/// what is exported is what was settled.
#[test]
fn random_histories_never_exceed_a_limit() {
    for seed in 0..60 {
        let mut chance = Chance(seed);
        let limits = SpendLimits {
            tokens_per_minute: chance.below(3) * 50,
            tokens_per_day: chance.below(3) * 400,
            micro_cost_per_day: chance.below(3) * 300,
            micro_cost_per_month: chance.below(3) * 2_000,
        };
        let mut ledger = Ledger::new(8);
        let mut model = Model::new();
        let mut stored = Model::new();
        let mut settled = Model::new();
        let mut under_way = Vec::new();
        let mut now = TODAY + chance.below(DAY);
        for step in 0..3_000 {
            let at = format!("seed {seed} step {step}");
            now += match chance.below(100) {
                0 => DAY,
                1..=5 => 3_600_000,
                _ => chance.below(20_000),
            };
            match chance.below(10) {
                0..=4 => {
                    let key = chance.below(8);
                    let asked = amount(chance.below(60), chance.below(60));
                    let periods = Periods::at(now);
                    let windows = [
                        (key, 0, periods.minute),
                        (key, 1, periods.day),
                        (key, 2, periods.month),
                    ];
                    let mut sums = windows
                        .map(|window| model.get(&window).copied().unwrap_or_default().plus(asked));
                    let fits = |sum: u64, limit: u64| limit == 0 || sum <= limit;
                    let allowed = fits(sums[0].tokens, limits.tokens_per_minute)
                        && fits(sums[1].tokens, limits.tokens_per_day)
                        && fits(sums[1].micro_cost, limits.micro_cost_per_day)
                        && fits(sums[2].micro_cost, limits.micro_cost_per_month);
                    match ledger.reserve(&key, asked, &limits, now) {
                        Ok(reservation) => {
                            assert!(allowed, "{at}");
                            for (window, sum) in windows.into_iter().zip(&mut sums) {
                                model.insert(window, *sum);
                            }
                            under_way.push((reservation, windows, asked));
                        }
                        Err(exceeded) => {
                            assert!(!allowed, "{at}");
                            assert!(!exceeded.retry_after.is_zero(), "{at}");
                        }
                    }
                }
                5..=7 if !under_way.is_empty() => {
                    let index = usize::try_from(chance.below(under_way.len() as u64)).unwrap();
                    let (reservation, windows, asked) = under_way.swap_remove(index);
                    let spent = amount(
                        chance.below(asked.tokens + 1),
                        chance.below(asked.micro_cost + 1),
                    );
                    ledger.settle(reservation, spent, now);
                    for window in windows {
                        let sum = model.get_mut(&window).unwrap();
                        *sum = sum.minus(asked).plus(spent);
                        if window.1 > 0 && spent != Amount::ZERO {
                            let sum = settled.entry(window).or_default();
                            *sum = sum.plus(spent);
                        }
                    }
                }
                8 if !under_way.is_empty() && chance.below(5) == 0 => {
                    // Forgotten: counts in full.
                    let _ = under_way.pop();
                }
                _ => {
                    let rows = ledger.export(5);
                    if chance.below(3) == 0 {
                        ledger.restore(rows);
                    } else {
                        add(&mut stored, rows);
                    }
                }
            }
        }
        loop {
            let rows = ledger.export(5);
            if rows.is_empty() {
                break;
            }
            add(&mut stored, rows);
        }
        for (window, sum) in &stored {
            assert_eq!(settled.get(window), Some(sum), "seed {seed} {window:?}");
        }
        assert_eq!(stored.len(), settled.len(), "seed {seed}");
    }
}

fn add(stored: &mut Model, rows: Vec<Spent<u64>>) {
    for row in rows {
        let kind = match row.window {
            SpendWindow::Day => 1,
            SpendWindow::Month => 2,
        };
        let sum = stored.entry((row.key, kind, row.start_ms)).or_default();
        *sum = sum.plus(row.amount);
    }
}
