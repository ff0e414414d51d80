//! Where live-data clients come in, and what is told about them (`contracts`: live-data
//! 6.2, 6.3).

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use protocol::claims::{ConnectionClaims, TokenError};
use protocol::codec::Encoding;
use protocol::live;
use serde_json::json;

use super::emulation::percent_decoded;
use super::origin;
use super::reply::{self, Reply};
use super::routes::{Asked, query};
use super::websocket::{self, BEARER, Terms, bearer, offered_token};
use crate::live::LiveDialect;
use crate::worker::connection::Own;
use crate::worker::live_dialect::LiveClient;

/// Answers a path below the dialect's root; gives the request back if the dialect is off.
pub(super) async fn answer(asked: Asked, path: &str) -> Result<Reply, Asked> {
    let current = Arc::clone(&asked.live);
    let Some(dialect) = &current.live_data else {
        return Err(asked);
    };
    let is_read = matches!(*asked.request.method(), Method::GET | Method::HEAD);
    Ok(match path {
        "/ws" => upgrade(asked, dialect).await,
        "/healthz" if is_read => health(&asked, dialect),
        "/metrics.json" if is_read && may_measure(dialect, asked.peer.address) => {
            metrics(&asked, dialect)
        }
        _ => {
            let status = StatusCode::NOT_FOUND;
            refused(&asked, status, "path", Some(live::WRONG_PATH), "not found")
        }
    })
}

/// Everything that can be refused is refused before the 101; that it is no upgrade comes
/// last, as the contract asks for who may not come in.
async fn upgrade(asked: Asked, dialect: &LiveDialect) -> Reply {
    if !origin::is_admitted(&asked.live, asked.request.headers()) {
        let (status, text) = (StatusCode::FORBIDDEN, "origin is not allowed");
        return refused(&asked, status, "origin", Some(live::UNAUTHORIZED), text);
    }
    let now_ms = asked.front.clock.mono_ms();
    let pass = match asked
        .front
        .door
        .admit(&asked.live, asked.peer.address, now_ms)
    {
        Ok(pass) => pass,
        Err(refusal) => {
            let (status, text) = (refusal.status(), refusal.to_string());
            return refused(&asked, status, refusal.label(), None, &text);
        }
    };
    let claims = match identify(&asked, dialect).await {
        Ok(claims) => claims,
        Err(reply) => return reply,
    };
    if !(dialect.bus)().is_up {
        let (status, text) = (StatusCode::SERVICE_UNAVAILABLE, "bus is not connected");
        return refused(&asked, status, "bus", Some(live::BUS_LOST), text);
    }
    let accept = match websocket::accept_key(&asked) {
        Ok(accept) => accept,
        Err(reply) => return reply,
    };
    let offered = Offered::read(asked.request.headers());
    let envelope = dialect.envelope
        || offered.envelope
        || matches!(query(&asked, "envelope"), Some("1" | "true"));
    let terms = Terms {
        accept,
        encoding: Encoding::Json,
        protocol: offered.confirmed,
        deflate: None,
        verified: Some(claims),
        own: Some(Box::new(Own::Live(LiveClient::new(envelope)))),
        pass,
    };
    websocket::hand_over(asked, terms)
}

/// What the sub-protocols of a handshake say.
#[derive(Debug, PartialEq, Eq)]
struct Offered {
    /// The subject is to stand before each payload.
    envelope: bool,
    /// Which one is confirmed: the one that says what frames look like; `bearer`; or the
    /// first, because browsers want one. Never a token.
    confirmed: Option<Cow<'static, str>>,
}

impl Offered {
    fn read(headers: &HeaderMap) -> Self {
        let mut names: Vec<&str> = headers
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        let at = names.iter().position(|name| *name == BEARER);
        if let Some(at) = at
            && at + 1 < names.len()
        {
            // The token.
            names.remove(at + 1);
        }
        let envelope = names.contains(&live::ENVELOPED);
        let confirmed = if envelope {
            Some(live::ENVELOPED.into())
        } else if at.is_some() {
            Some(BEARER.into())
        } else {
            names
                .first()
                .filter(|name| is_plain_name(name))
                .map(|name| Cow::Owned((*name).to_owned()))
        };
        Self {
            envelope,
            confirmed,
        }
    }
}

