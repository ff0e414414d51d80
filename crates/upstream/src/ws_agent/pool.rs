//! All links: who may connect, when, and who has to make room.
//!
//! A link has a task only while it is connected or being connected. What waits for its time or
//! its turn stands in the books of [`schedule`], and one task works them off.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use lifecycle::{CancellationToken, Clock, Tasks};
use websocket::Limits;

use super::identity::Identity;
use super::link::{Link, Phase};
use super::peer::{DeviceToken, Now, PeerState};
use super::tls::TlsClients;
use super::{Answer, Delivery, Outcome, Target};
use roster::Roster;
use schedule::Schedule;

pub use figures::{AgentTotals, LinkFigures, LinkState};
pub use roster::LinkId;

pub(super) use schedule::{Cause, End, Hold};

mod figures;
mod roster;
mod schedule;

/// What all links have in common.
#[derive(Debug, Clone)]
pub struct AgentsConfig {
    /// Most connections at once, those being made included.
    pub connections_max: usize,
    /// The first wait before another connection is tried; each further one is twice as long.
    pub reconnect_min: Duration,
    /// The longest such wait, up to 20 % more apart.
    pub reconnect_max: Duration,
    /// After so much silence a Stratix agent is pinged, and after as much again it is lost.
    pub keepalive: Duration,
    /// How long an agent's socket may take nothing while something waits for it.
    pub write_stall: Duration,
    /// Who we are to `OpenClaw` gateways.
    pub identity: Arc<Identity>,
    /// For the spread of waits.
    pub seed: u64,
    /// Most bytes that wait for one agent's socket; a larger message may wait alone.
    pub write_queue_bytes: usize,
    /// Most bytes of one message of an agent; beyond it the connection is closed with 1009.
    pub message_max: usize,
}

impl AgentsConfig {
    /// The defaults: 10,000 connections, 1 s to 30 s, keepalive and writes 30 s, 16 MiB and
    /// 64 MiB.
    pub fn new(identity: Arc<Identity>, seed: u64) -> Self {
        Self {
            connections_max: 10_000,
            reconnect_min: Duration::from_secs(1),
            reconnect_max: Duration::from_secs(30),
            keepalive: Duration::from_secs(30),
            write_stall: Duration::from_secs(30),
            identity,
            seed,
            write_queue_bytes: 16 * 1024 * 1024,
            message_max: 64 * 1024 * 1024,
        }
    }
}

/// Who hears what happens to links. The calls come from the links' tasks and must not block.
pub trait Listener: Send + Sync + 'static {
    /// Deliveries may be sent.
    fn up(&self, link: LinkId);
    /// They may not until the next `up`. It is told for every connection that ends and for
    /// every one that could not be made, before the outcomes of what was in flight.
    fn down(&self, link: LinkId, reason: &str);
    /// An agent says something.
    fn answer(&self, link: LinkId, answer: Answer);
}

/// The links to all agents, one shared link for each target.
pub struct Agents {
    config: AgentsConfig,
    tasks: Tasks,
    clock: Clock,
    listener: Arc<dyn Listener>,
    tls: TlsClients,
    roster: RwLock<Roster>,
    schedule: Schedule,
    /// Fires when connections are to end as soon as nothing is in flight on them.
    drain: CancellationToken,
    /// Fires when they are to end at once.
    cut: CancellationToken,
    tags: AtomicU64,
}

impl std::fmt::Debug for Agents {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let config = &self.config;
        formatter
            .debug_struct("Agents")
            .field("config", config)
            .finish_non_exhaustive()
    }
}

impl Agents {
    /// No links yet. Must be called within a runtime, as it starts a task.
    pub fn new(
        config: AgentsConfig,
        tasks: Tasks,
        clock: Clock,
        listener: Arc<dyn Listener>,
    ) -> Arc<Self> {
        let cut = tasks.stopping().child_token();
        let agents = Arc::new(Self {
            schedule: Schedule::new(config.seed),
            config,
            tasks,
            clock,
            listener,
            tls: TlsClients::new(),
            roster: RwLock::default(),
            drain: cut.child_token(),
            cut,
            tags: AtomicU64::new(0),
        });
        let run = schedule::run(Arc::clone(&agents));
        agents.tasks.spawn("agent-schedule", run);
        agents
    }

    /// The link of a target, made if new; it is not dialled yet. Equal targets share one.
    pub fn link(&self, target: &Target) -> LinkId {
        if let Some(link) = self.roster().find(target)
            && !link.state().released
        {
            return link.id;
        }
        let mut roster = self.roster_mut();
        if let Some(link) = roster.find(target) {
            link.state().released = false;
            return link.id;
        }
        roster.add(target)
    }

    /// Asks for a connection; [`Listener::up`] tells when it is there. When all places are
    /// taken the least recently used idle link makes room; if there is none, it waits its turn.
    pub fn wake(&self, link: LinkId) {
        if let Some(link) = self.get(link) {
            self.schedule.wake(&link, self.now().mono_ms);
        }
    }

    /// Whether deliveries may be sent.
    pub fn is_up(&self, link: LinkId) -> bool {
        self.get(link)
            .is_some_and(|link| link.state().phase == Phase::Up)
    }

