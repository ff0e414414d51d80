use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_part_that_is_not_taken_stalls_its_stream() {
    let clock = Clock::start();
    let pace = Pace::new(clock);
    // While nothing was given, or all was taken, nobody is late.
    let early = tokio::time::timeout(10 * SECOND, pace.stalls(SECOND)).await;
    assert!(early.is_err());
    pace.gives();
    pace.is_taken();
    let early = tokio::time::timeout(10 * SECOND, pace.stalls(SECOND)).await;
    assert!(early.is_err());
    pace.gives();
    let given = clock.mono_ms();
    pace.stalls(SECOND).await;
    assert_eq!(clock.mono_ms() - given, 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_connection_rests_only_without_streams() {
    let clock = Clock::start();
    let streams = Arc::new(Streams::new(clock));
    streams.rest(SECOND, 5 * SECOND).await;
    assert_eq!((clock.mono_ms(), streams.have_been()), (1_000, false));

    let open = Streams::opens(&streams);
    let early = tokio::time::timeout(60 * SECOND, streams.rest(SECOND, 5 * SECOND)).await;
    assert!(early.is_err());
    drop(open);
    let closed = clock.mono_ms();
    streams.rest(SECOND, 5 * SECOND).await;
    assert_eq!(clock.mono_ms() - closed, 5_000);
    assert!(!streams.are_open());
}
