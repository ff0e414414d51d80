//! The endpoints of a service: which one gets the next try, and what is known of each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle::Clock;
use policy::{
    Balance, Breaker, BreakerSettings, BreakerState, Deadline, EndpointState, Outcome, Pass,
    Refusal, Transition, Verdict,
};
use tracing::{info, warn};

use super::{Channel, Target};

/// The endpoints of a service.
#[derive(Debug)]
pub(super) struct Endpoints {
    list: Vec<Endpoint>,
    balance: Mutex<Balance>,
    clock: Clock,
    chance: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) target: Target,
    pub(super) channel: Channel,
    breaker: Option<Mutex<Breaker>>,
    opened: AtomicU64,
}

/// An endpoint that was chosen, until its try ends. Dropping it before it is due says nothing
/// about the endpoint's health.
#[derive(Debug)]
pub(super) struct Picked {
    endpoints: Arc<Endpoints>,
    index: usize,
    pass: Option<Pass>,
    since_ms: u64,
    /// When the try is given up: one that is dropped later than that had no answer.
    due: Deadline,
    is_answered: bool,
}

/// An endpoint as it looks from outside.
#[derive(Debug, Clone)]
pub struct EndpointLook {
    /// Its address.
    pub target: String,
    /// Closed if there is no breaker.
    pub breaker: BreakerState,
    /// How often the breaker opened since the start.
    pub opened: u64,
    /// Load and ejection; `None` of the only one.
    pub state: Option<EndpointState>,
}

impl Endpoints {
    pub(super) fn new(
        channels: Vec<(Target, Channel)>,
        breaker: Option<&BreakerSettings>,
        clock: Clock,
        seed: u64,
    ) -> Self {
        let weights = vec![1; channels.len()];
        let list = channels
            .into_iter()
            .map(|(target, channel)| Endpoint {
                target,
                channel,
                breaker: breaker.map(|settings| Mutex::new(Breaker::new(settings.clone()))),
                opened: AtomicU64::new(0),
            })
            .collect();
        Self {
            list,
            balance: Mutex::new(Balance::new(&weights)),
            clock,
            chance: AtomicU64::new(seed),
        }
    }

    /// Chooses one, not the one to be avoided if there is another.
    pub(super) fn pick(
        self: &Arc<Self>,
        avoid: Option<usize>,
        due: Deadline,
    ) -> Result<Picked, Refusal> {
        let (now, random) = (self.clock.mono_ms(), self.draw());
        let mut refused = None;
        let mut out: Vec<usize> = Vec::new();
        loop {
            let mut admits = |index: usize| {
                let Some(endpoint) = self.list.get(index) else {
                    return false;
                };
                let checked = match &endpoint.breaker {
                    Some(breaker) => lock(breaker).check(now),
                    None => Ok(()),
                };
                refused = checked.err().or(refused);
                checked.is_ok() && !out.contains(&index)
            };
            let index = {
                let mut balance = lock(&self.balance);
                let chosen = balance
                    .pick(now, random, |index| Some(index) != avoid && admits(index))
                    .or_else(|| balance.pick(now, random, &mut admits));
                if let Some(index) = chosen {
                    balance.began(index);
                }
                chosen
            };
            let Some(index) = index else {
                return Err(refused.unwrap_or(Refusal::ProbeTaken));
            };
            let mut picked = Picked {
                endpoints: Arc::clone(self),
                index,
                pass: None,
                since_ms: now,
                due,
                is_answered: false,
            };
            let Some(breaker) = self.list.get(index).and_then(|one| one.breaker.as_ref()) else {
                return Ok(picked);
            };
            // A probe that was taken must be used, so it is reserved last.
            let reserved = lock(breaker).reserve(now, random.rotate_left(32));
            match reserved {
                Ok(pass) => {
                    picked.pass = Some(pass);
                    return Ok(picked);
                }
                Err(refusal) => {
                    refused = Some(refusal);
                    out.push(index);
                }
            }
        }
    }

    /// Those that are there, in the order in which they were configured.
    pub(super) fn list(&self) -> &[Endpoint] {
        &self.list
    }

    pub(super) fn look(&self) -> Vec<EndpointLook> {
        let now = self.clock.mono_ms();
        let balance = lock(&self.balance);
        let look = |(index, endpoint): (usize, &Endpoint)| EndpointLook {
            target: endpoint.target.to_string(),
            breaker: match &endpoint.breaker {
                Some(breaker) => lock(breaker).state(now),
                None => BreakerState::Closed,
            },
            opened: endpoint.opened.load(Ordering::Relaxed),
            state: balance.state(index, now),
        };
        self.list.iter().enumerate().map(look).collect()
    }

    fn settle(
        &self,
        index: usize,
        pass: Pass,
        verdict: Verdict,
        after: Option<Duration>,
    ) -> Option<Transition> {
        let endpoint = self.list.get(index)?;
        let breaker = endpoint.breaker.as_ref()?;
        let (now, random) = (self.clock.mono_ms(), self.draw());
        let transition = lock(breaker).settle(pass, verdict, after, now, random);
        let endpoint_name = &endpoint.target;
        match transition {
            Some(Transition::Opened(span)) => {
                endpoint.opened.fetch_add(1, Ordering::Relaxed);
                warn!(endpoint = %endpoint_name, open_ms = span.as_millis(), "breaker opened");
            }
            Some(Transition::Closed) => info!(endpoint = %endpoint_name, "breaker closed"),
            None => {}
        }
        transition
    }

    /// A random number (`SplitMix64`): good enough to spread load.
    pub(super) fn draw(&self) -> u64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.chance.fetch_add(GOLDEN, Ordering::Relaxed);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Picked {
    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        self.endpoints.list.get(self.index)
    }

    /// What the try says about the endpoint; once.
    pub(super) fn settle(&mut self, verdict: Verdict, after: Option<Duration>) {
        let now = self.endpoints.clock.mono_ms();
        if let Some(pass) = self.pass.take()
            && let Some(Transition::Closed) =
                self.endpoints.settle(self.index, pass, verdict, after)
        {
            lock(&self.endpoints.balance).recovered(self.index, now);
        }
        if !std::mem::replace(&mut self.is_answered, true) {
            let outcome = Outcome {
                elapsed: Duration::from_millis(now.saturating_sub(self.since_ms)),
                verdict,
                after,
            };
            let ejection = lock(&self.endpoints.balance).answered(self.index, now, outcome);
            if let (Some(ejection), Some(endpoint)) = (ejection, self.endpoint()) {
                warn!(
                    endpoint = %endpoint.target,
                    out_ms = ejection.length.as_millis(),
                    by_comparison = ejection.by_comparison,
                    "endpoint was taken out of the balance"
                );
            }
        }
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        let verdict = match self.due.passed(self.endpoints.clock.mono_ms()) {
            true => Verdict::Failure,
            false => Verdict::Neutral,
        };
        self.settle(verdict, None);
        lock(&self.endpoints.balance).released(self.index);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
