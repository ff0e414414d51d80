//! `/admin/…`: what operators may see and do.
//!
//! Everything here is behind an administrator token. Requests are strict (an unknown field
//! is an error), errors come in an envelope of ours, and each change writes one line to
//! the log target `audit` with the name of the token that made it.

mod channels;
mod connections;
mod flags;
mod guard;
mod overview;
mod proxies;
mod relay;
mod revocations;
mod secrets;

use std::fmt::{self, Display};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use serde::de::{self, DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

pub(crate) use guard::{Actor, Admission, TokenGuard};
pub(crate) use overview::STREAMS_MAX;

use crate::control::{Control, Operator, ProxyError};
use crate::error::{ApiError, OperatorError};
use crate::router::{BodyError, Shared, read_body};

/// Every route below `/admin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Connections,
    Connection,
    CloseConnection,
    Revocations,
    Revoke,
    Reinstate,
    Reload,
    Drain,
    Config,
    Relay,
    RelayAgents,
    RelayRoute,
    DeadLetters,
    DeadLetter,
    DiscardDeadLetter,
    ReplayDeadLetter,
    ReplayDeadLetters,
    ProxyHistory,
    ProxyRollback,
    ProxyExplain,
    Secrets,
    Secret,
    PutSecret,
    DeleteSecret,
    Overview,
    OverviewStream,
    Channels,
    ChannelPresence,
    FeatureFlags,
    PutFeatureFlags,
    PostFeatureFlags,
}

impl Endpoint {
    pub(crate) const ALL: [Self; 31] = [
        Self::Connections,
        Self::Connection,
        Self::CloseConnection,
        Self::Revocations,
        Self::Revoke,
        Self::Reinstate,
        Self::Reload,
        Self::Drain,
        Self::Config,
        Self::Relay,
        Self::RelayAgents,
        Self::RelayRoute,
        Self::DeadLetters,
        Self::DeadLetter,
        Self::DiscardDeadLetter,
        Self::ReplayDeadLetter,
        Self::ReplayDeadLetters,
        Self::ProxyHistory,
        Self::ProxyRollback,
        Self::ProxyExplain,
        Self::Secrets,
        Self::Secret,
        Self::PutSecret,
        Self::DeleteSecret,
        Self::Overview,
        Self::OverviewStream,
        Self::Channels,
        Self::ChannelPresence,
        Self::FeatureFlags,
        Self::PutFeatureFlags,
        Self::PostFeatureFlags,
    ];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Connections => "/admin/connections",
            Self::Connection | Self::CloseConnection => "/admin/connections/{client}",
            Self::Revocations | Self::Revoke | Self::Reinstate => "/admin/revocations",
            Self::Reload => "/admin/reload",
            Self::Drain => "/admin/drain",
            Self::Config => "/admin/config",
            Self::Relay => "/admin/relay",
            Self::RelayAgents => "/admin/relay/agents",
            Self::RelayRoute => "/admin/relay/route",
            Self::DeadLetters => "/admin/relay/dead-letters",
            Self::DeadLetter | Self::DiscardDeadLetter => "/admin/relay/dead-letters/{id}",
            Self::ReplayDeadLetter => "/admin/relay/dead-letters/{id}/replay",
            Self::ReplayDeadLetters => "/admin/relay/dead-letters/replay",
            Self::ProxyHistory => "/admin/proxies/{id}/history",
            Self::ProxyRollback => "/admin/proxies/{id}/rollback",
            Self::ProxyExplain => "/admin/proxies/{id}/explain",
            Self::Secrets => "/admin/secrets",
            Self::Secret | Self::PutSecret | Self::DeleteSecret => "/admin/secrets/{name}",
            Self::Overview => "/admin/overview",
            Self::OverviewStream => "/admin/overview/stream",
            Self::Channels => "/admin/channels",
            Self::ChannelPresence => "/admin/channels/{name}/presence",
            Self::FeatureFlags | Self::PutFeatureFlags | Self::PostFeatureFlags => {
                "/admin/feature-flags"
            }
        }
    }

    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Connections
            | Self::Connection
            | Self::Revocations
            | Self::Config
            | Self::Relay
            | Self::RelayAgents
            | Self::RelayRoute
            | Self::DeadLetters
            | Self::DeadLetter
            | Self::ProxyHistory
            | Self::ProxyExplain
            | Self::Secrets
            | Self::Secret
            | Self::Overview
            | Self::OverviewStream
            | Self::Channels
            | Self::ChannelPresence
            | Self::FeatureFlags => "GET",
            Self::Revoke
            | Self::Reload
            | Self::Drain
            | Self::ReplayDeadLetter
            | Self::ReplayDeadLetters
            | Self::ProxyRollback
            | Self::PostFeatureFlags => "POST",
            Self::PutSecret | Self::PutFeatureFlags => "PUT",
            Self::CloseConnection
            | Self::Reinstate
            | Self::DiscardDeadLetter
            | Self::DeleteSecret => "DELETE",
        }
    }
}

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
            "PUT" => put(serve),
            "DELETE" => delete(serve),
            _ => get(serve),
        };
        router = router.route(endpoint.path(), serving);
    }
    router
}

