//! Whose turn it is to connect.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::super::Peer;
use super::super::link::{self, Ended, Link, Phase};
use super::super::peer::HoldReason;
use super::roster::LinkId;
use super::{Agents, AgentsConfig};

/// How a connection ended.
#[derive(Debug)]
pub(in crate::ws_agent) struct End {
    pub(in crate::ws_agent) cause: Cause,
    /// Close code of the other side.
    pub(in crate::ws_agent) code: Option<u16>,
    /// For operators.
    pub(in crate::ws_agent) reason: String,
}

impl End {
    pub(in crate::ws_agent) fn new(cause: Cause, reason: impl Into<String>) -> Self {
        Self {
            cause,
            code: None,
            reason: reason.into(),
        }
    }
}

/// Why a connection ended, as far as it decides what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ws_agent) enum Cause {
    /// It broke, was closed by the agent, or could not be made.
    Lost,
    /// Nothing was said for the target's idle time.
    Idle,
    /// Another link needed the place.
    Evicted,
    /// Nobody needs the link.
    Released,
    /// The gateway stops.
    Stopped,
}

/// The next try waits so long, whatever the backoff says.
#[derive(Debug)]
pub(in crate::ws_agent) struct Hold {
    pub(in crate::ws_agent) wait: Duration,
    pub(in crate::ws_agent) reason: HoldReason,
    pub(in crate::ws_agent) text: String,
}

/// Who waits, and how many connections there are.
pub(super) struct Schedule {
    books: Mutex<Books>,
    /// Something has changed for [`run`].
    changed: Notify,
    /// The last connection has ended.
    empty: Notify,
    random: AtomicU64,
}

#[derive(Default)]
struct Books {
    /// Tasks of links.
    active: usize,
    /// For a place. Each link stands here at most once, being [`Phase::Queued`].
    queued: VecDeque<LinkId>,
    /// For a time, in milliseconds of the clock. Likewise [`Phase::Paused`]. Links that were
    /// released meanwhile stay until their time.
    paused: BinaryHeap<Reverse<(u64, LinkId)>>,
    /// Links that were asked to make room and have not ended yet.
    evicting: usize,
}

impl Schedule {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            books: Mutex::default(),
            changed: Notify::new(),
            empty: Notify::new(),
            random: AtomicU64::new(seed),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake(&self, link: &Link, now_ms: u64) {
        let phase = {
            let mut state = link.state();
            if state.released {
                return;
            }
            if state.phase == Phase::Up {
                return;
            }
            state.wanted = true;
            if state.phase != Phase::Rest {
                return;
            }
            let early = now_ms < state.not_before_ms;
            state.phase = if early { Phase::Paused } else { Phase::Queued };
            (state.phase, state.not_before_ms)
        };
        self.enter(link.id, phase);
    }

    fn enter(&self, link: LinkId, (phase, at_ms): (Phase, u64)) {
        {
            let mut books = self.books();
            match phase {
                Phase::Queued => books.queued.push_back(link),
                Phase::Paused => books.paused.push(Reverse((at_ms, link))),
                Phase::Rest | Phase::Dialling | Phase::Up | Phase::Closing => return,
            }
        }
        self.changed.notify_one();
    }

    /// Decides what comes after a connection. Its place is free with [`Self::left`].
    pub(super) fn ended(
        &self,
        link: &Link,
        ended: Ended,
        now_ms: u64,
        draining: bool,
        config: &AgentsConfig,
    ) {
        let Ended {
            peer,
            end,
            hold,
            was_ready,
            outstanding,
        } = ended;
        let next = {
            let mut state = link.state();
            log(link, &end, was_ready, hold.as_ref(), &mut state);
            if let Some(hold) = &hold {
                state.obstacle = Some(hold.reason);
            }
            state.shrink();
            state.not_before_ms = match (&hold, end.cause) {
                (Some(hold), _) => now_ms.saturating_add(millis(hold.wait)),
                (None, Cause::Lost) => {
                    let wait = self.backoff(state.pauses, config);
                    state.pauses = state.pauses.saturating_add(1);
                    now_ms.saturating_add(millis(wait))
                }
                (None, Cause::Idle | Cause::Evicted | Cause::Released | Cause::Stopped) => now_ms,
            };
            // What was open on a broken connection is looked for on the next one.
            state.peer = match (end.cause, link.target.peer) {
                (Cause::Lost, Peer::OpenClaw) => Some(peer),
                _ => None,
            };
            state.wanted |= outstanding && end.cause == Cause::Lost;
            state.phase = if !state.wanted || state.released || draining {
                Phase::Rest
            } else if state.not_before_ms > now_ms {
                Phase::Paused
            } else {
                Phase::Queued
            };
            (state.phase, state.not_before_ms)
        };
        self.enter(link.id, next);
    }

    /// The connection of a link and its task are over.
    pub(super) fn left(&self, evicted: bool) {
        let empty = {
            let mut books = self.books();
            books.active -= 1;
            books.evicting -= usize::from(evicted);
            books.active == 0
        };
        if empty {
            self.empty.notify_waiters();
        }
        self.changed.notify_one();
    }

    /// Something that was asked to make room can not do so yet.
    pub(super) fn stays(&self) {
        self.books().evicting -= 1;
        self.changed.notify_one();
    }