    /// One try. It is not sent if the link is down, if as many as the target allows are in
    /// flight, or if the write queue is full. Otherwise the future ends with what the agent
    /// says, or as unknown when the connection is lost after the socket took the message.
    /// Dropping it forgets the try, which may still reach the agent.
    pub async fn deliver(&self, link: LinkId, delivery: Arc<Delivery>) -> Outcome {
        let not_sent = |reason: &str| Outcome::NotSent {
            reason: reason.to_owned(),
        };
        let Some(link) = self.get(link) else {
            return not_sent("agent has no route any more");
        };
        let tag = self.tags.fetch_add(1, Relaxed);
        let outcome = match link.order(tag, delivery, self.config.write_queue_bytes) {
            Ok(outcome) => outcome,
            Err(reason) => return not_sent(reason),
        };
        let _forget = Forget { link: &link, tag };
        outcome.await.unwrap_or_else(|_| Outcome::Unknown {
            reason: "connection ended without an outcome".to_owned(),
        })
    }

    /// The link is not needed any more: it is closed when nothing is in flight, and then gone.
    pub fn release(&self, link: LinkId) {
        let Some(link) = self.get(link) else {
            return;
        };
        link.state().released = true;
        self.remove_released(&link);
        link.changed.notify_one();
    }

    /// The link is not needed for now: it is gone if it is not connected and nobody has
    /// asked for a connection. Whether it is.
    pub fn release_resting(&self, link: LinkId) -> bool {
        let Some(link) = self.get(link) else {
            return true;
        };
        let mut roster = self.roster_mut();
        let rests = {
            let mut state = link.state();
            let rests = state.phase == Phase::Rest && !state.wanted;
            state.released |= rests;
            rests
        };
        if rests {
            roster.remove(link.id);
        }
        rests
    }

    /// Every link's state and counts, in no particular order.
    pub fn figures(&self) -> Vec<LinkFigures> {
        let links = self.roster().all();
        links.iter().map(|link| LinkFigures::of(link)).collect()
    }

    /// The sums over all links there are.
    pub fn totals(&self) -> AgentTotals {
        let links = self.roster().all();
        links.iter().fold(AgentTotals::default(), |sum, link| {
            sum.with(&LinkFigures::of(link))
        })
    }

    /// Closes all links: each as soon as nothing is in flight on it, all when the grace is
    /// over. Nothing is dialled any more.
    pub async fn close(&self, grace: Duration) {
        self.drain.cancel();
        for link in self.roster().all() {
            link.changed.notify_one();
        }
        if !self.schedule.emptied(grace).await {
            self.cut.cancel();
            self.schedule.emptied(CUT_TIME).await;
        }
    }

    fn get(&self, link: LinkId) -> Option<Arc<Link>> {
        self.roster().get(link)
    }

    /// Takes a released link off the roster if it is at rest.
    fn remove_released(&self, link: &Link) {
        let mut roster = self.roster_mut();
        let gone = {
            let state = link.state();
            state.released && matches!(state.phase, Phase::Rest | Phase::Queued | Phase::Paused)
        };
        if gone {
            roster.remove(link.id);
        }
    }

    fn roster(&self) -> RwLockReadGuard<'_, Roster> {
        self.roster.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn roster_mut(&self) -> RwLockWriteGuard<'_, Roster> {
        self.roster.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the tasks of links need.
impl Agents {
    pub(super) fn new_peer(&self, target: &Arc<Target>) -> PeerState {
        PeerState::new(target, &self.config.identity)
    }

    pub(super) fn tls(&self) -> &TlsClients {
        &self.tls
    }

    pub(super) fn now(&self) -> Now {
        Now {
            mono_ms: self.clock.mono_ms(),
            unix_ms: self.clock.unix_ms(),
        }
    }

    pub(super) fn listener(&self) -> &dyn Listener {
        &*self.listener
    }

    pub(super) fn limits(&self) -> Limits {
        let max = self.config.message_max;
        Limits {
            message_max: max,
            frame_max: max as u64,
            inflated_max: max,
            inflate_ratio_max: 1,
        }
    }

    pub(super) fn keepalive_ms(&self) -> u64 {
        u64::try_from(self.config.keepalive.as_millis()).unwrap_or(u64::MAX / 4)
    }

    pub(super) fn write_stall_ms(&self) -> u64 {
        u64::try_from(self.config.write_stall.as_millis()).unwrap_or(u64::MAX / 4)
    }

    /// Ends when connections are to be closed.
    pub(super) fn draining(&self) -> impl Future<Output = ()> + '_ {
        self.drain.cancelled()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Ends when connections are to be dropped.
    pub(super) fn cut(&self) -> impl Future<Output = ()> + '_ {
        self.cut.cancelled()
    }

    /// Keeps a device token; the file is written by a task of its own.
    pub(super) fn store_device(&self, token: DeviceToken) {
        let identity = Arc::clone(&self.config.identity);
        let tasks = self.tasks.clone();
        self.tasks.spawn("agent-device-token", async move {
            let stored = tasks.blocking(move || identity.store(&token)).await;
            if let Some(Err(error)) = stored {
                tracing::error!(%error, "device token was not kept");
            }
        });
    }

    /// A link that was asked to make room can not do so yet.
    pub(super) fn stays(&self, link: &Link, now_ms: u64) {
        link.used_ms.store(now_ms, Relaxed);
        self.schedule.stays();
    }

    /// A task has ended; decides what becomes of its link.
    pub(super) fn ended(&self, link: &Link, ended: super::link::Ended) {
        let draining = self.is_draining();
        let evicted = std::mem::take(&mut link.state().evicted);
        self.schedule
            .ended(link, ended, self.now().mono_ms, draining, &self.config);
        self.remove_released(link);
        self.schedule.left(evicted);
    }
}

/// Forgets a try when nobody waits for it any more.
struct Forget<'a> {
    link: &'a Link,
    tag: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.link.forget(self.tag);
    }
}

/// How long connections that were cut may take to be gone.
const CUT_TIME: Duration = Duration::from_secs(2);
