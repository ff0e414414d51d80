//! `/admin/connections`: who is connected, and the way to close one.

use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::{Refusal, audit, json, query};
use crate::control::{Connection, ConnectionFilter, Operator, Page};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    user: Option<String>,
    address: Option<IpAddr>,
    channel: Option<String>,
    search: Option<String>,
    after: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn list<C: Operator>(control: &C, uri: &Uri) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    struct List<'a> {
        connections: Vec<Shape<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<&'a str>,
    }
    let ListQuery {
        user,
        address,
        channel,
        search,
        after,
        cursor,
        limit,
    } = query(uri)?;
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Refusal::Malformed(format!("limit must be 1 to {PAGE_MAX}")));
    }
    let filter = ConnectionFilter {
        user,
        address,
        channel,
        search,
    };
    // One more than asked for says whether there is a next page.
    let page = Page {
        after: cursor.or(after),
        limit: limit + 1,
    };
    let mut found = control.connections(filter, page).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found
        .last()
        .filter(|_| more)
        .map(|last| last.client.as_str());
    let connections = found.iter().map(Shape::from).collect();
    Ok(json(StatusCode::OK, &List { connections, next }))
}

pub(super) async fn show<C: Operator>(control: &C, uri: &Uri) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    struct Detail<'a> {
        #[serde(flatten)]
        shape: Shape<'a>,
        expires_at: Option<u64>,
        channel_names: &'a [String],
    }
    let Some(detail) = control.connection(client_of(uri)).await? else {
        return Err(Refusal::NotFound(NO_SUCH));
    };
    let body = Detail {
        shape: Shape::from(&detail.connection),
        expires_at: detail.expires_at,
        channel_names: &detail.channels,
    };
    Ok(json(StatusCode::OK, &body))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseQuery {
    code: Option<u32>,
    reason: Option<String>,
}

pub(super) async fn close<C: Operator>(control: &C, head: &Parts) -> Result<Response, Refusal> {
    let CloseQuery { code, reason } = query(&head.uri)?;
    let disconnect = crate::api::disconnect(code, reason)
        .map_err(|error| Refusal::Malformed(error.to_string()))?;
    let client = client_of(&head.uri);
    let closed = control.close(client, disconnect).await;
    if closed != Ok(false) {
        audit(head, "close connection", client, &closed);
    }
    match closed? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Refusal::NotFound(NO_SUCH)),
    }
}

/// What the path names. Client ids need no escapes, so an escaped one matches nothing.
fn client_of(uri: &Uri) -> &str {
    uri.path().rsplit('/').next().unwrap_or_default()
}

#[derive(Serialize)]
struct Shape<'a> {
    client: &'a str,
    user: &'a str,
    address: String,
    transport: &'static str,
    encoding: &'static str,
    dialect: &'static str,
    connected_at: u64,
    channels: usize,
    queue_bytes: usize,
}

impl<'a> From<&'a Connection> for Shape<'a> {
    fn from(connection: &'a Connection) -> Self {
        Self {
            client: &connection.client,
            user: &connection.user,
            address: connection.address.to_string(),
            transport: connection.transport,
            encoding: connection.encoding,
            dialect: connection.dialect,
            connected_at: connection.connected_at,
            channels: connection.channels,
            queue_bytes: connection.queue_bytes,
        }
    }
}

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;
const NO_SUCH: &str = "no connection has this client id";
