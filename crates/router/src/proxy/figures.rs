//! What is counted about a route.
//!
//! Each request is counted once, at its end. Threads count in shards of their own, so
//! that workers don't wait for each other's cache lines; whoever asks adds them up. A
//! snapshot is taken while requests end, so its figures may differ by those.

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use upstream::http_service::Miss;

use super::outcome::{Connection, Decider, Ended, Outcome, Phase};

/// The counters of one route.
#[derive(Debug)]
pub struct Figures {
    shards: Box<[Shard]>,
}

/// What has been counted, at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Requests by the class of their status, in the order of [`STATUS_CLASSES`].
    pub requests: [u64; STATUS_CLASSES.len()],
    /// Requests that failed, in the order of [`ERROR_TYPES`].
    pub errors: [u64; ERROR_TYPES.len()],
    /// Requests refused, in the order of [`REFUSALS`].
    pub refused: [u64; REFUSALS.len()],
    /// Requests sent upstream by their connection, in the order of [`CONNECTIONS`].
    pub connections: [u64; CONNECTIONS.len()],
    /// Phases that took too long, in the order of [`PHASES`].
    pub timeouts: [u64; PHASES.len()],
    /// Requests under way.
    pub active: u64,
    /// Tries after the first, hedges not included.
    pub retries: u64,
    /// Tries sent beside another one.
    pub hedges: u64,
    /// Answers that broke off after their head was passed on.
    pub broken: u64,
    /// Requests whose client left before the answer's end.
    pub left: u64,
    /// Bytes of requests' bodies.
    pub request_bytes: u64,
    /// Bytes of answers' bodies.
    pub response_bytes: u64,
    /// Tokens asked.
    pub input_tokens: u64,
    /// Those of them from an upstream's cache.
    pub cached_tokens: u64,
    /// Tokens answered.
    pub output_tokens: u64,
    /// Requests whose tokens were estimated.
    pub estimated: u64,
    /// Cost in millionths of the prices' unit.
    pub micro_cost: u64,
    /// From a request's head to the last byte of its answer.
    pub duration: Histogram<{ DURATIONS.len() }>,
    /// From sending to the answer's head.
    pub upstream: Histogram<{ DURATIONS.len() }>,
    /// What the gateway itself took.
    pub overhead: Histogram<{ OVERHEADS.len() }>,
    /// In the queue.
    pub queued: Histogram<{ DURATIONS.len() }>,
    /// To connect.
    pub connect: Histogram<{ DURATIONS.len() }>,
    /// To the first content of answers of models.
    pub first_content: Histogram<{ FIRST_CONTENTS.len() }>,
}

/// A histogram, each value counted in the first bucket that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<const N: usize> {
    /// Upper ends of the buckets in microseconds, ends included.
    pub bounds: [u64; N],
    /// How many fell in each.
    pub buckets: [u64; N],
    /// How many are beyond the last.
    pub beyond: u64,
    /// All values added up, in microseconds.
    pub sum_us: u64,
}

/// Classes of status; `none` is of clients that left before there was an answer.
pub const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// What failed: the upstream said so itself (`5xx`), had no connection, was too slow,
/// broke off, was left alone by its breaker, or there was no capacity for it.
pub const ERROR_TYPES: [&str; 6] = [
    "5xx",
    "connect",
    "timeout",
    "broken",
    "circuit_open",
    "capacity",
];

/// Who refuses requests.
pub const REFUSALS: [&str; 7] = [
    "route", "access", "breaker", "limiter", "queue", "rate", "budget",
];

/// Connections: `reused`, or why they were not.
pub const CONNECTIONS: [&str; 7] = [
    "reused",
    "cold",
    "ttl",
    "closed_by_peer",
    "cap",
    "key_changed",
    "fresh",
];

/// Phases that have a limit.
pub const PHASES: [&str; 6] = ["dial", "write", "headers", "first_byte", "gap", "total"];

/// Buckets of the contract (5.5), in microseconds.
pub const DURATIONS: [u64; 9] = [
    10_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// Buckets of the gateway's own time, in microseconds.
pub const OVERHEADS: [u64; 12] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000,
];

