//! Requests for the HTTP proxy, and their answers, over HTTP/1.1.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::BytesMut;
use http::Method;
use http1::{
    Chunk, Fields, Framing, Known, Outgoing, RequestHead, Version, chunk_end, take_buffer,
    write_fields, write_status_line,
};
use router::proxy::{Answer, Asked, Body, Origin, Proxy, Refusal, Streaming, Tunnel};

use super::caller::Callers;
use super::client::Client;
use super::{Front, Peer, address};
use crate::live::Live;

/// What becomes of the connection.
pub(super) enum After {
    /// It may carry another request.
    Next,
    /// It is over.
    Close,
    /// It is over, and its end must not pass for that of an answer.
    Cut,
    /// It carries another protocol now.
    Tunnel(Box<Tunnel>),
}

/// What an answer has to know of its request.
#[derive(Debug, Clone, Copy)]
struct Terms {
    is_head: bool,
    version: Version,
    keep_alive: bool,
    takes_trailers: bool,
}

/// Takes a request to its upstream and the answer back.
pub(super) async fn answer(
    front: &Front,
    live: &Live,
    proxy: &Arc<Proxy>,
    callers: &mut Callers,
    peer: &Peer,
    client: &mut Client,
    head: RequestHead,
) -> After {
    let mut terms = Terms {
        is_head: head.method == Method::HEAD,
        version: head.version,
        keep_alive: head.keep_alive,
        takes_trailers: head
            .fields
            .text(Known::Te)
            .is_some_and(|te| te.to_ascii_lowercase().contains("trailers")),
    };
    client.begins(&head, live.proxy.body_patience_ms);
    let from = origin(front, live, peer, &head);
    let answer = if live.addresses.admits(from.client) {
        match proxy.find(head.target.path()) {
            Ok(route) => {
                let (caller, has_our_token) = callers.of(front, &head.fields).await;
                let asked = Asked {
                    head,
                    from,
                    caller,
                    has_our_token,
                };
                proxy.answer(&route, asked, client).await
            }
            Err(refusal) => proxy.refuse(&refusal, &head),
        }
    } else {
        front.metrics.refused("address");
        proxy.refuse(&Refusal::Denied, &head)
    };
    // Whoever drains wants its clients to go.
    terms.keep_alive &= !front.door.is_leaving();
    let body = begin(client, answer, &mut terms);
    let is_whole = match body {
        Sending::Nothing => write(client).await,
        Sending::Stream(streaming, wire) => {
            let is_whole = send(client, streaming, wire, terms.takes_trailers).await;
            if !is_whole && wire == Wire::UntilClose {
                return After::Cut;
            }
            is_whole
        }
        Sending::Tunnel(tunnel) => {
            return if write(client).await {
                After::Tunnel(tunnel)
            } else {
                After::Close
            };
        }
    };
    if is_whole && terms.keep_alive && client.is_ready_for_next().await {
        After::Next
    } else {
        After::Close
    }
}

/// Where a request comes from.
pub(super) fn origin(front: &Front, live: &Live, peer: &Peer, head: &RequestHead) -> Origin {
    let hops = head
        .fields
        .all(Known::XForwardedFor)
        .map(|value| str::from_utf8(value).unwrap_or("?"));
    Origin {
        peer: peer.address,
        client: address::forwarded_for(hops, peer.address, &live.addresses),
        is_trusted: live.addresses.trusts(peer.address),
        is_tls: front.tls.is_some(),
    }
}

/// What follows an answer's head.
enum Sending {
    /// All of it is in the output.
    Nothing,
    /// Parts.
    Stream(Box<Streaming>, Wire),
    Tunnel(Box<Tunnel>),
}

/// How a body is told from what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    /// There can be none, whatever the upstream's side gives.
    Nothing,
    /// By its length.
    Length,
    Chunks,
    UntilClose,
}

