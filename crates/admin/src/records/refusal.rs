//! Errors in PocketBase's shape: `{"data":{},"message":"…","status":404}`.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::shape;
use crate::control::{ProxyError, ProxyProblem};
use crate::router::BodyError;

/// Why a request for records was not served.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is no such record, or no proxy.
    NotFound,
    /// 400 with these words.
    Plain(String),
    Body(BodyError),
    /// Fields are not acceptable.
    Invalid(Verb, Vec<ProxyProblem>),
    /// Another status with these words.
    Status(StatusCode, String),
}

/// What was being done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verb {
    View,
    Create,
    Update,
    Delete,
}

impl Verb {
    fn failed(self) -> &'static str {
        match self {
            Self::View => "Failed to load record.",
            Self::Create => "Failed to create record.",
            Self::Update => "Failed to update record.",
            Self::Delete => "Failed to delete record.",
        }
    }
}

impl Refusal {
    pub(super) fn of(verb: Verb, error: ProxyError) -> Self {
        let message = error.to_string();
        match error {
            ProxyError::NotFound => Self::NotFound,
            ProxyError::Invalid(problems) => Self::Invalid(verb, problems),
            ProxyError::PathTaken => Self::Invalid(
                verb,
                vec![ProxyProblem {
                    field: "path".to_owned(),
                    code: "validation_not_unique",
                    message,
                }],
            ),
            ProxyError::Changed { .. } => Self::Status(StatusCode::PRECONDITION_FAILED, message),
            ProxyError::ReadOnly => Self::Status(StatusCode::FORBIDDEN, message),
            ProxyError::Refused(message) => Self::Plain(message),
            ProxyError::Unavailable(message) => {
                tracing::error!(error = message, "records can't be used");
                Self::Status(StatusCode::SERVICE_UNAVAILABLE, message)
            }
        }
    }

    pub(super) fn into_response(self) -> Response {
        match self {
            Self::NotFound => plain(StatusCode::NOT_FOUND, NOT_FOUND),
            Self::Plain(message) => plain(StatusCode::BAD_REQUEST, &message),
            Self::Status(status, message) => plain(status, &message),
            Self::Body(BodyError::TooLarge) => {
                plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
            }
            Self::Body(BodyError::TimedOut) => {
                plain(StatusCode::REQUEST_TIMEOUT, "the body came too slowly")
            }
            Self::Body(BodyError::Broken) => plain(StatusCode::BAD_REQUEST, "the body broke off"),
            Self::Invalid(verb, problems) => {
                let mut data = Map::new();
                for problem in problems {
                    let ProxyProblem {
                        field,
                        code,
                        message,
                    } = problem;
                    // The first problem of a field is the one to mend first.
                    data.entry(field)
                        .or_insert_with(|| json!({"code": code, "message": message}));
                }
                body(StatusCode::BAD_REQUEST, verb.failed(), data)
            }
        }
    }
}

/// An error without fields. The message becomes a sentence, as PocketBase has it.
pub(crate) fn plain(status: StatusCode, message: &str) -> Response {
    body(status, message, Map::new())
}

fn body(status: StatusCode, message: &str, data: Map<String, Value>) -> Response {
    let message = sentence(message);
    let body = json!({"status": status.as_u16(), "message": message, "data": data});
    shape::json(status, &body)
}

fn sentence(text: &str) -> String {
    let mut letters = text.trim().chars();
    let first = letters.next().map(char::to_uppercase);
    let mut sentence: String = first.into_iter().flatten().chain(letters).collect();
    if !sentence.is_empty() && !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

const NOT_FOUND: &str = "the requested resource wasn't found";
