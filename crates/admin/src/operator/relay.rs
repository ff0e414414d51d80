//! `/admin/relay…`: how the relay fares, and what became of messages it gave up.

use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::{Refusal, audit, json, query};
use crate::control::{Control, DeadLetter, Operator, RelayAgent, RelayOperator};
use crate::error::OperatorError;
use crate::router::Shared;

/// The relay, or why there is nothing at these paths.
fn relay_of<C: Operator>(control: &C) -> Result<C::Relay, Refusal> {
    control.relay().ok_or(Refusal::NotFound(IS_OFF))
}

pub(super) fn summary<C: Operator>(control: &C) -> Result<Response, Refusal> {
    Ok(json(StatusCode::OK, &relay_of(control)?.summary()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentsQuery {
    limit: Option<usize>,
    sort: Option<Sort>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sort {
    Depth,
    Failures,
    Url,
}

pub(super) fn agents<C: Operator>(control: &C, uri: &Uri) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    struct List {
        agents: Vec<RelayAgent>,
        total: usize,
    }
    let relay = relay_of(control)?;
    let AgentsQuery { limit, sort } = query(uri)?;
    let limit = within(limit, PAGE_MAX)?;
    let mut agents = relay.agents();
    agents.sort_unstable_by(|one, other| {
        let strongest = match sort.unwrap_or(Sort::Depth) {
            Sort::Depth => other.queue_depth.cmp(&one.queue_depth),
            Sort::Failures => other.failures.cmp(&one.failures),
            Sort::Url => std::cmp::Ordering::Equal,
        };
        strongest.then_with(|| one.url.cmp(&other.url))
    });
    let total = agents.len();
    agents.truncate(limit);
    Ok(json(StatusCode::OK, &List { agents, total }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteQuery {
    client: String,
}

pub(super) async fn route<C: Operator>(control: &C, uri: &Uri) -> Result<Response, Refusal> {
    let relay = relay_of(control)?;
    let RouteQuery { client } = query(uri)?;
    if client.is_empty() {
        return Err(malformed("client must not be empty"));
    }
    Ok(json(StatusCode::OK, &relay.route(&client).await?))
}

/// A dead letter, with its message if that was asked for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Letter {
    #[serde(flatten)]
    letter: DeadLetter,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<serde_json::Value>,
    /// Why there is no message although it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_error: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LettersQuery {
    after: Option<u64>,
    client: Option<String>,
    limit: Option<usize>,
    messages: Option<bool>,
}

pub(super) async fn list<C: Operator>(control: &C, uri: &Uri) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct List {
        dead_letters: Vec<Letter>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<u64>,
    }
    let relay = relay_of(control)?;
    let LettersQuery {
        after,
        client,
        limit,
        messages,
    } = query(uri)?;
    let limit = within(limit, PAGE_MAX)?;
    let with_messages = messages.unwrap_or(false);
    // One more than asked for says whether there is a next page.
    let mut found = relay.dead_letters(after.unwrap_or(0), client.as_deref(), limit + 1);
    let mut kept = limit;
    if with_messages {
        let mut left = MESSAGES_BYTES_MAX;
        let fitting = found.iter().take_while(|letter| {
            let fits = letter.size <= left;
            left = left.saturating_sub(letter.size);
            fits
        });
        // One is always shown, or a large one would end the paging.
        kept = kept.min(fitting.count().max(1));
    }
    let more = found.len() > kept;
    found.truncate(kept);
    let next = found.last().filter(|_| more).map(|last| last.id);
    let mut dead_letters = Vec::with_capacity(found.len());
    for letter in found {
        dead_letters.push(if with_messages {
            with_message(&relay, letter).await
        } else {
            Letter {
                letter,
                message: None,
                message_error: None,
            }
        });
    }
    Ok(json(StatusCode::OK, &List { dead_letters, next }))
}

pub(super) async fn show<C: Operator>(control: &C, uri: &Uri) -> Result<Response, Refusal> {
    let relay = relay_of(control)?;
    let id = id_of(uri)?;
    let before = id.checked_sub(1).ok_or(Refusal::NotFound(NO_SUCH))?;
    let mut found = relay.dead_letters(before, None, 1);
    let letter = found.pop().filter(|letter| letter.id == id);
    let letter = letter.ok_or(Refusal::NotFound(NO_SUCH))?;
    Ok(json(StatusCode::OK, &with_message(&relay, letter).await))
}

async fn with_message<R: RelayOperator>(relay: &R, letter: DeadLetter) -> Letter {
    let (message, message_error) = match relay.dead_message(letter.id).await {
        Ok(Some(message)) => (Some(message), None),
        Ok(None) => (None, Some(NO_SUCH.to_owned())),
        Err(error) => (None, Some(error.to_string())),
    };
    Letter {
        letter,
        message,
        message_error,
    }
}

pub(super) async fn replay<C: Operator>(control: &C, head: &Parts) -> Result<Response, Refusal> {
    let relay = relay_of(control)?;
    let id = id_of(&head.uri)?;
    match replay_one(&relay, head, id).await? {
        true => {
            let body = serde_json::json!({ "status": "pending" });
            Ok(json(StatusCode::ACCEPTED, &body))
        }
        false => Err(Refusal::NotFound(NO_SUCH)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayQuery {
    after: Option<u64>,
    client: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn replay_all<C: Control + Operator>(
    shared: &Shared<C>,
    head: &Parts,
) -> Result<Response, Refusal> {
    #[derive(Default, Serialize)]
    struct Done {
        replayed: usize,
        failed: Vec<Failure>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<u64>,
    }
    #[derive(Serialize)]
    struct Failure {
        id: u64,
        error: String,
    }
    let relay = relay_of(&*shared.control)?;
    let ReplayQuery {
        after,
        client,
        limit,
    } = query(&head.uri)?;
    let limit = within(limit, PAGE_MAX)?;
    let found = relay.dead_letters(after.unwrap_or(0), client.as_deref(), limit + 1);
    let until = shared.clock.elapsed() + REPLAY_TIME;
    let mut done = Done::default();
    let mut last = None;
    for (place, letter) in found.iter().enumerate() {
        if place == limit || shared.clock.elapsed() >= until {
            done.next = last;
            break;
        }
        match replay_one(&relay, head, letter.id).await {
            Ok(true) => done.replayed += 1,
            // Somebody else was faster.
            Ok(false) => {}
            Err(error) => done.failed.push(Failure {
                id: letter.id,
                error: error.to_string(),
            }),
        }
        last = Some(letter.id);
    }
    Ok(json(StatusCode::ACCEPTED, &done))
}

async fn replay_one<R: RelayOperator>(
    relay: &R,
    head: &Parts,
    id: u64,
) -> Result<bool, OperatorError> {
    let replayed = relay.replay(id).await;
    if replayed != Ok(false) {
        audit(head, "replay dead letter", &id.to_string(), &replayed);
    }
    replayed
}

pub(super) fn discard<C: Operator>(control: &C, head: &Parts) -> Result<Response, Refusal> {
    let relay = relay_of(control)?;
    let id = id_of(&head.uri)?;
    if !relay.discard(id) {
        return Err(Refusal::NotFound(NO_SUCH));
    }
    let done: Result<(), OperatorError> = Ok(());
    audit(head, "discard dead letter", &id.to_string(), &done);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The number in `/admin/relay/dead-letters/{id}` and below it.
fn id_of(uri: &Uri) -> Result<u64, Refusal> {
    let rest = uri.path().strip_prefix(LETTERS).unwrap_or_default();
    let id = rest.split('/').next().unwrap_or_default();
    id.parse()
        .map_err(|_| malformed("the id of a dead letter is a whole number"))
}

fn within(limit: Option<usize>, max: usize) -> Result<usize, Refusal> {
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    match (1..=max).contains(&limit) {
        true => Ok(limit),
        false => Err(Refusal::Malformed(format!("limit must be 1 to {max}"))),
    }
}

fn malformed(rule: &str) -> Refusal {
    Refusal::Malformed(rule.to_owned())
}

const LETTERS: &str = "/admin/relay/dead-letters/";
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

/// Most bytes of records whose messages are shown on one page.
const MESSAGES_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// After so long a replay of many goes no further: the answer has to come in time.
const REPLAY_TIME: Duration = Duration::from_secs(15);

const IS_OFF: &str = "the relay is off";
const NO_SUCH: &str = "no dead letter has this id";
