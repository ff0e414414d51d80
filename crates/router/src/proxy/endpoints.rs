//! The upstreams of a route: which one is asked, and what is known of each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use policy::{
    Balance, Breaker, BreakerSettings, BreakerState, EndpointState, Outcome, Pass, Refusal,
    Transition, Verdict,
};
use tracing::{info, warn};
use upstream::http_service::{Origin, Versions};

use super::record::scheme_name;

/// What an upstream is made of; two that are equal are the same one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EndpointSpec {
    pub(super) origin: Arc<Origin>,
    /// Put before each path; without a slash at its end.
    pub(super) base_path: String,
    pub(super) weight: u32,
    /// Calls of gRPC go there, and nothing else.
    pub(super) is_grpc: bool,
    pub(super) breaker: Option<BreakerSettings>,
}

/// One upstream.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) spec: EndpointSpec,
    /// Scheme and authority, for people.
    pub(super) name: String,
    /// What `Host` says.
    pub(super) authority: Bytes,
    /// Where upgrades go: they need a connection of their own, of HTTP/1.1.
    pub(super) upgrade_origin: Arc<Origin>,
    /// Shared with what the upstream was before a change of its weight.
    breaker: Option<Arc<Mutex<Breaker>>>,
    opened: Arc<AtomicU64>,
}

/// All upstreams of a route.
#[derive(Debug)]
pub(super) struct Endpoints {
    list: Vec<Arc<Endpoint>>,
    balance: Mutex<Balance>,
}

/// An upstream that was chosen, until its call ends. Dropping it says nothing about the
/// upstream's health.
#[derive(Debug)]
pub(super) struct Picked {
    endpoints: Arc<Endpoints>,
    index: usize,
    pass: Option<Pass>,
    is_probe: bool,
    /// Milliseconds of the clock at which it was sent.
    since: u64,
    /// The same, at which its answer's head came.
    heard: Option<u64>,
    is_answered: bool,
}

/// An upstream as it looks from outside.
#[derive(Debug, Clone)]
pub struct EndpointLook {
    /// Scheme, authority and base path.
    pub url: String,
    /// Its share.
    pub weight: u32,
    /// Closed if there is no breaker.
    pub breaker: BreakerState,
    /// How often the breaker opened since the start.
    pub opened: u64,
    /// Load and ejection.
    pub state: Option<EndpointState>,
}

