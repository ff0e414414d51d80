//! The HTTP proxy as operators see it: records of the store and of the configuration file,
//! and what the routes in force would do.

use std::sync::Arc;
use std::time::Duration;

use admin::control::{
    Proxies, ProxyAccess, ProxyChange, ProxyEndpoint, ProxyError, ProxyExplanation, ProxyLimiter,
    ProxyProblem, ProxyRecord, ProxyRouteMatch, ProxySecret, SecretValue,
};
use arc_swap::ArcSwap;
use lifecycle::Clock;
use policy::BreakerState;
use router::proxy::{Caller, ConcurrencyMode, EndpointLook, Problem, Proxy, Record, Route};
use serde_json::{Map, Value};
use store::{Author, Change, Row, Store, StoreError};
use tokio::sync::watch;

use crate::config::Config;

/// The proxy at the operators' desk.
#[derive(Clone)]
pub(in crate::assembly) struct Desk {
    pub(in crate::assembly) proxy: Arc<Proxy>,
    pub(in crate::assembly) store: Store,
    /// Its file's routes are listed with the store's.
    pub(in crate::assembly) config: Arc<ArcSwap<Config>>,
    /// The store's revision whose routes are in force.
    pub(in crate::assembly) installed: watch::Receiver<u64>,
    pub(in crate::assembly) clock: Clock,
    /// OpenMetrics text of the proxy's own families.
    pub(in crate::assembly) metrics: Arc<dyn Fn() -> Option<String> + Send + Sync>,
}

/// The id of a record of the configuration file: by its path, so that it stays the same
/// wherever in the file it stands. No id of the store has a full stop.
pub(in crate::assembly) fn file_id(path: &str) -> String {
    // FNV-1a.
    let hash = path.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("file.{hash:016x}")
}

impl Proxies for Desk {
    async fn list(&self) -> Result<Vec<ProxyRecord>, ProxyError> {
        let snapshot = self.store.snapshot().await.map_err(refusal)?;
        let mut records: Vec<ProxyRecord> = snapshot.rows.iter().map(shown).collect();
        records.extend(self.declared());
        Ok(records)
    }

    async fn get(&self, id: &str) -> Result<ProxyRecord, ProxyError> {
        match self.find_declared(id) {
            Some(record) => Ok(record),
            None => Ok(shown(&self.store.get(id).await.map_err(refusal)?)),
        }
    }

    async fn create(
        &self,
        author: &str,
        fields: Map<String, Value>,
    ) -> Result<ProxyRecord, ProxyError> {
        let document = Record::patched(&Value::Object(Map::new()), &Value::Object(fields));
        let path = checked(&document)?.path;
        self.refuse_taken(&path)?;
        let (document, now) = (document.to_string(), self.clock.unix_ms());
        let author = Author(author.to_owned());
        let created = self.store.create(&path, &document, &author, now).await;
        self.changed(created).await
    }

    async fn patch(
        &self,
        author: &str,
        id: &str,
        expected: Option<u64>,
        fields: Map<String, Value>,
    ) -> Result<ProxyRecord, ProxyError> {
        self.refuse_declared(id)?;
        let patch = Value::Object(fields);
        let author = Author(author.to_owned());
        let mut tries = PATCH_TRIES;
        loop {
            let row = self.store.get(id).await.map_err(refusal)?;
            if let Some(expected) = expected
                && expected != row.version
            {
                let version = row.version;
                return Err(ProxyError::Changed { version });
            }
            let document = Record::patched(&document(&row), &patch);
            let path = checked(&document)?.path;
            if path != row.path {
                self.refuse_taken(&path)?;
            }
            let (document, now) = (document.to_string(), self.clock.unix_ms());
            // What was read is what is changed: else another one's change would be undone.
            let updated = self
                .store
                .update(id, Some(row.version), &path, &document, &author, now)
                .await;
            tries -= 1;
            match updated {
                Err(StoreError::Changed { .. }) if expected.is_none() && tries > 0 => {}
                updated => return self.changed(updated).await,
            }
        }
    }

    async fn delete(
        &self,
        author: &str,
        id: &str,
        expected: Option<u64>,
    ) -> Result<(), ProxyError> {
        self.refuse_declared(id)?;
        let author = Author(author.to_owned());
        let now = self.clock.unix_ms();
        let deleted = self.store.delete(id, expected, &author, now).await;
        deleted.map_err(refusal)?;
        self.in_force().await;
        Ok(())
    }

