//! The kinds that keep records in a broker, against real ones.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]
#![expect(clippy::panic, reason = "a test fails by a panic")]
#![expect(
    clippy::disallowed_methods,
    reason = "the test owns its tasks and clock"
)]

#[path = "conformance/suite.rs"]
mod suite;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bus::{NatsConfig, NatsConnection, NatsCredentials};
use bytes::Bytes;
use lifecycle::{Clock, Tasks};
use outbox::{
    AppendError, Config, Entry, Mark, Outbox, Priority, ReadError, Record, RecordId, State,
};
use testkit::services::{AppendFsync, Nats, NatsOptions, Redis};
use tokio::sync::mpsc;

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_its_promises() {
    let server = Redis::start().unwrap();
    suite::conformance(Config::Redis(redis(&server))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jetstream_keeps_its_promises() {
    let server = Nats::start_durable().unwrap();
    suite::conformance(Config::Nats(nats(&server).await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_what_is_unsettled() {
    let server = Redis::start().unwrap();
    keeps_what_is_unsettled(|| async { Config::Redis(redis(&server)) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jetstream_keeps_what_is_unsettled() {
    let server = Nats::start_durable().unwrap();
    keeps_what_is_unsettled(|| async { Config::Nats(nats(&server).await) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_crash_takes_nothing_acknowledged() {
    let mut server = Redis::start().unwrap();
    let config = redis(&server);
    let acknowledged = append_through_crashes(Config::Redis(config.clone()), || {
        server.restart().unwrap();
    })
    .await;
    holds_exactly(Config::Redis(config), &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jetstream_crash_takes_nothing_acknowledged() {
    let mut server = Nats::start_durable().unwrap();
    let config = nats(&server).await;
    let acknowledged = append_through_crashes(Config::Nats(config.clone()), || {
        server.restart().unwrap();
    })
    .await;
    holds_exactly(Config::Nats(config), &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_away_means_busy_and_close_ends() {
    let mut server = Redis::start().unwrap();
    let config = Config::Redis(redis(&server));
    let (outbox, _) = open(config).await;
    append(&outbox, &record(1)).await.unwrap();
    server.kill().unwrap();
    // The first one finds out, those after are refused at once.
    let first = tokio::spawn({
        let outbox = Arc::clone(&outbox);
        async move { append(&outbox, &record(2)).await }
    });
    until_busy(&outbox).await;
    server.restart().unwrap();
    first.await.unwrap().unwrap();
    assert!(append(&outbox, &record(3)).await.is_ok());
    outbox.close().await;
    assert_eq!(append(&outbox, &record(4)).await, Err(AppendError::Busy));
}

#[tokio::test(flavor = "multi_thread")]
async fn second_writer_of_a_redis_stream_is_noticed() {
    let server = Redis::start().unwrap();
    let (first, _) = open(Config::Redis(redis(&server))).await;
    let (second, _) = open(Config::Redis(redis(&server))).await;
    append(&first, &record(1)).await.unwrap();
    let refused = append(&second, &record(2)).await;
    assert!(
        matches!(refused, Err(AppendError::Failed(_))),
        "{refused:?}"
    );
    assert!(second.failed().is_cancelled());
    assert!(second.figures().failed.is_some());
    append(&first, &record(3)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn second_writer_of_a_jetstream_stream_is_noticed() {
    let server = Nats::start_durable().unwrap();
    let (first, _) = open(Config::Nats(nats(&server).await)).await;
    let (second, _) = open(Config::Nats(nats(&server).await)).await;
    append(&first, &record(1)).await.unwrap();
    let refused = append(&second, &record(2)).await;
    assert!(
        matches!(refused, Err(AppendError::Failed(_))),
        "{refused:?}"
    );
    append(&first, &record(3)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn record_too_large_for_jetstream_is_refused() {
    let server = Nats::start_durable().unwrap();
    let (outbox, _) = open(Config::Nats(nats(&server).await)).await;
    let large = Record {
        payload: Bytes::from(vec![0; 1 << 20]),
        ..record(1)
    };
    let refused = append(&outbox, &large).await;
    assert!(
        matches!(refused, Err(AppendError::TooLarge { .. })),
        "{refused:?}"
    );
    append(&outbox, &record(2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_that_lets_records_expire_is_refused() {
    let server = Nats::start(&NatsOptions {
        jetstream: true,
        ..NatsOptions::default()
    })
    .unwrap();
    let config = nats(&server).await;
    let context = async_nats::jetstream::new(config.connection.client().clone());
    let expiring = async_nats::jetstream::stream::Config {
        name: config.stream.clone(),
        subjects: ["control", "interactive", "bulk"]
            .map(|priority| format!("{}.{priority}", config.subject))
            .to_vec(),
        max_age: Duration::from_secs(60),
        ..Default::default()
    };
    context.create_stream(expiring).await.unwrap();
    let refused = outbox::open(Config::Nats(config), &Tasks::new(), Clock::start()).await;
    let refused = refused.err().expect("refused");
    assert!(format!("{refused:?}").contains("expire"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_without_sync_is_accepted_with_a_warning() {
    let server = Redis::start_with(AppendFsync::EverySecond).unwrap();
    let (outbox, _) = open(Config::Redis(redis(&server))).await;
    append(&outbox, &record(1)).await.unwrap();
}

/// Everything that a restart of the gateway must bring back, and nothing else.
async fn keeps_what_is_unsettled<F: Future<Output = Config>>(config: impl Fn() -> F) {
    let (outbox, entries) = open(config().await).await;
    assert!(entries.is_empty());
    let mut ids = Vec::new();
    for number in 0..40 {
        ids.push(append(&outbox, &record(number)).await.unwrap());
    }
    assert!(ids.is_sorted(), "{ids:?}");
    assert_eq!(outbox.read(ids[7]).await.unwrap(), record(7));
    // The first ten in a row, and some between.
    for settled in (0..10).chain([15, 20, 39]) {
        outbox.mark(ids[settled], Mark::Settled);
    }
    outbox.mark(ids[11], attempted(1));
    outbox.mark(ids[11], attempted(2));
    outbox.mark(ids[12], dead("no such agent"));
    outbox.mark(ids[13], dead("no such agent"));
    outbox.mark(ids[13], Mark::Revived);
    outbox.mark(ids[14], dead("not for long"));
    outbox.mark(ids[14], Mark::Settled);
    outbox.close().await;
    assert_eq!(outbox.figures().unsettled, 26);
    drop(outbox);

    let (outbox, entries) = open(config().await).await;
    let settled = |number: usize| number < 10 || [14, 15, 20, 39].contains(&number);
    let expected: Vec<_> = (0..40).filter(|&number| !settled(number)).collect();
    let found: Vec<_> = entries.iter().map(|entry| entry.id).collect();
    let wanted: Vec<_> = expected.iter().map(|&number| ids[number]).collect();
    assert_eq!(found, wanted);
    for (entry, &number) in entries.iter().zip(&expected) {
        let record = record(number as u64);
        assert_eq!((&entry.client, entry.key), (&record.client, record.key));
        assert_eq!(
            (entry.priority, entry.at_ms),
            (record.priority, record.at_ms)
        );
        assert_eq!(entry.size, record.payload.len());
        assert_eq!(outbox.read(entry.id).await.unwrap(), record);
        let (attempts, first) = match number {
            11 => (2, Some(1001)),
            _ => (0, None),
        };
        assert_eq!((entry.attempts, entry.first_attempt_ms), (attempts, first));
        let state = match number {
            12 => State::Dead {
                reason: Arc::from("no such agent"),
                at_ms: 7,
            },
            _ => State::Pending,
        };
        assert_eq!(entry.state, state, "{number}");
    }
    let missing = outbox.read(ids[0]).await;
    assert!(matches!(missing, Err(ReadError::Missing(_))), "{missing:?}");

    // Numbers go on where they were, although the last record is gone.
    let next = append(&outbox, &record(40)).await.unwrap();
    assert!(next > ids[39]);
    for entry in entries {
        outbox.mark(entry.id, Mark::Settled);
    }
    outbox.mark(next, Mark::Settled);
    outbox.close().await;
    let (_, entries) = open(config().await).await;
    assert!(entries.is_empty(), "{entries:?}");
}

/// Appends while the broker crashes several times; returns what was acknowledged, in order.
async fn append_through_crashes(config: Config, mut crash: impl FnMut()) -> Vec<(RecordId, u64)> {
    let (outbox, _) = open(config).await;
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let (tx, mut rx) = mpsc::channel(IN_FLIGHT);
    let mut in_flight = 0;
    let mut number = 0;
    let mut crashes = 0;
    let deadline = Instant::now() + PATIENCE;
    while crashes < 3 || in_flight > 0 {
        assert!(
            Instant::now() < deadline,
            "{crashes} crashes, {in_flight} in flight"
        );
        while in_flight < IN_FLIGHT && crashes < 3 {
            let (tx, kept) = (tx.clone(), Arc::clone(&acknowledged));
            let mine = number;
            let done = move |answer: Result<RecordId, AppendError>| {
                match &answer {
                    Ok(id) => kept.lock().unwrap().push((*id, mine)),
                    Err(error) => assert_eq!(error, &AppendError::Busy),
                }
                tx.try_send(answer.is_ok()).unwrap();
            };
            outbox.append(record(number), Box::new(done));
            number += 1;
            in_flight += 1;
        }
        let ok = tokio::time::timeout(PATIENCE, rx.recv()).await;
        if !ok.expect("an answer").expect("a sender") {
            tokio::task::yield_now().await;
        }
        in_flight -= 1;
        let so_far = acknowledged.lock().unwrap().len();
        if so_far >= (crashes + 1) * 500 && crashes < 3 {
            tokio::task::block_in_place(&mut crash);
            crashes += 1;
        }
    }
    assert!(outbox.figures().failed.is_none(), "{:?}", outbox.figures());
    outbox.close().await;
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() >= 1500);
    acknowledged
}

/// Nothing that was acknowledged is missing, nothing is there twice or out of order.
async fn holds_exactly(config: Config, acknowledged: &[(RecordId, u64)]) {
    assert!(acknowledged.is_sorted(), "answers out of order");
    let (outbox, entries) = open(config).await;
    let found: Vec<_> = entries.iter().map(|entry| (entry.id, entry.key)).collect();
    let wanted: Vec<_> = acknowledged
        .iter()
        .map(|(id, number)| (*id, u128::from(*number)))
        .collect();
    assert!(
        found == wanted,
        "{} found, {} acknowledged",
        found.len(),
        wanted.len()
    );
    for entry in entries.iter().step_by(97) {
        let number = u64::try_from(entry.key).unwrap();
        assert_eq!(outbox.read(entry.id).await.unwrap(), record(number));
    }
    outbox.close().await;
}

async fn until_busy(outbox: &Outbox) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "never busy");
        let (tx, mut rx) = mpsc::channel(1);
        let done = move |answer| drop(tx.try_send(answer));
        outbox.append(record(99), Box::new(done));
        if let Ok(answer) = rx.try_recv() {
            assert_eq!(answer, Err(AppendError::Busy));
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn open(config: Config) -> (Arc<Outbox>, Vec<Entry>) {
    let opened = outbox::open(config, &Tasks::new(), Clock::start()).await;
    let (outbox, entries) = opened.expect("outbox opens");
    (Arc::new(outbox), entries)
}

async fn append(outbox: &Outbox, record: &Record) -> Result<RecordId, AppendError> {
    let (tx, mut rx) = mpsc::channel(1);
    let done = move |answer| tx.try_send(answer).unwrap();
    outbox.append(record.clone(), Box::new(done));
    let answer = tokio::time::timeout(PATIENCE, rx.recv()).await;
    answer.expect("an answer in time").expect("an answer")
}

fn record(number: u64) -> Record {
    Record {
        client: Arc::from(format!("client-{}", number % 7)),
        priority: match number % 3 {
            0 => Priority::Control,
            1 => Priority::Interactive,
            _ => Priority::Bulk,
        },
        at_ms: 1_709_078_400_000 + number,
        key: u128::from(number),
        payload: Bytes::from(vec![(number % 251) as u8; 100 + (number % 50) as usize]),
    }
}

fn attempted(attempt: u32) -> Mark {
    Mark::Attempted {
        attempt,
        at_ms: 1000 + u64::from(attempt),
    }
}

fn dead(reason: &str) -> Mark {
    Mark::Dead {
        reason: Arc::from(reason),
        at_ms: 7,
    }
}

fn redis(server: &Redis) -> outbox::redis::Config {
    let mut config = outbox::redis::Config::new(server.url(), "tidegate:outbox");
    config.limits.dead_retention = Duration::MAX;
    config
}

async fn nats(server: &Nats) -> outbox::jetstream::Config {
    let config = NatsConfig {
        urls: vec![server.url()],
        name: "tidegate".to_owned(),
        credentials: NatsCredentials::None,
        tls: false,
        ca_file: None,
        connect_within: PATIENCE,
    };
    let connection = NatsConnection::connect(&config).await.expect("nats");
    let mut config = outbox::jetstream::Config::new(connection);
    config.limits.dead_retention = Duration::MAX;
    config
}

const IN_FLIGHT: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);