/// Buckets of the time to a model's first word, in microseconds.
pub const FIRST_CONTENTS: [u64; 11] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    180_000_000,
];

/// The counters of some threads. Two of them share no cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    requests: [AtomicU64; STATUS_CLASSES.len()],
    errors: [AtomicU64; ERROR_TYPES.len()],
    refused: [AtomicU64; REFUSALS.len()],
    connections: [AtomicU64; CONNECTIONS.len()],
    timeouts: [AtomicU64; PHASES.len()],
    /// Below zero if requests begin on one thread and end on another.
    active: AtomicI64,
    retries: AtomicU64,
    hedges: AtomicU64,
    broken: AtomicU64,
    left: AtomicU64,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    input_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    output_tokens: AtomicU64,
    estimated: AtomicU64,
    micro_cost: AtomicU64,
    duration: Buckets<{ DURATIONS.len() }>,
    upstream: Buckets<{ DURATIONS.len() }>,
    overhead: Buckets<{ OVERHEADS.len() }>,
    queued: Buckets<{ DURATIONS.len() }>,
    connect: Buckets<{ DURATIONS.len() }>,
    first_content: Buckets<{ FIRST_CONTENTS.len() }>,
}

#[derive(Debug)]
struct Buckets<const N: usize> {
    counts: [AtomicU64; N],
    beyond: AtomicU64,
    sum_us: AtomicU64,
}

impl Figures {
    /// Everything at zero, for about as many threads as there are workers; at most 64.
    pub fn new(threads: usize) -> Self {
        let shards = threads.clamp(1, SHARDS_MAX);
        Self {
            shards: (0..shards).map(|_| Shard::default()).collect(),
        }
    }

    /// A request begins. [`Figures::finish`] has to follow, whatever becomes of it.
    pub fn begin(&self) {
        if let Some(shard) = self.shard() {
            shard.active.fetch_add(1, Relaxed);
        }
    }

    /// A request that began has ended.
    pub fn finish(&self, outcome: &Outcome) {
        if let Some(shard) = self.shard() {
            shard.active.fetch_sub(1, Relaxed);
            shard.count(outcome);
        }
    }

    /// Requests under way.
    pub fn active(&self) -> u64 {
        let sum: i64 = self
            .shards
            .iter()
            .map(|shard| shard.active.load(Relaxed))
            .sum();
        u64::try_from(sum).unwrap_or(0)
    }

    /// What has been counted.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for shard in &self.shards {
            shard.add_to(&mut snapshot);
        }
        snapshot.active = self.active();
        snapshot
    }

    fn shard(&self) -> Option<&Shard> {
        self.shards.get(thread_number() % self.shards.len().max(1))
    }
}

impl Default for Figures {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Snapshot {
    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        add_all(&mut self.requests, &other.requests);
        add_all(&mut self.errors, &other.errors);
        add_all(&mut self.refused, &other.refused);
        add_all(&mut self.connections, &other.connections);
        add_all(&mut self.timeouts, &other.timeouts);
        for (place, value) in [
            (&mut self.active, other.active),
            (&mut self.retries, other.retries),
            (&mut self.hedges, other.hedges),
            (&mut self.broken, other.broken),
            (&mut self.left, other.left),
            (&mut self.request_bytes, other.request_bytes),
            (&mut self.response_bytes, other.response_bytes),
            (&mut self.input_tokens, other.input_tokens),
            (&mut self.cached_tokens, other.cached_tokens),
            (&mut self.output_tokens, other.output_tokens),
            (&mut self.estimated, other.estimated),
            (&mut self.micro_cost, other.micro_cost),
        ] {
            *place = place.wrapping_add(value);
        }
        self.duration.add(&other.duration);
        self.upstream.add(&other.upstream);
        self.overhead.add(&other.overhead);
        self.queued.add(&other.queued);
        self.connect.add(&other.connect);
        self.first_content.add(&other.first_content);
    }
}

impl<const N: usize> Histogram<N> {
    /// Without values.
    fn empty(bounds: [u64; N]) -> Self {
        Self {
            bounds,
            buckets: [0; N],
            beyond: 0,
            sum_us: 0,
        }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum::<u64>() + self.beyond
    }

