//! All workers, for whoever wants something of all connections.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use auth::Revocations;
use bus::Bus;
use bytes::Bytes;
use lifecycle::{CancellationToken, Clock, Tasks};
use protocol::code::Disconnect;
use protocol::session::{ClientId, Operation};
use router::relay::Relay;
use tokio::sync::oneshot;

use crate::door::Door;
use crate::gate::Gate;
use crate::live::{Current, Fixed};
use crate::metrics::Metrics;
use crate::worker::Drained;
use crate::worker::arrival::Arrival;
use crate::worker::inbox::{Inbox, Mail};
use crate::worker::slab::Key;
pub use crate::worker::{Glimpse, Select};
use crate::worker::{Surroundings, Worker};

/// How long a worker may take to answer an operator.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Clients are sent away in this many slices per second.
const DRAIN_SLICES: u32 = 20;

/// How long to wait between two looks for those who are on their way out.
const IDLE_PAUSE: Duration = Duration::from_millis(20);

/// What workers share about clients.
pub(crate) struct Registers {
    pub(crate) door: Arc<Door>,
    pub(crate) users: UserCounts,
    pub(crate) emulated: Emulated,
    pub(crate) latest: Latest,
    inboxes: OnceLock<Vec<Arc<Inbox>>>,
}

impl Registers {
    /// Ends the user's other connections with 3504.
    pub(crate) fn disconnect_others(&self, user: &str, except: ClientId) {
        let select = Select {
            except: vec![except],
            ..Select::default()
        };
        let operation = Operation::Disconnect(Disconnect::CONNECTION_LIMIT);
        self.operate(user, &select, &operation);
    }

    /// Ends the connections of a client of the relay that came before this one, with 4500.
    pub(crate) fn replace_before(&self, user: &str, arrival: u64) {
        let select = Select {
            arrived_before: Some(arrival),
            ..Select::default()
        };
        let operation = Operation::Disconnect(Disconnect::REPLACED);
        self.operate(user, &select, &operation);
    }

    fn operate(&self, user: &str, select: &Select, operation: &Operation) {
        for inbox in self.inboxes() {
            let (user, select, operation) = (user.to_owned(), select.clone(), operation.clone());
            inbox.post(Mail::Task(Box::new(move |worker| {
                worker.operate_user(&user, &select, &operation);
            })));
        }
    }

    fn inboxes(&self) -> &[Arc<Inbox>] {
        self.inboxes.get().map_or(&[], Vec::as_slice)
    }
}

/// How many connections each user has in this process.
#[derive(Debug, Default)]
pub(crate) struct UserCounts {
    counts: Mutex<HashMap<Box<str>, usize>>,
}

impl UserCounts {
    /// Counts one more, unless the user has `limit` already (0: no limit). Anonymous
    /// users are nobody in particular and not limited.
    pub(crate) fn enter(&self, user: &str, limit: usize) -> bool {
        if user.is_empty() {
            return true;
        }
        let mut counts = lock(&self.counts);
        match counts.get_mut(user) {
            Some(count) if limit > 0 && *count >= limit => return false,
            Some(count) => *count += 1,
            None => {
                counts.insert(user.into(), 1);
            }
        }
        true
    }

    pub(crate) fn leave(&self, user: &str) {
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                counts.remove(user);
            }
        }
        if counts.capacity() > 4 * counts.len() + 1_024 {
            let twice = 2 * counts.len();
            counts.shrink_to(twice);
        }
    }

    fn len(&self) -> usize {
        lock(&self.counts).len()
    }
}

/// Which connection of each client of the relay came last. Workers register connections in
/// whatever order they come to it; the order of arrival decides who replaces whom.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    arrivals: AtomicU64,
    by_user: Mutex<HashMap<Box<str>, u64>>,
}