    /// Waits until there is no connection; `false` if the time was too short.
    pub(super) async fn emptied(&self, time: Duration) -> bool {
        let gone = async {
            loop {
                let empty = self.empty.notified();
                tokio::pin!(empty);
                empty.as_mut().enable();
                if self.books().active == 0 {
                    return;
                }
                empty.await;
            }
        };
        tokio::time::timeout(time, gone).await.is_ok()
    }

    /// The wait before the next connection after `pauses` waits, ± 20 %.
    fn backoff(&self, pauses: u32, config: &AgentsConfig) -> Duration {
        let wait = config.reconnect_min.saturating_mul(1 << pauses.min(20));
        let wait = wait.min(config.reconnect_max);
        let share = (self.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        wait.mul_f64(0.8 + 0.4 * share)
    }

    /// The next number of the sequence that the seed determines (SplitMix64).
    fn draw(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15_u64;
        let mut mixed = self.random.fetch_add(step, Relaxed).wrapping_add(step);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Starts connections when it is their time and their turn.
pub(super) async fn run(agents: Arc<Agents>) {
    loop {
        let wait = agents.start_due();
        tokio::select! {
            () = agents.draining() => return,
            () = agents.schedule.changed.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl Agents {
    /// Starts what is due, and tells how long nothing will be if nothing changes.
    fn start_due(self: &Arc<Self>) -> Duration {
        let now_ms = self.now().mono_ms;
        let mut due = Vec::new();
        let (mut wait, lacking) = {
            let mut books = self.schedule.books();
            while let Some(&Reverse((at_ms, link))) = books.paused.peek()
                && at_ms <= now_ms
            {
                books.paused.pop();
                books.queued.push_back(link);
            }
            let places = self.config.connections_max.saturating_sub(books.active);
            let count = places.min(books.queued.len());
            due.extend(books.queued.drain(..count));
            books.active += due.len();
            let next = books.paused.peek();
            let next = next.map_or(WAIT_MAX, |Reverse((at_ms, _))| {
                Duration::from_millis(at_ms.saturating_sub(now_ms))
            });
            let lacking = books.queued.len().saturating_sub(books.evicting);
            (next.min(WAIT_MAX), lacking)
        };
        let mut unused = 0;
        for id in due {
            match self.get(id).filter(|link| begin(link)) {
                Some(link) => {
                    let task = link::run(Arc::clone(self), link);
                    self.tasks.spawn("agent-link", task);
                }
                None => unused += 1,
            }
        }
        if unused > 0 {
            self.schedule.books().active -= unused;
            wait = Duration::ZERO;
        }
        if lacking > 0 {
            self.make_room(lacking);
            wait = wait.min(ROOM_AGAIN);
        }
        wait
    }

    /// Asks up to `count` idle links to close, those first whose last use is longest ago.
    fn make_room(&self, count: usize) {
        let mut idle: Vec<(u64, Arc<Link>)> = Vec::new();
        for link in self.roster().all() {
            let is_idle = {
                let state = link.state();
                state.phase == Phase::Up && state.waiting.is_empty() && !state.evicted
            };
            if is_idle {
                idle.push((link.used_ms.load(Relaxed), link));
            }
        }
        idle.sort_unstable_by_key(|(used_ms, _)| *used_ms);
        for (_, link) in idle.into_iter().take(count) {
            // Counted before it is asked, as it may be gone at once.
            self.schedule.books().evicting += 1;
            let asked = {
                let mut state = link.state();
                let can = state.phase == Phase::Up && !state.evicted;
                state.evicted |= can;
                can
            };
            if asked {
                link.changed.notify_one();
            } else {
                self.schedule.books().evicting -= 1;
            }
        }
    }
}

/// Whether a link whose turn it is still wants to connect.
fn begin(link: &Link) -> bool {
    let mut state = link.state();
    let waits = matches!(state.phase, Phase::Queued | Phase::Paused) && !state.released;
    if waits {
        state.phase = Phase::Dialling;
    }
    waits
}

fn log(link: &Link, end: &End, was_ready: bool, hold: Option<&Hold>, state: &mut link::State) {
    let url = link.shown_url();
    let reason = end.reason.as_str();
    if was_ready {
        tracing::info!(url, reason, "agent disconnected");
    }
    match hold {
        Some(hold) if hold.reason == HoldReason::Retry || state.obstacle == Some(hold.reason) => {
            tracing::debug!(url, reason = hold.text, "agent is held off");
        }
        Some(hold) if hold.reason == HoldReason::Certificate => {
            tracing::error!(url, reason = hold.text, "agent is held off");
        }
        Some(hold) => {
            let wait_seconds = hold.wait.as_secs_f64();
            tracing::warn!(url, reason = hold.text, wait_seconds, "agent is held off");
        }
        None if was_ready || end.cause != Cause::Lost => {}
        None if !std::mem::replace(&mut state.is_missed, true) => {
            tracing::warn!(url, reason, "agent is not reached");
        }
        None => tracing::debug!(url, reason, "agent is not reached"),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The longest sleep of the schedule.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// When links are looked through again for some that can make room.
const ROOM_AGAIN: Duration = Duration::from_millis(250);
