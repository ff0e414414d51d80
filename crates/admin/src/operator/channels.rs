//! `/admin/channels`: which there are, and who is there.

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::{Refusal, json, query};
use crate::control::Control;
use crate::error::ApiError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    search: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct List<'a> {
    channels: Vec<Channel<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

#[derive(Serialize)]
struct Channel<'a> {
    name: &'a str,
    subscribers: u64,
}

/// Channels with subscribers, in the order of their names.
pub(super) async fn list<C: Control>(control: &C, uri: &Uri) -> Result<Response, Refusal> {
    let ListQuery {
        search,
        cursor,
        limit,
    } = query(uri)?;
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Refusal::Malformed(format!("limit must be 1 to {PAGE_MAX}")));
    }
    let search = search.unwrap_or_default().to_lowercase();
    let all = control.channels("").await.map_err(Refusal::of_api)?;
    let is_wanted = |name: &str| search.is_empty() || name.to_lowercase().contains(&search);
    let is_after = |name: &str| cursor.as_deref().is_none_or(|cursor| name > cursor);
    let mut wanted = all
        .iter()
        .filter(|(name, _)| is_after(name) && is_wanted(name))
        .map(|(name, subscribers)| Channel {
            name,
            subscribers: *subscribers,
        });
    let channels: Vec<_> = wanted.by_ref().take(limit).collect();
    let more = wanted.next().is_some();
    let next = channels.last().filter(|_| more).map(|last| last.name);
    Ok(json(StatusCode::OK, &List { channels, next }))
}

#[derive(Serialize)]
struct Presence {
    presence: BTreeMap<String, Present>,
}

#[derive(Serialize)]
struct Present {
    client: String,
    user: String,
}

/// Who is on a channel, by client id.
pub(super) async fn presence<C: Control>(
    control: &C,
    head: &mut Parts,
) -> Result<Response, Refusal> {
    let name = Path::<String>::from_request_parts(head, &()).await;
    let Path(name) = name.map_err(|error| Refusal::Malformed(error.body_text()))?;
    let present = control.presence(&name).await.map_err(|error| match error {
        ApiError::NotAvailable => {
            Refusal::Unprocessable("presence is off in the namespace of this channel")
        }
        error => Refusal::of_api(error),
    })?;
    let presence = present
        .into_iter()
        .map(|(id, info)| {
            let present = Present {
                client: info.client,
                user: info.user,
            };
            (id, present)
        })
        .collect();
    Ok(json(StatusCode::OK, &Presence { presence }))
}

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;