impl Latest {
    /// The number of one more arrival.
    pub(crate) fn next(&self) -> u64 {
        self.arrivals.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Enters a connection; `false` if a later one is there already.
    pub(crate) fn enter(&self, user: &str, arrival: u64) -> bool {
        let mut by_user = lock(&self.by_user);
        match by_user.get_mut(user) {
            Some(latest) if *latest > arrival => return false,
            Some(latest) => *latest = arrival,
            None => {
                by_user.insert(user.into(), arrival);
            }
        }
        true
    }

    /// Removes a connection, unless another has taken its place.
    pub(crate) fn leave(&self, user: &str, arrival: u64) {
        let mut by_user = lock(&self.by_user);
        if by_user.get(user) == Some(&arrival) {
            by_user.remove(user);
        }
        if by_user.capacity() > 4 * by_user.len() + 1_024 {
            let twice = 2 * by_user.len();
            by_user.shrink_to(twice);
        }
    }
}

/// Where the sessions of emulated transports are, by their secret.
#[derive(Debug, Default)]
pub(crate) struct Emulated {
    sessions: Mutex<HashMap<u128, (Arc<Inbox>, Key)>>,
}

impl Emulated {
    pub(crate) fn add(&self, session: u128, inbox: Arc<Inbox>, key: Key) {
        lock(&self.sessions).insert(session, (inbox, key));
    }

    pub(crate) fn remove(&self, session: u128) {
        lock(&self.sessions).remove(&session);
    }

