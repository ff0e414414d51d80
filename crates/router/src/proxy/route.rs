//! A route, compiled: what a request needs of its record, and the state that outlives it.

use std::sync::{Arc, Mutex, PoisonError};

use http1::Fields;
use lifecycle::Clock;
use policy::RateTable;
use tracing::warn;
use upstream::guard::{Guard, GuardState};

use super::endpoints::{EndpointLook, EndpointSpec, Endpoints};
use super::figures::Figures;
use super::refusal::Refusal;
use super::rule::{AccessRule, Denial};
use super::story::Held;
use super::template::{Injection, Sources};
use super::{Caller, Record, compile};

/// A route, compiled. Requests hold the one they began with.
#[derive(Debug)]
pub struct Route {
    /// The record's id.
    pub id: Arc<str>,
    /// Its name in metrics and logs: the record's, or its path.
    pub label: Arc<str>,
    /// What it was compiled from.
    pub record: Arc<Record>,
    pub(super) prefix: String,
    pub(super) limits: Limits,
    pub(super) guard: Guard,
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) figures: Arc<Figures>,
    /// Its upstreams speak gRPC.
    pub(super) is_grpc: bool,
    access: AccessRule,
    /// `None`: one of its templates can't be filled in, so none is.
    /// Or why no header is injected.
    injection: Result<Injection, String>,
    by_identity: Option<Arc<IdentityRate>>,
}

/// How long what may take, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) total_ms: Option<u64>,
    pub(super) header_ms: Option<u64>,
    pub(super) first_byte_ms: Option<u64>,
    pub(super) gap_ms: Option<u64>,
    pub(super) stream_total_ms: Option<u64>,
    pub(super) heartbeat_ms: Option<u64>,
    pub(super) hedge_ms: Option<u64>,
}

/// A rate that each caller has for itself.
#[derive(Debug)]
struct IdentityRate {
    rate: policy::Rate,
    table: Mutex<RateTable<Box<str>>>,
}

/// Callers whose rate is remembered, per route.
const IDENTITIES_MAX: usize = 100_000;

/// What a route is compiled with.
pub(super) struct Workshop<'a> {
    pub(super) clock: Clock,
    pub(super) seed: u64,
    pub(super) threads: usize,
    pub(super) sources: &'a dyn Sources,
}

impl Route {
    /// Compiles a record. State of the route as it was before goes on where its part of
    /// the record is the same; requests in flight are counted on in any case.
    pub(super) fn compile(
        id: &str,
        record: Record,
        before: Option<&Self>,
        workshop: &Workshop<'_>,
    ) -> Result<Self, policy::PolicyError> {
        let policy = compile::policy(&record)?;
        let label: Arc<str> = if record.name.is_empty() {
            record.path.as_str().into()
        } else {
            record.name.as_str().into()
        };
        let breaker = compile::breaker(&record.circuit_breaker)?;
        let specs = compile::origins(&record)
            .into_iter()
            .map(|it| EndpointSpec {
                origin: it.origin,
                base_path: it.base_path,
                weight: it.weight,
                is_grpc: it.is_grpc,
                breaker: breaker.clone(),
            })
            .collect();
        let known = before.map(|before| &before.endpoints);
        let endpoints = Endpoints::new(specs, known, workshop.clock.mono_ms());
        let by_identity = compile::identity_rate(&record)?.map(|rate| {
            match before.and_then(|before| before.by_identity.as_ref()) {
                Some(known) if known.rate == rate => Arc::clone(known),
                _ => Arc::new(IdentityRate {
                    rate,
                    table: Mutex::new(RateTable::new(rate, IDENTITIES_MAX)),
                }),
            }
        });
        let injection = match Injection::compile(&record.headers, workshop.sources) {
            Ok(injection) => Ok(injection),
            Err(error) => {
                let error = error.to_string();
                // Routes are compiled anew with each change of any of them.
                let is_known = before.is_some_and(|it| it.injection.as_ref().err() == Some(&error));
                if !is_known {
                    warn!(route = %label, %error, "no header of the route is injected");
                }
                Err(error)
            }
        };
        let guard = match before {
            Some(before) => {
                if *before.guard.policy() != policy {
                    before.guard.adopt(policy);
                }
                before.guard.clone()
            }
            None => Guard::new(Arc::clone(&label), policy, workshop.clock, workshop.seed),
        };
        Ok(Self {
            is_grpc: record.is_grpc(),
            id: id.into(),
            prefix: record.path.clone(),
            limits: Limits::of(&record),
            guard,
            endpoints,
            figures: before.map_or_else(
                || Arc::new(Figures::new(workshop.threads)),
                |before| Arc::clone(&before.figures),
            ),
            access: AccessRule::parse(&record.access_rule),
            injection,
            by_identity,
            label,
            record: Arc::new(record),
        })
    }

