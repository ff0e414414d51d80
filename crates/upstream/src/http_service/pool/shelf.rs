//! The connections to one origin.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use lifecycle::Clock;
use tokio::sync::{Notify, watch};

use super::figures::{Figures, Miss};
use super::http2::Trunk;
use super::learned::Learned;
use super::{DialError, Dialler, Http2Link, Stream, millis};
use crate::http_service::Origin;

/// All that is kept of one origin.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) origin: Arc<Origin>,
    pub(super) dialler: Dialler,
    /// Rung when a stream of HTTP/2 ends, or a connection.
    pub(super) freed: Notify,
    pub(super) clock: Clock,
    figures: Arc<Figures>,
    /// Shared with the resting connections, which it must not keep alive.
    watch: Arc<Watch>,
    waker: Waker,
    state: Mutex<State>,
}

/// A connection of HTTP/1.1 that nobody uses.
#[derive(Debug)]
pub(super) struct Resting {
    pub(super) stream: Stream,
    /// Since when it rests.
    pub(super) since_ms: u64,
    /// When it has become too old.
    pub(super) dies_ms: u64,
    /// How long the server lets it rest, as far as it said.
    pub(super) rest_max_ms: u64,
    pub(super) has_served: bool,
}

/// Which version of HTTP an origin was last found to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Unknown,
    Http1,
    Http2,
}

/// How a common attempt to connect ended; `None` while it is under way.
pub(super) type Landing = Option<Result<(), DialError>>;

/// What is to be done by one that shares connections.
#[derive(Debug)]
pub(super) enum Step {
    /// Wait for the attempt that is under way.
    Await(watch::Receiver<Landing>),
    /// Make an attempt, and report its end.
    Attempt(watch::Sender<Landing>, watch::Receiver<Landing>),
    /// Wait until a stream ends.
    AwaitStream,
}

#[derive(Debug)]
struct State {
    /// The oldest in front.
    resting: VecDeque<Resting>,
    http2: Vec<Trunk>,
    speaks: Speaks,
    attempt: Option<watch::Receiver<Landing>>,
    learned: Learned,
    lost: Lost,
    used_ms: u64,
}

/// Why connections went that a request might have used.
#[derive(Debug, Default)]
struct Lost {
    ttl: u32,
    closed: u32,
    cap: u32,
    is_new_key: bool,
}

#[derive(Debug)]
struct Watch {
    is_rung: AtomicBool,
    bell: Arc<Notify>,
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_rung.swap(true, Ordering::AcqRel) {
            self.bell.notify_one();
        }
    }
}

impl Shelf {
    pub(super) fn new(
        origin: Arc<Origin>,
        dialler: Dialler,
        clock: Clock,
        figures: Arc<Figures>,
        bell: Arc<Notify>,
        is_new_key: bool,
    ) -> Self {
        let watch = Arc::new(Watch {
            is_rung: AtomicBool::new(false),
            bell,
        });
        Self {
            origin,
            dialler,
            freed: Notify::new(),
            clock,
            figures,
            waker: Waker::from(Arc::clone(&watch)),
            watch,
            state: Mutex::new(State {
                resting: VecDeque::new(),
                http2: Vec::new(),
                speaks: Speaks::Unknown,
                attempt: None,
                learned: Learned::default(),
                lost: Lost {
                    is_new_key,
                    ..Lost::default()
                },
                used_ms: clock.mono_ms(),
            }),
        }
    }

