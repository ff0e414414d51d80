use std::future::{pending, ready};
use std::sync::atomic::{AtomicU32, Ordering};

use policy::{
    Backoff, BreakerSettings, BreakerState, BudgetSettings, Class, ConcurrencySettings, LimitMode,
    Rate, Retries, Settings, Timeouts,
};
use tokio::time::{advance, sleep, timeout};

use super::*;

/// An outcome that is not a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("outcome {0:?}")]
struct Came(Class);

impl Classify for Came {
    fn class(&self) -> Class {
        self.0
    }
}

const RETRYABLE: Came = Came(Class::Retryable { after: None });
const UNKNOWN: Came = Came(Class::Unknown);
const NOT_SENT: Came = Came(Class::NotSent);
const FINAL: Came = Came(Class::Final);

const ONCE: CallOptions = CallOptions {
    idempotent: false,
    deadline: Deadline::NEVER,
    attempts_made: 0,
    on_not_sent: OnNotSent::Retry,
};
const KEYED: CallOptions = CallOptions {
    idempotent: true,
    ..ONCE
};

/// Retries after 1, 2 and 4 seconds, without jitter.
fn settings() -> Settings {
    Settings {
        retries: Retries {
            backoff: Backoff::new(seconds(1), 2.0, seconds(30), 0.0).unwrap(),
            ..Retries::default()
        },
        ..Settings::default()
    }
}