    /// Lets a caller through, or not.
    pub(super) fn admits(&self, caller: &Caller) -> Result<(), Refusal> {
        self.access.admits(caller).map_err(|denial| match denial {
            Denial::Unauthenticated => Refusal::Unauthenticated,
            Denial::Forbidden => Refusal::Denied,
        })
    }

    /// Takes one of the caller's own requests per second, if it has such a limit.
    pub(super) fn check_identity(&self, held: &Held) -> Result<(), Refusal> {
        let Some(own) = &self.by_identity else {
            return Ok(());
        };
        let key: Box<str> = match held.story.caller.id() {
            // Not to be mixed up with an address.
            Some(id) => format!("id:{id}").into(),
            None => format!("ip:{}", held.story.from.client).into(),
        };
        let now = held.proxy.clock.mono_ms();
        let mut table = own.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.take(&key, now).map_err(|retry_after| Refusal::Busy {
            by: super::outcome::Decider::Rate,
            retry_after: Some(retry_after),
        })
    }

    /// Sets the route's own header fields; if one can't be filled in, none is set.
    pub(super) fn inject(&self, fields: &mut Fields, caller: &Caller) {
        let Some(injection) = self.injection.as_ref().ok().filter(|it| !it.is_empty()) else {
            return;
        };
        match injection.fill(caller) {
            Ok(filled) => {
                for (name, value) in filled {
                    if fields.set(name, value.as_bytes()).is_err() {
                        warn!(route = %self.label, header = name, "header can't be set");
                    }
                }
            }
            Err(error) => warn!(route = %self.label, %error, "no header of the route is injected"),
        }
    }

    /// Slots, queue and what was refused.
    pub fn guard_state(&self) -> GuardState {
        self.guard.state()
    }

    /// Its upstreams.
    pub fn endpoints(&self, now: u64) -> Vec<EndpointLook> {
        self.endpoints.look(now)
    }

    /// What has been counted.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// What would be asked of each upstream for this path, which the route was found under, and
    /// query: scheme, authority, path, query. In the order of [`Route::endpoints`].
    pub fn targets(&self, path: &str, query: Option<&str>) -> Vec<String> {
        let rest = if self.record.strip_path {
            super::outbound::below(path, &self.prefix)
        } else {
            path
        };
        let mark = if query.is_some() { "?" } else { "" };
        let query = query.unwrap_or_default();
        let target = |name: &str, base: &str| {
            let slash = if base.is_empty() && rest.is_empty() {
                "/"
            } else {
                ""
            };
            format!("{name}{base}{rest}{slash}{mark}{query}")
        };
        let endpoints = self.endpoints.list().iter();
        endpoints
            .map(|one| target(&one.name, &one.spec.base_path))
            .collect()
    }

    /// Its upstreams speak gRPC: bodies may rest, however long.
    pub fn is_grpc(&self) -> bool {
        self.is_grpc
    }

    /// Who may pass.
    pub fn access(&self) -> AccessRule {
        self.access
    }

    /// Names of the fields that it sets, or what hinders it from setting any.
    pub fn injected(&self) -> Result<Vec<&str>, &str> {
        let headers = self.record.headers.iter().map(|(name, _)| name.as_str());
        match &self.injection {
            Ok(_) => Ok(headers.collect()),
            Err(error) => Err(error),
        }
    }
}

impl Limits {
    fn of(record: &Record) -> Self {
        let ms = |seconds: f64| (seconds > 0.0).then(|| (seconds * 1_000.0).ceil() as u64);
        let phases = &record.timeout_config;
        Self {
            total_ms: ms(record.timeout),
            header_ms: ms(phases.response_header),
            first_byte_ms: ms(phases.first_byte),
            gap_ms: ms(phases.gap),
            stream_total_ms: ms(phases.total),
            hedge_ms: ms(record.retry.hedge_after),
            heartbeat_ms: record.ai.as_ref().and_then(|ai| ms(ai.heartbeat)),
        }
    }
}
