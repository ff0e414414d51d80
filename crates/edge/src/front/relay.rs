//! The relay's own endpoints: upgrade, REST, health, the seed's metrics (`contracts`:
//! relay 1.2, 1.7; architecture: listeners).

use std::sync::Arc;
use std::time::Duration;

use auth::signature::{Content, SignatureMode, Signed};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use protocol::agent;
use protocol::claims::{ConnectionClaims, ServerSubscription, TokenError};
use protocol::codec::Encoding;
use protocol::stratix::{History, Inbound, Priority};
use router::relay::{Refused, Relay, Stage, Submission, is_relayed};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::emulation::percent_decoded;
use super::origin;
use super::reply::{self, Reply};
use super::routes::{Asked, query};
use super::websocket::{self, BEARER, Terms, bearer, offered_token};
use crate::door::Refusal;
use crate::worker::connection::Own;
use crate::worker::stratix::{Stratix, receipt_json};

/// Answers a path below the relay's root; `None` if it is none of them.
pub(super) async fn answer(asked: Asked, path: &str) -> Result<Reply, Asked> {
    let (Some(relay), true) = (asked.front.relay.clone(), asked.live.relay.is_some()) else {
        return Err(asked);
    };
    Ok(match path {
        "/ws" => upgrade(asked).await,
        "/health" => told(StatusCode::OK, &json!({ "status": "ok" })),
        "/metrics" => told(StatusCode::OK, &metrics(&asked, &relay)),
        _ => match path.strip_prefix("/v1/") {
            Some(rest) => {
                let rest = rest.to_owned();
                from_page(asked, &relay, &rest).await
            }
            None => return Err(asked),
        },
    })
}

/// The checks come in the order of the contract: client id, token, rate, number of
/// connections, and what belongs to the upgrade itself.
async fn upgrade(asked: Asked) -> Reply {
    let Some(client) = decoded(&asked, "clientId").filter(|client| !client.is_empty()) else {
        let status = StatusCode::BAD_REQUEST;
        return refused(&asked, status, "client_id", "clientId required");
    };
    let Some(channel) = agent::channel_of(&client) else {
        let status = StatusCode::BAD_REQUEST;
        return refused(
            &asked,
            status,
            "client_id",
            "clientId is too long, or has control characters",
        );
    };
    let mut claims = match identify(&asked, &client, true).await {
        Ok(claims) => claims,
        Err(reply) => return reply,
    };
    claims.subs.push(ServerSubscription {
        channel: channel.as_str().to_owned(),
        ..ServerSubscription::default()
    });
    let now_ms = asked.front.clock.mono_ms();
    let address = asked.peer.address;
    let pass = match asked.front.door.admit(&asked.live, address, now_ms) {
        Ok(pass) => pass,
        Err(refusal) => return turned_away(&asked, &refusal),
    };
    if !origin::is_admitted(&asked.live, asked.request.headers()) {
        return refused(
            &asked,
            StatusCode::FORBIDDEN,
            "origin",
            "origin is not allowed",
        );
    }
    let accept = match websocket::accept_key(&asked) {
        Ok(accept) => accept,
        Err(reply) => return reply,
    };
    let history_max = asked.live.relay.as_ref().map_or(0, |live| live.history_max);
    let stratix = Stratix {
        arrival: asked.front.fleet.registers().latest.next(),
        wants_acks: query(&asked, "ack") == Some("true"),
        history: History::parse(
            query(&asked, "loadHistory"),
            decoded(&asked, "lastMessageId").as_deref(),
            query(&asked, "limit"),
            history_max,
        ),
        ..Stratix::default()
    };
    let has_bearer = matches!(offered_token(asked.request.headers()), Some(Ok(_)));
    let terms = Terms {
        accept,
        encoding: Encoding::Json,
        protocol: has_bearer.then_some(BEARER.into()),
        deflate: websocket::deflate_of(&asked),
        verified: Some(claims),
        own: Some(Box::new(Own::Stratix(stratix))),
        pass,
    };
    websocket::hand_over(asked, terms)
}