impl Endpoints {
    /// Upstreams as they are wanted; those that were there before keep what is known of
    /// them.
    pub(super) fn new(specs: Vec<EndpointSpec>, before: Option<&Arc<Self>>, now: u64) -> Arc<Self> {
        let known = before.map_or(&[][..], |before| &before.list);
        if let Some(before) = before
            && specs.len() == known.len()
            && specs
                .iter()
                .zip(known)
                .all(|(spec, known)| *spec == known.spec)
        {
            return Arc::clone(before);
        }
        let weights: Vec<u32> = specs.iter().map(|spec| spec.weight).collect();
        let stays: Vec<Option<usize>> = specs
            .iter()
            .map(|spec| {
                known.iter().position(|known| {
                    known.spec.origin == spec.origin && known.spec.base_path == spec.base_path
                })
            })
            .collect();
        let balance = match before {
            Some(before) => lock(&before.balance).renewed(&weights, &stays, now),
            None => Balance::new(&weights),
        };
        let list = specs
            .into_iter()
            .map(|spec| {
                known
                    .iter()
                    .find(|known| known.spec == spec)
                    .map_or_else(|| Arc::new(Endpoint::new(spec, known)), Arc::clone)
            })
            .collect();
        Arc::new(Self {
            list,
            balance: Mutex::new(balance),
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// All of them.
    pub(super) fn list(&self) -> &[Arc<Endpoint>] {
        &self.list
    }

    /// One of them.
    pub(super) fn get(&self, index: usize) -> Option<&Arc<Endpoint>> {
        self.list.get(index)
    }

    /// Whether each would refuse. Takes nothing: it is asked before a slot is.
    pub(super) fn check(&self, now: u64) -> Result<(), Refusal> {
        let mut refused = Ok(());
        for endpoint in &self.list {
            match endpoint.check(now) {
                Ok(()) => return Ok(()),
                Err(refusal) => refused = Err(sooner(refused, refusal)),
            }
        }
        refused
    }

    /// Chooses one, not the one to be avoided if there is another.
    pub(super) fn pick(
        self: &Arc<Self>,
        now: u64,
        random: u64,
        avoid: Option<usize>,
    ) -> Result<Picked, Refusal> {
        let mut refused = Ok(());
        // Those that were chosen and had no room after all: on the ramp of their recovery, or
        // because another request took the last trial.
        let mut out: Vec<usize> = Vec::new();
        loop {
            let mut admits = |index: usize| match self.list.get(index).map(|one| one.check(now)) {
                Some(Ok(())) => !out.contains(&index),
                Some(Err(refusal)) => {
                    refused = Err(sooner(refused, refusal));
                    false
                }
                None => false,
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
                return Err(refused.err().unwrap_or(Refusal::ProbeTaken));
            };
            let mut picked = Picked {
                endpoints: Arc::clone(self),
                index,
                pass: None,
                is_probe: false,
                since: now,
                heard: None,
                is_answered: false,
            };
            let Some(breaker) = self.list.get(index).and_then(|one| one.breaker.as_ref()) else {
                return Ok(picked);
            };
            // Its probe is reserved last, as one that was taken must be used.
            let reserved = lock(breaker).reserve(now, random.rotate_left(32));
            match reserved {
                Ok(pass) => {
                    picked.is_probe = pass.is_probe();
                    picked.pass = Some(pass);
                    return Ok(picked);
                }
                Err(refusal) => {
                    refused = Err(sooner(refused, refusal));
                    out.push(index);
                }
            }
        }
    }

    /// How each looks.
    pub(super) fn look(&self, now: u64) -> Vec<EndpointLook> {
        let balance = lock(&self.balance);
        self.list
            .iter()
            .enumerate()
            .map(|(index, endpoint)| EndpointLook {
                url: format!("{}{}", endpoint.name, endpoint.spec.base_path),
                weight: endpoint.spec.weight,
                breaker: endpoint.breaker_state(now),
                opened: endpoint.opened.load(Ordering::Relaxed),
                state: balance.state(index, now),
            })
            .collect()
    }
}

impl Endpoint {
    fn new(spec: EndpointSpec, known: &[Arc<Self>]) -> Self {
        let before = known.iter().find(|known| {
            known.spec.origin == spec.origin && known.spec.base_path == spec.base_path
        });
        let breaker = match (before, &spec.breaker) {
            (_, None) => None,
            (Some(before), settings) if before.spec.breaker == *settings => before.breaker.clone(),
            (_, Some(settings)) => Some(Arc::new(Mutex::new(Breaker::new(settings.clone())))),
        };
        let scheme = scheme_name(spec.origin.scheme, spec.is_grpc);
        Self {
            name: format!("{scheme}://{}", spec.origin.authority),
            authority: Bytes::copy_from_slice(spec.origin.authority.as_bytes()),
            upgrade_origin: Arc::new(Origin {
                versions: Versions::Http1,
                ..Origin::clone(&spec.origin)
            }),
            breaker,
            opened: before.map_or_else(Arc::default, |before| Arc::clone(&before.opened)),
            spec,
        }
    }

    /// The breaker's state; closed if there is none.
    pub(super) fn breaker_state(&self, now: u64) -> BreakerState {
        self.breaker
            .as_ref()
            .map_or(BreakerState::Closed, |breaker| lock(breaker).state(now))
    }

    fn check(&self, now: u64) -> Result<(), Refusal> {
        self.breaker
            .as_ref()
            .map_or(Ok(()), |breaker| lock(breaker).check(now))
    }

    fn settle(
        &self,
        pass: Pass,
        verdict: Verdict,
        after: Option<Duration>,
        now: u64,
        random: u64,
    ) -> Option<Transition> {
        let breaker = self.breaker.as_ref()?;
        let transition = lock(breaker).settle(pass, verdict, after, now, random);
        match transition {
            Some(Transition::Opened(span)) => {
                self.opened.fetch_add(1, Ordering::Relaxed);
                warn!(
                    upstream = self.name,
                    open_ms = span.as_millis(),
                    "breaker opened"
                );
            }
            Some(Transition::Closed) => info!(upstream = self.name, "breaker closed"),
            None => {}
        }
        transition
    }
}

impl Picked {
    /// Which one it is.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Which one it is.
    pub(super) fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(self.index)
    }

    /// It is the trial of an upstream that had failed.
    pub(super) fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// The head of its answer has come: how long the rest takes is not the upstream's load.
    pub(super) fn heard(&mut self, now: u64) {
        self.heard = Some(now);
    }

    /// What the answer says about the upstream; once.
    pub(super) fn settle(
        &mut self,
        verdict: Verdict,
        after: Option<Duration>,
        now: u64,
        random: u64,
    ) {
        if let Some(pass) = self.pass.take()
            && let Some(endpoint) = self.endpoints.get(self.index)
            && let Some(Transition::Closed) = endpoint.settle(pass, verdict, after, now, random)
        {
            lock(&self.endpoints.balance).recovered(self.index, now);
        }
        if !std::mem::replace(&mut self.is_answered, true) && self.endpoints.len() > 1 {
            let outcome = Outcome {
                elapsed: Duration::from_millis(
                    self.heard.unwrap_or(now).saturating_sub(self.since),
                ),
                verdict,
                after,
            };
            let ejection = lock(&self.endpoints.balance).answered(self.index, now, outcome);
            if let (Some(ejection), Some(endpoint)) = (ejection, self.endpoint()) {
                warn!(
                    upstream = endpoint.name,
                    out_ms = ejection.length.as_millis(),
                    by_comparison = ejection.by_comparison,
                    "upstream was taken out of the balance"
                );
            }
        }
    }

    /// An answer that counted as a success when it began has broken off. That is a failure of
    /// now; a breaker that is not closed has its own trials.
    pub(super) fn broke(&mut self, now: u64, random: u64) {
        if self.pass.is_some() || !self.is_settled() {
            return self.settle(Verdict::Failure, None, now, random);
        }
        let Some(endpoint) = self.endpoints.get(self.index) else {
            return;
        };
        let Some(breaker) = &endpoint.breaker else {
            return;
        };
        let pass = {
            let mut breaker = lock(breaker);
            match breaker.state(now) {
                BreakerState::Closed => breaker.reserve(now, random).ok(),
                BreakerState::Open { .. } | BreakerState::HalfOpen => None,
            }
        };
        if let Some(pass) = pass {
            endpoint.settle(pass, Verdict::Failure, None, now, random);
        }
    }

    fn is_settled(&self) -> bool {
        self.is_answered || self.endpoints.len() < 2
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        if let (Some(pass), Some(endpoint)) = (self.pass.take(), self.endpoints.get(self.index)) {
            let now = self.since;
            let transition = endpoint.settle(pass, Verdict::Neutral, None, now, 0);
            debug_assert!(transition.is_none(), "what says nothing changes nothing");
        }
        lock(&self.endpoints.balance).released(self.index);
    }
}

/// The refusal that ends first.
fn sooner(before: Result<(), Refusal>, refusal: Refusal) -> Refusal {
    match before {
        Err(before) if before.retry_after() <= refusal.retry_after() => before,
        _ => refusal,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