async fn serve<C: Control + Operator>(
    shared: &Arc<Shared<C>>,
    endpoint: Endpoint,
    request: Request,
) -> Result<Response, Refusal> {
    let (mut head, body) = request.into_parts();
    let control = &*shared.control;
    match endpoint {
        Endpoint::Connections => connections::list(control, &head.uri).await,
        Endpoint::Connection => connections::show(control, &head.uri).await,
        Endpoint::CloseConnection => connections::close(control, &head).await,
        Endpoint::Revocations => revocations::list(control).await,
        Endpoint::Revoke => revocations::add(shared, &head, body).await,
        Endpoint::Reinstate => revocations::remove(control, &head).await,
        Endpoint::Reload => {
            let reloaded = control.reload().await;
            audit(&head, "reload", "", &reloaded);
            let reloaded = reloaded?;
            Ok(json(
                StatusCode::OK,
                &serde_json::json!({
                    "changed": reloaded.changed,
                    "restart_needed": reloaded.restart_needed,
                }),
            ))
        }
        Endpoint::Drain => {
            let drain = control.drain().await;
            audit(&head, "drain", "", &drain);
            drain?;
            Ok(json(
                StatusCode::ACCEPTED,
                &serde_json::json!({ "status": "draining" }),
            ))
        }
        Endpoint::Config => Ok(json(StatusCode::OK, &control.config().await?)),
        Endpoint::Relay => relay::summary(control),
        Endpoint::RelayAgents => relay::agents(control, &head.uri),
        Endpoint::RelayRoute => relay::route(control, &head.uri).await,
        Endpoint::DeadLetters => relay::list(control, &head.uri).await,
        Endpoint::DeadLetter => relay::show(control, &head.uri).await,
        Endpoint::DiscardDeadLetter => relay::discard(control, &head),
        Endpoint::ReplayDeadLetter => relay::replay(control, &head).await,
        Endpoint::ReplayDeadLetters => relay::replay_all(shared, &head).await,
        Endpoint::ProxyHistory => proxies::history(control, &head).await,
        Endpoint::ProxyRollback => proxies::rollback(shared, &head, body).await,
        Endpoint::ProxyExplain => proxies::explain(control, &head).await,
        Endpoint::Secrets => secrets::list(control).await,
        Endpoint::Secret => secrets::show(control, &head).await,
        Endpoint::PutSecret => secrets::put(shared, &head, body).await,
        Endpoint::DeleteSecret => secrets::remove(control, &head).await,
        Endpoint::Overview => overview::show(control).await,
        Endpoint::OverviewStream => overview::stream(shared, &head),
        Endpoint::Channels => channels::list(control, &head.uri).await,
        Endpoint::ChannelPresence => channels::presence(control, &mut head).await,
        Endpoint::FeatureFlags => flags::show(control),
        Endpoint::PutFeatureFlags => flags::replace(shared, &head, body).await,
        Endpoint::PostFeatureFlags => flags::merge(shared, &head, body).await,
    }
}

/// The body of every error below `/admin`: `{"error":{"code","message"}}`. The code is for
/// programs and does not change; the message is for people.
#[derive(Debug, Serialize)]
pub(crate) struct Envelope {
    error: Words,
}

#[derive(Debug, Serialize)]
struct Words {
    code: &'static str,
    message: String,
}

impl Envelope {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            error: Words {
                code,
                message: message.into(),
            },
        }
    }

    pub(crate) fn with(self, status: StatusCode) -> Response {
        json(status, &self)
    }
}

