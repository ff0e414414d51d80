//! The router of the admin listener, and the three things that surround every route.
//!
//! From the outside in: *observe* counts and times, *contain* turns a panic or a stuck call
//! into a status, *guard* decides who may pass. The guard goes by the path and stands before
//! routing: at the few open paths it wants nothing, below `/api` an API key, and anywhere
//! else (`/api/collections` and `/api/gateway` included) an administrator token, so a route that is added later is guarded without a word.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State as FromState};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use lifecycle::Clock;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use crate::api::{self, ApiKeys, ErrorMode};
use crate::control::{Control, Operator};
use crate::metrics::{self, Area, HttpMetrics};
use crate::operator::{self, Admission, Envelope, TokenGuard};
use crate::readiness::{Readiness, Stage};
use crate::{listener::Peer, openapi, pages, records};

/// What may change while the process runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Keys of the server API; none closes it.
    pub api_keys: ApiKeys,
    /// How the server API says errors, unless the request asks for another way.
    pub error_mode: ErrorMode,
    /// Largest request body in bytes; a larger one is 413.
    pub body_bytes_max: usize,
    /// Puts `/metrics` behind an administrator token.
    pub metrics_guarded: bool,
    /// Serves `/api/gateway/metrics` without an administrator token.
    pub proxy_metrics_public: bool,
    /// Serves `/admin/…` and `/api/collections/…`; otherwise there is nothing at these paths.
    pub operators: bool,
    /// Wrong administrator tokens per minute and address; further tries are 429.
    pub failed_tries_per_minute: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            api_keys: ApiKeys::default(),
            error_mode: ErrorMode::Body,
            body_bytes_max: 1_048_576,
            metrics_guarded: false,
            proxy_metrics_public: false,
            operators: true,
            failed_tries_per_minute: 30,
        }
    }
}

/// Says whose administrator token a text is, if it is one; in constant time.
pub type TokenCheck = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What the router works with.
pub struct State<C> {
    /// The gateway.
    pub control: Arc<C>,
    /// Swapped whole by a reload.
    pub settings: Arc<ArcSwap<Settings>>,
    /// Who is an administrator.
    pub tokens: TokenCheck,
    /// What `/readyz` says.
    pub readiness: Readiness,
    /// What `/metrics` shows.
    pub registry: Arc<Registry>,
    /// Where this listener counts; registered in `registry`.
    pub metrics: HttpMetrics,
    /// Times requests and refills the budget of wrong tokens.
    pub clock: Clock,
}

/// The whole admin listener.
pub fn router<C: Control + Operator>(state: State<C>) -> Router {
    let shared = Arc::new(Shared {
        control: state.control,
        settings: state.settings,
        readiness: state.readiness,
        registry: state.registry,
        metrics: state.metrics,
        clock: state.clock,
        guard: TokenGuard::new(state.tokens),
        streams: Arc::new(Semaphore::new(operator::STREAMS_MAX)),
    });
    let open = Router::new()
        .route("/healthz", get(async || status(StatusCode::OK, "ok")))
        .route("/readyz", get(ready::<C>))
        .route(METRICS_PATH, get(exposition::<C>))
        .route(
            openapi::SERVER_API_PATH,
            get(async || document(openapi::SERVER_API)),
        )
        .route(openapi::ADMIN_PATH, get(async || document(openapi::ADMIN)))
        .with_state(Arc::clone(&shared));
    open.merge(api::routes(&shared))
        .merge(operator::routes(&shared))
        .merge(records::routes(&shared))
        .merge(pages::routes())
        .fallback(async |request: Request| not_found(&request))
        .method_not_allowed_fallback(async |request: Request| method_not_allowed(&request))
        .layer(from_fn_with_state(Arc::clone(&shared), guard::<C>))
        .layer(from_fn(contain))
        .layer(from_fn_with_state(shared, observe::<C>))
}

/// What all routes share.
pub(crate) struct Shared<C> {
    pub(crate) control: Arc<C>,
    pub(crate) settings: Arc<ArcSwap<Settings>>,
    readiness: Readiness,
    registry: Arc<Registry>,
    metrics: HttpMetrics,
    pub(crate) clock: Clock,
    guard: TokenGuard,
    /// Streams of events that may still be opened.
    pub(crate) streams: Arc<Semaphore>,
}

/// Why a request's body could not be had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    TooLarge,
    TimedOut,
    Broken,
}

/// Reads a body of at most `limit` bytes within [`BODY_TIMEOUT`].
pub(crate) async fn read_body(body: Body, limit: usize) -> Result<Bytes, BodyError> {
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let over = std::error::Error::source(&error)
                .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>);
            Err(if over {
                BodyError::TooLarge
            } else {
                BodyError::Broken
            })
        }
        Err(_elapsed) => Err(BodyError::TimedOut),
    }
}

