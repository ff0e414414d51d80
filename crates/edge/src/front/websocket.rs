//! The WebSocket upgrade.
//!
//! Everything that can be refused is refused before the 101: method and headers,
//! origin, address, caps and rates, a token that came with the request.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use hyper_util::rt::TokioIo;
use protocol::claims::{ConnectionClaims, TokenError};
use protocol::codec::Encoding;
use protocol::dialect::Dialect;
use protocol::session::Transport;
use router::{Flavor, Framing};
use websocket::{DeflateParams, handshake};

use super::gatekeeper::Gatekeeper;
use super::origin;
use super::reply::{self, Reply};
use super::routes::{Asked, query, refuse};
use super::socket::Stream;
use crate::door::Pass;
use crate::fleet::Fleet;
use crate::worker::arrival::{Arrival, Socket};
use crate::worker::connection::Own;

/// Our sub-protocols, in the order of preference.
const PROTOCOLS: [&str; 2] = ["centrifuge-json", "centrifuge-protobuf"];

/// A sub-protocol that is followed by a token (live-data and other contracts).
pub(super) const BEARER: &str = "bearer";

/// Answers an upgrade request; if it is accepted, the connection moves to a worker as
/// soon as the answer is out.
pub(super) async fn upgrade(asked: Asked) -> Reply {
    let accept = match accept_key(&asked) {
        Ok(accept) => accept,
        Err(reply) => return reply,
    };
    let headers = asked.request.headers();
    if !origin::is_admitted(&asked.live, headers) {
        return refuse(
            &asked,
            StatusCode::FORBIDDEN,
            "origin",
            "origin is not allowed",
        );
    }
    if query(&asked, "token").is_some() {
        let message = "tokens are not accepted in the query string";
        return refuse(&asked, StatusCode::BAD_REQUEST, "token_in_query", message);
    }
    let pass =
        match asked
            .front
            .door
            .admit(&asked.live, asked.peer.address, asked.front.clock.mono_ms())
        {
            Ok(pass) => pass,
            Err(refusal) => {
                return refuse(
                    &asked,
                    refusal.status(),
                    refusal.label(),
                    &refusal.to_string(),
                );
            }
        };
    let offer = match Offer::read(&asked) {
        Ok(offer) => offer,
        Err((status, message)) => return refuse(&asked, status, "subprotocol", message),
    };
    let verified = match verify(&asked, offer.token.as_deref()).await {
        Ok(verified) => verified,
        Err(reply) => return reply,
    };
    let terms = Terms {
        accept,
        encoding: offer.encoding,
        protocol: offer.protocol.map(Into::into),
        deflate: offer.deflate,
        verified,
        own: None,
        pass,
    };
    hand_over(asked, terms)
}

/// What a connection is taken over with.
pub(super) struct Terms {
    pub(super) accept: String,
    pub(super) encoding: Encoding,
    /// The sub-protocol to confirm.
    pub(super) protocol: Option<Cow<'static, str>>,
    /// What is agreed on compression, and the header that says so.
    pub(super) deflate: Option<(DeflateParams, String)>,
    pub(super) verified: Option<ConnectionClaims>,
    /// What a client of a dialect of its own has asked for.
    pub(super) own: Option<Box<Own>>,
    pub(super) pass: Pass,
}

/// Checks that the request is an upgrade; what its key is answered with.
pub(super) fn accept_key(asked: &Asked) -> Result<String, Reply> {
    let seen = asked
        .request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()));
    let minor = u8::from(asked.request.version() != Version::HTTP_10);
    match handshake::validate(asked.request.method().as_str(), minor, seen) {
        Ok(upgrade) => Ok(handshake::accept_key(upgrade.key)),
        Err(error) => {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
            let mut reply = refuse(asked, status, error.reason_label(), &error.to_string());
            if status == StatusCode::UPGRADE_REQUIRED {
                let answer = reply.headers_mut();
                answer.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
                answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
            }
            Err(reply)
        }
    }
}

/// Answers an upgrade that is accepted; the connection moves to a worker as soon as the
/// answer is out.
pub(super) fn hand_over(mut asked: Asked, terms: Terms) -> Reply {
    let Terms {
        accept,
        encoding,
        protocol,
        deflate,
        verified,
        own,
        pass,
    } = terms;
    let (deflate, extensions) = deflate.unzip();
    let framing = Framing::WebSocket {
        deflate_bits: deflate.map(|params: DeflateParams| params.window_bits),
    };
    let flavor = Flavor {
        dialect: match own.as_deref() {
            None => Dialect::Centrifuge,
            Some(Own::Stratix(_)) => Dialect::Stratix,
            Some(Own::Live(client)) => Dialect::Live {
                envelope: client.envelope,
            },
        },
        encoding,
        framing,
    };
    let upgrading = hyper::upgrade::on(&mut asked.request);
    let Asked {
        front, live, peer, ..
    } = asked;
    let tasks = front.tasks.clone();
    tasks.spawn("upgrade", async move {
        // The answer is on its way; a client that does not take it loses its place.
        let upgraded = tokio::time::timeout(live.door.handshake_timeout, upgrading).await;
        let Ok(Ok(upgraded)) = upgraded else {
            return front.metrics.refused("upgrade");
        };
        match into_socket(upgraded) {
            Ok((socket, early)) => {
                let Some(inbox) = front.fleet.pick() else {
                    return front.metrics.refused("no_worker");
                };
                let arrival = Arrival {
                    socket,
                    flavor,
                    transport: Transport::WebSocket,
                    verified,
                    own,
                    deflate,
                    early,
                    address: peer.address,
                    pass,
                };
                Fleet::send(&inbox, arrival);
            }
            Err(error) => {
                front.metrics.refused("upgrade");
                tracing::warn!(%error, "upgraded connection could not be handed over");
            }
        }
    });
    switching(&accept, protocol.as_deref(), extensions)
}

