//! The one loop through which every call to an upstream goes.
//!
//! ```text
//! admit ─► send ─► classify ─► settle ─► done, or wait and admit again
//! ```
//!
//! What is decided is decided by [`policy`]; this module holds the lock around its
//! state, runs the timers and queues, and gives everything back when a call ends. A
//! call is a future, and dropping it at any moment is allowed: its slot, its place in
//! the queue, its charge on the budget and its probe are guards and go with it.
//!
//! Those who wait for a slot do so in order of urgency, and of arrival among the equally
//! urgent. When the queue is full, one who is more urgent than the last in it takes its
//! place, and that one is refused.
//!
//! The lock is never held over an await, and what is done under it is counting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle::Clock;
use policy::{Deadline, Entry, Gate, GateState, Pass, Policy, Refusal, Transition, Verdict};
use tokio::sync::oneshot;
use tracing::info;

mod call;
mod chance;
mod classify;

pub use call::{CallOptions, Held, OnNotSent, Try};
pub use classify::{CallError, Cause, Classify, Ending, Spent};

use chance::Chance;

/// One policy for one upstream, with its state. Clones share it.
#[derive(Debug, Clone)]
pub struct Guard {
    shared: Arc<Shared>,
}

/// A slot at the upstream, and leave for one try. Held until the call ends; for a
/// stream, until the stream does. Dropping it gives everything back.
#[derive(Debug)]
#[must_use = "a permit that is dropped is given back"]
pub struct Permit {
    shared: Arc<Shared>,
    pass: Option<Pass>,
    charged: bool,
}

/// What a guard looks like from outside, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardState {
    /// The breaker, and what is under way now.
    pub gate: GateState,
    /// What has happened since the guard was made.
    pub counts: Counts,
}

/// What has happened; each only rises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that were let through.
    pub admitted: u64,
    /// Calls and further tries refused because it was too late.
    pub refused_deadline: u64,
    /// The same, by the open or half-open breaker, or while the upstream recovers.
    pub refused_breaker: u64,
    /// The same, for want of a slot.
    pub refused_concurrency: u64,
    /// The same, by the rate.
    pub refused_rate: u64,
    /// Tries made, those included that turned out as not sent.
    pub tries: u64,
    /// Of these, further ones of the same call.
    pub retries: u64,
    /// Tries that got no answer in time.
    pub timeouts: u64,
    /// Further tries that the budget forbade.
    pub budget_spent: u64,
    /// How often the breaker opened.
    pub breaker_opened: u64,
}

#[derive(Debug)]
struct Shared {
    name: Arc<str>,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    policy: Arc<Policy>,
    gate: Gate,
    /// Those who wait for a slot; as many as the gate counts. One whose sender is dropped
    /// is refused.
    queue: BTreeMap<Place, oneshot::Sender<()>>,
    /// The next place in the queue.
    place: u64,
    chance: Chance,
    counts: Counts,
}

/// Where one stands in the queue: the least is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    priority: u8,
    number: u64,
}

/// A place in the queue, or the slot that it became.
#[derive(Debug)]
struct Queued {
    shared: Arc<Shared>,
    place: Place,
    slot: oneshot::Receiver<()>,
    taken: bool,
}

impl Guard {
    /// The urgency of a call that says nothing about it; 0 is the most urgent.
    pub const PRIORITY: u8 = 1;

    /// A guard whose upstream is taken to be well, and is called `name` in the log. `seed`
    /// makes its chance; guards of different processes need different ones, or they come
    /// back together.
    pub fn new(name: impl Into<Arc<str>>, policy: Policy, clock: Clock, seed: u64) -> Self {
        let state = State {
            gate: Gate::new(&policy),
            policy: Arc::new(policy),
            queue: BTreeMap::new(),
            place: 0,
            chance: Chance::new(seed),
            counts: Counts::default(),
        };
        Self {
            shared: Arc::new(Shared {
                name: name.into(),
                clock,
                state: Mutex::new(state),
            }),
        }
    }

    /// Runs another policy from now on, for all clones. Calls under way keep their slots
    /// and count against the new limits; those that queue keep their places and the time
    /// they may wait. What [`Gate::adopt`] says about breaker, rate and limit holds.
    pub fn adopt(&self, policy: Policy) {
        let mut state = self.shared.lock();
        state.gate.adopt(&policy);
        state.policy = Arc::new(policy);
        state.hand_on();
    }