async fn observe<C: Control + Operator>(
    FromState(shared): FromState<Arc<Shared<C>>>,
    request: Request,
    next: Next,
) -> Response {
    let started = shared.clock.elapsed();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let response = next.run(request).await;
    let took = shared.clock.elapsed().saturating_sub(started);
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    shared
        .metrics
        .answered(route, method.as_str(), response.status().as_u16(), took);
    response
}

/// A panic ends its request and nothing else, and so does a call that never returns.
async fn contain(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let mut serving = pin!(tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)));
    let outcome = std::future::poll_fn(|context| {
        // What the panic may have left half done lies behind the control face, whose
        // owner answers for its locks; here the future is dropped.
        match std::panic::catch_unwind(AssertUnwindSafe(|| serving.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(outcome)) => Poll::Ready(Some(outcome)),
            Err(_panic) => Poll::Ready(None),
        }
    })
    .await;
    let (status, code, message) = match outcome {
        Some(Ok(response)) => return response,
        Some(Err(_elapsed)) => {
            tracing::error!(path, "admin request was given up after {REQUEST_TIMEOUT:?}");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "timed_out",
                "the request took too long",
            )
        }
        None => {
            tracing::error!(path, "admin request panicked");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "internal server error",
            )
        }
    };
    refusal(&path, status, code, message)
}

async fn guard<C: Control + Operator>(
    FromState(shared): FromState<Arc<Shared<C>>>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let settings = shared.settings.load();
    let is_operators = is_below(path, "/admin") || is_below(path, COLLECTIONS);
    if !settings.operators && (is_operators || pages::is_page(path)) {
        return not_found(&request);
    }
    let is_open = match path {
        METRICS_PATH => !settings.metrics_guarded,
        records::METRICS_PATH => settings.proxy_metrics_public,
        _ => OPEN_PATHS.contains(&path) || pages::is_page(path),
    };
    if is_open {
        return next.run(request).await;
    }
    if is_api(path) {
        if !admits(&settings, &request) {
            shared.metrics.refused(Area::Api);
            tracing::debug!(path, "server api request without a valid key");
            return StatusCode::UNAUTHORIZED.into_response();
        }
        return next.run(request).await;
    }
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let (now, tries) = (shared.clock.elapsed(), settings.failed_tries_per_minute);
    match shared.guard.admit(request.headers(), peer, now, tries) {
        Admission::Admitted(actor) => {
            request.extensions_mut().insert(actor);
            next.run(request).await
        }
        Admission::Refused(refused) => {
            shared.metrics.refused(Area::Admin);
            let peer = peer.map(tracing::field::display);
            tracing::debug!(path, peer, "admin request without a valid token");
            let mut response = refusal(path, refused.status(), refused.code(), refused.words());
            refused.advise(&mut response);
            response
        }
    }
}

fn admits(settings: &Settings, request: &Request) -> bool {
    api::presented(request.headers(), request.uri())
        .is_some_and(|key| settings.api_keys.admit(&key))
}

fn not_found(request: &Request) -> Response {
    let words = "there is nothing at this path";
    refusal(
        request.uri().path(),
        StatusCode::NOT_FOUND,
        "not_found",
        words,
    )
}

fn method_not_allowed(request: &Request) -> Response {
    let words = "the path does not have this method";
    refusal(
        request.uri().path(),
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        words,
    )
}

/// Existing clients of the server API expect the bare status, those of PocketBase its own
/// shape; the rest gets our envelope.
fn refusal(path: &str, status: StatusCode, code: &'static str, words: &str) -> Response {
    if is_records(path) {
        records::refusal(status, words)
    } else if is_api(path) {
        status.into_response()
    } else {
        Envelope::new(code, words).with(status)
    }
}

async fn ready<C: Control + Operator>(FromState(shared): FromState<Arc<Shared<C>>>) -> Response {
    let stage = shared.readiness.stage();
    let code = match stage {
        Stage::Ready => StatusCode::OK,
        Stage::Starting | Stage::Failed | Stage::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    status(code, stage.as_str())
}

async fn exposition<C: Control + Operator>(
    FromState(shared): FromState<Arc<Shared<C>>>,
) -> Response {
    match metrics::render(&shared.registry) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn status(code: StatusCode, word: &'static str) -> Response {
    let body = serde_json::json!({ "status": word }).to_string();
    let mut response = (code, body).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn document(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// The server API: whatever is below `/api`, but not PocketBase's part of it.
fn is_api(path: &str) -> bool {
    is_below(path, "/api") && !is_records(path)
}

fn is_records(path: &str) -> bool {
    is_below(path, COLLECTIONS) || is_below(path, "/api/gateway")
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

const METRICS_PATH: &str = "/metrics";
const COLLECTIONS: &str = "/api/collections";

/// Paths that need no credentials (`/metrics` by settings).
pub(crate) const OPEN_PATHS: [&str; 5] = [
    "/healthz",
    "/readyz",
    METRICS_PATH,
    openapi::SERVER_API_PATH,
    openapi::ADMIN_PATH,
];

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// How long an answer may take, the body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const _: () = assert!(BODY_TIMEOUT.as_secs() < REQUEST_TIMEOUT.as_secs());