/// What may come from another page: its origin is checked, and told that it was.
async fn from_page(asked: Asked, relay: &Arc<Relay>, path: &str) -> Reply {
    let headers = asked.request.headers().clone();
    if !origin::is_admitted(&asked.live, &headers) {
        return refused(
            &asked,
            StatusCode::FORBIDDEN,
            "origin",
            "origin is not allowed",
        );
    }
    if asked.request.method() == Method::OPTIONS {
        return origin::preflight(&headers);
    }
    // A backend speaks for many clients: its requests are limited by the clients' rates,
    // not by those of handshakes.
    if asked.front.door.is_out_of_memory(asked.live.door.memory) {
        return turned_away(&asked, &Refusal::Memory);
    }
    let parts: Vec<&str> = path.split('/').collect();
    let mut reply = match (asked.request.method(), parts.as_slice()) {
        (&Method::POST, ["messages"]) => submit(asked, relay).await,
        (&Method::GET, ["messages", client, id]) => status(&asked, relay, client, id).await,
        (&Method::GET, ["history", client]) => history(&asked, relay, client).await,
        (_, ["messages"] | ["messages", _, _] | ["history", _]) => {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            refused(&asked, status, "method", "method is not allowed")
        }
        _ => refused(&asked, StatusCode::NOT_FOUND, "path", "not found"),
    };
    origin::grant(&headers, &mut reply);
    reply
}

/// `POST /v1/messages`: takes a message and answers when the level asked for is reached.
async fn submit(mut asked: Asked, relay: &Arc<Relay>) -> Reply {
    let Some(live) = &asked.live.relay else {
        return refused(&asked, StatusCode::NOT_FOUND, "path", "not found");
    };
    // Nobody makes us read a body who has shown nothing: a signature covers the body, a
    // token comes before it.
    let is_signed = live.signatures.is_some() && asked.request.headers().contains_key(SIGNATURE);
    if !live.is_open
        && !is_signed
        && let Err(reply) = verified(&asked, false).await
    {
        return reply;
    }
    let limit = live
        .message_size_max
        .saturating_mul(2)
        .saturating_add(65_536);
    let body = match body_of(&mut asked, limit).await {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    let inbound = match Inbound::parse(&body) {
        Ok(inbound) if is_relayed(inbound.message.kind) => inbound,
        Ok(_) => {
            let status = StatusCode::BAD_REQUEST;
            return refused(
                &asked,
                status,
                "message",
                "control messages are not relayed",
            );
        }
        Err(error) => {
            return refused(
                &asked,
                StatusCode::BAD_REQUEST,
                "message",
                &error.to_string(),
            );
        }
    };
    let client = inbound.message.client_id.clone();
    if client.is_empty() {
        return refused(
            &asked,
            StatusCode::BAD_REQUEST,
            "client_id",
            "clientId required",
        );
    }
    let message_id = &inbound.message.message_id;
    if let Err(reply) = authorize(&asked, relay, &client, message_id, &body).await {
        return reply;
    }
    let submission = Submission {
        client: client.as_str().into(),
        message: inbound.message,
        priority: inbound.priority.unwrap_or(Priority::Interactive),
        level: inbound.ack,
        traceparent: inbound.traceparent,
    };
    let (tell, told_later) = oneshot::channel();
    relay.submit(
        submission,
        Box::new(move |outcome| {
            // Whoever asked may have gone; the message is taken all the same.
            let _unwanted = tell.send(outcome);
        }),
    );
    let Ok(told) = tokio::time::timeout(TOLD_WITHIN, told_later).await else {
        // It is taken, and goes on its way.
        let status = StatusCode::GATEWAY_TIMEOUT;
        let text = "message was taken, but has not got as far as was asked for yet";
        return refused(&asked, status, "relay_timeout", text);
    };
    match told {
        Ok(Ok(receipt)) => {
            let body = receipt_json(&receipt);
            let mut reply = reply::content("application/json", body);
            *reply.status_mut() = StatusCode::ACCEPTED;
            reply
        }
        Ok(Err(refusal)) => {
            let status = match refusal {
                Refused::ClientId | Refused::MessageId { .. } | Refused::Payload => {
                    StatusCode::BAD_REQUEST
                }
                Refused::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                Refused::NoRoute => StatusCode::NOT_FOUND,
                Refused::TooMany => StatusCode::TOO_MANY_REQUESTS,
                Refused::Full | Refused::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                Refused::Failed(_) | Refused::GivenUp(_) => StatusCode::BAD_GATEWAY,
            };
            refused(&asked, status, "relay", &refusal.to_string())
        }
        Err(_) => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            refused(&asked, status, "relay", "the gateway is stopping")
        }
    }
}