    /// The connection that rested last and still stands.
    pub(super) fn take_resting(&self) -> Result<Resting, Miss> {
        let now_ms = self.clock.mono_ms();
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let mut state = self.lock();
            state.used_ms = now_ms;
            let Some(mut resting) = state.resting.pop_back() else {
                return Err(state.lost.blame());
            };
            self.figures.idle.down();
            let has_expired = self.has_expired(&resting, &state.learned, now_ms);
            if has_expired {
                state.lost.ttl += 1;
            }
            drop(state);
            if has_expired {
                continue;
            }
            if resting.stream.is_quiet(&mut cx) {
                return Ok(resting);
            }
            let rested_ms = now_ms.saturating_sub(resting.since_ms);
            let mut state = self.lock();
            state.learned.note(now_ms, rested_ms);
            state.lost.closed += 1;
        }
    }

    /// Lays a connection down, unless it is of no more use; tells whether it did.
    pub(super) fn put(&self, mut resting: Resting, cap: usize) -> bool {
        let now_ms = resting.since_ms;
        if cap == 0 || self.origin.idle_timeout.is_zero() || resting.dies_ms <= now_ms {
            return false;
        }
        if !resting
            .stream
            .is_quiet(&mut Context::from_waker(&self.waker))
        {
            self.lock().lost.closed += 1;
            return false;
        }
        let mut state = self.lock();
        let surplus = if state.resting.len() >= cap {
            state.lost.cap += 1;
            self.figures.idle.down();
            state.resting.pop_front()
        } else {
            None
        };
        state.resting.push_back(resting);
        self.figures.idle.up();
        drop(state);
        drop(surplus);
        true
    }

    /// Since when the oldest rests.
    pub(super) fn rests_since_ms(&self) -> Option<u64> {
        self.lock().resting.front().map(|oldest| oldest.since_ms)
    }

    /// Gives up the oldest so that others have room.
    pub(super) fn give_up_oldest(&self) -> Option<Resting> {
        let mut state = self.lock();
        let oldest = state.resting.pop_front()?;
        state.lost.cap += 1;
        self.figures.idle.down();
        Some(oldest)
    }

    /// Leave for a stream on the least used connection of HTTP/2.
    pub(super) fn lease(self: &Arc<Self>, miss: Option<Miss>) -> Option<Http2Link> {
        let mut state = self.lock();
        if state.http2.is_empty() {
            return None;
        }
        let now_ms = self.clock.mono_ms();
        state.used_ms = now_ms;
        state
            .http2
            .retain(|connection| connection.is_usable(now_ms));
        state
            .http2
            .iter()
            .filter(|connection| connection.has_room())
            .min_by_key(|connection| connection.streams())
            .map(|connection| connection.lease(self, miss))
    }

    /// What is next for one that found no connection.
    pub(super) fn step(&self, http2_max: usize) -> Step {
        let mut state = self.lock();
        if let Some(attempt) = &state.attempt {
            return Step::Await(attempt.clone());
        }
        if state.http2.len() >= http2_max.max(1) {
            return Step::AwaitStream;
        }
        let (tx, rx) = watch::channel(None);
        state.attempt = Some(rx.clone());
        Step::Attempt(tx, rx)
    }

    /// The common attempt has ended.
    pub(super) fn landed(&self, found: Option<Speaks>) {
        let mut state = self.lock();
        state.attempt = None;
        if let Some(found) = found {
            state.speaks = found;
        }
    }

    pub(super) fn has_http2(&self) -> bool {
        !self.lock().http2.is_empty()
    }

    pub(super) fn speaks(&self) -> Speaks {
        self.lock().speaks
    }

    /// Takes up a connection of HTTP/2.
    pub(super) fn share(&self, connection: Trunk) {
        let mut state = self.lock();
        state.speaks = Speaks::Http2;
        state.http2.push(connection);
    }

    /// Drops what is closed or has expired: everywhere, or only if a connection has
    /// something to say.
    pub(super) fn sweep(&self, is_thorough: bool) {
        let is_rung = self.watch.is_rung.swap(false, Ordering::AcqRel);
        if !is_rung && !is_thorough {
            return;
        }
        let now_ms = self.clock.mono_ms();
        let mut cx = Context::from_waker(&self.waker);
        // Closed only after the lock is free.
        let mut dropped = Vec::new();
        let mut dropped_http2 = Vec::new();
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut index = 0;
        while let Some(resting) = state.resting.get_mut(index) {
            if self.has_expired(resting, &state.learned, now_ms) {
                state.lost.ttl += 1;
            } else if resting.stream.is_quiet(&mut cx) {
                index += 1;
                continue;
            } else {
                let rested_ms = now_ms.saturating_sub(resting.since_ms);
                state.learned.note(now_ms, rested_ms);
                state.lost.closed += 1;
            }
            self.figures.idle.down();
            dropped.extend(state.resting.remove(index));
        }
        if is_thorough {
            let idle_ms = millis(self.origin.idle_timeout);
            dropped_http2.extend(state.http2.extract_if(.., |connection| {
                !connection.is_usable(now_ms) || connection.has_rested(now_ms, idle_ms)
            }));
        }
        drop(guard);
        drop(dropped);
        drop(dropped_http2);
    }

    /// Nothing is kept, and nothing was asked for in a while.
    pub(super) fn is_forgotten(&self) -> bool {
        let state = self.lock();
        state.resting.is_empty()
            && state.http2.is_empty()
            && state.attempt.is_none()
            && self.clock.mono_ms().saturating_sub(state.used_ms) > FORGOTTEN_AFTER_MS
    }

    fn has_expired(&self, resting: &Resting, learned: &Learned, now_ms: u64) -> bool {
        let rest_max_ms = millis(self.origin.idle_timeout)
            .min(resting.rest_max_ms)
            .min(learned.rest_max_ms(now_ms).unwrap_or(u64::MAX));
        resting.dies_ms <= now_ms || now_ms.saturating_sub(resting.since_ms) >= rest_max_ms
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lost {
    /// Why nothing rests: each loss accounts for one miss, the gravest first.
    fn blame(&mut self) -> Miss {
        if std::mem::take(&mut self.is_new_key) {
            return Miss::KeyChanged;
        }
        let losses = [
            (&mut self.closed, Miss::ClosedByPeer),
            (&mut self.ttl, Miss::Ttl),
            (&mut self.cap, Miss::Cap),
        ];
        for (count, miss) in losses {
            if let Some(less) = count.checked_sub(1) {
                *count = less;
                return miss;
            }
        }
        Miss::Cold
    }
}

/// How long an origin without connections is remembered, with what was learned of it.
const FORGOTTEN_AFTER_MS: u64 = 15 * 60 * 1000;