    /// Hands a frame to a session; an unknown one is nobody's. `false` if its worker
    /// can't take it at the moment.
    pub(crate) fn frame(&self, session: u128, frame: Bytes) -> bool {
        let found = lock(&self.sessions).get(&session).cloned();
        found.is_none_or(|(inbox, key)| inbox.post_frame(key, frame))
    }
}

/// All workers of this process.
pub struct Fleet {
    registers: Arc<Registers>,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    next: AtomicUsize,
    threads: Mutex<Vec<JoinHandle<()>>>,
    failed: CancellationToken,
}

/// What the workers are started with.
pub struct Crew {
    /// The bus they subscribe to.
    pub bus: Bus,
    /// The way to agents, if there is one.
    pub relay: Option<Arc<Relay>>,
    /// Settings in force.
    pub current: Current,
    /// Settings for good.
    pub fixed: Fixed,
    /// For token checks.
    pub tasks: Tasks,
    /// For token checks, and to end connections whose token is revoked.
    pub revocations: Arc<Revocations>,
    /// The process's clock.
    pub clock: Clock,
    /// Who is let in.
    pub door: Arc<Door>,
    /// The edge's metrics.
    pub metrics: Arc<Metrics>,
}

/// Workers could not be started.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The system gave no poll.
    #[error("worker could not be set up")]
    Poll(#[from] io::Error),
    /// The system gave no thread.
    #[error("worker could not be started")]
    Thread(#[from] lifecycle::ThreadError),
}

impl Fleet {
    /// Starts the workers. To be called within the runtime that runs token checks.
    pub fn start(crew: Crew) -> Result<Arc<Self>, FleetError> {
        let Crew {
            bus,
            relay,
            current,
            fixed,
            tasks,
            revocations,
            clock,
            door,
            metrics,
        } = crew;
        let registers = Arc::new(Registers {
            door,
            users: UserCounts::default(),
            emulated: Emulated::default(),
            latest: Latest::default(),
            inboxes: OnceLock::new(),
        });
        let gate = Arc::new(Gate::new(
            tasks,
            Arc::clone(&current),
            revocations,
            clock,
            Arc::clone(&metrics),
        ));
        let runtime = tokio::runtime::Handle::current();
        let mut inboxes = Vec::new();
        let mut threads = Vec::new();
        let failed = CancellationToken::new();
        for index in 0..fixed.workers.max(1) {
            let (worker, inbox) = Worker::new(Surroundings {
                bus: bus.clone(),
                relay: relay.clone(),
                gate: Arc::clone(&gate),
                registers: Arc::clone(&registers),
                current: Arc::clone(&current),
                fixed,
                clock,
                metrics: Arc::clone(&metrics),
            })?;
            inboxes.push(Arc::clone(&inbox));
            let (runtime, failed) = (runtime.clone(), failed.clone());
            threads.push(lifecycle::thread(
                &format!("tidegate-w{index}"),
                move || {
                    // So that the worker can start token checks there.
                    let _entered = runtime.enter();
                    work(worker, &failed);
                    inbox.close();
                },
            )?);
        }
        // Set once, before anybody else sees the registers.
        let _first = registers.inboxes.set(inboxes);
        let threads = Mutex::new(threads);
        let next = AtomicUsize::new(0);
        Ok(Arc::new(Self {
            registers,
            gate,
            metrics,
            next,
            threads,
            failed,
        }))
    }

    /// Fires when a worker has ended that was not told to. Its share of the clients is
    /// lost and new ones would be sent to nobody: the process should end.
    pub fn failed(&self) -> CancellationToken {
        self.failed.clone()
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(crate) fn registers(&self) -> &Registers {
        &self.registers
    }

    /// The inbox of the worker whose turn it is.
    pub(crate) fn pick(&self) -> Option<Arc<Inbox>> {
        let inboxes = self.registers.inboxes();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        inboxes.get(turn.checked_rem(inboxes.len())?).cloned()
    }

    pub(crate) fn send(inbox: &Inbox, arrival: Arrival) {
        inbox.post(Mail::Arrive(Box::new(arrival)));
    }

    /// Does something to the connections of a user.
    pub fn operate(&self, user: &str, select: &Select, operation: &Operation) {
        self.registers.operate(user, select, operation);
    }

    /// Ends one connection; whether it was there.
    pub async fn disconnect_client(&self, client: ClientId, disconnect: Disconnect) -> bool {
        let found = self
            .ask(move |worker| worker.disconnect_client(client, &disconnect))
            .await;
        found.into_iter().any(|was_there| was_there)
    }

    /// All connections with a session.
    pub async fn connections(&self) -> Vec<Glimpse> {
        self.ask(|worker| worker.glimpses())
            .await
            .into_iter()
            .flatten()
            .collect()
    }

    /// Subscribers by channel.
    pub async fn channels(&self) -> HashMap<String, usize> {
        let mut sum = HashMap::new();
        for (name, count) in self
            .ask(|worker| worker.channel_counts())
            .await
            .into_iter()
            .flatten()
        {
            *sum.entry(name).or_default() += count;
        }
        sum
    }

    /// Users with a connection; anonymous ones do not count.
    pub fn users(&self) -> usize {
        self.registers.users.len()
    }

    /// Client connections, those still in the handshake included.
    pub fn connection_count(&self) -> usize {
        self.registers.door.connections()
    }

    /// Ends the connections whose token has been revoked.
    pub fn sweep_revoked(&self) {
        for inbox in self.registers.inboxes() {
            inbox.post(Mail::Task(Box::new(Worker::disconnect_revoked)));
        }
    }

    /// Brings the gauges up to date that nobody counts along the way, and logs what
    /// was refused since the last time. To be called every few seconds.
    pub async fn measure(&self) {
        let censuses = self.ask(|worker| worker.census()).await;
        self.metrics.note_census(&censuses);
        self.metrics.live.note_rate(self.gate.now_ms());
        self.metrics.report_refusals();
    }

    /// Sends all clients away with the code that makes SDKs come back elsewhere:
    /// `rate` per second over all workers, in small slices of uneven spacing, and
    /// what is left when `grace` is over at once.
    pub async fn drain(&self, clock: Clock, rate: u32, grace: Duration) {
        let deadline = clock.elapsed() + grace;
        let inboxes = self.registers.inboxes();
        let slice = rate.div_ceil(DRAIN_SLICES).max(1) as usize;
        let pause = Duration::from_secs_f64(slice as f64 / f64::from(rate.max(1)));
        // Where each worker goes on: looking through all connections for each slice
        // would take longer the fewer are left.
        let mut cursors = vec![0; inboxes.len()];
        let mut next = clock.elapsed();
        let mut turn = 0_u32;
        loop {
            // The workers take turns to lead, so that a slice is not rounded up by each.
            let mut left = slice;
            for step in 0..inboxes.len() {
                let index = (turn as usize + step) % inboxes.len();
                let (Some(inbox), Some(cursor)) = (inboxes.get(index), cursors.get_mut(index))
                else {
                    continue;
                };
                let (from, most) = (*cursor, left);
                let drained = Self::ask_one(inbox, move |worker| worker.drain(from, most)).await;
                if let Some(Drained { sent, next }) = drained {
                    left = left.saturating_sub(sent);
                    // Whoever came late sits in a slot that was vacant then.
                    *cursor = next.unwrap_or(0);
                }
            }
            turn = turn.wrapping_add(1);
            if self.registers.door.connections() == 0 && self.registers.door.requests() == 0 {
                return;
            }
            let now = clock.elapsed();
            if now >= deadline {
                break;
            }
            // Uneven, so that clients with equal backoff do not meet again.
            let jitter = 0.75 + 0.5 * f64::from(turn.wrapping_mul(2_654_435_761) >> 16) / 65_536.0;
            // Counted from when the slice was due, so that the work does not slow the
            // pace; what is behind all the same is not caught up in a burst.
            next = (next + pause.mul_f64(jitter)).max(now);
            if left == slice {
                next = now + IDLE_PAUSE;
            }
            tokio::time::sleep(next.min(deadline).saturating_sub(now)).await;
        }
        tracing::warn!(
            connections = self.registers.door.connections(),
            requests = self.registers.door.requests(),
            "drain grace is over, what remains is closed at once"
        );
    }

    /// Ends the workers; connections still there are told to go elsewhere, as far as
    /// their sockets take it, and dropped.
    pub async fn stop(&self, tasks: &Tasks) {
        for inbox in self.registers.inboxes() {
            inbox.post(Mail::Task(Box::new(|worker| {
                worker.abandon_all();
                worker.stop();
            })));
        }
        let threads = std::mem::take(&mut *lock(&self.threads));
        let joined = tasks.blocking(move || {
            threads
                .into_iter()
                .map(JoinHandle::join)
                .filter(Result::is_err)
                .count()
        });
        if joined.await != Some(0) {
            tracing::error!("workers could not be waited for");
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Worker) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let mut answers = Vec::new();
        for inbox in self.registers.inboxes() {
            answers.extend(Self::ask_one(inbox, question.clone()).await);
        }
        answers
    }

    async fn ask_one<T: Send + 'static>(
        inbox: &Inbox,
        question: impl FnOnce(&mut Worker) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        inbox.post(Mail::Task(Box::new(move |worker| {
            // Whoever asked may have gone; then nobody wants the answer.
            let _unwanted = sender.send(question(worker));
        })));
        tokio::time::timeout(ANSWER_TIMEOUT, receiver)
            .await
            .ok()?
            .ok()
    }
}

/// A worker's thread. It says why if it ends before its time.
fn work(worker: Worker, failed: &CancellationToken) {
    let run = std::panic::AssertUnwindSafe(|| worker.run());
    match std::panic::catch_unwind(run) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => tracing::error!(%error, "worker can't wait for its sockets"),
        Err(_) => tracing::error!("worker panicked"),
    }
    failed.cancel();
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::Latest;

    #[test]
    fn the_connection_that_came_last_stays_whatever_order_they_register_in() {
        let latest = Latest::default();
        let (first, second) = (latest.next(), latest.next());
        assert!(latest.enter("c", second));
        assert!(!latest.enter("c", first), "a later one is there");
        latest.leave("c", first);
        assert!(!latest.enter("c", first), "only its own entry goes");
        latest.leave("c", second);
        assert!(latest.enter("c", first));
        assert!(latest.enter("d", second), "others are others");
    }
}
