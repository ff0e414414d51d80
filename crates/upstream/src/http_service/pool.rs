//! Connections that rest between two requests.
//!
//! Each origin has a shelf. On it connections of HTTP/1.1 rest, the one used last is
//! taken first, and those of HTTP/2 are shared. Resting connections are watched: what the
//! server closes, or says unasked, takes a connection off its shelf at once, so that taking
//! one needs no question to the system. What is left of the race between a request and the
//! server's closing is narrowed by what was learned about the server (`learned`).
//!
//! Nothing is held over an await, and no two locks are held at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use lifecycle::{Clock, Tasks};
use tokio::sync::Notify;

use super::dial::{DialError, Dialled, Dialler, TlsClients};
use super::{Origin, Scheme, Stream, Versions};
use crate::quantum_peer::Peers;
use figures::Figures;
use shelf::{Resting, Shelf, Speaks};

pub use figures::{Miss, PoolFigures};
pub(super) use http2::Lease;
pub use quantum::QuantumLink;
use quantum::Trunks;

mod figures;
mod http2;
mod learned;
mod quantum;
mod shelf;
mod sweep;

/// How many connections may rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// To all origins together; the one that rested longest makes room.
    pub idle_max: usize,
    /// To one origin.
    pub idle_per_origin_max: usize,
    /// HTTP/2 connections to one origin at once.
    pub http2_per_origin_max: usize,
    /// How long a TLS handshake may take.
    pub tls_timeout: Duration,
    /// How old a connection may become; spread by chance, down to nine tenths.
    pub lifetime_max: Duration,
    /// After how long without a word from the server, while streams are open, an HTTP/2
    /// connection is asked whether it still stands.
    pub http2_ping_after: Duration,
    /// How long the answer to that may take.
    pub http2_ping_timeout: Duration,
}

/// The connections. Clones share them.
#[derive(Debug, Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: PoolSettings,
    clock: Clock,
    tasks: Tasks,
    tls: Arc<TlsClients>,
    shelves: RwLock<HashMap<Arc<Origin>, Arc<Shelf>>>,
    /// Where there is an identity to show.
    quantum: Option<Trunks>,
    figures: Arc<Figures>,
    /// Rung when a connection that rests has something to say.
    bell: Arc<Notify>,
    is_swept: AtomicBool,
    chance: AtomicU64,
}

/// A connection, taken from the pool or made.
#[derive(Debug)]
pub enum Link {
    /// For one request at a time.
    Http1(Http1Link),
    /// A stream of a shared connection.
    Http2(Http2Link),
    /// Leave to make a call over Quantum.
    Quantum(QuantumLink),
}

/// A connection of HTTP/1.1. Dropping it closes it.
#[derive(Debug)]
pub struct Http1Link {
    /// The connection.
    pub stream: Stream,
    /// It has served a request before: if it turns out to be closed, that says nothing
    /// about the upstream.
    pub is_reused: bool,
    /// Why it was made, if it was.
    pub miss: Option<Miss>,
    seat: Seat,
}

/// Leave to open a stream on a connection of HTTP/2.
#[derive(Debug)]
pub struct Http2Link {
    /// Opens the stream; ready.
    pub sender: h2::client::SendRequest<bytes::Bytes>,
    /// The connection has served requests before.
    pub is_reused: bool,
    /// Why no connection was found at once, if none was.
    pub miss: Option<Miss>,
    /// To be kept until the stream has ended.
    pub(super) lease: Lease,
}

/// What a connection in use keeps of the pool.
#[derive(Debug)]
struct Seat {
    shared: Arc<Shared>,
    shelf: Arc<Shelf>,
    dies_ms: u64,
    /// What the server said of how long it may rest.
    rest_max_ms: u64,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            idle_max: 1000,
            idle_per_origin_max: 100,
            http2_per_origin_max: 32,
            tls_timeout: Duration::from_secs(5),
            lifetime_max: Duration::from_secs(600),
            http2_ping_after: Duration::from_secs(30),
            http2_ping_timeout: Duration::from_secs(15),
        }
    }
}

impl Pool {
    /// An empty pool.
    pub fn new(settings: PoolSettings, clock: Clock, tasks: Tasks) -> Self {
        Self::with_quantum(settings, clock, tasks, None)
    }

