//! `/api/collections/_proxies…` and `/api/gateway/metrics`: the routes of the HTTP proxy in
//! the shapes of PocketBase's records (`contracts`: http-proxy 5.1, 5.5).
//!
//! Everything here is behind an administrator token, the metrics by [`Settings`]; tokens
//! may come without `Bearer`, as PocketBase's clients send them. Each change writes one
//! line to the log target `audit`.
//!
//! [`Settings`]: crate::Settings

mod listing;
mod precondition;
mod refusal;
mod shape;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use serde_json::{Map, Value};

pub(crate) use precondition::expected;
pub(crate) use refusal::plain as refusal;
pub(crate) use shape::{Record, tag, time};

use crate::control::{Control, Operator, Proxies, ProxyError, ProxyRecord};
use crate::metrics;
use crate::operator::{actor, audit};
use crate::router::{Shared, read_body};
use refusal::{Refusal, Verb};

/// Every route of this part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    List,
    Create,
    View,
    Update,
    Delete,
    DropCollection,
    Metrics,
}

impl Endpoint {
    pub(crate) const ALL: [Self; 7] = [
        Self::List,
        Self::Create,
        Self::View,
        Self::Update,
        Self::Delete,
        Self::DropCollection,
        Self::Metrics,
    ];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::List | Self::Create => "/api/collections/_proxies/records",
            Self::View | Self::Update | Self::Delete => "/api/collections/_proxies/records/{id}",
            Self::DropCollection => "/api/collections/_proxies",
            Self::Metrics => METRICS_PATH,
        }
    }

    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::List | Self::View | Self::Metrics => "GET",
            Self::Create => "POST",
            Self::Update => "PATCH",
            Self::Delete | Self::DropCollection => "DELETE",
        }
    }
}

/// The proxy's metrics.
pub(crate) const METRICS_PATH: &str = "/api/gateway/metrics";

pub(crate) fn routes<C: Control + Operator>(shared: &Arc<Shared<C>>) -> Router {
    let mut router = Router::new();
    for endpoint in Endpoint::ALL {
        let shared = Arc::clone(shared);
        let serve = move |request: Request| {
            let shared = Arc::clone(&shared);
            async move {
                serve(&shared, endpoint, request)
                    .await
                    .unwrap_or_else(Refusal::into_response)
            }
        };
        let serving = match endpoint.method() {
            "POST" => post(serve),
            "PATCH" => patch(serve),
            "DELETE" => delete(serve),
            _ => get(serve),
        };
        router = router.route(endpoint.path(), serving);
    }
    router
}

async fn serve<C: Control + Operator>(
    shared: &Shared<C>,
    endpoint: Endpoint,
    request: Request,
) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    let proxies = shared.control.proxies();
    if endpoint == Endpoint::Metrics {
        return Ok(exposition(proxies.and_then(|proxies| proxies.metrics())));
    }
    let proxies = proxies.ok_or(Refusal::NotFound)?;
    match endpoint {
        Endpoint::List => listing::list(&proxies, &head.uri).await,
        Endpoint::Create => create(shared, &proxies, &head, body).await,
        Endpoint::View => {
            let found = proxies.get(id_of(&head)?).await;
            Ok(answer(
                &found.map_err(|error| Refusal::of(Verb::View, error))?,
            ))
        }
        Endpoint::Update => update(shared, &proxies, &head, body).await,
        Endpoint::Delete => remove(&proxies, &head).await,
        Endpoint::DropCollection | Endpoint::Metrics => Err(Refusal::Plain(
            "cannot delete system collection _proxies".to_owned(),
        )),
    }
}

async fn create<C, P: Proxies>(
    shared: &Shared<C>,
    proxies: &P,
    head: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let fields = fields(shared, body).await?;
    let created = proxies.create(actor(head), fields).await;
    let subject = match &created {
        Ok(record) => named(record),
        Err(_) => String::new(),
    };
    audit(head, "create proxy", &subject, &created);
    Ok(answer(
        &created.map_err(|error| Refusal::of(Verb::Create, error))?,
    ))
}

async fn update<C, P: Proxies>(
    shared: &Shared<C>,
    proxies: &P,
    head: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let id = id_of(head)?;
    let expected = expected(&head.headers).map_err(Refusal::Plain)?;
    let fields = fields(shared, body).await?;
    let updated = proxies.patch(actor(head), id, expected, fields).await;
    note(head, "update proxy", id, &updated);
    Ok(answer(
        &updated.map_err(|error| Refusal::of(Verb::Update, error))?,
    ))
}

async fn remove<P: Proxies>(proxies: &P, head: &Parts) -> Result<Response, Refusal> {
    let id = id_of(head)?;
    let expected = expected(&head.headers).map_err(Refusal::Plain)?;
    let removed = proxies.delete(actor(head), id, expected).await;
    note(head, "delete proxy", id, &removed);
    removed.map_err(|error| Refusal::of(Verb::Delete, error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// One audit line, but none about what is not there.
fn note<T>(head: &Parts, action: &str, id: &str, outcome: &Result<T, ProxyError>) {
    if !matches!(outcome, Err(ProxyError::NotFound)) {
        audit(head, action, id, outcome);
    }
}

fn named(record: &ProxyRecord) -> String {
    let path = record.fields.get("path").and_then(Value::as_str);
    format!("{} {}", record.id, path.unwrap_or_default())
}

/// The body as fields, without those that are the store's own: a record that was read may
/// be sent back as it came.
async fn fields<C>(shared: &Shared<C>, body: Body) -> Result<Map<String, Value>, Refusal> {
    let limit = shared.settings.load().body_bytes_max.min(RECORD_BYTES_MAX);
    let body = read_body(body, limit).await.map_err(Refusal::Body)?;
    let parsed: Value = serde_json::from_slice(&body)
        .map_err(|error| Refusal::Plain(format!("body is not JSON: {error}")))?;
    let Value::Object(mut fields) = parsed else {
        return Err(Refusal::Plain("body must be a JSON object".to_owned()));
    };
    fields.retain(|name, _| !shape::OWN_FIELDS.contains(&name.as_str()));
    Ok(fields)
}

fn answer(record: &ProxyRecord) -> Response {
    let mut response = shape::json(StatusCode::OK, &Record::new(record));
    response.headers_mut().insert(header::ETAG, tag(record));
    response
}

/// The last segment of `/api/collections/_proxies/records/{id}`.
fn id_of(head: &Parts) -> Result<&str, Refusal> {
    let id = head.uri.path().rsplit('/').next().unwrap_or_default();
    match is_id(id) {
        true => Ok(id),
        false => Err(Refusal::NotFound),
    }
}

/// Whether a text could be the id of a record; others need not be looked up.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

fn exposition(text: Option<String>) -> Response {
    let (kind, text) = match text {
        Some(text) => (metrics::CONTENT_TYPE, text),
        None => ("text/plain; charset=utf-8", METRICS_OFF.to_owned()),
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, text).into_response()
}

const METRICS_OFF: &str = "# No metrics available\n";

/// Records have 15 characters; those of the configuration file may have more.
const ID_BYTES_MAX: usize = 100;

/// Largest body of a record: certificates have room.
const RECORD_BYTES_MAX: usize = 256 * 1024;