    /// Waits for a slot as long as the policy and the deadline allow, and for nothing
    /// else: an open breaker and a spent rate refuse at once and say until when.
    ///
    /// For callers that have their own loop; [`Guard::call`] does this by itself.
    pub async fn admit(&self, deadline: Deadline) -> Result<Permit, Refusal> {
        self.admit_as(Self::PRIORITY, deadline).await
    }

    /// Like [`Guard::admit`], for a call of this urgency; 0 is the most urgent. It counts
    /// only where calls queue.
    pub async fn admit_as(&self, priority: u8, deadline: Deadline) -> Result<Permit, Refusal> {
        let now = self.now();
        let (queued, wait_max) = {
            let mut state = self.shared.lock();
            let random = state.chance.draw();
            let mut entry = state.gate.enter(now, deadline, random);
            if matches!(entry, Entry::Refused(Refusal::Concurrency)) && state.displace(priority) {
                entry = state.gate.enter(now, deadline, random);
            }
            match entry {
                Entry::Admitted(pass) => {
                    state.counts.admitted += 1;
                    return Ok(self.shared.permit(pass));
                }
                Entry::Refused(refusal) => return Err(state.refused(refusal)),
                Entry::Waits => (
                    state.queue_up(&self.shared, priority),
                    state.policy.settings().concurrency.wait_max,
                ),
            }
        };
        let limit = deadline
            .remaining(now)
            .map_or(wait_max, |remaining| remaining.min(wait_max));
        let mut permit = self.wait_for_slot(queued, now, limit, deadline).await?;
        permit.again(deadline)?;
        self.shared.lock().counts.admitted += 1;
        Ok(permit)
    }

    /// What its upstream is called in the log.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The policy it runs now.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.shared.lock().policy)
    }

    /// What it looks like now.
    pub fn state(&self) -> GuardState {
        let now = self.now();
        let state = self.shared.lock();
        GuardState {
            gate: state.gate.state(now),
            counts: state.counts,
        }
    }

    async fn wait_for_slot(
        &self,
        mut queued: Queued,
        since: u64,
        limit: Duration,
        deadline: Deadline,
    ) -> Result<Permit, Refusal> {
        let came = tokio::time::timeout(limit, &mut queued.slot).await;
        let now = self.now();
        let refusal = match came {
            Ok(Ok(())) => return Ok(queued.into_permit()),
            // Only a more urgent one takes a place out of the queue without a slot.
            Ok(Err(_)) => Refusal::Concurrency,
            Err(_) if deadline.passed(now) => Refusal::DeadlinePassed,
            Err(_) => Refusal::QueueTimeout {
                waited: Duration::from_millis(now - since),
            },
        };
        drop(queued);
        Err(self.shared.lock().refused(refusal))
    }

    fn now(&self) -> u64 {
        self.shared.clock.mono_ms()
    }
}

impl Permit {
    /// Says what came of the try. Without it, the try says nothing about the upstream.
    /// What that did to the breaker is in the log, and the answer.
    pub fn settle(&mut self, verdict: Verdict, after: Option<Duration>) -> Option<Transition> {
        let pass = self.pass.take()?;
        let now = self.shared.clock.mono_ms();
        let transition = self.shared.lock().settle(pass, verdict, after, now);
        self.shared.note(transition);
        transition
    }

    /// Says how long a try took to the first byte of its answer; if it failed, how long
    /// until then. A limit that finds its own level needs that of every try. Fixed limits
    /// do not, and for them it is nothing.
    pub fn sample(&self, elapsed: Duration, verdict: Verdict) {
        let now = self.shared.clock.mono_ms();
        let mut state = self.shared.lock();
        state.gate.sample(elapsed, verdict, now);
        state.hand_on();
    }

    /// Asks for leave for a further try; the slot is kept either way.
    pub fn again(&mut self, deadline: Deadline) -> Result<(), Refusal> {
        self.settle(Verdict::Neutral, None);
        let now = self.shared.clock.mono_ms();
        let mut state = self.shared.lock();
        let random = state.chance.draw();
        match state.gate.pass(now, deadline, random) {
            Ok(pass) => {
                self.pass = pass;
                Ok(())
            }
            Err(refusal) => Err(state.refused(refusal)),
        }
    }

