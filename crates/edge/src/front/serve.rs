//! Which parser a connection's next request is for: the proxy's own, or hyper's.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http1::{Limits, Reject, RequestHead};
use hyper::server::conn::http1 as hyper_http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::caller::Callers;
use super::client::{Client, NoRequest};
use super::gatekeeper::{self, Busy, Gatekeeper, Stop};
use super::proxied::{self, After};
use super::reply::Counted;
use super::socket::Unstalled;
use super::{Front, Handshake, Peer, http2, pump, refusal_of, routes};
use crate::live::Live;

/// The first bytes of a connection of HTTP/2 (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a client that was told to go may take to hear it.
const LINGER: Duration = Duration::from_secs(1);

/// Most bytes that are read of a client that was told to go.
const LINGER_BYTES_MAX: usize = 256 * 1_024;

/// What the next request is.
enum Next {
    Proxied(Box<RequestHead>),
    Hyper,
    Http2,
}

impl Front {
    /// Serves a connection until it ends or becomes another.
    pub(super) async fn serve_connection(
        self: Arc<Self>,
        stream: Unstalled,
        address: std::net::IpAddr,
        is_http2: bool,
        handshake: Handshake,
    ) {
        let peer = Peer {
            address,
            handshake: Arc::new(Mutex::new(Some(handshake))),
        };
        if is_http2 {
            return http2::serve(self, stream, peer, Bytes::new()).await;
        }
        let mut callers = Callers::default();
        let mut client = Client::new(stream, self.clock, &[]);
        let mut is_first = true;
        // Waited for once, not once per request.
        let stopping = self.tasks.stopping();
        let mut stopped = pin!(stopping.cancelled());
        loop {
            let live = self.current.load_full();
            let limits = limits(&live);
            let next = tokio::select! {
                biased;
                next = self.next(&mut client, &live, &limits, is_first) => next,
                () = &mut stopped => return,
            };
            let next = match next {
                Ok(next) => next,
                Err(no_request) => {
                    return self.ends(client, &live, no_request, is_first).await;
                }
            };
            match next {
                Next::Proxied(head) => {
                    peer.has_asked();
                    let Some(proxy) = &self.proxy else { return };
                    let _underway = self.door.request_begins();
                    let answered = proxied::answer(
                        &self,
                        &live,
                        proxy,
                        &mut callers,
                        &peer,
                        &mut client,
                        *head,
                    );
                    match answered.await {
                        After::Next => {}
                        After::Close => return linger(client.stream).await,
                        After::Cut => return client.stream.cut(),
                        After::Tunnel(tunnel) => {
                            return pump::run(client, *tunnel, self.clock).await;
                        }
                    }
                }
                Next::Hyper => {
                    let lent = Arc::clone(&self).lend(client, limits, &live, &peer).await;
                    match lent {
                        Some(back) => client = back,
                        None => return,
                    }
                }
                Next::Http2 => {
                    let early = client.input.split().freeze();
                    return http2::serve(self, client.stream, peer, early).await;
                }
            }
            is_first = false;
        }
    }

    /// Waits for the next request and looks whose it is.
    async fn next(
        &self,
        client: &mut Client,
        live: &Live,
        limits: &Limits,
        is_first: bool,
    ) -> Result<Next, NoRequest> {
        let patience = millis(live.door.handshake_timeout);
        let rest = if is_first {
            patience
        } else {
            millis(live.proxy.keep_alive)
        };
        client.wakes(rest).await?;
        let can_be_http2 = is_first && live.proxy.http2.is_some();
        let may_proxy = self.proxy.is_some() && self.root.is_none();
        client
            .read_until(patience, |input| {
                if can_be_http2 && input.first() == PREFACE.first() {
                    let shown = input.len().min(PREFACE.len());
                    if input.get(..shown) == PREFACE.get(..shown) {
                        return Ok((shown == PREFACE.len()).then_some(Next::Http2));
                    }
                }
                if may_proxy && is_plainly_proxied(input) {
                    let head = http1::request(input, limits)?;
                    return Ok(head.map(|head| Next::Proxied(Box::new(head))));
                }
                match gatekeeper::examine(input, limits)? {
                    None => Ok(None),
                    Some(examined) if examined.is_proxied && may_proxy => {
                        let head = http1::request(input, limits)?;
                        Ok(head.map(|head| Next::Proxied(Box::new(head))))
                    }
                    Some(_) => Ok(Some(Next::Hyper)),
                }
            })
            .await
    }

