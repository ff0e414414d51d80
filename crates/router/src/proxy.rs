//! The HTTP proxy: from a request to its upstream and back.
//!
//! ```text
//! request ─► table ─► access ─► breaker ─► slot, rate ─► endpoint ─► exchange ─► answer
//!            snapshot  rule     open?       queue        P2C         phases      metrics, log
//! ```
//!
//! A [`Record`] is what an operator writes; a route is what it compiles to. Requests
//! hold the route they began with, so a new table disturbs nothing under way.

mod access_log;
pub mod ai;
mod answer;
mod call;
mod caller;
mod compile;
mod endpoints;
mod figures;
mod grpc;
mod metered;
mod outbound;
mod outcome;
mod record;
mod refusal;
mod replay;
mod route;
mod rule;
mod snapshot;
mod spending;
mod story;
mod streaming;
mod table;
mod template;
mod trace;
mod tunnel;
mod upgrade;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use http1::RequestHead;
use lifecycle::Clock;
use upstream::http_service::Pool;

pub use access_log::{AccessLog, AccessLogError, Destination, Line};
pub use answer::{Answer, Body};
pub use call::Asked;
pub use caller::Caller;
pub use compile::{WeightedOrigin, breaker, identity_rate, origins, policy};
pub use endpoints::EndpointLook;
pub use figures::{
    CONNECTIONS, DURATIONS, ERROR_TYPES, FIRST_CONTENTS, Figures, Histogram, OVERHEADS, PHASES,
    REFUSALS, STATUS_CLASSES, Snapshot as FiguresSnapshot,
};
pub use outbound::Origin;
pub use outcome::{Connection, Decider, Ended, Outcome, Phase};
pub use record::{
    Ai, AiDialect, Breaker, Budget, ConcurrencyMode, MASK, Problem, Queue, Rate, RateBy, Record,
    Retry, Timeouts, UpstreamSpec, UpstreamVersions,
};
pub use refusal::{Refusal, Said};
pub use route::Route;
pub use rule::{AccessRule, Denial};
pub use snapshot::{Installed, Uninstallable};
pub use spending::Spending;
pub use streaming::{Broken, Streaming};
pub use table::{AmbiguousPath, Found, PathTaken, Routes};
pub use template::{Injection, InjectionError, Sources, Template, TemplateError};
pub use tunnel::Tunnel;

use snapshot::Snapshot;
use story::Story;
use trace::Trace;
use tracing::info;

use crate::services::{COMPONENT, LOG_TARGET};

/// The proxy: the routes in force, the connections to their upstreams, and who has spent
/// what. One for all listeners and threads.
#[derive(Debug)]
pub struct Proxy {
    clock: Clock,
    pool: Pool,
    snapshot: ArcSwap<Snapshot>,
    spending: Arc<Spending>,
    log: ArcSwapOption<AccessLog>,
    /// Threads that count, for [`Figures`].
    threads: usize,
    chance: AtomicU64,
    unrouted: AtomicU64,
    /// A line for each call of gRPC as it comes and as it goes.
    notes_calls: AtomicBool,
}

impl Proxy {
    /// A proxy without routes. `seed` makes its chance.
    pub fn new(
        clock: Clock,
        pool: Pool,
        spending: Arc<Spending>,
        threads: usize,
        seed: u64,
    ) -> Self {
        Self {
            clock,
            pool,
            snapshot: ArcSwap::default(),
            spending,
            log: ArcSwapOption::empty(),
            threads,
            chance: AtomicU64::new(seed),
            unrouted: AtomicU64::new(0),
            notes_calls: AtomicBool::new(false),
        }
    }

    /// The route of a path that begins with `/-/`.
    pub fn find(&self, path: &str) -> Result<Arc<Route>, Refusal> {
        let snapshot = self.snapshot.load();
        let found = snapshot
            .routes
            .find(path)
            .map_err(|_| Refusal::Path("it has dot segments, or slashes that are escaped"))?;
        match found {
            Some(found) => Ok(Arc::clone(found.route)),
            None => Err(Refusal::NoRoute),
        }
    }

    /// The route that takes calls of a gRPC service from its plain path, if this is such a
    /// call.
    pub fn find_call(&self, head: &RequestHead) -> Option<Arc<Route>> {
        let service = grpc::service_of(head.target.path())?;
        let snapshot = self.snapshot.load();
        let route = snapshot.by_service.get(service)?;
        grpc::is_call(head).then(|| Arc::clone(route))
    }

    /// Whether a call to this path and with this content would be one of the proxy's.
    pub fn takes_call(&self, path: &str, content_type: Option<&[u8]>) -> bool {
        content_type.is_some_and(grpc::is_content_type)
            && grpc::service_of(path)
                .is_some_and(|service| self.snapshot.load().by_service.contains_key(service))
    }

    /// An answer to a request that has no route, or never gets to one.
    pub fn refuse(&self, refusal: &Refusal, head: &RequestHead) -> Answer {
        self.unrouted.fetch_add(1, Ordering::Relaxed);
        let is_call = grpc::is_call(head);
        let said = if is_call {
            grpc::refused(refusal)
        } else {
            refusal.said(None)
        };
        if let Some(log) = &*self.log.load() {
            let mut outcome =
                Outcome::refused(refusal.status(), refusal.decided_by(), Duration::ZERO);
            outcome.response_bytes = said.body.len() as u64;
            log.write(&Line {
                unix_ms: self.clock.unix_ms(),
                proxy_name: "",
                method: head.method.as_str(),
                path: head.target.path(),
                upstream: "",
                concurrent: 0,
                circuit_state: "closed",
                trace: &Trace::of(&head.fields, || self.draw()),
                caller: None,
                model: None,
                error: None,
                outcome: &outcome,
            });
        }
        if is_call {
            return grpc::answer(said);
        }
        Answer::said(said)
    }

    /// Requests that had no route, since the start.
    pub fn unrouted(&self) -> u64 {
        self.unrouted.load(Ordering::Relaxed)
    }

    /// The connections to the upstreams.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What callers have spent on models.
    pub fn spending(&self) -> &Arc<Spending> {
        &self.spending
    }

    /// The process's clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Where requests are logged from now on; `None` is nowhere.
    pub fn log_to(&self, log: Option<Arc<AccessLog>>) {
        self.log.store(log);
    }

    /// Whether a line is logged for each call of gRPC as it comes and as it goes.
    pub fn note_calls(&self, yes: bool) {
        self.notes_calls.store(yes, Ordering::Relaxed);
    }

    /// Where requests are logged.
    pub fn log(&self) -> Option<Arc<AccessLog>> {
        self.log.load_full()
    }

    fn note_call(&self, route: &Route, story: &Story) {
        if self.notes_calls.load(Ordering::Relaxed) {
            info!(
                target: LOG_TARGET,
                guuid = %story.trace.guuid(),
                component = COMPONENT,
                action = "request_received",
                route = &*route.label,
                call = story.target.path(),
            );
        }
    }

    fn note_end(&self, story: &Story, outcome: &Outcome) {
        if self.notes_calls.load(Ordering::Relaxed) {
            info!(
                target: LOG_TARGET,
                guuid = %story.trace.guuid(),
                component = COMPONENT,
                action = "response_sent",
                ended = outcome.ended.name(),
                took_us = outcome.duration.as_micros() as u64,
            );
        }
    }

    /// A random number (splitmix64): good enough to spread load and to name spans.
    fn draw(&self) -> u64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.chance.fetch_add(GOLDEN, Ordering::Relaxed);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