/// Reads a body of at most `limit` bytes.
async fn body_of(asked: &mut Asked, limit: usize) -> Result<Bytes, Reply> {
    let deadline = asked.live.door.handshake_timeout;
    let body = Limited::new(asked.request.body_mut(), limit).collect();
    match tokio::time::timeout(deadline, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            Err(refused(asked, status, "body_size", "request is too large"))
        }
        Ok(Err(_)) => {
            let status = StatusCode::BAD_REQUEST;
            Err(refused(asked, status, "body", "body could not be read"))
        }
        Err(_elapsed) => {
            let status = StatusCode::REQUEST_TIMEOUT;
            Err(refused(asked, status, "body_timeout", "body took too long"))
        }
    }
}

async fn status(asked: &Asked, relay: &Relay, client: &str, id: &str) -> Reply {
    let (Some(client), Some(id)) = (segment(client), segment(id)) else {
        let status = StatusCode::BAD_REQUEST;
        return refused(asked, status, "path", "path is malformed");
    };
    if let Err(reply) = authorize(asked, relay, &client, &id, &[]).await {
        return reply;
    }
    let Some(found) = relay.status(&client, &id) else {
        let status = StatusCode::NOT_FOUND;
        return refused(asked, status, "message", "message is unknown, or forgotten");
    };
    let (stage, reason) = match &found.stage {
        Stage::Accepted => ("accepted", None),
        Stage::Durable => ("durable", None),
        Stage::Delivered => ("delivered", None),
        Stage::Dead { reason } => ("dead", Some(&**reason)),
    };
    let body = json!({
        "clientId": client,
        "messageId": id,
        "status": stage,
        "attempts": found.attempts,
        "reason": reason,
    });
    told(StatusCode::OK, &body)
}

async fn history(asked: &Asked, relay: &Relay, client: &str) -> Reply {
    let Some(client) = segment(client) else {
        let status = StatusCode::BAD_REQUEST;
        return refused(asked, status, "path", "path is malformed");
    };
    if let Err(reply) = authorize(asked, relay, &client, "", &[]).await {
        return reply;
    }
    let max = asked.live.relay.as_ref().map_or(0, |live| live.history_max);
    let after = decoded(asked, "after");
    let wanted = History::parse(Some("true"), after.as_deref(), query(asked, "limit"), max);
    let (after, limit) = wanted.map_or((None, max), |wanted| (wanted.after, wanted.limit));
    let messages: Vec<Value> = relay
        .history(&client, after.as_deref(), limit)
        .iter()
        .filter_map(|message| serde_json::from_slice(&message.json).ok())
        .collect();
    told(StatusCode::OK, &json!({ "messages": messages }))
}

/// Who may speak for a client over REST: who has its token, or a key for signatures.
async fn authorize(
    asked: &Asked,
    relay: &Relay,
    client: &str,
    message_id: &str,
    body: &[u8],
) -> Result<(), Reply> {
    let header = |name: &str| asked.request.headers().get(name)?.to_str().ok();
    let live = asked.live.relay.as_ref();
    let signatures = live.and_then(|live| live.signatures.as_ref());
    let fields = (
        header("x-relay-key"),
        header("x-relay-timestamp").and_then(|text| text.parse().ok()),
        header("x-relay-nonce"),
        header(SIGNATURE),
    );
    let deny = |text: &str| {
        relay.counters().refused_signature.one();
        Err(refused(asked, StatusCode::UNAUTHORIZED, "signature", text))
    };
    match (signatures, fields) {
        (Some(signatures), (Some(key_id), Some(timestamp_ms), Some(nonce), Some(signature))) => {
            let signed = Signed {
                key_id,
                signature,
                content: Content {
                    timestamp_ms,
                    nonce,
                    client_id: client,
                    message_id,
                    payload: body,
                },
            };
            let checked = signatures.verify(asked.front.clock.unix_ms(), &signed);
            checked.or_else(|error| deny(&error.to_string()))
        }
        (Some(signatures), _) if signatures.mode() == SignatureMode::Required => {
            deny("request needs a signature")
        }
        _ => identify(asked, client, false).await.map(|_| ()),
    }
}

/// Checks that the token is the client's.
async fn identify(asked: &Asked, client: &str, in_query: bool) -> Result<ConnectionClaims, Reply> {
    if asked.live.relay.as_ref().is_some_and(|live| live.is_open) {
        return Ok(ConnectionClaims {
            user: client.to_owned(),
            ..ConnectionClaims::default()
        });
    }
    let claims = verified(asked, in_query).await?;
    if claims.user != client {
        return Err(unauthorized(asked));
    }
    // The agent is a channel, and a token that names its subjects has to name that too.
    let channel = agent::channel_of(client);
    if let (Some(subjects), Some(channel)) = (&claims.subjects, channel)
        && !subjects.allow(&channel)
    {
        let status = StatusCode::FORBIDDEN;
        let text = "token does not allow the relay";
        return Err(refused(asked, status, "subjects", text));
    }
    Ok(claims)
}