    /// Lends the connection to hyper until the proxy wants it back; `None` if it ended,
    /// or went to a worker.
    async fn lend(
        self: Arc<Self>,
        client: Client,
        limits: Limits,
        live: &Live,
        peer: &Peer,
    ) -> Option<Client> {
        let busy = Arc::new(Busy::default());
        let may_proxy = self.proxy.is_some() && self.root.is_none();
        let gate = Gatekeeper::new(
            client.stream,
            client.input,
            limits,
            may_proxy,
            Arc::clone(&busy),
        );
        let (front, service_peer) = (Arc::clone(&self), peer.clone());
        let service = service_fn(move |request| {
            let (front, peer) = (Arc::clone(&front), service_peer.clone());
            let answering = busy.begin();
            async move {
                peer.has_asked();
                let reply = routes::answer(front, peer, request).await;
                Ok::<_, Infallible>(reply.map(|body| Counted::new(body, answering)))
            }
        });
        let mut connection = hyper_http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(live.door.handshake_timeout)
            .max_buf_size(live.door.header_size.max(8_192))
            .max_headers(live.door.headers)
            .serve_connection(TokioIo::new(gate), service)
            .with_upgrades();
        let stopping = self.tasks.stopping();
        let first = tokio::select! {
            served = &mut connection => Some(served),
            () = stopping.cancelled() => None,
        };
        let served = match first {
            Some(served) => served,
            // A socket that rests between two requests must not hold up the end.
            None => {
                Pin::new(&mut connection).graceful_shutdown();
                (&mut connection).await
            }
        };
        let parts = connection.into_parts();
        let Err(error) = served else {
            let (stream, input, stop) = parts?.io.into_inner().into_parts();
            let client = Client::new(stream, self.clock, &input);
            return match stop? {
                Stop::Proxied => Some(client),
                Stop::Rejected(reject) => {
                    let no_request = NoRequest::Rejected(reject);
                    self.ends(client, live, no_request, false).await;
                    None
                }
                Stop::Malformed => {
                    self.metrics.refused("request");
                    None
                }
            };
        };
        let asked_before = peer.has_asked_before();
        let has_read = parts
            .as_ref()
            .is_some_and(|parts| !parts.read_buf.is_empty());
        let gate = parts.map(|parts| parts.io.into_inner().into_parts());
        let reason = match &gate {
            Some((.., Some(Stop::Malformed))) => "request",
            _ => refusal_of(&error),
        };
        if asked_before && reason == "connection_lost" {
            // It went away in the middle of an answer: that refuses nothing.
            tracing::debug!(%error, "connection was lost");
            return None;
        }
        if error.is_timeout()
            && let Some((stream, input, _)) = gate
        {
            if asked_before && !has_read && input.is_empty() {
                // It rested between two requests: that refuses nothing.
                return None;
            }
            say(
                stream,
                408,
                "request came too slowly",
                live.door.handshake_timeout,
            )
            .await;
        }
        self.metrics.refused(reason);
        tracing::debug!(%error, reason, "request was refused");
        None
    }

    /// There will be no further request on the connection.
    async fn ends(&self, client: Client, live: &Live, no_request: NoRequest, is_first: bool) {
        let patience = live.door.handshake_timeout;
        let reason = match no_request {
            NoRequest::Closed | NoRequest::TimedOut { is_begun: false } if !is_first => return,
            NoRequest::Closed | NoRequest::Lost => "connection_lost",
            NoRequest::TimedOut { .. } => {
                say(client.stream, 408, "request came too slowly", patience).await;
                "handshake_timeout"
            }
            NoRequest::Rejected(reject) => {
                tracing::debug!(%reject, "request was refused");
                say(
                    client.stream,
                    reject.status(),
                    &reject.to_string(),
                    patience,
                )
                .await;
                reason_of(reject)
            }
        };
        self.metrics.refused(reason);
    }
}

/// A request line whose target is the proxy's, in the form that nearly all have.
fn is_plainly_proxied(input: &[u8]) -> bool {
    let line = input.get(..METHOD_MAX).unwrap_or(input);
    let Some(space) = line.iter().position(|byte| *byte == b' ') else {
        return false;
    };
    input
        .get(space + 1..)
        .is_some_and(|target| target.starts_with(b"/-/"))
}

/// No method that is known is longer.
const METHOD_MAX: usize = 24;

/// For the metric: what was wrong with a head.
fn reason_of(reject: Reject) -> &'static str {
    match reject {
        Reject::TooLarge | Reject::TooManyFields | Reject::TargetTooLong => "header_size",
        _ => "request",
    }
}

/// What a request's head may be.
pub(super) fn limits(live: &Live) -> Limits {
    Limits {
        head: live.door.header_size.max(8_192),
        fields: live.door.headers,
        target: live.door.header_size.max(8_192),
    }
}

/// A last word to a client, with the reason in clear.
async fn say(mut stream: Unstalled, status: u16, reason: &str, deadline: Duration) {
    let mut out = BytesMut::new();
    http1::write_status_line(&mut out, status);
    let head = format!(
        "connection: close\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\r\n{reason}\n",
        reason.len() + 1
    );
    out.extend_from_slice(head.as_bytes());
    let said = tokio::time::timeout(deadline, stream.write_all_buf(&mut out)).await;
    match said {
        Ok(Ok(())) => linger(stream).await,
        Ok(Err(error)) => tracing::debug!(%error, "client did not hear why it was refused"),
        Err(_elapsed) => {}
    }
}

/// Closes a connection so that its client can still read what it was told: closing one
/// with unread bytes resets it, and the answer would be lost on the way.
async fn linger(mut stream: Unstalled) {
    let lingered = tokio::time::timeout(LINGER, async {
        stream.shutdown().await?;
        let mut forgotten = http1::take_buffer();
        let mut count = 0;
        while count < LINGER_BYTES_MAX && stream.read_buf(&mut forgotten).await? > 0 {
            count += forgotten.remaining();
            forgotten.clear();
        }
        http1::give_back(forgotten);
        Ok::<_, std::io::Error>(())
    });
    if let Ok(Err(error)) = lingered.await {
        tracing::debug!(%error, "connection was lost");
    }
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Peer {
    /// The first request has been read: its place among the handshakes is free.
    pub(super) fn has_asked(&self) {
        drop(self.lock().take());
    }

    fn has_asked_before(&self) -> bool {
        self.lock().is_none()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Handshake>> {
        self.handshake
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