    async fn history(
        &self,
        id: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ProxyChange>, ProxyError> {
        if self.find_declared(id).is_some() {
            return Ok(Vec::new());
        }
        let changes = self.store.history(id, limit as u64, before).await;
        Ok(changes.map_err(refusal)?.into_iter().map(told).collect())
    }

    async fn rollback(
        &self,
        author: &str,
        id: &str,
        version: u64,
        expected: Option<u64>,
    ) -> Result<ProxyRecord, ProxyError> {
        self.refuse_declared(id)?;
        let author = Author(author.to_owned());
        let now = self.clock.unix_ms();
        let rolled_back = self.store.rollback(id, version, expected, &author, now);
        self.changed(rolled_back.await).await
    }

    async fn explain(
        &self,
        id: &str,
        method: &str,
        path: Option<&str>,
    ) -> Result<ProxyExplanation, ProxyError> {
        let record = self.get(id).await?;
        let own = record.fields.get("path").and_then(Value::as_str);
        let asked = path.or(own).unwrap_or_default();
        Ok(self.explained(id, method, asked))
    }

    async fn secrets(&self) -> Result<Vec<ProxySecret>, ProxyError> {
        let notes = self.store.secrets().await.map_err(refusal)?;
        let secrets = notes.into_iter().map(|note| ProxySecret {
            name: note.name,
            environment: note.environment,
            updated_ms: note.updated_ms,
            author: note.author,
        });
        Ok(secrets.collect())
    }

    async fn put_secret(
        &self,
        author: &str,
        environment: &str,
        name: &str,
        value: SecretValue,
    ) -> Result<(), ProxyError> {
        let author = Author(author.to_owned());
        let now = self.clock.unix_ms();
        let put = self
            .store
            .put_secret(name, environment, value.reveal(), &author, now);
        put.await.map_err(refusal)?;
        self.in_force().await;
        Ok(())
    }

    async fn delete_secret(
        &self,
        _author: &str,
        environment: &str,
        name: &str,
    ) -> Result<(), ProxyError> {
        let deleted = self.store.delete_secret(name, environment).await;
        deleted.map_err(refusal)?;
        self.in_force().await;
        Ok(())
    }

    fn metrics(&self) -> Option<String> {
        (self.metrics)()
    }
}

impl Desk {
    fn declared(&self) -> Vec<ProxyRecord> {
        let config = self.config.load();
        let records = config.proxy.file_routes.records().iter();
        records.map(declared).collect()
    }

    fn find_declared(&self, id: &str) -> Option<ProxyRecord> {
        let config = self.config.load();
        let mut records = config.proxy.file_routes.records().iter();
        let found = records.find(|record| file_id(&record.path) == id);
        found.map(declared)
    }

    fn refuse_declared(&self, id: &str) -> Result<(), ProxyError> {
        match self.find_declared(id) {
            Some(_) => Err(ProxyError::ReadOnly),
            None => Ok(()),
        }
    }

    /// A path of the configuration file: its route would hide the store's.
    fn refuse_taken(&self, path: &str) -> Result<(), ProxyError> {
        let config = self.config.load();
        let mut records = config.proxy.file_routes.records().iter();
        match records.any(|record| record.path == path) {
            true => Err(ProxyError::PathTaken),
            false => Ok(()),
        }
    }

    async fn changed(&self, row: Result<Row, StoreError>) -> Result<ProxyRecord, ProxyError> {
        let row = row.map_err(refusal)?;
        self.in_force().await;
        Ok(shown(&row))
    }

    /// Waits until this node serves what the store has, so that whoever made a change sees
    /// it at work. A database that is slow to answer holds nobody up for long.
    async fn in_force(&self) {
        let revision = *self.store.changes().borrow();
        let mut installed = self.installed.clone();
        let wait = installed.wait_for(|at| *at >= revision);
        // The change is made in any case; an error means that the gateway stops.
        if tokio::time::timeout(IN_FORCE_MAX, wait).await.is_err() {
            tracing::warn!(revision, "routes of the store are late to be in force");
        }
    }

    fn explained(&self, id: &str, method: &str, asked: &str) -> ProxyExplanation {
        let mut told = ProxyExplanation {
            method: method.to_owned(),
            path: asked.to_owned(),
            ..ProxyExplanation::default()
        };
        let (path, query) = match asked.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (asked, None),
        };
        let route = match self.proxy.find(path) {
            Ok(route) => route,
            Err(refused) => {
                told.decision = format!("refused with {}: {refused}", refused.status());
                return told;
            }
        };
        told.is_this = *route.id == *id;
        told.route = Some(ProxyRouteMatch {
            id: route.id.to_string(),
            name: route.label.to_string(),
            prefix: route.record.path.clone(),
        });
        told.access = Some(access(&route));
        told.limiter = Some(limiter(&route));
        let now = self.clock.mono_ms();
        let looks = route.endpoints(now);
        let targets = route.targets(path, query);
        let upstreams = looks.iter().zip(targets);
        told.upstreams = upstreams
            .map(|(look, target)| endpoint(look, target, &route.record))
            .collect();
        let injected = route.injected();
        let names = injected.as_deref().unwrap_or_default();
        told.headers = names.iter().map(|&name| name.to_owned()).collect();
        told.decision = decision(&told, injected.err());
        told
    }
}