    /// Decides whether a further try (retry, hedge or fallback) may be made at all; to
    /// be asked before the wait for it. A permit has one charge at a time: the one of
    /// the try before is given back.
    #[must_use]
    pub fn charge(&mut self) -> bool {
        self.uncharge();
        let mut state = self.shared.lock();
        self.charged = state.gate.charge();
        if !self.charged {
            state.counts.budget_spent += 1;
        }
        self.charged
    }

    /// The try is a trial of an upstream that had failed.
    pub fn is_probe(&self) -> bool {
        self.pass.as_ref().is_some_and(Pass::is_probe)
    }

    /// The further try ended, or has its answer: how long that streams is no extra load.
    pub fn uncharge(&mut self) {
        if std::mem::take(&mut self.charged) {
            self.shared.lock().gate.release();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // A pass that was not settled says nothing, and cannot open or close a breaker.
        let now = self.pass.is_some().then(|| self.shared.clock.mono_ms());
        let mut state = self.shared.lock();
        if let (Some(pass), Some(now)) = (self.pass.take(), now) {
            state.settle(pass, Verdict::Neutral, None, now);
        }
        if std::mem::take(&mut self.charged) {
            state.gate.release();
        }
        state.gate.leave();
        state.hand_on();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Counting does not panic half-way; what another thread's panic left is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, transition: Option<Transition>) {
        let upstream = &*self.name;
        match transition {
            Some(Transition::Opened(span)) => {
                info!(upstream, open_ms = span.as_millis(), "breaker opened");
            }
            Some(Transition::Closed) => info!(upstream, "breaker closed"),
            None => {}
        }
    }

    fn permit(self: &Arc<Self>, pass: Option<Pass>) -> Permit {
        Permit {
            shared: Arc::clone(self),
            pass,
            charged: false,
        }
    }
}

impl State {
    fn queue_up(&mut self, shared: &Arc<Shared>, priority: u8) -> Queued {
        let place = Place {
            priority,
            number: self.place,
        };
        self.place += 1;
        let (free, slot) = oneshot::channel();
        self.queue.insert(place, free);
        Queued {
            shared: Arc::clone(shared),
            place,
            slot,
            taken: false,
        }
    }

    /// Takes the least urgent one out of the queue if it is less urgent than this.
    fn displace(&mut self, priority: u8) -> bool {
        let Some(last) = self.queue.last_entry() else {
            return false;
        };
        if last.key().priority <= priority {
            return false;
        }
        // Dropping its sender tells it.
        last.remove();
        self.gate.give_up();
        true
    }

    /// Gives free slots to those who wait.
    fn hand_on(&mut self) {
        while self.gate.hand_on() {
            if let Some((_, free)) = self.queue.pop_first()
                && free.send(()).is_err()
            {
                // Its receiver lives as long as its place is in the queue.
                debug_assert!(false, "a place in the queue had lost its owner");
            }
        }
    }

    fn settle(
        &mut self,
        pass: Pass,
        verdict: Verdict,
        after: Option<Duration>,
        now: u64,
    ) -> Option<Transition> {
        let random = self.chance.draw();
        let transition = self.gate.settle(pass, verdict, after, now, random);
        if let Some(Transition::Opened(_)) = transition {
            self.counts.breaker_opened += 1;
        }
        transition
    }

    fn refused(&mut self, refusal: Refusal) -> Refusal {
        let count = match refusal {
            Refusal::DeadlinePassed => &mut self.counts.refused_deadline,
            Refusal::BreakerOpen { .. } | Refusal::ProbeTaken | Refusal::Recovering { .. } => {
                &mut self.counts.refused_breaker
            }
            Refusal::Concurrency | Refusal::QueueTimeout { .. } => {
                &mut self.counts.refused_concurrency
            }
            Refusal::Rate { .. } => &mut self.counts.refused_rate,
        };
        *count += 1;
        refusal
    }
}

impl Queued {
    fn into_permit(mut self) -> Permit {
        self.taken = true;
        self.shared.permit(None)
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let mut state = self.shared.lock();
        if state.queue.remove(&self.place).is_some() {
            state.gate.give_up();
        } else if self.slot.try_recv().is_ok() {
            // The slot came in the moment in which its caller went.
            state.gate.leave();
        }
        state.hand_on();
    }
}

#[cfg(test)]
mod tests;