/// What the client offers beyond the upgrade itself.
struct Offer {
    encoding: Encoding,
    /// The sub-protocol to confirm.
    protocol: Option<&'static str>,
    token: Option<String>,
    /// What is agreed on compression, and the header that says so.
    deflate: Option<(DeflateParams, String)>,
}

impl Offer {
    fn read(asked: &Asked) -> Result<Self, (StatusCode, &'static str)> {
        let headers = asked.request.headers();
        let offered: Vec<&[u8]> = headers
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        let mut protocol = handshake::select_protocol(offered.iter().copied(), &PROTOCOLS);
        let mut token = bearer(headers).map(str::to_owned);
        if let Some(offered) = offered_token(headers) {
            // What follows the name is the token; it is never confirmed.
            let offered = offered.map_err(|message| (StatusCode::BAD_REQUEST, message))?;
            token.get_or_insert(offered);
            protocol = protocol.or(Some(BEARER));
        }
        let by_query = query(asked, "format").or_else(|| query(asked, "cf_protocol"));
        let is_protobuf = protocol == Some("centrifuge-protobuf")
            || (protocol != Some("centrifuge-json") && by_query == Some("protobuf"));
        let deflate = deflate_of(asked);
        Ok(Self {
            encoding: if is_protobuf {
                Encoding::Protobuf
            } else {
                Encoding::Json
            },
            protocol,
            token,
            deflate,
        })
    }
}

/// What is agreed on compression.
pub(super) fn deflate_of(asked: &Asked) -> Option<(DeflateParams, String)> {
    let offered = asked
        .request
        .headers()
        .get_all(SEC_WEBSOCKET_EXTENSIONS)
        .iter()
        .map(HeaderValue::as_bytes);
    let config = asked.live.websocket.deflate.as_ref()?;
    websocket::negotiate_deflate(offered, config)
}

/// The token behind sub-protocol `bearer`: `None` without one, an error if none follows.
pub(super) fn offered_token(headers: &HeaderMap) -> Option<Result<String, &'static str>> {
    let mut names = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim);
    names.any(|name| name == BEARER).then(|| {
        names
            .next()
            .map(str::to_owned)
            .ok_or("no token follows sub-protocol bearer")
    })
}

/// The token of an `Authorization` header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| token.trim())
}

/// Checks a token that came with the request.
pub(super) async fn verify(
    asked: &Asked,
    token: Option<&str>,
) -> Result<Option<ConnectionClaims>, Reply> {
    let Some(token) = token else { return Ok(None) };
    match asked.front.fleet.gate().connection(token).await {
        Ok(claims) => Ok(Some(claims)),
        Err(TokenError::Unavailable(_)) => {
            let message = "token can't be checked at the moment";
            Err(refuse(
                asked,
                StatusCode::SERVICE_UNAVAILABLE,
                "token_unavailable",
                message,
            ))
        }
        Err(TokenError::Expired) => Err(refuse(
            asked,
            StatusCode::UNAUTHORIZED,
            "token_expired",
            "token has expired",
        )),
        Err(TokenError::Invalid(_) | TokenError::Revoked) => Err(refuse(
            asked,
            StatusCode::UNAUTHORIZED,
            "token_invalid",
            "token is not valid",
        )),
    }
}

fn switching(accept: &str, protocol: Option<&str>, extensions: Option<String>) -> Reply {
    let mut reply = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = reply.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let values = [
        (SEC_WEBSOCKET_ACCEPT, Some(accept)),
        (SEC_WEBSOCKET_PROTOCOL, protocol),
        (SEC_WEBSOCKET_EXTENSIONS, extensions.as_deref()),
    ];
    for (name, value) in values {
        // All three are made of characters that headers may hold.
        if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
            headers.insert(name, value);
        }
    }
    reply
}

/// Takes the connection out of hyper and the runtime.
fn into_socket(upgraded: hyper::upgrade::Upgraded) -> std::io::Result<(Socket, Bytes)> {
    let parts = upgraded
        .downcast::<TokioIo<Gatekeeper>>()
        .map_err(|_| std::io::Error::other("upgraded connection is of another kind"))?;
    let mut early = parts.read_buf.to_vec();
    let (stream, input, _) = parts.io.into_inner().into_parts();
    early.extend_from_slice(&input);
    match stream.into_stream() {
        Stream::Plain(socket) => {
            early.extend_from_slice(&socket.early);
            Ok((Socket::Tcp(socket.tcp.into_std()?), early.into()))
        }
        Stream::Tls(stream) => {
            let parts = stream.into_parts();
            early.extend_from_slice(&parts.plaintext);
            let stream = parts.socket.tcp.into_std()?;
            Ok((
                Socket::Tls {
                    stream,
                    state: parts.state,
                    unsent: parts.unsent,
                },
                early.into(),
            ))
        }
    }
}
