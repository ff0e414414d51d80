use super::*;

/// Answers after a fixed time, or never.
struct Fixed(Option<Duration>);

impl Caller for Fixed {
    async fn call(&self, _: Bytes) -> anyhow::Result<()> {
        match self.0 {
            Some(delay) => Alarm::new()?.at(delay).await,
            None => std::future::pending().await,
        }
        Ok(())
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

const PLAN: Plan = Plan {
    rate: 200,
    size: 10,
    warm_up: Duration::from_millis(50),
    duration: Duration::from_millis(200),
    drain: Duration::from_millis(100),
};

#[test]
fn every_call_counts_from_when_it_was_due() {
    let calls = run(open_loop(
        &Fixed(Some(Duration::from_millis(20))),
        &PLAN,
        &mut (),
    ))
    .unwrap();
    assert_eq!((calls.offered, calls.latency.len()), (40, 40));
    assert_eq!((calls.unanswered, calls.failed), (0, 0));
    assert!(calls.ms(0.0) >= 20.0, "{}", calls.ms(0.0));
    assert!(!calls.is_bound(0.999));
}

#[test]
fn calls_without_answers_count_with_the_time_they_were_waited_for() {
    let calls = run(open_loop(&Fixed(None), &PLAN, &mut ())).unwrap();
    assert_eq!((calls.unanswered, calls.latency.len()), (40, 40));
    assert!(calls.ms(0.0) >= 95.0, "{}", calls.ms(0.0));
    assert!(calls.ms(1.0) >= 290.0, "{}", calls.ms(1.0));
    assert!(calls.is_bound(0.5));
}

#[test]
fn alarm_is_exact() {
    let least = run(async {
        let alarm = Alarm::new().unwrap();
        let mut least = Duration::MAX;
        for _ in 0..20 {
            let started = Instant::now();
            alarm.at(Duration::from_millis(3)).await;
            least = least.min(started.elapsed());
        }
        least
    });
    assert!(least >= Duration::from_millis(3), "{least:?}");
    assert!(least < Duration::from_micros(3900), "{least:?}");
}