    /// An empty pool that makes calls over Quantum too, from these peers' endpoint.
    pub fn with_quantum(
        settings: PoolSettings,
        clock: Clock,
        tasks: Tasks,
        peers: Option<Peers>,
    ) -> Self {
        let mut seed = [0; 8];
        // Without chance all connections of one moment end together, which does no harm.
        if let Err(error) = getrandom::fill(&mut seed) {
            tracing::debug!(%error, "lifetimes are not spread");
        }
        Self {
            shared: Arc::new(Shared {
                settings,
                clock,
                tasks,
                tls: Arc::new(TlsClients::new()),
                shelves: RwLock::default(),
                quantum: peers.map(|peers| Trunks::new(peers, clock)),
                figures: Arc::new(Figures::default()),
                bell: Arc::new(Notify::new()),
                is_swept: AtomicBool::new(false),
                chance: AtomicU64::new(u64::from_ne_bytes(seed)),
            }),
        }
    }

    /// A connection to an origin: one that rests, unless `fresh` is asked for, or a new
    /// one. One of HTTP/2 is shared either way; that it stands is known.
    ///
    /// Takes at most the origin's dial timeout and, with TLS, that of the handshake.
    pub async fn take(&self, origin: &Arc<Origin>, fresh: bool) -> Result<Link, DialError> {
        let shared = &self.shared;
        if origin.scheme == Scheme::Quantum {
            let trunks = shared.quantum.as_ref().ok_or(DialError::NoQuantum)?;
            shared.start_sweep();
            return Box::pin(trunks.take(origin)).await;
        }
        let shelf = shared.shelf(origin);
        let miss = if fresh {
            Miss::Fresh
        } else {
            match shared.reuse(&shelf) {
                Ok(link) => return Ok(link),
                Err(miss) => miss,
            }
        };
        shared.figures.note_miss(miss);
        shared.start_sweep();
        // Beside the path of reuse, which stays small.
        Box::pin(shared.connect(&shelf, miss)).await
    }

    /// A reading of the counters.
    pub fn figures(&self) -> PoolFigures {
        self.shared.figures.read()
    }
}

impl Shared {
    fn shelf(&self, origin: &Arc<Origin>) -> Arc<Shelf> {
        let shelves = self.shelves.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(shelf) = shelves.get(origin) {
            return Arc::clone(shelf);
        }
        drop(shelves);
        let mut shelves = self.shelves.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(shelf) = shelves.get(origin) {
            return Arc::clone(shelf);
        }
        let is_known_place = shelves.keys().any(|known| {
            (known.scheme, &known.host, known.port) == (origin.scheme, &origin.host, origin.port)
        });
        let dialler = Dialler::new(
            Arc::clone(origin),
            Arc::clone(&self.tls),
            self.settings.tls_timeout,
            self.clock,
        );
        let shelf = Arc::new(Shelf::new(
            Arc::clone(origin),
            dialler,
            self.clock,
            Arc::clone(&self.figures),
            Arc::clone(&self.bell),
            is_known_place,
        ));
        shelves.insert(Arc::clone(origin), Arc::clone(&shelf));
        shelf
    }

    fn reuse(self: &Arc<Self>, shelf: &Arc<Shelf>) -> Result<Link, Miss> {
        if let Some(link) = shelf.lease(None) {
            self.figures.note_reuse();
            return Ok(Link::Http2(link));
        }
        let resting = shelf.take_resting()?;
        self.figures.note_reuse();
        Ok(Link::Http1(self.link(shelf, resting, None)))
    }

    fn link(
        self: &Arc<Self>,
        shelf: &Arc<Shelf>,
        resting: Resting,
        miss: Option<Miss>,
    ) -> Http1Link {
        self.figures.in_use.up();
        Http1Link {
            stream: resting.stream,
            is_reused: resting.has_served,
            miss,
            seat: Seat {
                shared: Arc::clone(self),
                shelf: Arc::clone(shelf),
                dies_ms: resting.dies_ms,
                rest_max_ms: resting.rest_max_ms,
            },
        }
    }

