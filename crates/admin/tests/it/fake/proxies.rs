//! A proxy whose records live in memory, with the store's rules.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use admin::control::{
    Proxies, ProxyAccess, ProxyChange, ProxyEndpoint, ProxyError, ProxyExplanation, ProxyLimiter,
    ProxyProblem, ProxyRecord, ProxyRouteMatch, ProxySecret, SecretValue,
};
use serde_json::{Map, Value, json};

#[derive(Clone, Default)]
pub(crate) struct FakeProxies(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    records: BTreeMap<String, ProxyRecord>,
    history: Vec<ProxyChange>,
    secrets: BTreeMap<(String, String), String>,
    made: u64,
    broken: bool,
    metrics: Option<String>,
}

impl FakeProxies {
    /// From now on the database can't be used.
    pub(crate) fn break_down(&self) {
        self.0.lock().unwrap().broken = true;
    }

    /// Metrics are on, and this is their text.
    pub(crate) fn measure(&self, text: &str) {
        self.0.lock().unwrap().metrics = Some(text.to_owned());
    }

    /// A record as the configuration file declares it.
    pub(crate) fn declare(&self, id: &str) {
        let Value::Object(fields) = json!({"path": format!("/-/{id}"), "upstream": "http://a"})
        else {
            return;
        };
        let record = ProxyRecord {
            id: id.to_owned(),
            read_only: true,
            fields,
            ..ProxyRecord::default()
        };
        self.0.lock().unwrap().records.insert(id.to_owned(), record);
    }

    /// The value of a secret, as the store would have it.
    pub(crate) fn secret(&self, environment: &str, name: &str) -> Option<String> {
        let state = self.0.lock().unwrap();
        let address = (environment.to_owned(), name.to_owned());
        state.secrets.get(&address).cloned()
    }
}

impl State {
    fn check(&self, id: &str, fields: &Map<String, Value>) -> Result<(), ProxyError> {
        let Some(path) = fields.get("path").and_then(Value::as_str) else {
            return Err(ProxyError::Invalid(vec![problem(
                "path",
                "validation_required",
                "path cannot be empty",
            )]));
        };
        if !path.starts_with('/') {
            return Err(ProxyError::Invalid(vec![
                problem("path", "validation_invalid", "path must start with /"),
                problem("path", "validation_invalid", "another one"),
                problem(
                    "circuitBreaker.failure_threshold",
                    "validation_invalid",
                    "must be a whole number from 1 to 100000",
                ),
            ]));
        }
        let taken = self
            .records
            .values()
            .any(|other| other.id != id && other.fields.get("path") == fields.get("path"));
        if taken {
            return Err(ProxyError::PathTaken);
        }
        Ok(())
    }

    fn changeable(&self, id: &str, expected: Option<u64>) -> Result<ProxyRecord, ProxyError> {
        let record = self.records.get(id).ok_or(ProxyError::NotFound)?;
        if record.read_only {
            return Err(ProxyError::ReadOnly);
        }
        match expected {
            Some(expected) if expected != record.version => Err(ProxyError::Changed {
                version: record.version,
            }),
            _ => Ok(record.clone()),
        }
    }

    fn keep(&mut self, kind: &'static str, author: &str, record: ProxyRecord) -> ProxyRecord {
        self.history.push(ProxyChange {
            kind,
            author: author.to_owned(),
            at_ms: record.updated_ms,
            record: record.clone(),
        });
        match kind {
            "delete" => self.records.remove(&record.id),
            _ => self.records.insert(record.id.clone(), record.clone()),
        };
        record
    }

    fn up(&self) -> Result<(), ProxyError> {
        match self.broken {
            true => Err(ProxyError::Unavailable(
                "database can't be used: gone".to_owned(),
            )),
            false => Ok(()),
        }
    }
}

fn problem(field: &str, code: &'static str, message: &str) -> ProxyProblem {
    ProxyProblem {
        field: field.to_owned(),
        code,
        message: message.to_owned(),
    }
}

impl Proxies for FakeProxies {
    async fn list(&self) -> Result<Vec<ProxyRecord>, ProxyError> {
        let state = self.0.lock().unwrap();
        state.up()?;
        Ok(state.records.values().cloned().collect())
    }

    async fn get(&self, id: &str) -> Result<ProxyRecord, ProxyError> {
        let state = self.0.lock().unwrap();
        state.up()?;
        state.records.get(id).cloned().ok_or(ProxyError::NotFound)
    }

