//! What operators may ask of the HTTP proxy: its routes as records, their history, secrets.
//!
//! A record's fields stay JSON here. What they mean, which spellings are read and what is
//! wrong with them is the proxy's business; this crate adds the id, the times and the
//! version, and answers in the shapes of the contract.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

/// The HTTP proxy as operators see it. `author` is the name of an administrator's token.
///
/// Where `expected` is given, a record is changed only if it has this version; otherwise
/// the last one to write wins. Records declared in the configuration file are listed with
/// the others and can't be changed: [`ProxyError::ReadOnly`].
pub trait Proxies: Send + Sync + 'static {
    /// All records, in no order.
    fn list(&self) -> impl Future<Output = Result<Vec<ProxyRecord>, ProxyError>> + Send;

    /// One record.
    fn get(&self, id: &str) -> impl Future<Output = Result<ProxyRecord, ProxyError>> + Send;

    /// Makes a record; what is absent takes its default.
    fn create(
        &self,
        author: &str,
        fields: Map<String, Value>,
    ) -> impl Future<Output = Result<ProxyRecord, ProxyError>> + Send;

    /// Replaces the fields that are given, whole, and leaves the others.
    fn patch(
        &self,
        author: &str,
        id: &str,
        expected: Option<u64>,
        fields: Map<String, Value>,
    ) -> impl Future<Output = Result<ProxyRecord, ProxyError>> + Send;

    /// Removes a record; its history stays.
    fn delete(
        &self,
        author: &str,
        id: &str,
        expected: Option<u64>,
    ) -> impl Future<Output = Result<(), ProxyError>> + Send;

    /// Changes of a record, newest first: those whose version is below `before`, at most
    /// `limit`. [`ProxyError::NotFound`] if there never was such a record.
    fn history(
        &self,
        id: &str,
        before: Option<u64>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<ProxyChange>, ProxyError>> + Send;

    /// Puts a record back to an older version, as a new one; a deleted record comes back.
    fn rollback(
        &self,
        author: &str,
        id: &str,
        version: u64,
        expected: Option<u64>,
    ) -> impl Future<Output = Result<ProxyRecord, ProxyError>> + Send;

    /// What would become of a request, without making it. `path` is what a client would
    /// ask for, perhaps with a query; without one it is the record's own path.
    fn explain(
        &self,
        id: &str,
        method: &str,
        path: Option<&str>,
    ) -> impl Future<Output = Result<ProxyExplanation, ProxyError>> + Send;

    /// The secrets there are, in no order. Values are not shown to anybody.
    fn secrets(&self) -> impl Future<Output = Result<Vec<ProxySecret>, ProxyError>> + Send;

    /// Sets a secret; the name, the environment and the value have been checked for shape.
    fn put_secret(
        &self,
        author: &str,
        environment: &str,
        name: &str,
        value: SecretValue,
    ) -> impl Future<Output = Result<(), ProxyError>> + Send;

    /// Removes a secret.
    fn delete_secret(
        &self,
        author: &str,
        environment: &str,
        name: &str,
    ) -> impl Future<Output = Result<(), ProxyError>> + Send;

    /// The proxy's own metrics as OpenMetrics text; `None` if they are off.
    fn metrics(&self) -> Option<String>;
}

/// Why a request about the proxy was not carried out. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// There is no such record, version or secret.
    #[error("there is no such record, version or secret")]
    NotFound,
    /// Fields are not acceptable.
    #[error("{}", one_line(.0))]
    Invalid(Vec<ProxyProblem>),
    /// Another record has this path.
    #[error("path is taken by another record")]
    PathTaken,
    /// The record has not the version that was expected.
    #[error("record has changed: its version is {version}")]
    Changed {
        /// The version it has.
        version: u64,
    },
    /// The record is declared in the configuration file.
    #[error("record is declared in the configuration file and can only be changed there")]
    ReadOnly,
    /// What was asked for is not possible as things stand: a bound is reached, or a key is
    /// not configured.
    #[error("{0}")]
    Refused(String),
    /// The database can't be used now.
    #[error("{0}")]
    Unavailable(String),
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyProblem {
    /// The field as it was written: `circuitBreaker.failure_threshold`.
    pub field: String,
    /// `validation_required`, `validation_invalid` and the like.
    pub code: &'static str,
    /// What and why.
    pub message: String,
}