/// Why a request below `/admin` was not served.
#[derive(Debug)]
enum Refusal {
    Malformed(String),
    NotFound(&'static str),
    Body(BodyError),
    Operator(OperatorError),
    Proxy(ProxyError),
    /// A rule of the gateway forbids it.
    Refused(String),
    /// What would be needed is off.
    Unprocessable(&'static str),
    /// Too much of it is under way.
    Busy(&'static str),
    /// It may work later.
    Unavailable(String),
}

impl From<ProxyError> for Refusal {
    fn from(error: ProxyError) -> Self {
        Self::Proxy(error)
    }
}

impl From<OperatorError> for Refusal {
    fn from(error: OperatorError) -> Self {
        Self::Operator(error)
    }
}

impl Refusal {
    /// What the server API would say with a code of its own.
    fn of_api(error: ApiError) -> Self {
        match error {
            ApiError::UnknownChannel => Self::NotFound("no namespace has this channel"),
            ApiError::Internal => Self::Unavailable(error.to_string()),
            error => Self::Malformed(error.to_string()),
        }
    }

    fn into_response(self) -> Response {
        let (status, code, message) = match self {
            Self::Malformed(message) => (StatusCode::BAD_REQUEST, "malformed", message),
            Self::NotFound(message) => (StatusCode::NOT_FOUND, "not_found", message.to_owned()),
            Self::Body(BodyError::TooLarge) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "the body is too large".to_owned(),
            ),
            Self::Body(BodyError::TimedOut) => (
                StatusCode::REQUEST_TIMEOUT,
                "timed_out",
                "the body came too slowly".to_owned(),
            ),
            Self::Body(BodyError::Broken) => (
                StatusCode::BAD_REQUEST,
                "malformed",
                "the body broke off".to_owned(),
            ),
            Self::Refused(message) | Self::Operator(OperatorError::Refused(message)) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "refused", message)
            }
            Self::Unprocessable(message) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "refused",
                message.to_owned(),
            ),
            Self::Busy(message) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "limit_reached",
                message.to_owned(),
            ),
            Self::Unavailable(message) => {
                tracing::error!(error = message, "admin request failed");
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
            }
            Self::Operator(OperatorError::LimitReached(message)) => {
                (StatusCode::CONFLICT, "limit_reached", message)
            }
            Self::Operator(OperatorError::Failed(message)) => {
                tracing::error!(error = message, "admin request failed");
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
            }
            Self::Proxy(error) => {
                let (status, code) = of_proxy(&error);
                (status, code, error.to_string())
            }
        };
        Envelope::new(code, message).with(status)
    }
}

fn of_proxy(error: &ProxyError) -> (StatusCode, &'static str) {
    match error {
        ProxyError::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        ProxyError::Invalid(_) | ProxyError::Refused(_) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "refused")
        }
        ProxyError::PathTaken => (StatusCode::CONFLICT, "conflict"),
        ProxyError::Changed { .. } => (StatusCode::PRECONDITION_FAILED, "changed"),
        ProxyError::ReadOnly => (StatusCode::FORBIDDEN, "read_only"),
        ProxyError::Unavailable(_) => {
            tracing::error!(%error, "admin request failed");
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        }
    }
}

fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Refusal> {
    let parsed = Query::<T>::try_from_uri(uri);
    parsed
        .map(|Query(query)| query)
        .map_err(|error| Refusal::Malformed(error.body_text()))
}

async fn body_of<C, T: DeserializeOwned>(shared: &Shared<C>, body: Body) -> Result<T, Refusal> {
    let limit = shared.settings.load().body_bytes_max;
    let body = read_body(body, limit).await.map_err(Refusal::Body)?;
    serde_json::from_slice(&body).map_err(|error| Refusal::Malformed(error.to_string()))
}

/// A whole number of a body. `7.0` is one as well: JSON does not tell it from `7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Whole(u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct WholeVisitor;
        impl Visitor<'_> for WholeVisitor {
            type Value = Whole;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a whole number from 0 to 9007199254740991")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Whole, E> {
                match number <= WHOLE_MAX {
                    true => Ok(Whole(number)),
                    false => Err(E::invalid_value(de::Unexpected::Unsigned(number), &self)),
                }
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Whole, E> {
                match number.fract() == 0.0 && (0.0..=WHOLE_MAX as f64).contains(&number) {
                    true => Ok(Whole(number as u64)),
                    false => Err(E::invalid_value(de::Unexpected::Float(number), &self)),
                }
            }
        }
        input.deserialize_any(WholeVisitor)
    }
}

/// Up to here every whole number is one in each language that reads JSON.
const WHOLE_MAX: u64 = (1 << 53) - 1;

/// One line for each change: who did what to what, and whether it worked.
pub(crate) fn audit<T, E: Display>(
    head: &Parts,
    action: &str,
    subject: &str,
    outcome: &Result<T, E>,
) {
    let actor = actor(head);
    match outcome {
        Ok(_) => tracing::info!(target: "audit", actor, action, subject, "operator change"),
        Err(error) => {
            tracing::info!(target: "audit", actor, action, subject, %error, "operator change failed");
        }
    }
}

/// The name of the token a request came with.
pub(crate) fn actor(head: &Parts) -> &str {
    let actor = head.extensions.get::<Actor>();
    actor.map_or("", |actor| actor.0.as_str())
}

pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => {
            let headers = [
                (header::CONTENT_TYPE, "application/json"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            (status, headers, text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "reply could not be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
