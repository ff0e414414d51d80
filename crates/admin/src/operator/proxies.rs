//! `/admin/proxies/{id}/…`: how a route came to be what it is, and what it would do.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::{Refusal, Whole, actor, audit, body_of, json, query};
use crate::control::{Control, Operator, Proxies, ProxyChange, ProxyError};
use crate::records::{Record, expected, is_id, tag, time};
use crate::router::Shared;

/// The proxy, or why there is nothing at these paths.
pub(super) fn proxies_of<C: Operator>(control: &C) -> Result<C::Proxies, Refusal> {
    control.proxies().ok_or(Refusal::NotFound(IS_OFF))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    before: Option<u64>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct History<'a> {
    history: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

#[derive(Serialize)]
struct Entry<'a> {
    version: u64,
    kind: &'static str,
    author: &'a str,
    at: String,
    record: Record<'a>,
}

impl<'a> From<&'a ProxyChange> for Entry<'a> {
    fn from(change: &'a ProxyChange) -> Self {
        Self {
            version: change.record.version,
            kind: change.kind,
            author: &change.author,
            at: time(change.at_ms),
            record: Record::new(&change.record),
        }
    }
}

pub(super) async fn history<C: Operator>(control: &C, head: &Parts) -> Result<Response, Refusal> {
    let proxies = proxies_of(control)?;
    let id = id_of(head)?;
    let HistoryQuery { before, limit } = query(&head.uri)?;
    let limit = limit.unwrap_or(HISTORY_DEFAULT);
    if !(1..=HISTORY_MAX).contains(&limit) {
        let rule = format!("limit must be 1 to {HISTORY_MAX}");
        return Err(Refusal::Malformed(rule));
    }
    // One more than is shown tells whether there is another page.
    let mut changes = proxies.history(id, before, limit + 1).await?;
    let more = changes.len() > limit;
    changes.truncate(limit);
    let next = changes
        .last()
        .filter(|_| more)
        .map(|last| last.record.version);
    let history = changes.iter().map(Entry::from).collect();
    Ok(json(StatusCode::OK, &History { history, next }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rollback {
    version: Whole,
}

pub(super) async fn rollback<C: Control + Operator>(
    shared: &Shared<C>,
    head: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let proxies = proxies_of(&*shared.control)?;
    let id = id_of(head)?;
    let expected = expected(&head.headers).map_err(Refusal::Malformed)?;
    let Rollback {
        version: Whole(version),
    } = body_of(shared, body).await?;
    if version == 0 {
        return Err(Refusal::Malformed("versions begin with 1".to_owned()));
    }
    let done = proxies.rollback(actor(head), id, version, expected).await;
    if done != Err(ProxyError::NotFound) {
        audit(
            head,
            "roll proxy back",
            &format!("{id} to {version}"),
            &done,
        );
    }
    let record = done?;
    let mut response = json(StatusCode::OK, &Record::new(&record));
    response.headers_mut().insert(header::ETAG, tag(&record));
    Ok(response)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainQuery {
    path: Option<String>,
    method: Option<String>,
}

pub(super) async fn explain<C: Operator>(control: &C, head: &Parts) -> Result<Response, Refusal> {
    let proxies = proxies_of(control)?;
    let id = id_of(head)?;
    let ExplainQuery { path, method } = query(&head.uri)?;
    let method = method.unwrap_or_else(|| "GET".to_owned());
    if !METHODS.contains(&method.as_str()) {
        return Err(Refusal::Malformed(format!(
            "method must be one of {}",
            METHODS.join(", ")
        )));
    }
    if path
        .as_ref()
        .is_some_and(|path| !path.starts_with('/') || path.len() > PATH_BYTES_MAX)
    {
        return Err(Refusal::Malformed(format!(
            "path must begin with / and have at most {PATH_BYTES_MAX} bytes"
        )));
    }
    let explanation = proxies.explain(id, &method, path.as_deref()).await?;
    Ok(json(StatusCode::OK, &explanation))
}

/// The id in `/admin/proxies/{id}/…`.
fn id_of(head: &Parts) -> Result<&str, Refusal> {
    let rest = head.uri.path().strip_prefix("/admin/proxies/");
    let id = rest.and_then(|rest| rest.split('/').next());
    id.filter(|id| is_id(id)).ok_or(Refusal::NotFound(NO_SUCH))
}

const HISTORY_DEFAULT: usize = 20;
const HISTORY_MAX: usize = 100;

/// Methods the proxy takes.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
const PATH_BYTES_MAX: usize = 8_192;

const IS_OFF: &str = "the HTTP proxy is off";
pub(super) const NO_SUCH: &str = "there is no such record, version or secret";