fn one_line(problems: &[ProxyProblem]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| format!("{}: {}", problem.field, problem.message))
        .collect();
    lines.join("; ")
}

/// A record as it stands now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProxyRecord {
    /// Its id.
    pub id: String,
    /// Rises with each change, from 1.
    pub version: u64,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub updated_ms: u64,
    /// It is declared in the configuration file.
    pub read_only: bool,
    /// All its fields, in the spelling that is emitted.
    pub fields: Map<String, Value>,
}

/// One change of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyChange {
    /// `create`, `update`, `delete` or `rollback`.
    pub kind: &'static str,
    /// The name of the token that made it.
    pub author: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The record after the change; of a deletion, before it.
    pub record: ProxyRecord,
}

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxySecret {
    /// `X` of `{secret.X}`.
    pub name: String,
    /// Which environment it is for; `global` is for all.
    pub environment: String,
    /// When it was set, in milliseconds since the Unix epoch.
    pub updated_ms: u64,
    /// The name of the token that set it.
    pub author: String,
}

/// The value of a secret on its way to the store. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(String);

impl SecretValue {
    /// Takes the value.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself, for whoever seals it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(redacted)")
    }
}

/// What would become of a request. It holds names of headers, never their values.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyExplanation {
    /// The method asked for.
    pub method: String,
    /// The path asked for, with its query.
    pub path: String,
    /// The route that would serve; `None` if none matches.
    pub route: Option<ProxyRouteMatch>,
    /// Whether that is the record asked about.
    pub is_this: bool,
    /// What would be done, or which policy would refuse, in words.
    pub decision: String,
    /// Who may pass. Absent without a route, as all that follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<ProxyAccess>,
    /// Requests in flight and what waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limiter: Option<ProxyLimiter>,
    /// Where the request could go, in the order of the record.
    pub upstreams: Vec<ProxyEndpoint>,
    /// Names of the headers that would be set.
    pub headers: Vec<String>,
}

/// The route that matches a path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyRouteMatch {
    /// Id of its record.
    pub id: String,
    /// What metrics call it.
    pub name: String,
    /// The whole prefix, `/-` included.
    pub prefix: String,
}

/// Who may pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyAccess {
    /// The rule as it is written.
    pub rule: String,
    /// Somebody without a token.
    pub guest: bool,
    /// Somebody with a client's token.
    pub user: bool,
    /// Somebody with an administrator's token.
    pub superuser: bool,
}

/// Requests in flight and what waits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyLimiter {
    /// `fixed` or `adaptive`.
    pub mode: &'static str,
    /// Requests in flight at most, as of now; 0 is no limit.
    pub limit: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Places in the queue; 0 is no queue.
    pub queue: u64,
    /// Requests that wait.
    pub waiting: u64,
}

/// An upstream a request could go to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyEndpoint {
    /// As the record has it.
    pub url: String,
    /// Its share, beside the others'.
    pub weight: u32,
    /// The URL that the request would have there.
    pub target: String,
    /// `off`, `closed`, `open`, `half_open` or `ramp`.
    pub breaker: &'static str,
    /// Until the next trial, in milliseconds, if the breaker is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// It is left out for being slow or failing.
    pub ejected: bool,
    /// Smoothed, in milliseconds; `None` before the first answer.
    pub latency_ms: Option<f64>,
    /// Requests in flight there.
    pub in_flight: u64,
    /// The request could go there now.
    pub eligible: bool,
}
