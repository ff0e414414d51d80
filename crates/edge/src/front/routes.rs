//! The paths of the main listener.

use std::sync::Arc;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;

use super::reply::{self, Reply};
use super::{Front, Peer, Root, address, emulation, live, origin, pages, relay, websocket};
use crate::door::Refusal;
use crate::live::Live;

/// A request, and what is known about who sent it.
pub(super) struct Asked {
    pub(super) front: Arc<Front>,
    pub(super) live: Arc<Live>,
    pub(super) peer: Peer,
    pub(super) request: Request<Incoming>,
}

/// Answers one request.
pub(super) async fn answer(front: Arc<Front>, mut peer: Peer, request: Request<Incoming>) -> Reply {
    let current = front.current.load_full();
    let hops = request.headers().get_all("x-forwarded-for");
    let hops = hops.iter().map(|value| value.to_str().unwrap_or("?"));
    peer.address = address::forwarded_for(hops, peer.address, &current.addresses);
    let asked = Asked {
        front,
        live: current,
        peer,
        request,
    };
    if !asked.live.addresses.admits(asked.peer.address) {
        let refusal = Refusal::Address;
        return refuse(
            &asked,
            refusal.status(),
            refusal.label(),
            &refusal.to_string(),
        );
    }
    let path = asked.request.uri().path().to_owned();
    let below_relay = match asked.front.root {
        Some(Root::Relay) => Some(path.as_str()),
        Some(Root::Live) => None,
        None => path.strip_prefix("/relay"),
    };
    let asked = match below_relay {
        None => asked,
        Some(below) => match relay::answer(asked, below).await {
            Ok(reply) => return reply,
            Err(asked) => asked,
        },
    };
    let below_live = match asked.front.root {
        Some(Root::Live) => Some(path.as_str()),
        Some(Root::Relay) => None,
        None => path
            .strip_prefix("/live")
            .filter(|below| below.starts_with('/')),
    };
    let asked = match below_live {
        None => asked,
        Some(below) => match live::answer(asked, below).await {
            Ok(reply) => return reply,
            Err(asked) => asked,
        },
    };
    if asked.front.root.is_some() {
        return refuse(&asked, StatusCode::NOT_FOUND, "path", "not found");
    }
    match path.as_str() {
        "/connection/websocket" if asked.live.websocket.enabled => websocket::upgrade(asked).await,
        "/connection/http_stream" if asked.live.http_stream_body_max.is_some() => {
            from_page(asked, emulation::http_stream).await
        }
        "/connection/sse" if asked.live.sse_body_max.is_some() => {
            from_page(asked, emulation::sse).await
        }
        "/emulation"
            if asked.live.http_stream_body_max.is_some() || asked.live.sse_body_max.is_some() =>
        {
            from_page(asked, emulation::emulation).await
        }
        path => pages::answer(&asked, path),
    }
}

/// What requests of pages have in common: their origin is checked, and told that it was.
async fn from_page<F: Future<Output = Reply>>(
    asked: Asked,
    go_on: impl FnOnce(Asked) -> F,
) -> Reply {
    let headers = asked.request.headers().clone();
    if !origin::is_admitted(&asked.live, &headers) {
        return refuse(
            &asked,
            StatusCode::FORBIDDEN,
            "origin",
            "origin is not allowed",
        );
    }
    if asked.request.method() == Method::OPTIONS {
        return origin::preflight(&headers);
    }
    let mut reply = go_on(asked).await;
    origin::grant(&headers, &mut reply);
    reply
}

/// Says no, and counts it.
pub(super) fn refuse(
    asked: &Asked,
    status: StatusCode,
    reason: &'static str,
    message: &str,
) -> Reply {
    asked.front.metrics.refused(reason);
    tracing::debug!(
        reason,
        status = status.as_u16(),
        path = asked.request.uri().path(),
        "request was refused"
    );
    reply::text(status, message)
}

/// A value of the query string. Values that need escaping are none that we know.
pub(super) fn query<'a>(asked: &'a Asked, name: &str) -> Option<&'a str> {
    asked
        .request
        .uri()
        .query()?
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}
