//! The aggregator at work: one task on the bus.
//!
//! The task owns all state. It wakes for the next interval, for requests, and for messages of the
//! source, in this order of precedence; of the source it takes a bounded number at a time, so that
//! a flood does not delay an interval. The interval's moments are counted from the start, so that
//! lateness does not add up; intervals that passed meanwhile are left out and counted.
//!
//! **Start**: listen to the source, take the last snapshots and batches from the bus, go on where
//! they end ([`rebuild`]). **Stop**: what waits is published, then a last snapshot of every group
//! and a health message that says `down`.

mod health;
mod publisher;
mod rebuild;

use std::sync::Arc;
use std::time::Duration;

use bus::{Asked, Bus, BusError, Now, Requests, Tap};
use lifecycle::{CancellationToken, Clock};
use protocol::subject::Pattern;
use tracing::{debug, info, warn};

use crate::aggregator::Aggregator;
use crate::generator::{Generator, Move};
use crate::metrics::Metrics;
use crate::settings::{GeneratorSettings, Settings, SettingsError, Source};
use health::Health;
use publisher::Publisher;

/// What an aggregator needs.
#[derive(Debug)]
pub struct Setup {
    /// What it is to do. `enabled` is for whoever starts it to judge.
    pub settings: Settings,
    /// Where its source is, and where it publishes.
    pub bus: Bus,
    /// The process's clock.
    pub clock: Clock,
    /// Ends it.
    pub stop: CancellationToken,
    /// Where it notes its figures.
    pub metrics: Arc<Metrics>,
}

