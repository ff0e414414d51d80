//! The aggregator over a real NATS server: what a restart finds, after a stop and after a crash.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Message as _;
use api::xy::md::v1::{SnapshotBatch, Tick, TickBatch};
use bus::{
    Bus, Epoch, Message, NatsBus, NatsBusConfig, NatsConfig, NatsConnection, NatsCredentials, Now,
    Publish, StreamConfig, StreamStorage, Tap,
};
use bytes::Bytes;
use lifecycle::{CancellationToken, Clock, Tasks};
use market::{GeneratorSettings, Metrics, Settings, Setup, Source};
use protocol::channel::Channel;
use protocol::subject::Pattern;
use testkit::services::{Nats, NatsOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_symbols_are_back_within_a_second() {
    let place = Place::new().await;
    let first = place.start(big_market(), "a");
    until("every group has a second snapshot", || {
        first.metrics.figures().snapshots_out >= 40
    })
    .await;
    first.stop().await;
    let before = place.volumes().await;
    assert_eq!(
        before
            .values()
            .map(|group| group.volumes.len())
            .sum::<usize>(),
        10_000
    );

    let second = place.start(big_market(), "b");
    until("it runs again", || {
        second.metrics.figures().snapshots_out >= 20
    })
    .await;
    let rebuilt = second.metrics.figures().rebuild_us;
    assert!((1..1_000_000).contains(&rebuilt), "{rebuilt} us");
    second.stop().await;
    for (group, after) in place.volumes().await {
        let before = &before[&group];
        assert_eq!(after.epoch, before.epoch);
        assert!(after.seq > before.seq);
        for (symbol, volume) in &after.volumes {
            assert!(*volume > before.volumes[symbol], "{symbol} has gone on");
        }
    }
    place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_in_a_crash() {
    let place = Place::new().await;
    let mut ticks = place.tap("xy.md.tick.g03").await;
    let first = place.start(big_market(), "a");
    let mut last = next_batch(&mut ticks).await;
    // Long enough for batches after the second snapshot, too short for the third.
    let mut traded = vec![volume(&last.0)];
    while last.0.seq < 80 {
        last = next_batch(&mut ticks).await;
        traded.push(volume(&last.0));
    }
    first.crash().await;
    // What was on its way when it crashed takes a moment to be kept.
    let begun = place.clock.elapsed();
    while place.seq("xy.md.tick.g03").await != last.0.seq {
        while let Some(message) = ticks.try_next() {
            last = read(&message);
            traded.push(volume(&last.0));
        }
        assert!(
            place.clock.elapsed() - begun < PATIENCE,
            "the last batch is not kept"
        );
    }

    let second = place.start(big_market(), "b");
    let mut snapshots = place.tap("xy.md.snapshot.g03").await;
    let mut seen_after = 0;
    while seen_after < 20 {
        let next = next_batch(&mut ticks).await;
        assert_eq!(
            next.0.seq,
            last.0.seq + 1,
            "no number is missing, and none is twice"
        );
        assert_eq!(next.1, last.1, "it is the same stream");
        seen_after += u32::from(second.metrics.figures().rebuild_us > 0);
        last = next;
        traded.push(volume(&last.0));
    }
    let anchor = snapshots.next().await.unwrap();
    let anchor = SnapshotBatch::decode(data(&anchor).clone()).unwrap();
    assert!(anchor.seq >= 80, "there is a new snapshot to go on from");
    let known: u64 = anchor.snapshots.iter().map(|one| one.volume).sum();
    let told: u64 = traded.iter().take(anchor.seq as usize).sum();
    assert_eq!(known, told, "all that was ever traded is there");
    second.stop().await;
    place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticks_and_questions_come_over_the_server() {
    let place = Place::new().await;
    let running = place.start(
        Settings {
            source: Source::Subjects,
            groups: 1,
            ..Settings::default()
        },
        "a",
    );
    let mut ticks = place.tap("xy.md.tick.g00").await;
    until("it listens", || running.metrics.figures().snapshots_out > 0).await;
    for volume in [10, 20] {
        place.publish("xy.src.tick.demo.EURUSD", 1.25, volume);
    }
    until("both are taken", || running.metrics.figures().ticks_in == 2).await;
    let (batch, _) = next_batch(&mut ticks).await;
    assert_eq!(batch.ticks[0].symbol, "EURUSD");
    let subject = Channel::new("xy.md.req.snapshot.g00");
    let mut volume = 0;
    while volume < 30 {
        let answer = place
            .bus
            .request(&subject, Bytes::new(), PATIENCE)
            .await
            .unwrap();
        let snapshot = SnapshotBatch::decode(answer).unwrap();
        volume = snapshot.snapshots.first().map_or(0, |one| one.volume);
    }
    assert_eq!(volume, 30);
    running.stop().await;
    place.close().await;
}

/// A server, and who looks at it.
struct Place {
    bus: Bus,
    clock: Clock,
    tasks: Tasks,
    _server: Nats,
}

struct Running {
    tasks: Tasks,
    crash: CancellationToken,
    metrics: Arc<Metrics>,
}

/// What the last snapshot of a group says.
struct Kept {
    epoch: Epoch,
    seq: u64,
    volumes: BTreeMap<String, u64>,
}

impl Place {
    async fn new() -> Self {
        let server = Nats::start(&NatsOptions {
            jetstream: true,
            ..NatsOptions::default()
        });
        let server = server.unwrap();
        let tasks = Tasks::new();
        let address = NatsConfig {
            urls: vec![server.url()],
            name: "market".to_owned(),
            credentials: NatsCredentials::None,
            tls: false,
            ca_file: None,
            connect_within: PATIENCE,
        };
        let stream = |name: &str, subjects, max_per_subject, storage| StreamConfig {
            name: name.to_owned(),
            subjects: vec![Pattern::new(subjects).unwrap()],
            max_age: Duration::from_secs(3600),
            max_bytes: 64 << 20,
            max_per_subject,
            storage,
        };
        let config = NatsBusConfig {
            node: "market".to_owned(),
            subjects: ["xy.md.>", "xy.src.>", "xy.exec.>"]
                .map(|pattern| Pattern::new(pattern).unwrap())
                .into(),
            streams: vec![
                stream("XY_MD_TICK", "xy.md.tick.>", 0, StreamStorage::File),
                stream(
                    "XY_MD_SNAPSHOT",
                    "xy.md.snapshot.>",
                    1,
                    StreamStorage::Memory,
                ),
            ],
            history_bytes_max: 1 << 20,
            ..NatsBusConfig::default()
        };
        let connection = NatsConnection::connect(&address).await.unwrap();
        let bus = NatsBus::open(connection, &config, &tasks).await.unwrap();
        Self {
            bus: Bus::Nats(bus),
            clock: Clock::start(),
            tasks,
            _server: server,
        }
    }

    fn start(&self, settings: Settings, instance: &str) -> Running {
        let running = Running {
            tasks: Tasks::new(),
            crash: CancellationToken::new(),
            metrics: Arc::default(),
        };
        let setup = Setup {
            settings: Settings {
                instance: instance.to_owned(),
                ..settings
            },
            bus: self.bus.clone(),
            clock: self.clock,
            stop: running.tasks.stopping(),
            metrics: Arc::clone(&running.metrics),
        };
        let crash = running.crash.clone();
        running.tasks.spawn("market", async move {
            if let Some(outcome) = crash
                .run_until_cancelled(Box::pin(market::run(setup)))
                .await
            {
                outcome.expect("settings are fine");
            }
        });
        running
    }

    async fn tap(&self, pattern: &str) -> Tap {
        let pattern = Pattern::new(pattern).unwrap();
        self.bus.tap(&pattern, 100_000).await.unwrap()
    }

    fn publish(&self, subject: &str, price: f64, volume: u64) {
        let now = Now {
            mono_ms: self.clock.mono_ms(),
            unix_ms: self.clock.unix_ms(),
        };
        let tick = Tick {
            ts_ms: now.unix_ms as i64,
            symbol: "EURUSD".to_owned(),
            price,
            volume,
        };
        let publish = Publish::new(Channel::new(subject), tick.encode_to_vec().into());
        let answer = self.bus.publish(now, publish);
        assert!(matches!(answer, bus::Answer::Now(Ok(_))), "{answer:?}");
    }

    /// The number of the last batch that is kept.
    async fn seq(&self, subject: &str) -> u64 {
        let latest = self.bus.latest(&Pattern::new(subject).unwrap()).await;
        let latest = latest.unwrap();
        latest.first().map_or(0, |message| read(message).0.seq)
    }

    /// The last snapshot of every group, once it is the one after the last batch: what was
    /// published last takes a moment to be kept.
    async fn volumes(&self) -> BTreeMap<String, Kept> {
        let pattern = |text: &str| Pattern::new(text).unwrap();
        let begun = self.clock.elapsed();
        loop {
            let ticks = self.bus.latest(&pattern("xy.md.tick.>")).await.unwrap();
            let snapshots = self.bus.latest(&pattern("xy.md.snapshot.>")).await.unwrap();
            let last = ticks.iter().map(|message| {
                let batch = TickBatch::decode(data(message).clone()).unwrap();
                (batch.group, batch.seq)
            });
            let last: BTreeMap<String, u64> = last.collect();
            let kept = snapshots.iter().map(|message| {
                let batch = SnapshotBatch::decode(data(message).clone()).unwrap();
                let volumes = batch
                    .snapshots
                    .into_iter()
                    .map(|one| (one.symbol, one.volume));
                let kept = Kept {
                    epoch: epoch(message),
                    seq: batch.seq,
                    volumes: volumes.collect(),
                };
                (batch.group, kept)
            });
            let kept: BTreeMap<String, Kept> = kept.collect();
            if last
                .iter()
                .all(|(group, seq)| kept.get(group).is_some_and(|one| one.seq == *seq))
            {
                return kept;
            }
            assert!(
                self.clock.elapsed() - begun < PATIENCE,
                "the last snapshots are missing"
            );
        }
    }

    async fn close(self) {
        self.tasks.stop(PATIENCE).await;
    }
}

impl Running {
    async fn stop(self) {
        assert!(self.tasks.stop(PATIENCE).await, "it ends when asked to");
    }

    async fn crash(self) {
        self.crash.cancel();
        self.tasks.stop(PATIENCE).await;
    }
}

fn big_market() -> Settings {
    Settings {
        groups: 20,
        snapshot_interval: Duration::from_secs(2),
        generator: GeneratorSettings {
            symbols: 10_000,
            ..GeneratorSettings::default()
        },
        ..Settings::default()
    }
}

async fn next_batch(tap: &mut Tap) -> (TickBatch, Epoch) {
    let message = tokio::time::timeout(PATIENCE, tap.next()).await;
    let message = message.expect("a batch comes in time").unwrap();
    read(&message)
}

fn read(message: &Message) -> (TickBatch, Epoch) {
    (
        TickBatch::decode(data(message).clone()).unwrap(),
        epoch(message),
    )
}

fn volume(batch: &TickBatch) -> u64 {
    batch.ticks.iter().map(|tick| tick.volume).sum()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        let mut looks = tokio::time::interval(Duration::from_millis(10));
        while !condition() {
            looks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect(what);
}

fn data(message: &Message) -> &Bytes {
    &message.publication().expect("it is a publication").data
}

fn epoch(message: &Message) -> Epoch {
    let position = message.publication().and_then(|one| one.position);
    position.expect("it has a position").epoch
}

const PATIENCE: Duration = Duration::from_secs(20);