/// Whether a name may be said back: no secret of the client's looks like one.
fn is_plain_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.matches('.').count() < 2
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Who the client is: the first token found counts (`contracts`: live-data 6.2).
async fn identify(asked: &Asked, dialect: &LiveDialect) -> Result<ConnectionClaims, Reply> {
    let headers = asked.request.headers();
    let token = bearer(headers)
        .map(str::to_owned)
        .or_else(|| offered_token(headers)?.ok())
        .or_else(|| String::from_utf8(percent_decoded(query(asked, "token")?)?).ok())
        .filter(|token| !token.is_empty());
    let deny = |reason, code, text| {
        let status = StatusCode::UNAUTHORIZED;
        Err(refused(asked, status, reason, Some(code), text))
    };
    let Some(token) = token else {
        if dialect.optional_token {
            return Ok(ConnectionClaims::default());
        }
        return deny("token_missing", live::UNAUTHORIZED, "token is missing");
    };
    let gate = asked.front.fleet.gate();
    let checked = match &dialect.verifier {
        Some(verifier) => gate.connection_by(verifier, &token).await,
        None => gate.connection(&token).await,
    };
    match checked {
        Ok(claims) => Ok(claims),
        Err(TokenError::Expired) => deny("token_expired", live::TOKEN_INVALID, "token has expired"),
        Err(TokenError::Invalid(_) | TokenError::Revoked) => {
            deny("token_invalid", live::TOKEN_INVALID, "token is not valid")
        }
        Err(TokenError::Unavailable(_)) => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let text = "token can't be checked at the moment";
            let code = Some(live::TOKEN_INVALID);
            Err(refused(asked, status, "token_unavailable", code, text))
        }
    }
}

/// What both kinds of the contract's documents ask for.
fn health(asked: &Asked, dialect: &LiveDialect) -> Reply {
    let metrics = &asked.front.metrics;
    let body = json!({
        "natsConnected": (dialect.bus)().is_up,
        "clients": metrics.websockets(),
        "subscriptions": metrics.live.subscriptions(),
        "lastErrorCode": metrics.live.last_error(),
        "uptimeSeconds": asked.front.clock.elapsed().as_secs(),
    });
    let mut reply = reply::content("application/json", Bytes::from(body.to_string()));
    let headers = reply.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Date"),
    );
    reply
}

/// The draft of the documents; what is not measured here is nought or empty.
fn metrics(asked: &Asked, dialect: &LiveDialect) -> Reply {
    let metrics = &asked.front.metrics;
    let now_ms = asked.front.clock.mono_ms();
    let body = metrics.live.cached_json(now_ms, || {
        let bus = (dialect.bus)();
        let [p50, p95, p99] = metrics.live.latencies_ms([50, 95, 99]);
        json!({
            "latency_p50": p50,
            "latency_p95": p95,
            "latency_p99": p99,
            "slow_consumers": metrics.live.slow_consumers(),
            "ws_active": metrics.websockets(),
            "ws_msgs_rate": metrics.live.note_rate(now_ms),
            "xy_nats_reconnects_total": bus.reconnects,
            "xy_sub_storms_total": bus.storms,
            "latency_p95_by_group": {},
            "slow_consumers_by_group": {},
            "timestamp": asked.front.clock.unix_ms(),
        })
        .to_string()
    });
    reply::content("application/json", body)
}

/// Whether somebody at this address may read figures.
fn may_measure(dialect: &LiveDialect, address: IpAddr) -> bool {
    let address = address.to_canonical();
    let networks = &dialect.metrics_networks;
    address.is_loopback() || networks.iter().any(|network| network.contains(&address))
}

fn refused(
    asked: &Asked,
    status: StatusCode,
    reason: &'static str,
    code: Option<&str>,
    text: &str,
) -> Reply {
    asked.front.metrics.refused(reason);
    tracing::debug!(
        reason,
        code,
        status = status.as_u16(),
        "live-data request was refused"
    );
    let body = match code {
        Some(code) => {
            asked.front.metrics.live.note_error(code);
            live::refusal(code, text)
        }
        None => json!({ "message": text }).to_string(),
    };
    let mut reply = reply::content("application/json", body);
    *reply.status_mut() = status;
    if matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    ) {
        let headers = reply.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(offered: &[&str], envelope: bool, confirmed: Option<&'static str>) {
        let mut headers = HeaderMap::new();
        for value in offered {
            headers.append(SEC_WEBSOCKET_PROTOCOL, value.parse().unwrap());
        }
        let found = Offered::read(&headers);
        let confirmed = confirmed.map(Cow::Borrowed);
        assert_eq!(
            found,
            Offered {
                envelope,
                confirmed
            },
            "{offered:?}"
        );
    }

    #[test]
    fn a_token_is_never_said_back() {
        check(&[], false, None);
        check(&["bearer, aaa.bbb.ccc"], false, Some("bearer"));
        check(&["bearer", "aaa.bbb.ccc"], false, Some("bearer"));
        check(&["bearer, aaa.bbb.ccc, xy.v1"], true, Some("xy.v1"));
        check(&["xy.v1, bearer, aaa.bbb.ccc"], true, Some("xy.v1"));
        check(&["xy.v1"], true, Some("xy.v1"));
        check(&["chat, other"], false, Some("chat"));
        check(&["aaa.bbb.ccc, other"], false, None);
        // Here it is what follows the name, whatever that is.
        check(&["bearer, xy.v1"], false, Some("bearer"));
        check(&["bearer"], false, Some("bearer"));
    }
}
