use std::future::poll_fn;

use super::*;

async fn rings(alarm: &mut Alarm, clock: Clock, at: u64) -> u64 {
    poll_fn(|cx| alarm.poll(cx, clock, at)).await;
    clock.mono_ms()
}

#[tokio::test(start_paused = true)]
async fn deadlines_are_kept_in_any_order() {
    let clock = Clock::start();
    let mut alarm = Alarm::default();
    assert_eq!(rings(&mut alarm, clock, 500).await, 500);
    assert_eq!(rings(&mut alarm, clock, 100).await, 500);
    assert_eq!(rings(&mut alarm, clock, 2_000).await, 2_000);
    // The earlier of two rings first, whichever is asked about first.
    poll_fn(|cx| {
        assert!(alarm.poll(cx, clock, 9_000).is_pending());
        alarm.poll(cx, clock, 3_000)
    })
    .await;
    assert_eq!(clock.mono_ms(), 3_000);
    assert_eq!(rings(&mut alarm, clock, 9_000).await, 9_000);
}

#[tokio::test(start_paused = true)]
async fn what_never_comes_does_not_hide_what_does() {
    let clock = Clock::start();
    let mut alarm = Alarm::default();
    for never in [u64::MAX, u64::MAX - 1] {
        poll_fn(|cx| {
            assert!(alarm.poll(cx, clock, never).is_pending());
            Poll::Ready(())
        })
        .await;
    }
    let due = clock.mono_ms() + 250;
    let rung = tokio::time::timeout(Duration::from_secs(60), rings(&mut alarm, clock, due));
    assert_eq!(rung.await.unwrap(), due);
}