    async fn create(
        &self,
        author: &str,
        fields: Map<String, Value>,
    ) -> Result<ProxyRecord, ProxyError> {
        let mut state = self.0.lock().unwrap();
        state.up()?;
        state.check("", &fields)?;
        state.made += 1;
        let at = 1_769_774_400_000 + state.made;
        let record = ProxyRecord {
            id: format!("record{:09}", state.made),
            version: 1,
            created_ms: at,
            updated_ms: at,
            read_only: false,
            fields,
        };
        Ok(state.keep("create", author, record))
    }

    async fn patch(
        &self,
        author: &str,
        id: &str,
        expected: Option<u64>,
        fields: Map<String, Value>,
    ) -> Result<ProxyRecord, ProxyError> {
        let mut state = self.0.lock().unwrap();
        let mut record = state.changeable(id, expected)?;
        record.fields.extend(fields);
        state.check(id, &record.fields)?;
        record.version += 1;
        Ok(state.keep("update", author, record))
    }

    async fn delete(
        &self,
        author: &str,
        id: &str,
        expected: Option<u64>,
    ) -> Result<(), ProxyError> {
        let mut state = self.0.lock().unwrap();
        let mut record = state.changeable(id, expected)?;
        record.version += 1;
        state.keep("delete", author, record);
        Ok(())
    }

    async fn history(
        &self,
        id: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ProxyChange>, ProxyError> {
        let state = self.0.lock().unwrap();
        let own = state
            .history
            .iter()
            .rev()
            .filter(|change| change.record.id == id);
        let all: Vec<_> = own.cloned().collect();
        if all.is_empty() {
            return Err(ProxyError::NotFound);
        }
        let older = all
            .into_iter()
            .filter(|change| before.is_none_or(|before| change.record.version < before));
        Ok(older.take(limit).collect())
    }

    async fn rollback(
        &self,
        author: &str,
        id: &str,
        version: u64,
        expected: Option<u64>,
    ) -> Result<ProxyRecord, ProxyError> {
        let mut state = self.0.lock().unwrap();
        let now = state.changeable(id, expected)?;
        let old = state
            .history
            .iter()
            .find(|change| change.record.id == id && change.record.version == version)
            .ok_or(ProxyError::NotFound)?;
        let record = ProxyRecord {
            version: now.version + 1,
            ..old.record.clone()
        };
        Ok(state.keep("rollback", author, record))
    }

    async fn explain(
        &self,
        id: &str,
        method: &str,
        path: Option<&str>,
    ) -> Result<ProxyExplanation, ProxyError> {
        let record = self.get(id).await?;
        let own = record.fields.get("path").and_then(Value::as_str);
        let path = path.or(own).unwrap_or_default();
        Ok(ProxyExplanation {
            method: method.to_owned(),
            path: path.to_owned(),
            route: Some(ProxyRouteMatch {
                id: id.to_owned(),
                ..ProxyRouteMatch::default()
            }),
            is_this: true,
            decision: "forwarded".to_owned(),
            access: Some(ProxyAccess::default()),
            limiter: Some(ProxyLimiter {
                mode: "fixed",
                ..ProxyLimiter::default()
            }),
            upstreams: vec![ProxyEndpoint {
                breaker: "off",
                ..ProxyEndpoint::default()
            }],
            headers: vec!["authorization".to_owned()],
        })
    }

    async fn secrets(&self) -> Result<Vec<ProxySecret>, ProxyError> {
        let state = self.0.lock().unwrap();
        let secrets = state
            .secrets
            .keys()
            .rev()
            .map(|(environment, name)| ProxySecret {
                name: name.clone(),
                environment: environment.clone(),
                updated_ms: 0,
                author: "ops".to_owned(),
            });
        Ok(secrets.collect())
    }

    async fn put_secret(
        &self,
        _: &str,
        environment: &str,
        name: &str,
        value: SecretValue,
    ) -> Result<(), ProxyError> {
        if name == "NO_KEY" {
            return Err(ProxyError::Refused("no key is configured".to_owned()));
        }
        let address = (environment.to_owned(), name.to_owned());
        let mut state = self.0.lock().unwrap();
        state.secrets.insert(address, value.reveal().to_owned());
        Ok(())
    }

    async fn delete_secret(
        &self,
        _: &str,
        environment: &str,
        name: &str,
    ) -> Result<(), ProxyError> {
        let address = (environment.to_owned(), name.to_owned());
        let removed = self.0.lock().unwrap().secrets.remove(&address);
        removed.map(drop).ok_or(ProxyError::NotFound)
    }

    fn metrics(&self) -> Option<String> {
        self.0.lock().unwrap().metrics.clone()
    }
}
