//! The server API: `POST /api/<method>` for backends.
//!
//! JSON shapes, codes and headers are those of Centrifugo's HTTP API (`contracts`:
//! centrifuge 11.14), so that its client libraries work. A body is read whole, checked
//! whole, and only then acted upon; a batch with one ill-typed command does nothing.
//! Unknown fields are ignored, and `null` is as good as absent, because both come from
//! existing clients.

mod call;
mod key;
mod parallel;
mod reply;
mod request;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::value::RawValue;

pub use key::ApiKeys;
pub(crate) use key::presented;
pub(crate) use request::disconnect;

use crate::control::{Control, Operator};
use crate::error::ApiError;
use crate::router::{BodyError, Shared, read_body};
use request::{Call, Method};

/// How errors are answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ErrorMode {
    /// Status 200 and `{"error": …}`.
    #[default]
    Body,
    /// The error's own status, the error as the body. A request may ask for it with
    /// `X-Centrifugo-Error-Mode: transport`.
    Transport,
}

/// The path of each route, its HTTP method, and what serves it.
pub(crate) fn routes<C: Control + Operator>(shared: &Arc<Shared<C>>) -> Router {
    let mut router = Router::new();
    for method in Method::ALL {
        let shared = Arc::clone(shared);
        let serve = move |request: Request| {
            let shared = Arc::clone(&shared);
            async move { serve_method(&shared, method, request).await }
        };
        router = router.route(method.path(), post(serve));
    }
    let shared = Arc::clone(shared);
    let serve = move |request: Request| {
        let shared = Arc::clone(&shared);
        async move { serve_legacy(&shared, request).await }
    };
    router.route(BARE_PATH, post(serve))
}

/// The paths of [`routes`]; all are POST.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    Method::ALL.into_iter().map(Method::path).chain([BARE_PATH])
}

/// Most commands in one batch, or one legacy body.
pub const BATCH_COMMANDS_MAX: usize = 10_000;

const BARE_PATH: &str = "/api";

async fn serve_method<C: Control + Operator>(
    shared: &Shared<C>,
    method: Method,
    request: Request,
) -> Response {
    let mode = error_mode(shared, request.headers());
    let body = match body_of(shared, request).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let call = match Call::parse(method, &body) {
        Ok(Ok(call)) => call,
        Ok(Err(error)) => return error_reply(mode, error),
        Err(error) => return malformed(&error),
    };
    match call::run(&*shared.control, call).await {
        // A batch carries its errors inside, and has no envelope.
        Ok(result) if method == Method::Batch => json(StatusCode::OK, &result),
        Ok(result) => json(StatusCode::OK, &reply::Envelope::result(&result)),
        Err(error) => error_reply(mode, error),
    }
}

/// Bare `POST /api`: one `{method, params}` or several, one after the other; one line of
/// answer for each.
async fn serve_legacy<C: Control + Operator>(shared: &Shared<C>, request: Request) -> Response {
    let mode = error_mode(shared, request.headers());
    let body = match body_of(shared, request).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let calls = match request::parse_legacy(&body) {
        Ok(calls) => calls,
        Err(error) => return malformed(&error),
    };
    if calls.is_empty() || calls.len() > BATCH_COMMANDS_MAX {
        return error_reply(mode, ApiError::BadRequest);
    }
    let alone = calls.len() == 1;
    let mut lines: Vec<Box<RawValue>> = Vec::with_capacity(calls.len());
    for parsed in calls {
        let outcome = match parsed {
            Ok(call) => call::run(&*shared.control, call).await,
            Err(error) => Err(error),
        };
        let line = match outcome {
            Ok(result) => reply::raw(&reply::Envelope::result(&result)),
            Err(error) if alone => return error_reply(mode, error),
            Err(error) => reply::raw(&reply::Envelope::error(error)),
        };
        match line {
            Ok(line) => lines.push(line),
            Err(error) => return error_reply(mode, error),
        }
    }
    let text: Vec<&str> = lines.iter().map(|line| line.get()).collect();
    json_text(StatusCode::OK, text.join("\n"))
}

async fn body_of<C: Control + Operator>(
    shared: &Shared<C>,
    request: Request,
) -> Result<Bytes, Response> {
    let limit = shared.settings.load().body_bytes_max;
    match read_body(request.into_body(), limit).await {
        Ok(body) => Ok(body),
        Err(BodyError::TooLarge) => Err(StatusCode::PAYLOAD_TOO_LARGE.into_response()),
        Err(BodyError::TimedOut) => Err(StatusCode::REQUEST_TIMEOUT.into_response()),
        Err(BodyError::Broken) => Err(StatusCode::BAD_REQUEST.into_response()),
    }
}

fn error_mode<C: Control + Operator>(shared: &Shared<C>, headers: &HeaderMap) -> ErrorMode {
    let asked = headers
        .get("x-centrifugo-error-mode")
        .map(HeaderValue::as_bytes);
    match asked {
        Some(b"transport") => ErrorMode::Transport,
        _ => shared.settings.load().error_mode,
    }
}

fn error_reply(mode: ErrorMode, error: ApiError) -> Response {
    match mode {
        ErrorMode::Body => json(StatusCode::OK, &reply::Envelope::error(error)),
        ErrorMode::Transport => json(error.status(), &reply::ErrorBody::from(error)),
    }
}

/// The caller's own mistake, in words: it holds nothing but what the caller sent.
fn malformed(error: &serde_json::Error) -> Response {
    (
        StatusCode::BAD_REQUEST,
        format!("request is malformed: {error}\n"),
    )
        .into_response()
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => json_text(status, text),
        Err(error) => {
            tracing::error!(%error, "reply could not be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn json_text(status: StatusCode, text: String) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        Body::from(text),
    )
        .into_response()
}
