//! Fallback transports for networks that break WebSocket: a response that never ends
//! carries frames to the client, separate requests carry frames from it
//! (`contracts`: centrifuge 11.1, 11.15).

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use protocol::codec::{self, Encoding};
use protocol::session::Transport;
use router::{Flavor, Framing};

use super::reply::{self, Reply};
use super::routes::{Asked, query, refuse};
use super::websocket::{bearer, verify};
use crate::door::Refusal;
use crate::fleet::Fleet;
use crate::worker::arrival::{Arrival, Socket};
use crate::worker::pipe::Pipe;

/// HTTP-streaming: the body of the request is the first frame.
pub(super) async fn http_stream(asked: Asked) -> Reply {
    let limit = asked.live.http_stream_body_max.unwrap_or(0);
    let encoding = encoding_of(asked.request.headers());
    let kind = match encoding {
        Encoding::Json => "application/json",
        Encoding::Protobuf => "application/octet-stream",
    };
    if asked.request.method() != Method::POST {
        return method_not_allowed(&asked);
    }
    let flavor = Flavor {
        dialect: protocol::dialect::Dialect::Centrifuge,
        encoding,
        framing: Framing::Stream,
    };
    match read_body(asked, limit).await {
        Ok((asked, frame)) => connect(asked, flavor, kind, frame).await,
        Err(reply) => reply,
    }
}

/// Server-sent events: the first frame is the body of a POST, or `cf_connect`.
pub(super) async fn sse(asked: Asked) -> Reply {
    let limit = asked.live.sse_body_max.unwrap_or(0);
    let flavor = Flavor {
        dialect: protocol::dialect::Dialect::Centrifuge,
        encoding: Encoding::Json,
        framing: Framing::Events,
    };
    let method = asked.request.method().clone();
    let read = if method == Method::POST {
        read_body(asked, limit).await
    } else if method == Method::GET {
        match query(&asked, "cf_connect").and_then(percent_decoded) {
            Some(frame) if frame.len() <= limit => Ok((asked, Bytes::from(frame))),
            Some(_) => {
                return refuse(
                    &asked,
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "body_size",
                    TOO_LARGE,
                );
            }
            None => {
                let message = "cf_connect is missing or malformed";
                return refuse(&asked, StatusCode::BAD_REQUEST, "cf_connect", message);
            }
        }
    } else {
        return method_not_allowed(&asked);
    };
    match read {
        Ok((asked, frame)) => connect(asked, flavor, "text/event-stream", frame).await,
        Err(reply) => reply,
    }
}

/// A frame of a client that is connected by one of the two.
pub(super) async fn emulation(asked: Asked) -> Reply {
    let encoding = encoding_of(asked.request.headers());
    if asked.request.method() != Method::POST {
        return method_not_allowed(&asked);
    }
    let limit = asked.live.emulation_body_max;
    let (asked, body) = match read_body(asked, limit).await {
        Ok(read) => read,
        Err(reply) => return reply,
    };
    let Ok(request) = codec::decode_emulation(encoding, &body) else {
        let message = "request can't be decoded";
        return refuse(&asked, StatusCode::BAD_REQUEST, "emulation", message);
    };
    if request.node != asked.live.session.node {
        return refuse(
            &asked,
            StatusCode::NOT_FOUND,
            "emulation_node",
            "node is unknown",
        );
    }
    // An unknown session is answered like a known one (C10): SDKs ignore the status,
    // and nobody learns which sessions there are.
    if let Ok(session) = uuid::Uuid::parse_str(&request.session)
        && !asked
            .front
            .fleet
            .registers()
            .emulated
            .frame(session.as_u128(), request.data)
    {
        return refuse(
            &asked,
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "too many frames wait",
        );
    }
    reply::empty(StatusCode::NO_CONTENT)
}

async fn connect(asked: Asked, flavor: Flavor, kind: &'static str, frame: Bytes) -> Reply {
    if query(&asked, "token").is_some() {
        let message = "tokens are not accepted in the query string";
        return refuse(&asked, StatusCode::BAD_REQUEST, "token_in_query", message);
    }
    let now_ms = asked.front.clock.mono_ms();
    let pass = match asked
        .front
        .door
        .admit(&asked.live, asked.peer.address, now_ms)
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
    let verified = match verify(&asked, bearer(asked.request.headers())).await {
        Ok(verified) => verified,
        Err(reply) => return reply,
    };
    let Some(inbox) = asked.front.fleet.pick() else {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return refuse(&asked, status, "no_worker", "no worker runs");
    };
    let (pipe, body, key) = Pipe::new(Arc::clone(&inbox));
    if flavor.framing == Framing::Events {
        pipe.push(Bytes::from_static(b"\r\n"));
    }
    let arrival = Arrival {
        socket: Socket::Http { pipe, key },
        flavor,
        transport: Transport::Emulated {
            session: uuid::Uuid::new_v4().as_u128(),
        },
        verified,
        own: None,
        deflate: None,
        early: frame,
        address: asked.peer.address,
        pass,
    };
    Fleet::send(&inbox, arrival);
    reply::stream(kind, body)
}

/// Reads a request's body, within its limit and the handshake's deadline.
async fn read_body(mut asked: Asked, limit: usize) -> Result<(Asked, Bytes), Reply> {
    if asked.front.door.is_out_of_memory(asked.live.door.memory) {
        let refusal = Refusal::Memory;
        let (status, label) = (refusal.status(), refusal.label());
        return Err(refuse(&asked, status, label, &refusal.to_string()));
    }
    let body = Limited::new(asked.request.body_mut(), limit).collect();
    match tokio::time::timeout(asked.live.door.handshake_timeout, body).await {
        Ok(Ok(collected)) => Ok((asked, collected.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(refuse(
            &asked,
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_size",
            TOO_LARGE,
        )),
        Ok(Err(_)) => Err(refuse(
            &asked,
            StatusCode::BAD_REQUEST,
            "body",
            "body could not be read",
        )),
        Err(_elapsed) => Err(refuse(
            &asked,
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            "body took too long",
        )),
    }
}

fn method_not_allowed(asked: &Asked) -> Reply {
    refuse(
        asked,
        StatusCode::METHOD_NOT_ALLOWED,
        "method",
        "method is not allowed",
    )
}

fn encoding_of(headers: &HeaderMap) -> Encoding {
    match headers.get(CONTENT_TYPE) {
        Some(kind) if kind == "application/octet-stream" => Encoding::Protobuf,
        _ => Encoding::Json,
    }
}

/// Undoes the escapes of a query string; `None` if they are malformed.
pub(crate) fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => u8::try_from(digit(bytes.next())? * 16 + digit(bytes.next())?).ok()?,
            b'+' => b' ',
            other => other,
        });
    }
    Some(decoded)
}

const TOO_LARGE: &str = "request is too large";

#[cfg(test)]
mod tests {
    use super::percent_decoded;

    #[test]
    fn a_frame_in_the_query_is_read() {
        let decoded = percent_decoded("%7B%22id%22%3A1%7D").unwrap();
        assert_eq!(decoded, br#"{"id":1}"#);
        assert_eq!(percent_decoded("a+b").unwrap(), b"a b");
        assert!(percent_decoded("%7").is_none() && percent_decoded("%zz").is_none());
    }
}