    fn add(&mut self, other: &Self) {
        add_all(&mut self.buckets, &other.buckets);
        self.beyond += other.beyond;
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
    }
}

impl Default for Histogram<{ DURATIONS.len() }> {
    fn default() -> Self {
        Self::empty(DURATIONS)
    }
}

impl Default for Histogram<{ OVERHEADS.len() }> {
    fn default() -> Self {
        Self::empty(OVERHEADS)
    }
}

impl Default for Histogram<{ FIRST_CONTENTS.len() }> {
    fn default() -> Self {
        Self::empty(FIRST_CONTENTS)
    }
}

impl Shard {
    fn count(&self, outcome: &Outcome) {
        one(&self.requests, status_class(outcome.status));
        if let Some(error) = error_type(outcome) {
            one(&self.errors, error);
        }
        if let Some(refusal) = refusal(outcome.decided_by) {
            one(&self.refused, refusal);
        }
        if let Some(connection) = outcome.connection {
            one(&self.connections, connection_kind(connection));
        }
        if let Some(phase) = phase(outcome) {
            one(&self.timeouts, phase as usize);
        }
        let retries = outcome
            .tries
            .saturating_sub(1)
            .saturating_sub(outcome.hedges);
        add(&self.retries, u64::from(retries));
        add(&self.hedges, u64::from(outcome.hedges));
        match outcome.ended {
            Ended::Complete | Ended::Refused => {}
            Ended::ClientLeft => add(&self.left, 1),
            Ended::UpstreamBroke | Ended::TimedOut(_) => add(&self.broken, 1),
        }
        add(&self.request_bytes, outcome.request_bytes);
        add(&self.response_bytes, outcome.response_bytes);
        self.duration.count(&DURATIONS, outcome.duration);
        self.overhead.count(&OVERHEADS, outcome.overhead);
        if let Some(upstream) = outcome.upstream {
            self.upstream.count(&DURATIONS, upstream);
        }
        if let Some(queued) = outcome.queued {
            self.queued.count(&DURATIONS, queued);
        }
        if let Some(connect) = outcome.connect {
            self.connect.count(&DURATIONS, connect);
        }
        if let Some((usage, micro_cost)) = &outcome.usage {
            add(&self.input_tokens, usage.input);
            add(&self.cached_tokens, usage.cached);
            add(&self.output_tokens, usage.output);
            add(&self.estimated, u64::from(usage.is_estimated));
            add(&self.micro_cost, *micro_cost);
            if let Some(first) = outcome.first_content {
                self.first_content.count(&FIRST_CONTENTS, first);
            }
        }
    }

    fn add_to(&self, sum: &mut Snapshot) {
        read_all(&mut sum.requests, &self.requests);
        read_all(&mut sum.errors, &self.errors);
        read_all(&mut sum.refused, &self.refused);
        read_all(&mut sum.connections, &self.connections);
        read_all(&mut sum.timeouts, &self.timeouts);
        for (place, counter) in [
            (&mut sum.retries, &self.retries),
            (&mut sum.hedges, &self.hedges),
            (&mut sum.broken, &self.broken),
            (&mut sum.left, &self.left),
            (&mut sum.request_bytes, &self.request_bytes),
            (&mut sum.response_bytes, &self.response_bytes),
            (&mut sum.input_tokens, &self.input_tokens),
            (&mut sum.cached_tokens, &self.cached_tokens),
            (&mut sum.output_tokens, &self.output_tokens),
            (&mut sum.estimated, &self.estimated),
            (&mut sum.micro_cost, &self.micro_cost),
        ] {
            *place = place.wrapping_add(counter.load(Relaxed));
        }
        self.duration.add_to(&mut sum.duration);
        self.upstream.add_to(&mut sum.upstream);
        self.overhead.add_to(&mut sum.overhead);
        self.queued.add_to(&mut sum.queued);
        self.connect.add_to(&mut sum.connect);
        self.first_content.add_to(&mut sum.first_content);
    }
}

impl<const N: usize> Default for Buckets<N> {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; N],
            beyond: AtomicU64::new(0),
            sum_us: AtomicU64::new(0),
        }
    }
}