    async fn connect(self: &Arc<Self>, shelf: &Arc<Shelf>, miss: Miss) -> Result<Link, DialError> {
        let may_be_http2 = match (shelf.origin.versions, shelf.origin.scheme) {
            (_, Scheme::Quantum) => return Err(DialError::NoQuantum),
            (Versions::Http1, _) | (Versions::Negotiated, Scheme::Http) => false,
            (Versions::Http2, _) => true,
            (Versions::Negotiated, Scheme::Https) => shelf.speaks() != Speaks::Http1,
        };
        if may_be_http2 {
            return self.connect_together(shelf, miss).await;
        }
        let dialled = self.dial(shelf).await?;
        if dialled.is_http2 {
            // The server has changed its mind since.
            self.adopt(shelf, dialled).await?;
            return shelf
                .lease(Some(miss))
                .map(Link::Http2)
                .ok_or(DialError::NoStream);
        }
        let resting = self.newborn(dialled.stream);
        Ok(Link::Http1(self.link(shelf, resting, Some(miss))))
    }

    async fn dial(&self, shelf: &Shelf) -> Result<Dialled, DialError> {
        let dialled = shelf.dialler.open().await;
        match &dialled {
            Ok(_) => self.figures.note_connect(),
            Err(error) => self.figures.note_failure(error),
        }
        dialled
    }

    fn newborn(&self, stream: Stream) -> Resting {
        let now_ms = self.clock.mono_ms();
        Resting {
            stream,
            since_ms: now_ms,
            dies_ms: now_ms.saturating_add(self.lifetime_ms()),
            rest_max_ms: u64::MAX,
            has_served: false,
        }
    }

    /// Between nine tenths of the lifetime and all of it.
    fn lifetime_ms(&self) -> u64 {
        let max = millis(self.settings.lifetime_max);
        let drawn = self
            .chance
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 54;
        max - max / 10_240 * drawn
    }

    /// Lays a connection on its shelf.
    fn rest(&self, shelf: &Shelf, resting: Resting) {
        let cap = self
            .settings
            .idle_per_origin_max
            .min(self.settings.idle_max);
        if !shelf.put(resting, cap) {
            return;
        }
        if self.figures.idle.read() > self.settings.idle_max as u64 {
            self.make_room();
        }
    }

    /// Closes the connection that has rested longest.
    fn make_room(&self) {
        let shelves = self.shelves.read().unwrap_or_else(PoisonError::into_inner);
        let oldest = shelves
            .values()
            .filter_map(|shelf| Some((shelf.rests_since_ms()?, shelf)))
            .min_by_key(|(since_ms, _)| *since_ms);
        let closed = oldest.and_then(|(_, shelf)| shelf.give_up_oldest());
        drop(shelves);
        drop(closed);
    }

    fn start_sweep(self: &Arc<Self>) {
        if !self.is_swept.swap(true, Ordering::Relaxed) {
            let weak = Arc::downgrade(self);
            let bell = Arc::clone(&self.bell);
            let stopping = self.tasks.stopping();
            self.tasks
                .spawn("http pool", sweep::run(weak, bell, stopping));
        }
    }
}

impl Http1Link {
    /// Puts it back to rest: its last answer was read to the end, and nothing more.
    pub fn put_back(self) {
        let Self { stream, seat, .. } = self;
        let resting = Resting {
            stream,
            since_ms: seat.shared.clock.mono_ms(),
            dies_ms: seat.dies_ms,
            rest_max_ms: seat.rest_max_ms,
            has_served: true,
        };
        seat.shared.rest(&seat.shelf, resting);
    }

    /// Takes note of the answer's `Keep-Alive` field: how long the server is going to
    /// let the connection rest.
    pub fn heard_keep_alive(&mut self, value: &[u8]) {
        let timeout = value.split(|byte| *byte == b',').find_map(|part| {
            let part = str::from_utf8(part.trim_ascii()).ok()?;
            let (name, seconds) = part.split_once('=')?;
            name.eq_ignore_ascii_case("timeout").then_some(seconds)
        });
        if let Some(seconds) = timeout.and_then(|seconds| seconds.trim().parse::<u32>().ok()) {
            self.seat.rest_max_ms = u64::from(seconds) * 900;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.figures.in_use.down();
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
