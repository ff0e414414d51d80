//! The aggregator on the bus of a process, in virtual time.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Message as _;
use api::xy::md::v1::{SnapshotBatch, Tick, TickBatch};
use bus::{Bus, BusError, Epoch, MemoryBus, MemoryConfig, Message, Now, Publish, Tap};
use bytes::Bytes;
use lifecycle::{Clock, Tasks};
use market::{Figures, GeneratorSettings, Metrics, Settings, Setup, Source};
use protocol::channel::Channel;
use protocol::subject::Pattern;

#[tokio::test(start_paused = true)]
async fn batches_come_every_33_ms_and_snapshots_every_3_s() {
    let place = Place::new();
    let mut ticks = place.tap("xy.md.tick.*").await;
    let mut snapshots = place.tap("xy.md.snapshot.*").await;
    let running = place.start(market_of_ours());
    tokio::time::sleep(Duration::from_secs(12)).await;
    running.stop().await;

    let mut batches = [0_u64; 10];
    while let Some(message) = ticks.try_next() {
        let batch = TickBatch::decode(data(&message).clone()).unwrap();
        let group: usize = batch.group[1..].parse().unwrap();
        assert_eq!(
            message.channel.as_str(),
            format!("xy.md.tick.{}", batch.group)
        );
        batches[group] += 1;
        assert_eq!(batch.seq, batches[group], "numbers rise by one");
        assert_eq!(position(&message).0, batch.seq, "and are the offset");
        for tick in &batch.ticks {
            let index: usize = tick.symbol[1..].parse().unwrap();
            assert_eq!(index % 10, group, "the symbols are dealt out one by one");
        }
    }
    // 12 s hold 363 intervals of 33 ms, and the stop publishes what is left.
    assert!(
        batches.iter().all(|count| (360..=364).contains(count)),
        "{batches:?}"
    );

    let mut taken_at: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    while let Some(message) = snapshots.try_next() {
        let snapshot = SnapshotBatch::decode(data(&message).clone()).unwrap();
        assert_eq!(snapshot.snapshots.len(), 20);
        let times = taken_at.entry(snapshot.group).or_default();
        times.push(position(&message).0 as i64);
        assert_eq!(
            position(&message).0,
            times.len() as u64,
            "offsets rise by one"
        );
    }
    assert_eq!(taken_at.len(), 10);
    // At once, in its turn within the first interval, every 3 s from then on, at the end.
    assert!(
        taken_at
            .values()
            .all(|times| (5..=6).contains(&times.len())),
        "{taken_at:?}"
    );
    let figures = place.figures();
    assert_eq!(figures.slow_ticks, 0);
    assert_eq!(figures.tick_batches_out, batches.iter().sum::<u64>());
    assert!(figures.src_ingest_rate > 5_000, "{figures:?}");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_on_demand_and_the_batches_after_it_are_the_truth() {
    let place = Place::new();
    let mut ticks = place.tap("xy.md.tick.g03").await;
    let running = place.start(market_of_ours());
    tokio::time::sleep(Duration::from_millis(1_234)).await;
    let mut client = volumes(&place.ask("g03").await.unwrap());
    assert_eq!(client.1.len(), 20);
    tokio::time::sleep(Duration::from_millis(1_234)).await;
    running.stop().await;
    while let Some(message) = ticks.try_next() {
        let batch = TickBatch::decode(data(&message).clone()).unwrap();
        if batch.seq > client.0 {
            assert_eq!(batch.seq, client.0 + 1);
            client.0 = batch.seq;
            for tick in batch.ticks {
                *client.1.get_mut(&tick.symbol).unwrap() += tick.volume;
            }
        }
    }
    let last = place.latest("xy.md.snapshot.g03").await;
    assert_eq!(volumes(data(&last[0])), client);
    assert!(place.figures().snapshots_answered == 1);
}

#[tokio::test(start_paused = true)]
async fn groups_that_do_not_exist_are_refused() {
    let place = Place::new();
    let running = place.start(market_of_ours());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(place.ask("g77").await, Err(BusError::Refused));
    running.stop().await;
    assert_eq!(place.ask("g00").await, Err(BusError::NoResponder));
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_where_the_last_one_ended() {
    let place = Place::new();
    let running = place.start(market_of_ours());
    tokio::time::sleep(Duration::from_secs(2)).await;
    running.stop().await;
    let before = place.latest("xy.md.snapshot.g05").await;
    let (seq, traded) = volumes(data(&before[0]));

    let mut ticks = place.tap("xy.md.tick.g05").await;
    let running = place.start(market_of_ours());
    let first = ticks.next().await.unwrap();
    assert_eq!(
        position(&first),
        (seq + 1, position(&before[0]).1),
        "same stream"
    );
    running.stop().await;
    let after = place.latest("xy.md.snapshot.g05").await;
    assert!(position(&after[0]).0 > position(&before[0]).0);
    for (symbol, volume) in volumes(data(&after[0])).1 {
        assert!(volume > traded[&symbol], "{symbol} has gone on");
    }
    assert!(place.figures().rebuild_us < 1_000_000);
}

#[tokio::test(start_paused = true)]
async fn subjects_are_a_source_and_health_tells_of_it() {
    let place = Place::new();
    let mut ticks = place.tap("xy.md.tick.>").await;
    let mut health = place.tap("xy.exec.health").await;
    let running = place.start(Settings {
        source: Source::Subjects,
        groups: 1,
        ..Settings::default()
    });
    let message = health.next().await.unwrap();
    let document: serde_json::Value = serde_json::from_slice(data(&message)).unwrap();
    assert_eq!(document["service"], "market");
    assert_eq!(document["status"], "ok");
    assert_eq!(document["details"]["source"], "subjects");

    place.tick("A", 2.5, 10).await;
    place.tick("A", 2.75, 10).await;
    place.tick("B", -1.0, 10).await;
    let message = ticks.next().await.unwrap();
    let batch = TickBatch::decode(data(&message).clone()).unwrap();
    assert_eq!(batch.ticks.len(), 1);
    assert_eq!((batch.ticks[0].price, batch.ticks[0].volume), (2.75, 20));

    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(ticks.try_next().is_none(), "nothing has changed");
    let figures = place.figures();
    assert_eq!((figures.ticks_in, figures.symbols), (2, 1));
    assert!(figures.invalid_ticks.contains(&("price", 1)), "{figures:?}");
    assert!(figures.heartbeat_age_ms >= 9_000);
    let mut last = None;
    while let Some(message) = health.try_next() {
        last = Some(message);
    }
    let document: serde_json::Value = serde_json::from_slice(data(&last.unwrap())).unwrap();
    assert_eq!(document["status"], "degraded", "the source is silent");
    assert_eq!(document["details"]["invalid_ticks"], 1);

    running.stop().await;
    let document: serde_json::Value =
        serde_json::from_slice(data(&health.try_next().unwrap())).unwrap();
    assert_eq!(document["status"], "down");
}

#[tokio::test(start_paused = true)]
async fn what_there_is_no_room_for_is_a_gap() {
    let place = Place::new();
    let mut settings = Settings {
        source: Source::Subjects,
        ..Settings::default()
    };
    settings.subjects.queue = 4;
    let running = place.start(settings);
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Nobody else runs between these.
    for _ in 0..10 {
        place.publish(&format!("xy.src.tick.demo.{}", "A"), &tick("A", 1.0, 1));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((place.figures().ticks_in, place.figures().src_gap), (4, 6));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn settings_that_cannot_work_are_refused() {
    let place = Place::new();
    let setup = place.setup(
        Settings {
            groups: 0,
            ..Settings::default()
        },
        &Tasks::new(),
    );
    let refused = market::run(setup).await;
    assert!(
        matches!(refused, Err(market::RunError::Settings(_))),
        "{refused:?}"
    );
}

/// A bus, and who looks at it.
struct Place {
    bus: Bus,
    clock: Clock,
    metrics: Arc<Metrics>,
}

struct Running(Tasks);

impl Place {
    fn new() -> Self {
        Self {
            bus: Bus::Memory(Arc::new(MemoryBus::new(&MemoryConfig::default()))),
            clock: Clock::start(),
            metrics: Arc::default(),
        }
    }

    fn setup(&self, settings: Settings, tasks: &Tasks) -> Setup {
        Setup {
            settings,
            bus: self.bus.clone(),
            clock: self.clock,
            stop: tasks.stopping(),
            metrics: Arc::clone(&self.metrics),
        }
    }

    fn start(&self, settings: Settings) -> Running {
        let tasks = Tasks::new();
        let setup = self.setup(settings, &tasks);
        tasks.spawn("market", async move {
            market::run(setup).await.expect("settings are fine");
        });
        Running(tasks)
    }

    async fn tap(&self, pattern: &str) -> Tap {
        let pattern = Pattern::new(pattern).unwrap();
        self.bus.tap(&pattern, 100_000).await.unwrap()
    }

    async fn latest(&self, pattern: &str) -> Vec<Arc<Message>> {
        self.bus
            .latest(&Pattern::new(pattern).unwrap())
            .await
            .unwrap()
    }

    async fn ask(&self, group: &str) -> Result<Bytes, BusError> {
        let subject = Channel::from(format!("xy.md.req.snapshot.{group}"));
        let within = Duration::from_secs(2);
        self.bus.request(&subject, Bytes::new(), within).await
    }

    /// A tick, and time for it to be taken.
    async fn tick(&self, symbol: &str, price: f64, volume: u64) {
        self.publish(
            &format!("xy.src.tick.demo.{symbol}"),
            &tick(symbol, price, volume),
        );
        tokio::task::yield_now().await;
    }

    fn publish(&self, subject: &str, tick: &Tick) {
        let now = Now {
            mono_ms: self.clock.mono_ms(),
            unix_ms: self.clock.unix_ms(),
        };
        let publish = Publish::new(Channel::new(subject), tick.encode_to_vec().into());
        let answer = self.bus.publish(now, publish);
        assert!(matches!(answer, bus::Answer::Now(Ok(_))), "{answer:?}");
    }

    fn figures(&self) -> Figures {
        self.metrics.figures()
    }
}

impl Running {
    async fn stop(self) {
        assert!(
            self.0.stop(Duration::from_secs(5)).await,
            "it ends when asked to"
        );
    }
}

fn market_of_ours() -> Settings {
    Settings {
        generator: GeneratorSettings {
            rate: 1.0,
            ..GeneratorSettings::default()
        },
        ..Settings::default()
    }
}

fn tick(symbol: &str, price: f64, volume: u64) -> Tick {
    Tick {
        ts_ms: Clock::start().unix_ms() as i64,
        symbol: symbol.to_owned(),
        price,
        volume,
    }
}

fn data(message: &Message) -> &Bytes {
    &message.publication().expect("it is a publication").data
}

fn position(message: &Message) -> (u64, Epoch) {
    let position = message.publication().and_then(|one| one.position);
    let position = position.expect("it has a position");
    (position.offset, position.epoch)
}

fn volumes(payload: &Bytes) -> (u64, BTreeMap<String, u64>) {
    let batch = SnapshotBatch::decode(payload.clone()).unwrap();
    let volumes = batch.snapshots.into_iter();
    (
        batch.seq,
        volumes.map(|one| (one.symbol, one.volume)).collect(),
    )
}