impl<const N: usize> Buckets<N> {
    fn count(&self, bounds: &[u64; N], value: Duration) {
        let us = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        // Comparing with all bounds has no branch to guess wrong.
        let bucket: usize = bounds.iter().map(|bound| usize::from(us > *bound)).sum();
        add(self.counts.get(bucket).unwrap_or(&self.beyond), 1);
        add(&self.sum_us, us);
    }

    fn add_to(&self, sum: &mut Histogram<N>) {
        read_all(&mut sum.buckets, &self.counts);
        sum.beyond += self.beyond.load(Relaxed);
        sum.sum_us = sum.sum_us.wrapping_add(self.sum_us.load(Relaxed));
    }
}

fn status_class(status: u16) -> usize {
    usize::from(status / 100).min(STATUS_CLASSES.len() - 1)
}

/// The place in [`ERROR_TYPES`]; `None` if nothing failed that is not the client's own
/// doing.
fn error_type(outcome: &Outcome) -> Option<usize> {
    match (outcome.ended, outcome.decided_by) {
        (Ended::ClientLeft, _) => None,
        (Ended::TimedOut(_), _) | (_, Decider::Phase(_)) => Some(2),
        (Ended::UpstreamBroke, _) => Some(3),
        (Ended::Complete | Ended::Refused, Decider::Connect) => Some(1),
        (Ended::Complete | Ended::Refused, Decider::Breaker) => Some(4),
        (Ended::Complete | Ended::Refused, Decider::Limiter | Decider::Queue) => Some(5),
        (Ended::Complete | Ended::Refused, Decider::Upstream) => {
            (outcome.status >= 500).then_some(0)
        }
        (
            Ended::Complete | Ended::Refused,
            Decider::Route | Decider::Access | Decider::Rate | Decider::Budget | Decider::Client,
        ) => None,
    }
}

/// The place in [`REFUSALS`].
fn refusal(decider: Decider) -> Option<usize> {
    match decider {
        Decider::Route => Some(0),
        Decider::Access => Some(1),
        Decider::Breaker => Some(2),
        Decider::Limiter => Some(3),
        Decider::Queue => Some(4),
        Decider::Rate => Some(5),
        Decider::Budget => Some(6),
        Decider::Connect | Decider::Phase(_) | Decider::Upstream | Decider::Client => None,
    }
}

/// The place in [`CONNECTIONS`].
fn connection_kind(connection: Connection) -> usize {
    match connection {
        Connection::Reused => 0,
        Connection::Fresh(Miss::Cold) => 1,
        Connection::Fresh(Miss::Ttl) => 2,
        Connection::Fresh(Miss::ClosedByPeer) => 3,
        Connection::Fresh(Miss::Cap) => 4,
        Connection::Fresh(Miss::KeyChanged) => 5,
        Connection::Fresh(Miss::Fresh) => 6,
    }
}

fn phase(outcome: &Outcome) -> Option<Phase> {
    match (outcome.ended, outcome.decided_by) {
        (Ended::TimedOut(phase), _) | (_, Decider::Phase(phase)) => Some(phase),
        _ => None,
    }
}

fn one<const N: usize>(counters: &[AtomicU64; N], place: usize) {
    if let Some(counter) = counters.get(place) {
        counter.fetch_add(1, Relaxed);
    }
}

/// Most requests add nothing to most counters, and looking is cheaper than adding.
fn add(counter: &AtomicU64, value: u64) {
    if value != 0 {
        counter.fetch_add(value, Relaxed);
    }
}

fn add_all<const N: usize>(sums: &mut [u64; N], values: &[u64; N]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum = sum.wrapping_add(*value);
    }
}

fn read_all<const N: usize>(sums: &mut [u64; N], counters: &[AtomicU64; N]) {
    for (sum, counter) in sums.iter_mut().zip(counters) {
        *sum = sum.wrapping_add(counter.load(Relaxed));
    }
}

/// A number of this thread, in the order in which threads asked.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    NUMBER.with(|number| match number.get() {
        Some(number) => number,
        None => {
            let next = NEXT.fetch_add(1, Relaxed);
            number.set(Some(next));
            next
        }
    })
}

/// Beyond this, threads share.
const SHARDS_MAX: usize = 64;

#[cfg(test)]
mod tests;