fn unauthorized(asked: &Asked) -> Reply {
    let status = StatusCode::UNAUTHORIZED;
    refused(asked, status, "token_invalid", "unauthorized")
}

/// What the request's token says, whoever's it is.
async fn verified(asked: &Asked, in_query: bool) -> Result<ConnectionClaims, Reply> {
    let headers = asked.request.headers();
    let token = bearer(headers)
        .map(str::to_owned)
        .or_else(|| offered_token(headers)?.ok())
        .or_else(|| in_query.then(|| decoded(asked, "token")).flatten())
        .ok_or_else(|| unauthorized(asked))?;
    match asked.front.fleet.gate().connection(&token).await {
        Ok(claims) => Ok(claims),
        Err(TokenError::Unavailable(_)) => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let text = "token can't be checked at the moment";
            Err(refused(asked, status, "token_unavailable", text))
        }
        Err(TokenError::Expired | TokenError::Invalid(_) | TokenError::Revoked) => {
            Err(unauthorized(asked))
        }
    }
}

/// The seed's figures; all are integers (`contracts`: relay 1.7).
fn metrics(asked: &Asked, relay: &Relay) -> Value {
    let counters = relay.counters();
    let gauges = relay.gauges();
    let mega = |bytes: u64| bytes / (1024 * 1024);
    let (used, limit) = (asked.front.door.resident(), asked.live.door.memory);
    let now_ms = asked.front.clock.mono_ms();
    let rates = asked.front.door.rates(&asked.live.door, now_ms);
    json!({
        "connectionsTotal": counters.connections.value(),
        "connectionsActive": relay.connections(),
        "messagesReceived": counters.received.value(),
        "messagesSent": counters.delivered.value(),
        "messagesFailed": counters.failed(),
        "bytesReceived": counters.bytes_received.value(),
        "bytesSent": counters.bytes_delivered.value(),
        "uptimeSeconds": asked.front.clock.elapsed().as_secs(),
        "largeMessages": counters.large.value(),
        "largeMessageBytes": counters.large_bytes.value(),
        "rateLimitExceeded": counters.refused_rate.value() + rates.refused,
        "currentConnections": relay.connections(),
        "openclawConnections": relay.agent_totals().up,
        "memoryUsedMB": mega(used),
        "memoryLimitMB": mega(limit),
        "memoryPercent": used.saturating_mul(100).checked_div(limit).unwrap_or(0),
        "heapAllocMB": mega(used),
        "heapSysMB": mega(used),
        // What this process has instead of goroutines.
        "numGoroutine": asked.front.tasks.running(),
        "rateLimitClients": rates.addresses,
        "rateLimitAvgTokens": rates.tokens_average,
        "rateLimitQPS": asked.live.door.handshake_rate_per_address,
        "historyClients": gauges.history_clients,
        "historyMessages": gauges.history_messages,
    })
}

/// The header whose presence says that a request is signed.
const SIGNATURE: &str = "x-relay-signature";

/// How long a request waits until its message has got as far as it asked for.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

fn turned_away(asked: &Asked, refusal: &Refusal) -> Reply {
    let status = refusal.status();
    let text = match status {
        StatusCode::TOO_MANY_REQUESTS => "rate limit exceeded".to_owned(),
        StatusCode::SERVICE_UNAVAILABLE => "max connections reached".to_owned(),
        _ => refusal.to_string(),
    };
    refused(asked, status, refusal.label(), &text)
}

fn refused(asked: &Asked, status: StatusCode, reason: &'static str, text: &str) -> Reply {
    asked.front.metrics.refused(reason);
    tracing::debug!(reason, status = status.as_u16(), "request was refused");
    told(status, &json!({ "error": text }))
}

fn told(status: StatusCode, body: &Value) -> Reply {
    let mut reply = reply::content("application/json", Bytes::from(body.to_string()));
    *reply.status_mut() = status;
    reply
}

/// A value of the query string, escapes undone.
fn decoded(asked: &Asked, name: &str) -> Option<String> {
    segment(query(asked, name)?)
}

fn segment(text: &str) -> Option<String> {
    String::from_utf8(percent_decoded(text)?).ok()
}