fn guard(settings: Settings) -> Guard {
    Guard::new("agent", Policy::new(settings).unwrap(), Clock::start(), 7)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// One at once, `waiting` may queue for `wait` seconds.
fn one_at_once(waiting: u32, wait: u64) -> Settings {
    Settings {
        concurrency: ConcurrencySettings {
            limit: 1,
            waiting_max: waiting,
            wait_max: seconds(wait),
            ..ConcurrencySettings::default()
        },
        ..settings()
    }
}

fn breaking(consecutive: u32) -> Settings {
    Settings {
        retries: Retries::NONE,
        breaker: Some(BreakerSettings {
            consecutive,
            open: Backoff::new(seconds(30), 1.0, seconds(30), 0.0).unwrap(),
            ramp: Duration::ZERO,
            ..BreakerSettings::default()
        }),
        ..settings()
    }
}

/// A sender that comes to these outcomes one after the other, and the moments of its tries.
async fn outcomes(
    guard: &Guard,
    options: CallOptions,
    script: &[Result<(), Came>],
) -> (Result<(), CallError<Came>>, Vec<(u32, u64)>) {
    let mut tries = Vec::new();
    let start = guard.now();
    let result = guard
        .call(options, |a_try: Try| {
            let outcome = script[tries.len()];
            tries.push((a_try.number, (guard.now() - start) / 1_000));
            ready(outcome)
        })
        .await;
    (result, tries)
}

/// Nothing is held any more.
#[track_caller]
fn assert_at_rest(guard: &Guard) {
    let gate = guard.state().gate;
    assert_eq!(
        (gate.in_flight, gate.waiting, gate.extra_tries),
        (0, 0, 0),
        "{gate:?}"
    );
    assert!(guard.shared.lock().queue.is_empty());
}

/// Lets every task that can run do so.
async fn settle_down() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_is_one_try() {
    let guard = guard(settings());
    let (result, tries) = outcomes(&guard, ONCE, &[Ok(())]).await;
    assert!(result.is_ok());
    assert_eq!(tries, [(1, 0)]);
    assert_at_rest(&guard);
}

#[tokio::test(start_paused = true)]
async fn three_retries_follow_after_one_two_four_seconds() {
    let guard = guard(settings());
    let (result, tries) = outcomes(&guard, ONCE, &[Err(RETRYABLE); 4]).await;
    let error = result.unwrap_err();
    assert_eq!(error.ending, Ending::Exhausted(Spent::Attempts));
    assert_eq!((error.attempts, error.may_have_acted), (4, false));
    assert!(matches!(error.last, Some(Cause::Upstream(RETRYABLE))));
    assert_eq!(tries, [(1, 0), (2, 1), (3, 3), (4, 7)]);
    let counts = guard.state().counts;
    assert_eq!((counts.tries, counts.retries), (4, 3));
    assert_at_rest(&guard);
}

#[tokio::test(start_paused = true)]
async fn attempts_of_earlier_calls_count() {
    let guard = guard(settings());
    let made = |attempts_made| CallOptions {
        attempts_made,
        ..ONCE
    };
    let (result, tries) = outcomes(&guard, made(2), &[Err(RETRYABLE); 2]).await;
    assert_eq!(result.unwrap_err().attempts, 4);
    assert_eq!(tries, [(3, 0), (4, 4)]);
    let (result, tries) = outcomes(&guard, made(4), &[]).await;
    let error = result.unwrap_err();
    assert_eq!(error.ending, Ending::Exhausted(Spent::Attempts));
    assert!(error.last.is_none() && tries.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_final_is_not_tried_again() {
    let guard = guard(settings());
    for class in [Class::Final, Class::Neutral] {
        let (result, tries) = outcomes(&guard, KEYED, &[Err(Came(class))]).await;
        assert_eq!(result.unwrap_err().ending, Ending::Final);
        assert_eq!(tries.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_repeated_only_with_a_key() {
    let guard = guard(settings());
    let (result, tries) = outcomes(&guard, ONCE, &[Err(UNKNOWN)]).await;
    let error = result.unwrap_err();
    assert_eq!((error.ending, error.attempts), (Ending::Unknown, 1));
    assert!(error.may_have_acted);
    assert_eq!(tries.len(), 1);

    let (result, tries) = outcomes(&guard, KEYED, &[Err(UNKNOWN), Ok(())]).await;
    assert!(result.is_ok());
    assert_eq!(tries.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_doubt_remains_whatever_comes_after_it() {
    let guard = guard(settings());
    let (result, _) = outcomes(&guard, KEYED, &[Err(UNKNOWN), Err(FINAL)]).await;
    let error = result.unwrap_err();
    assert_eq!(error.ending, Ending::Final);
    assert!(error.may_have_acted);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_returns_at_once_if_asked_for() {
    let guard = guard(settings());
    let options = CallOptions {
        on_not_sent: OnNotSent::Return,
        ..KEYED
    };
    let script = [Err(RETRYABLE), Err(NOT_SENT)];
    let (result, tries) = outcomes(&guard, options, &script).await;
    let error = result.unwrap_err();
    assert_eq!((error.ending, error.attempts), (Ending::NotSent, 1));
    assert_eq!(tries, [(1, 0), (2, 1)]);
    assert_at_rest(&guard);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_costs_no_attempt() {
    let guard = guard(settings());
    let script = [
        Err(NOT_SENT),
        Err(NOT_SENT),
        Err(RETRYABLE),
        Err(NOT_SENT),
        Ok(()),
    ];
    let (result, tries) = outcomes(&guard, ONCE, &script).await;
    assert!(result.is_ok());
    let numbers: Vec<_> = tries.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 1, 1, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_is_never_sent_ends_nevertheless() {
    let guard = guard(settings());
    let (result, tries) = outcomes(&guard, ONCE, &[Err(NOT_SENT); 4]).await;
    let error = result.unwrap_err();
    assert_eq!((error.ending, error.attempts), (Ending::NotSent, 0));
    assert_eq!(tries.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_names_a_time_is_left_alone_until_then() {
    let guard = guard(settings());
    let after = Some(seconds(10));
    let script = [Err(Came(Class::Retryable { after })), Ok(())];
    let (_, tries) = outcomes(&guard, ONCE, &script).await;
    assert_eq!(tries, [(1, 0), (2, 10)]);
}

#[tokio::test(start_paused = true)]
async fn no_answer_within_the_time_of_a_try_is_unknown() {
    let guard = guard(Settings {
        timeouts: Timeouts {
            total: None,
            per_try: Some(seconds(5)),
        },
        ..settings()
    });
    let silent = |_| pending::<Result<(), Came>>();
    let error = guard.call(ONCE, silent).await.unwrap_err();
    assert_eq!(error.ending, Ending::Unknown);
    assert!(matches!(error.last, Some(Cause::TimedOut { waited }) if waited == seconds(5)));

    let start = guard.now();
    let error = guard.call(KEYED, silent).await.unwrap_err();
    assert_eq!(error.ending, Ending::Exhausted(Spent::Attempts));
    assert!(error.may_have_acted);
    assert_eq!(guard.now() - start, 4 * 5_000 + 7_000);
    assert_eq!(guard.state().counts.timeouts, 5);
}

#[tokio::test(start_paused = true)]
async fn one_deadline_holds_for_all_tries() {
    let guard = guard(Settings {
        timeouts: Timeouts {
            total: Some(seconds(5)),
            per_try: None,
        },
        ..settings()
    });
    let start = guard.now();
    let (result, tries) = outcomes(&guard, ONCE, &[Err(RETRYABLE); 4]).await;
    let ending = result.unwrap_err().ending;
    assert_eq!(ending, Ending::Exhausted(Spent::Deadline));
    assert_eq!(tries, [(1, 0), (2, 1), (3, 3)]);
    assert_eq!(
        guard.now() - start,
        3_000,
        "a wait that ends too late is not begun"
    );
}

#[tokio::test(start_paused = true)]
async fn the_caller_may_have_less_time_than_the_policy() {
    let guard = guard(breaking(1));
    let options = CallOptions {
        deadline: Deadline::at(guard.now() + 100),
        ..ONCE
    };
    let silent = |_| pending::<Result<(), Came>>();
    let error = guard.call(options, silent).await.unwrap_err();
    assert_eq!(error.ending, Ending::Unknown);
    assert_eq!(
        guard.state().gate.breaker,
        BreakerState::Closed,
        "a hurry is not a failure of the upstream"
    );
    let error = guard.call(options, silent).await.unwrap_err();
    assert_eq!(error.ending, Ending::Refused(Refusal::DeadlinePassed));
}

#[tokio::test(start_paused = true)]
async fn the_budget_is_charged_before_the_wait() {
    let guard = guard(Settings {
        budget: BudgetSettings {
            share: 0.0,
            floor: 2,
        },
        ..settings()
    });
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let guard = guard.clone();
        calls.spawn(async move {
            let mut tries = 0;
            let result = guard
                .call(ONCE, |_| {
                    tries += 1;
                    ready(if tries == 1 { Err(RETRYABLE) } else { Ok(()) })
                })
                .await;
            result.map_err(|error| error.ending)
        });
    }
    let results = calls.join_all().await;
    let succeeded = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(succeeded, 2);
    assert!(results.iter().all(
        |result| !matches!(result, Err(ending) if *ending != Ending::Exhausted(Spent::Budget))
    ));
    assert_eq!(guard.state().counts.budget_spent, 8);
    assert_at_rest(&guard);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_refuses_until_a_probe_succeeds() {
    let guard = guard(breaking(2));
    for _ in 0..2 {
        let (result, _) = outcomes(&guard, ONCE, &[Err(UNKNOWN)]).await;
        assert_eq!(result.unwrap_err().ending, Ending::Unknown);
    }
    advance(seconds(10)).await;
    let (result, tries) = outcomes(&guard, ONCE, &[]).await;
    let error = result.unwrap_err();
    let retry_after = seconds(20);
    assert_eq!(
        error.ending,
        Ending::Refused(Refusal::BreakerOpen { retry_after })
    );
    assert!(error.last.is_none() && tries.is_empty());
    advance(retry_after).await;
    let mut probes = Vec::new();
    for _ in 0..2 {
        let result = guard
            .call(ONCE, |a_try| {
                probes.push(a_try.probe);
                ready(Ok::<_, Came>(()))
            })
            .await;
        assert!(result.is_ok());
    }
    assert_eq!(probes, [true, false]);
    assert_eq!(guard.state().counts.breaker_opened, 1);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_opens_between_tries_ends_the_call() {
    let guard = guard(Settings {
        retries: settings().retries,
        ..breaking(2)
    });
    let (result, tries) = outcomes(&guard, ONCE, &[Err(RETRYABLE); 2]).await;
    let error = result.unwrap_err();
    assert!(matches!(
        error.ending,
        Ending::Refused(Refusal::BreakerOpen { .. })
    ));
    assert_eq!((error.attempts, tries.len()), (2, 2));
    assert!(error.last.is_some(), "the last try's reason is kept");
    assert_at_rest(&guard);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_gives_its_probe_back() {
    let guard = guard(breaking(1));
    let _ = outcomes(&guard, ONCE, &[Err(UNKNOWN)]).await;
    advance(seconds(30)).await;
    let probing = guard.call(ONCE, |_| pending::<Result<(), Came>>());
    assert!(timeout(seconds(1), probing).await.is_err());
    assert_at_rest(&guard);
    let permit = guard.admit(Deadline::NEVER).await.unwrap();
    assert!(permit.is_probe());
    assert_eq!(
        guard.admit(Deadline::NEVER).await.unwrap_err(),
        Refusal::ProbeTaken
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_while_it_waits_gives_its_charge_back() {
    let guard = guard(settings());
    let waiting = outcomes(&guard, ONCE, &[Err(RETRYABLE); 4]);
    assert!(timeout(Duration::from_millis(500), waiting).await.is_err());
    assert_at_rest(&guard);
}

#[tokio::test(start_paused = true)]
async fn slots_are_handed_on_in_order_of_arrival() {
    let guard = guard(one_at_once(10, 60));
    let held = guard.admit(Deadline::NEVER).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..5 {
        let (guard, order) = (guard.clone(), Arc::clone(&order));
        calls.spawn(async move {
            let _permit = guard.admit(Deadline::NEVER).await.unwrap();
            order.lock().unwrap().push(number);
            sleep(seconds(1)).await;
        });
        settle_down().await;
    }
    assert_eq!(guard.state().gate.waiting, 5);
    drop(held);
    calls.join_all().await;
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
    assert_at_rest(&guard);
}

/// Calls for a slot, one after the other, each of this urgency; how each ended, in order
/// of ending, once the slot that is held has been given back.
async fn queue_of(guard: &Guard, priorities: &[u8]) -> Vec<(usize, Result<(), Refusal>)> {
    let held = guard.admit(Deadline::NEVER).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut calls = tokio::task::JoinSet::new();
    for (number, priority) in priorities.iter().copied().enumerate() {
        let (guard, order) = (guard.clone(), Arc::clone(&order));
        calls.spawn(async move {
            let result = guard.admit_as(priority, Deadline::NEVER).await;
            let ended = result.as_ref().map(|_| ()).map_err(|refusal| *refusal);
            order.lock().unwrap().push((number, ended));
            if result.is_ok() {
                sleep(seconds(1)).await;
            }
        });
        settle_down().await;
    }
    drop(held);
    calls.join_all().await;
    assert_at_rest(guard);
    let order = order.lock().unwrap();
    order.clone()
}

#[tokio::test(start_paused = true)]
async fn the_more_urgent_go_first_and_the_equally_urgent_in_order_of_arrival() {
    let guard = guard(one_at_once(10, 60));
    let order: Vec<_> = queue_of(&guard, &[2, 1, 0, 1, 255, 0]).await;
    let order: Vec<_> = order.into_iter().map(|(number, _)| number).collect();
    assert_eq!(order, [2, 5, 1, 3, 0, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_gives_up_its_least_urgent_for_a_more_urgent_one() {
    let guard = guard(one_at_once(3, 60));
    let order = queue_of(&guard, &[2, 1, 2, 1, 0, 0, 0]).await;
    let full = Err(Refusal::Concurrency);
    assert_eq!(
        order,
        [
            // Displaced: the last of the least urgent, then the other, then the last of 1.
            (2, full),
            (0, full),
            (3, full),
            // In the place of the first of 1.
            (1, full),
            (4, Ok(())),
            (5, Ok(())),
            (6, Ok(())),
        ]
    );
    assert_eq!(guard.state().counts.refused_concurrency, 4);
}

#[tokio::test(start_paused = true)]
async fn nobody_displaces_an_equal() {
    let guard = guard(one_at_once(1, 60));
    let order = queue_of(&guard, &[1, 1, 2]).await;
    let full = Err(Refusal::Concurrency);
    assert_eq!(order, [(1, full), (2, full), (0, Ok(()))]);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_displaced_and_dropped_gives_nothing_back_twice() {
    let guard = guard(one_at_once(1, 60));
    let held = guard.admit(Deadline::NEVER).await.unwrap();
    let mut gone = Box::pin(guard.admit_as(9, Deadline::NEVER));
    let mut urgent = Box::pin(guard.admit_as(0, Deadline::NEVER));
    assert!(timeout(Duration::ZERO, &mut gone).await.is_err());
    assert!(timeout(Duration::ZERO, &mut urgent).await.is_err());
    drop(gone);
    let gate = guard.state().gate;
    assert_eq!((gate.in_flight, gate.waiting), (1, 1));
    drop(held);
    let permit = timeout(seconds(1), urgent).await.unwrap().unwrap();
    drop(permit);
    assert_at_rest(&guard);
}

#[tokio::test(start_paused = true)]
async fn another_policy_counts_the_calls_under_way() {
    let guard = guard(one_at_once(5, 60));
    let held = guard.admit(Deadline::NEVER).await.unwrap();
    let waiting = guard.admit(Deadline::NEVER);
    let two = Settings {
        concurrency: ConcurrencySettings {
            limit: 2,
            waiting_max: 0,
            ..one_at_once(0, 60).concurrency
        },
        ..settings()
    };
    let changing = async {
        settle_down().await;
        guard.clone().adopt(Policy::new(two).unwrap());
    };
    let (second, ()) = tokio::join!(waiting, changing);
    let second = second.unwrap();
    assert_eq!(guard.policy().settings().concurrency.limit, 2);
    assert_eq!(
        guard.admit(Deadline::NEVER).await.unwrap_err(),
        Refusal::Concurrency
    );
    guard.adopt(Policy::new(one_at_once(0, 0)).unwrap());
    drop(second);
    assert_eq!(
        guard.admit(Deadline::NEVER).await.unwrap_err(),
        Refusal::Concurrency,
        "one is under way, and one is the limit now"
    );
    drop(held);
    drop(guard.admit(Deadline::NEVER).await.unwrap());
    assert_at_rest(&guard);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_rises_lets_those_in_who_wait() {
    let guard = guard(Settings {
        concurrency: ConcurrencySettings {
            limit: 40,
            mode: LimitMode::Adaptive { least: 1 },
            waiting_max: 1,
            wait_max: seconds(60),
        },
        ..settings()
    });
    let mut held = Vec::new();
    for _ in 0..guard.state().gate.limit {
        held.push(guard.admit(Deadline::NEVER).await.unwrap());
    }
    let waiting = guard.admit(Deadline::NEVER);
    let sampling = async {
        settle_down().await;
        for _ in 0..50 {
            advance(Duration::from_millis(20)).await;
            held[0].sample(Duration::from_millis(5), Verdict::Success);
        }
    };
    let (permit, ()) = tokio::join!(waiting, sampling);
    drop(permit.unwrap());
    assert!(guard.state().gate.limit > 20);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_and_a_long_wait_ends() {
    let guard = guard(one_at_once(1, 3));
    let _held = guard.admit(Deadline::NEVER).await.unwrap();
    let late = Deadline::at(guard.now() + 1_000);
    let (first, second) = tokio::join!(guard.admit(late), guard.admit(Deadline::NEVER));
    assert_eq!(first.unwrap_err(), Refusal::DeadlinePassed);
    assert_eq!(second.unwrap_err(), Refusal::Concurrency);
    let waited = seconds(3);
    assert_eq!(
        guard.admit(Deadline::NEVER).await.unwrap_err(),
        Refusal::QueueTimeout { waited }
    );
    let state = guard.state();
    assert_eq!((state.gate.in_flight, state.gate.waiting), (1, 0));
    let counts = state.counts;
    assert_eq!(
        (counts.refused_concurrency, counts.refused_deadline),
        (2, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_slot_given_to_one_who_has_gone_is_handed_on() {
    let guard = guard(one_at_once(2, 60));
    let held = guard.admit(Deadline::NEVER).await.unwrap();
    let mut gone = Box::pin(guard.admit(Deadline::NEVER));
    let mut next = Box::pin(guard.admit(Deadline::NEVER));
    assert!(timeout(Duration::ZERO, &mut gone).await.is_err());
    assert!(timeout(Duration::ZERO, &mut next).await.is_err());
    drop(held);
    // The first has the slot now and has not been polled since.
    assert_eq!(guard.state().gate.in_flight, 1);
    drop(gone);
    let permit = timeout(seconds(1), next).await.unwrap().unwrap();
    drop(permit);
    assert_at_rest(&guard);
}

#[tokio::test(start_paused = true)]
async fn one_who_waited_meets_the_breaker_that_opened_meanwhile() {
    let guard = guard(Settings {
        concurrency: one_at_once(1, 60).concurrency,
        ..breaking(1)
    });
    let mut held = guard.admit(Deadline::NEVER).await.unwrap();
    let waiting = guard.admit(Deadline::NEVER);
    let failing = async {
        settle_down().await;
        held.settle(Verdict::Failure, None);
        drop(held);
    };
    let (result, ()) = tokio::join!(waiting, failing);
    assert!(matches!(result, Err(Refusal::BreakerOpen { .. })));
    assert_at_rest(&guard);
}

#[tokio::test(start_paused = true)]
async fn a_stream_keeps_its_slot_until_it_ends() {
    let guard = guard(one_at_once(0, 0));
    let held = guard
        .call_held(ONCE, |_| ready(Ok::<_, Came>("stream")))
        .await
        .unwrap();
    assert_eq!(
        guard.admit(Deadline::NEVER).await.unwrap_err(),
        Refusal::Concurrency
    );
    drop(held);
    assert_at_rest(&guard);
}

#[tokio::test(start_paused = true)]
async fn the_rate_refuses_and_says_until_when() {
    let guard = guard(Settings {
        rate: Some(Rate::new(1.0, 1).unwrap()),
        ..settings()
    });
    let (result, _) = outcomes(&guard, ONCE, &[Ok(())]).await;
    assert!(result.is_ok());
    let (result, _) = outcomes(&guard, ONCE, &[]).await;
    let retry_after = seconds(1);
    assert_eq!(
        result.unwrap_err().ending,
        Ending::Refused(Refusal::Rate { retry_after })
    );
    assert_eq!(guard.state().counts.refused_rate, 1);
}

#[tokio::test(start_paused = true)]
async fn the_reason_is_kept_as_the_source() {
    let guard = guard(settings());
    let (result, _) = outcomes(&guard, ONCE, &[Err(FINAL)]).await;
    let error = result.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap();
    let reason = cause.source().unwrap();
    assert_eq!(reason.downcast_ref::<Came>(), Some(&FINAL));
}

/// Never more at once than the limit, under real contention of threads, with callers
/// that go away at any moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_limit_is_exact_under_contention() {
    const LIMIT: u32 = 3;
    let guard = guard(Settings {
        concurrency: ConcurrencySettings {
            limit: LIMIT,
            waiting_max: 1_000,
            wait_max: seconds(60),
            ..ConcurrencySettings::default()
        },
        ..settings()
    });
    let running = Arc::new(AtomicU32::new(0));
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..400_u32 {
        let (guard, running) = (guard.clone(), Arc::clone(&running));
        let task = calls.spawn(async move {
            let result = guard
                .call(ONCE, async |_| {
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    assert!(now <= LIMIT, "{now} at once");
                    for _ in 0..number % 7 {
                        tokio::task::yield_now().await;
                        let now = running.load(Ordering::SeqCst);
                        assert!(now <= LIMIT, "{now} at once");
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, Came>(())
                })
                .await;
            assert!(result.is_ok());
        });
        // Each of these makes its try within one poll: it is cancelled before or after,
        // never while it counts.
        if number.is_multiple_of(7) {
            task.abort();
        }
    }
    let all = async {
        while let Some(result) = calls.join_next().await {
            assert!(result.is_ok() || result.unwrap_err().is_cancelled());
        }
    };
    timeout(seconds(30), all).await.unwrap();
    assert_at_rest(&guard);
}