/// Why an aggregator did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It can't work like this.
    #[error("settings of the aggregator can't be used")]
    Settings(#[from] SettingsError),
    /// There was no random number to name the streams by.
    #[error("random number was not available")]
    Random(#[source] getrandom::Error),
}

/// Runs until it is stopped, which takes a few milliseconds. A bus that is not available is tried
/// again every second.
pub async fn run(setup: Setup) -> Result<(), RunError> {
    setup.settings.check()?;
    let stop = setup.stop.clone();
    // Listening comes before reading what was: nothing falls between.
    let Some((tap, requests)) = stop.run_until_cancelled(listen(&setup)).await else {
        return Ok(());
    };
    let Some(running) = stop.run_until_cancelled(Running::start(setup)).await else {
        return Ok(());
    };
    let mut running = running?;
    running.work(tap, requests, &stop).await;
    running.finish();
    Ok(())
}

/// An aggregator between start and stop.
struct Running {
    aggregator: Aggregator,
    generator: Option<Generator>,
    publisher: Publisher,
    health: Health,
    clock: Clock,
    metrics: Arc<Metrics>,
    interval: Duration,
    /// What the tap had no room for.
    dropped: u64,
    /// When the rate was last noted, and what had come until then.
    rated: (u64, u64),
}

async fn listen(setup: &Setup) -> (Option<Tap>, Requests) {
    let settings = &setup.settings;
    let tap = async {
        match (settings.source, settings.pattern()) {
            (Source::Subjects, Ok(pattern)) => {
                let queue = settings.subjects.queue;
                Some(insist(&pattern, || setup.bus.tap(&pattern, queue)).await)
            }
            (Source::Subjects | Source::Generator, _) => None,
        }
    };
    let tap = tap.await;
    let asked = Pattern::new(REQUESTS).expect("the constant is a pattern");
    let requests = insist(&asked, || setup.bus.serve(&asked, REQUESTS_WAITING)).await;
    (tap, requests)
}

/// Asks until the answer is yes.
async fn insist<T: Send + 'static>(
    pattern: &Pattern,
    ask: impl Fn() -> bus::Answer<Result<T, BusError>>,
) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => warn!(%pattern, %error, "subject is not available"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Running {
    async fn start(setup: Setup) -> Result<Self, RunError> {
        let Setup {
            settings,
            bus,
            clock,
            stop: _,
            metrics,
        } = setup;
        let generator = match settings.source {
            Source::Generator => {
                let GeneratorSettings {
                    symbols,
                    seed,
                    rate,
                } = settings.generator;
                Some(Generator::new(symbols, seed, rate))
            }
            Source::Subjects => None,
        };
        let mut grouping = settings.grouping().map_err(SettingsError::from)?;
        if let Some(generator) = &generator {
            grouping.deal(generator.names());
        }
        let mut aggregator = Aggregator::new(grouping, settings.limits());
        let began = clock.elapsed();
        let interval = settings.snapshot_interval;
        let past = rebuild::read(&bus, aggregator.grouping(), interval).await;
        let epoch = bus::Epoch::from_random(getrandom::u64().map_err(RunError::Random)?);
        let marks = rebuild::apply(&mut aggregator, &past, epoch);
        let took = clock.elapsed().saturating_sub(began);
        metrics.note_rebuild(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        info!(
            instance = settings.instance,
            groups = aggregator.grouping().len(),
            restored_symbols = aggregator.symbols(),
            rebuild_ms = took.as_millis() as u64,
            "aggregator runs"
        );
        let health = Health::new(&settings, clock.mono_ms());
        let publisher = Publisher::new(
            bus,
            aggregator.grouping(),
            marks,
            interval,
            Arc::clone(&metrics),
        );
        Ok(Self {
            aggregator,
            generator,
            publisher,
            health,
            rated: (clock.mono_ms(), 0),
            clock,
            metrics,
            interval: settings.tick_interval,
            dropped: 0,
        })
    }

    async fn work(
        &mut self,
        mut tap: Option<Tap>,
        mut requests: Requests,
        stop: &CancellationToken,
    ) {
        self.open();
        let mut wake = Box::pin(tokio::time::sleep(self.interval));
        let mut due = self.clock.elapsed() + self.interval;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = &mut wake => {
                    self.dropped = tap.as_ref().map_or(0, Tap::dropped);
                    self.turn();
                    let skipped = skipped(due, self.clock.elapsed(), self.interval);
                    self.metrics.add_slow_ticks(u64::from(skipped));
                    let step = self.interval * (skipped + 1);
                    due += step;
                    let next = wake.deadline() + step;
                    wake.as_mut().reset(next);
                }
                Some(asked) = requests.next() => self.answer(asked),
                Some(message) = source(&mut tap) => {
                    let now = now(&self.clock);
                    self.take(&message, now);
                    for _ in 1..BURST {
                        let Some(message) = tap.as_mut().and_then(Tap::try_next) else {
                            break;
                        };
                        self.take(&message, now);
                    }
                }
            }
        }
    }

    /// With a market of our own there is something to see from the first interval on.
    fn open(&mut self) {
        let now = now(&self.clock);
        if let Some(mut generator) = self.generator.take() {
            generator.open(now.unix_ms.cast_signed(), |one| self.trade(&one, now));
            self.generator = Some(generator);
        }
    }

    /// One interval.
    fn turn(&mut self) {
        let now = now(&self.clock);
        if let Some(mut generator) = self.generator.take() {
            generator.step(now.unix_ms.cast_signed(), |one| self.trade(&one, now));
            self.generator = Some(generator);
        }
        self.publisher.tell_ticks(&mut self.aggregator, now);
        self.publisher.tell_snapshots(&mut self.aggregator, now);
        self.note(now);
        if self.health.is_due(now) {
            let figures = self.metrics.figures();
            let message = self.health.message(now, &figures);
            self.publisher.tell_health(message, now);
        }
    }

    fn trade(&mut self, one: &Move<'_>, now: Now) {
        // What is refused is counted: symbols of before may have left no room for all of ours.
        let (Ok(()) | Err(_)) = self.aggregator.take_tick(&one.tick, now);
        let (Ok(()) | Err(_)) = self.aggregator.take_quote(&one.quote, now);
    }

    fn take(&mut self, message: &bus::Message, now: Now) {
        let Some(publication) = message.publication() else {
            return;
        };
        let offset = publication.position.map(|position| position.offset);
        let taken = self
            .aggregator
            .take(&message.channel, offset, &publication.data, now);
        if let Err(reason) = taken {
            debug!(subject = %message.channel, %reason, "message of the source was refused");
        }
    }

    fn answer(&mut self, asked: Asked) {
        let name = asked
            .subject
            .strip_prefix(REQUEST_PREFIX)
            .unwrap_or_default();
        let group = self.aggregator.grouping().find(name);
        let now = now(&self.clock);
        let snapshot = group.and_then(|group| self.aggregator.snapshot(group, now, AGE_MAX_MS));
        match snapshot {
            Some(snapshot) => {
                asked.respond(snapshot.payload);
                self.metrics.add_snapshot_answered();
            }
            None => asked.refuse("group does not exist"),
        }
    }

    fn note(&mut self, now: Now) {
        let counts = self.aggregator.counts();
        self.metrics
            .note_counts(counts, self.dropped, self.aggregator.symbols());
        let silent = self.aggregator.silent_ms(now);
        self.metrics
            .note_silence(silent.unwrap_or(self.health.uptime_ms(now)));
        let (since, ticks) = self.rated;
        let passed = now.mono_ms.saturating_sub(since);
        if passed >= 1000 {
            self.metrics
                .note_rate((counts.ticks - ticks) * 1000 / passed);
            self.rated = (now.mono_ms, counts.ticks);
        }
    }

    /// Whoever comes after finds the whole state in the last snapshots.
    fn finish(&mut self) {
        let now = now(&self.clock);
        self.publisher.tell_ticks(&mut self.aggregator, now);
        self.publisher.tell_all_snapshots(&mut self.aggregator, now);
        self.note(now);
        let figures = self.metrics.figures();
        let message = self.health.farewell(now, &figures);
        self.publisher.tell_health(message, now);
        info!("aggregator stopped");
    }
}

async fn source(tap: &mut Option<Tap>) -> Option<Arc<bus::Message>> {
    match tap {
        Some(tap) => tap.next().await,
        None => None,
    }
}

/// How many whole intervals passed since `due`.
fn skipped(due: Duration, now: Duration, interval: Duration) -> u32 {
    let late = now.saturating_sub(due).as_nanos();
    u32::try_from(late / interval.as_nanos().max(1)).unwrap_or(u32::MAX - 1)
}

fn now(clock: &Clock) -> Now {
    Now {
        mono_ms: clock.mono_ms(),
        unix_ms: clock.unix_ms(),
    }
}

/// What is asked for by request, without the group.
const REQUEST_PREFIX: &str = "xy.md.req.snapshot.";
const REQUESTS: &str = "xy.md.req.snapshot.>";
/// Requests that may wait; more are refused as busy.
const REQUESTS_WAITING: usize = 1024;
/// How old a snapshot may be that is given again, if its group has not changed since.
const AGE_MAX_MS: u64 = 1000;
/// Messages of the source that are taken at a time.
const BURST: usize = 256;
/// Between two tries of a bus that is not available.
const PAUSE: Duration = Duration::from_secs(1);
