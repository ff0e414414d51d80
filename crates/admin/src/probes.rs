//! Health and metrics alone, for a process that has nothing else to ask.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;

use crate::metrics;
use crate::readiness::{Readiness, Stage};

/// `/healthz` (`{"ok":true}`; `contracts`: live-data 6.3), `/readyz` and `/metrics`, open to
/// whoever reaches the listener.
pub fn probes(readiness: Readiness, registry: Arc<Registry>) -> Router {
    let healthy = async || json(StatusCode::OK, r#"{"ok":true}"#.to_owned());
    let ready = async move || {
        let stage = readiness.stage();
        let status = match stage {
            Stage::Ready => StatusCode::OK,
            Stage::Starting | Stage::Failed | Stage::Draining => StatusCode::SERVICE_UNAVAILABLE,
        };
        json(status, format!(r#"{{"status":"{}"}}"#, stage.as_str()))
    };
    let exposition = async move || match metrics::render(&registry) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    };
    Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/metrics", get(exposition))
}

fn json(status: StatusCode, body: String) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, body).into_response()
}
