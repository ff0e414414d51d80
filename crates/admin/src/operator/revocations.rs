//! `/admin/revocations`: tokens that are not accepted any more.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Refusal, Whole, audit, body_of, json, query};
use crate::control::{
    Control, Operator, Revocation, RevocationExpiry, RevocationRequest, RevokedSubject,
};
use crate::router::Shared;

pub(super) async fn list<C: Operator>(control: &C) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    struct List<'a> {
        revocations: Vec<Shape<'a>>,
    }
    let found = control.revocations().await?;
    let list = List {
        revocations: found.iter().map(Shape::from).collect(),
    };
    Ok(json(StatusCode::OK, &list))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    #[serde(default, deserialize_with = "present")]
    user: Option<String>,
    #[serde(default, deserialize_with = "present")]
    token_id: Option<String>,
    #[serde(default, deserialize_with = "present")]
    expires_in: Option<Span>,
    #[serde(default, deserialize_with = "present")]
    expires_at: Option<Whole>,
    #[serde(default, deserialize_with = "present")]
    reason: Option<String>,
}

/// A field that is there has a value: `null` is a mistake and not as good as absent.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    input: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(input).map(Some)
}

/// Seconds, or a duration with its unit.
#[derive(Deserialize)]
#[serde(untagged)]
enum Span {
    Seconds(Whole),
    Text(String),
}

pub(super) async fn add<C: Control + Operator>(
    shared: &Shared<C>,
    head: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let New {
        user,
        token_id,
        expires_in,
        expires_at,
        reason,
    } = body_of(shared, body).await?;
    let subject = subject(user, token_id)?;
    if reason
        .as_ref()
        .is_some_and(|reason| reason.chars().count() > REASON_CHARS_MAX)
    {
        return Err(malformed("reason must be at most 256 characters"));
    }
    let expiry = match (expires_in, expires_at) {
        (None, None) => RevocationExpiry::Default,
        (Some(span), None) => RevocationExpiry::In(span.duration()?),
        (None, Some(Whole(at))) => RevocationExpiry::At(at),
        (Some(_), Some(_)) => return Err(malformed("give expires_in or expires_at, not both")),
    };
    let text = match &reason {
        Some(reason) => format!("{subject}, because {reason:?}"),
        None => subject.to_string(),
    };
    let added = shared
        .control
        .revoke(RevocationRequest {
            subject,
            expiry,
            reason,
        })
        .await;
    audit(head, "revoke", &text, &added);
    Ok(json(StatusCode::CREATED, &Shape::from(&added?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveQuery {
    user: Option<String>,
    token_id: Option<String>,
}

pub(super) async fn remove<C: Operator>(control: &C, head: &Parts) -> Result<Response, Refusal> {
    let RemoveQuery { user, token_id } = query(&head.uri)?;
    let subject = subject(user, token_id)?;
    let text = subject.to_string();
    let removed = control.reinstate(subject).await;
    if removed != Ok(false) {
        audit(head, "reinstate", &text, &removed);
    }
    match removed? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Refusal::NotFound(
            "nothing is revoked for this user or token id",
        )),
    }
}

fn subject(user: Option<String>, token_id: Option<String>) -> Result<RevokedSubject, Refusal> {
    match (user, token_id) {
        (Some(user), None) if !user.is_empty() => Ok(RevokedSubject::User(user)),
        (None, Some(id)) if !id.is_empty() => Ok(RevokedSubject::TokenId(id)),
        _ => Err(malformed(
            "give either user or token_id, and not an empty one",
        )),
    }
}

impl Span {
    fn duration(self) -> Result<Duration, Refusal> {
        let duration = match self {
            Self::Seconds(Whole(seconds)) => Some(Duration::from_secs(seconds)),
            Self::Text(text) => protocol::duration::parse(&text),
        };
        duration
            .filter(|duration| !duration.is_zero())
            .ok_or_else(|| malformed("expires_in must be seconds above 0, or text such as \"8h\""))
    }
}

fn malformed(rule: &str) -> Refusal {
    Refusal::Malformed(rule.to_owned())
}

#[derive(Serialize)]
struct Shape<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_before: Option<u64>,
    expires_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl<'a> From<&'a Revocation> for Shape<'a> {
    fn from(revocation: &'a Revocation) -> Self {
        let (user, token_id) = match &revocation.subject {
            RevokedSubject::User(user) => (Some(user.as_str()), None),
            RevokedSubject::TokenId(id) => (None, Some(id.as_str())),
        };
        Self {
            user,
            token_id,
            issued_before: revocation.issued_before,
            expires_at: revocation.expires_at,
            reason: revocation.reason.as_deref(),
        }
    }
}

const REASON_CHARS_MAX: usize = 256;