/// Puts the answer's head in the output, and its body if that is short.
fn begin(client: &mut Client, mut answer: Answer, terms: &mut Terms) -> Sending {
    terms.keep_alive &= client.answers();
    let mut out = std::mem::take(&mut client.out);
    if out.is_empty() {
        out = Outgoing::new(take_buffer());
    }
    let has_body = !terms.is_head && answer.status >= 200 && !matches!(answer.status, 204 | 304);
    let framing = match answer.framing {
        framing if !has_body => framing,
        Framing::Chunked | Framing::UntilClose if terms.version == Version::Http11 => {
            Framing::Chunked
        }
        Framing::Chunked | Framing::UntilClose => {
            terms.keep_alive = false;
            Framing::UntilClose
        }
        framing => framing,
    };
    let has_length = if has_body {
        agrees(&mut answer.fields, framing)
    } else {
        // Of an answer to HEAD and of 304 it says what there would have been.
        if answer.status == 204 || answer.status < 200 {
            answer.fields.remove(Known::ContentLength);
        }
        true
    };
    let head = out.copied();
    write_status_line(head, answer.status);
    write_fields(head, &answer.fields);
    if has_body {
        write_framing(head, framing, has_length);
    }
    if let Some(protocol) = answer.upgrade {
        put(
            head,
            &["connection: upgrade\r\nupgrade: ", protocol, "\r\n"],
        );
    } else if !terms.keep_alive {
        put(head, &["connection: close\r\n"]);
    } else if terms.version == Version::Http10 {
        put(head, &["connection: keep-alive\r\n"]);
    }
    put(head, &["\r\n"]);
    let sending = match answer.body {
        Body::Empty => Sending::Nothing,
        Body::Full(body) => {
            if has_body {
                out.push(body, false);
            }
            Sending::Nothing
        }
        Body::Stream(streaming) => {
            let wire = match framing {
                _ if !has_body => Wire::Nothing,
                Framing::Empty => Wire::Nothing,
                Framing::Length(_) => Wire::Length,
                Framing::Chunked => Wire::Chunks,
                Framing::UntilClose => Wire::UntilClose,
            };
            Sending::Stream(streaming, wire)
        }
        Body::Tunnel(tunnel) => Sending::Tunnel(tunnel),
    };
    client.out = out;
    sending
}

/// Whether the fields say the body's length as it is framed; what says anything else is
/// taken out.
fn agrees(fields: &mut Fields, framing: Framing) -> bool {
    let length = match framing {
        Framing::Empty => Some(0),
        Framing::Length(length) => Some(length),
        Framing::Chunked | Framing::UntilClose => None,
    };
    let number = |value| str::from_utf8(value).ok()?.parse::<u64>().ok();
    let agrees = {
        let mut said = fields.all(Known::ContentLength);
        match (said.next(), said.next()) {
            (None, _) => return false,
            (Some(value), None) => length.is_some() && number(value) == length,
            (Some(_), Some(_)) => false,
        }
    };
    if !agrees {
        fields.remove(Known::ContentLength);
    }
    agrees
}

fn write_framing(head: &mut BytesMut, framing: Framing, has_length: bool) {
    match framing {
        Framing::Chunked => put(head, &["transfer-encoding: chunked\r\n"]),
        Framing::UntilClose => {}
        Framing::Empty | Framing::Length(_) if has_length => {}
        Framing::Empty => put(head, &["content-length: 0\r\n"]),
        Framing::Length(length) => put(head, &["content-length: ", &length.to_string(), "\r\n"]),
    }
}

fn put(head: &mut BytesMut, parts: &[&str]) {
    for part in parts {
        head.extend_from_slice(part.as_bytes());
    }
}

/// Sends an answer's body as it comes; `false` if the client could not be given all of
/// it, be it that it has left.
async fn send(
    client: &mut Client,
    mut streaming: Box<Streaming>,
    wire: Wire,
    takes_trailers: bool,
) -> bool {
    let mut end = None;
    poll_fn(|cx| {
        loop {
            while end.is_none() && client.out.has_room() {
                match streaming.poll_chunk(cx, client) {
                    Poll::Ready(Ok(Chunk::Data(_))) if wire == Wire::Nothing => {}
                    Poll::Ready(Ok(Chunk::Data(data))) => {
                        client.out.push(data, wire == Wire::Chunks);
                    }
                    Poll::Ready(Ok(Chunk::End(trailers))) => {
                        if wire == Wire::Chunks {
                            let trailers = trailers.filter(|_| takes_trailers);
                            chunk_end(client.out.copied(), trailers.as_deref());
                        }
                        end = Some(true);
                    }
                    // What there is still goes out; then the connection is cut, so that
                    // the client sees that it is not all.
                    Poll::Ready(Err(_)) => end = Some(false),
                    Poll::Pending => break,
                }
            }
            if client.is_written() {
                return match end {
                    Some(is_whole) => Poll::Ready(is_whole),
                    None => Poll::Pending,
                };
            }
            match client.poll_write(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                // It may read only when all of its request has been taken.
                Poll::Pending if end.is_none() => {
                    return match streaming.poll_request(cx, client) {
                        Ok(()) => Poll::Pending,
                        Err(_) => Poll::Ready(false),
                    };
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

async fn write(client: &mut Client) -> bool {
    poll_fn(|cx| client.poll_write(cx)).await.is_ok()
}