/// Who may pass, tried with one caller of each kind.
fn access(route: &Route) -> ProxyAccess {
    let rule = route.access();
    let user = Caller::User {
        id: "user".into(),
        claims: Arc::default(),
    };
    ProxyAccess {
        rule: route.record.access_rule.clone(),
        guest: rule.admits(&Caller::Guest).is_ok(),
        user: rule.admits(&user).is_ok(),
        superuser: rule
            .admits(&Caller::Superuser("administrator".into()))
            .is_ok(),
    }
}

fn limiter(route: &Route) -> ProxyLimiter {
    let gate = route.guard_state().gate;
    ProxyLimiter {
        mode: match route.record.concurrency_mode {
            ConcurrencyMode::Fixed => "fixed",
            ConcurrencyMode::Adaptive => "adaptive",
        },
        limit: u64::from(gate.limit),
        in_flight: u64::from(gate.in_flight),
        queue: u64::from(route.record.queue.max),
        waiting: u64::from(gate.waiting),
    }
}

fn endpoint(look: &EndpointLook, target: String, record: &Record) -> ProxyEndpoint {
    let ejected = look
        .state
        .as_ref()
        .is_some_and(|state| state.ejected.is_some());
    let (breaker, retry_after) = match look.breaker {
        _ if !record.circuit_breaker.enabled => ("off", None),
        BreakerState::Closed => ("closed", None),
        BreakerState::HalfOpen => ("half_open", None),
        BreakerState::Open { retry_after } => ("open", Some(retry_after)),
    };
    let latency = look.state.as_ref().and_then(|state| state.latency);
    ProxyEndpoint {
        url: look.url.clone(),
        weight: look.weight,
        target,
        breaker,
        retry_after_ms: retry_after.map(|wait| wait.as_millis() as u64),
        ejected,
        latency_ms: latency.map(|latency| latency.as_secs_f64() * 1_000.0),
        in_flight: look
            .state
            .as_ref()
            .map_or(0, |state| u64::from(state.pending)),
        eligible: breaker != "open",
    }
}

/// What would be done. `bare` says why the request would go without the route's headers.
fn decision(told: &ProxyExplanation, bare: Option<&str>) -> String {
    let full = told.limiter.as_ref().is_some_and(|limiter| {
        limiter.limit > 0 && limiter.in_flight >= limiter.limit && limiter.queue == 0
    });
    let nobody = told
        .access
        .as_ref()
        .is_some_and(|access| !(access.guest || access.user || access.superuser));
    if nobody {
        "refused with 403: the access rule lets nobody pass".to_owned()
    } else if told.upstreams.iter().all(|upstream| !upstream.eligible) {
        "refused with 503 if the caller may pass: the breaker of every upstream is open".to_owned()
    } else if full {
        "refused with 429 if the caller may pass: as many requests as allowed are in flight"
            .to_owned()
    } else if let Some(reason) = bare {
        format!("forwarded without the route's headers if the caller may pass: {reason}")
    } else {
        "forwarded if the caller may pass".to_owned()
    }
}

fn declared(record: &Record) -> ProxyRecord {
    ProxyRecord {
        id: file_id(&record.path),
        read_only: true,
        fields: fields(&record.write()),
        ..ProxyRecord::default()
    }
}

fn shown(row: &Row) -> ProxyRecord {
    let written = document(row);
    // A row that this release can't read is shown as it is.
    let written = Record::read(&written).map_or(written, |record| record.write());
    ProxyRecord {
        id: row.id.clone(),
        version: row.version,
        created_ms: row.created_ms,
        updated_ms: row.updated_ms,
        read_only: false,
        fields: fields(&written),
    }
}

fn told(change: Change) -> ProxyChange {
    ProxyChange {
        kind: change.kind.word(),
        at_ms: change.at_ms,
        record: shown(&change.row),
        author: change.author,
    }
}

fn document(row: &Row) -> Value {
    serde_json::from_str(&row.document).unwrap_or_else(|_| Value::Object(Map::new()))
}

/// The fields as they are shown: credentials are masked.
fn fields(document: &Value) -> Map<String, Value> {
    match Record::masked(document) {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn checked(document: &Value) -> Result<Record, ProxyError> {
    Record::read(document).map_err(|problems| {
        let problem = |it: Problem| ProxyProblem {
            field: it.field,
            code: it.code,
            message: it.message,
        };
        ProxyError::Invalid(problems.into_iter().map(problem).collect())
    })
}

fn refusal(error: StoreError) -> ProxyError {
    match error {
        StoreError::NotFound => ProxyError::NotFound,
        StoreError::PathTaken => ProxyError::PathTaken,
        StoreError::Changed { version } => ProxyError::Changed { version },
        error @ (StoreError::Invalid { .. } | StoreError::Sealing(_)) => {
            ProxyError::Refused(error.to_string())
        }
        error @ (StoreError::TooNew { .. } | StoreError::Database(_)) => {
            ProxyError::Unavailable(error.to_string())
        }
    }
}

/// Tries of a change without `If-Match` that others get in the way of.
const PATCH_TRIES: u32 = 5;

/// How long a change waits to be in force here.
const IN_FORCE_MAX: Duration = Duration::from_secs(2);
