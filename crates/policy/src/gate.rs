//! Judges a call in the one order there is, and counts it until it ends.
//!
//! The order is that of the crate's documentation. What must hold: every
//! [`Entry::Admitted`] is answered by one [`Gate::leave`], every [`Entry::Waits`] by
//! [`Gate::give_up`] or, once [`Gate::hand_on`] turned it into a slot, by
//! [`Gate::leave`]; every [`Pass`] by one [`Gate::settle`]. After each `leave` and
//! `give_up`, `hand_on` is asked until it is `false`.

use std::time::Duration;

use crate::breaker::{Breaker, BreakerState, Pass, Transition};
use crate::budget::Budget;
use crate::class::Verdict;
use crate::concurrency::{Concurrency, Entrance};
use crate::deadline::Deadline;
use crate::rate::{Rate, TokenLine};
use crate::refusal::Refusal;
use crate::settings::Policy;

/// The state of one policy for one upstream.
#[derive(Debug)]
pub struct Gate {
    breaker: Option<Breaker>,
    concurrency: Concurrency,
    rate: Option<(Rate, TokenLine)>,
    budget: Budget,
    /// What the next breaker begins with, so that it knows no pass of an earlier one.
    generation: u64,
}

/// What a call finds.
#[derive(Debug)]
pub enum Entry {
    /// It has a slot and leave for its first try; without a breaker, none is needed.
    Admitted(Option<Pass>),
    /// It queues for a slot.
    Waits,
    /// It does not pass.
    Refused(Refusal),
}

/// What a gate looks like from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateState {
    /// Closed if there is no breaker.
    pub breaker: BreakerState,
    /// Calls allowed at once now; 0 is unlimited.
    pub limit: u32,
    /// Calls with a slot.
    pub in_flight: u32,
    /// Calls that queue for one.
    pub waiting: u32,
    /// Extra tries decided and not ended.
    pub extra_tries: u32,
}

impl Gate {
    /// Nothing is under way.
    pub fn new(policy: &Policy) -> Self {
        let settings = policy.settings();
        Self {
            breaker: settings.breaker.clone().map(Breaker::new),
            concurrency: Concurrency::new(&settings.concurrency),
            rate: settings.rate.map(|rate| (rate, TokenLine::default())),
            budget: Budget::new(settings.budget),
            generation: 0,
        }
    }

    /// Runs another policy from now on. Calls that are under way or queue stay so and
    /// count on. A breaker, a rate and a learnt limit whose settings are the same go on;
    /// a breaker with other settings begins closed, and outcomes of tries that an earlier
    /// one let through do not concern it. [`Gate::hand_on`] is due.
    pub fn adopt(&mut self, policy: &Policy) {
        let settings = policy.settings();
        self.concurrency.adopt(&settings.concurrency);
        self.budget.adopt(settings.budget);
        if self.breaker.as_ref().map(Breaker::settings) != settings.breaker.as_ref() {
            if let Some(old) = &self.breaker {
                self.generation = old.generation() + 1;
            }
            let generation = self.generation;
            self.breaker = settings
                .breaker
                .clone()
                .map(|settings| Breaker::of_generation(settings, generation));
        }
        if self.rate.map(|(rate, _)| rate) != settings.rate {
            self.rate = settings.rate.map(|rate| (rate, TokenLine::default()));
        }
    }

    /// A call comes.
    pub fn enter(&mut self, now: u64, deadline: Deadline, random: u64) -> Entry {
        if let Err(refusal) = self.look(now, deadline) {
            return Entry::Refused(refusal);
        }
        match self.concurrency.enter() {
            Entrance::Full => Entry::Refused(Refusal::Concurrency),
            Entrance::Queue => {
                self.budget.began();
                Entry::Waits
            }
            Entrance::Slot => {
                self.budget.began();
                match self.pass(now, deadline, random) {
                    Ok(pass) => Entry::Admitted(pass),
                    Err(refusal) => {
                        self.leave();
                        Entry::Refused(refusal)
                    }
                }
            }
        }
    }

    /// A call that has a slot asks for leave for a try: its first after it queued, or a
    /// further one. A refusal leaves it its slot.
    pub fn pass(
        &mut self,
        now: u64,
        deadline: Deadline,
        random: u64,
    ) -> Result<Option<Pass>, Refusal> {
        self.look(now, deadline)?;
        if let Some((rate, line)) = &mut self.rate {
            rate.take(line, now)
                .map_err(|retry_after| Refusal::Rate { retry_after })?;
        }
        self.breaker
            .as_mut()
            .map(|breaker| breaker.reserve(now, random))
            .transpose()
    }

    /// Takes note of what came of a try.
    pub fn settle(
        &mut self,
        pass: Pass,
        verdict: Verdict,
        after: Option<Duration>,
        now: u64,
        random: u64,
    ) -> Option<Transition> {
        self.breaker
            .as_mut()
            .and_then(|breaker| breaker.settle(pass, verdict, after, now, random))
    }

    /// Tells a limit that moves how long a try took to its first byte; see
    /// [`Concurrency::sample`]. [`Gate::hand_on`] is due.
    pub fn sample(&mut self, elapsed: Duration, verdict: Verdict, now: u64) {
        self.concurrency.sample(elapsed, verdict, now);
    }

    /// A call that had a slot ends.
    pub fn leave(&mut self) {
        self.concurrency.leave();
        self.budget.ended();
    }

    /// A call that queued goes away.
    pub fn give_up(&mut self) {
        self.concurrency.give_up();
        self.budget.ended();
    }

    /// Gives a free slot to the first who queues; `true` if there was such a pair.
    #[must_use]
    pub fn hand_on(&mut self) -> bool {
        self.concurrency.hand_on()
    }

    /// Decides for an extra try; see [`Budget::charge`].
    #[must_use]
    pub fn charge(&mut self) -> bool {
        self.budget.charge()
    }

    /// The extra try ended or did not take place.
    pub fn release(&mut self) {
        self.budget.release();
    }

    /// What it looks like.
    pub fn state(&self, now: u64) -> GateState {
        GateState {
            breaker: self
                .breaker
                .as_ref()
                .map_or(BreakerState::Closed, |breaker| breaker.state(now)),
            limit: self.concurrency.limit(),
            in_flight: self.concurrency.in_flight(),
            waiting: self.concurrency.waiting(),
            extra_tries: self.budget.charged(),
        }
    }

    /// What is judged without taking anything.
    fn look(&self, now: u64, deadline: Deadline) -> Result<(), Refusal> {
        if deadline.passed(now) {
            return Err(Refusal::DeadlinePassed);
        }
        self.breaker
            .as_ref()
            .map_or(Ok(()), |breaker| breaker.check(now))
    }
}

#[cfg(test)]
mod tests;
