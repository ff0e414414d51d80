//! A request and its answer over HTTP/2: one stream of a shared connection.
//!
//! The server's window sets the pace of the request, and the client's reading that of the
//! answer: a part of it makes room in the window once it is handed on. Dropping the
//! exchange resets the stream.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, EXPECT, HeaderValue, TE};
use http::{HeaderMap, Method, Request, Uri};
use http1::{
    BodyError, Chunk, Fields, Framing, Inflow, Known, Reject, RequestHead, ResponseHead, Version,
    strip_hop_by_hop, strip_trailers,
};
use tokio::time::Sleep;

use super::ExchangeError;
use super::sent::{Sent, poll_gone};
use crate::http_service::Scheme;
use crate::http_service::pool::{Http2Link, Lease};

#[derive(Debug)]
pub(super) struct Http2Exchange {
    /// Gone with the end of the answer.
    lease: Option<Lease>,
    is_reused: bool,
    method: Method,
    sending: Sending,
    request: Option<SendStream<Bytes>>,
    answer: Answer,
    /// The connection failed before the server said anything of this request.
    is_lost_unheard: bool,
    interims: u32,
}

/// How far the request has got.
#[derive(Debug)]
enum Sending {
    /// Its body waits for leave.
    Held(Pin<Box<Sleep>>),
    /// Parts of its body follow; of the last, this has not been sent.
    Body(Bytes),
    /// All is with the connection, or the server wants no more.
    Done,
}

/// How far the answer has got.
#[derive(Debug)]
enum Answer {
    /// It can't be asked for.
    Failed(Option<ExchangeError>),
    Awaited(ResponseFuture),
    Body(RecvStream),
    Over,
}

impl Http2Exchange {
    pub(super) fn new(link: Http2Link, head: &RequestHead) -> Self {
        let Http2Link {
            mut sender,
            is_reused,
            lease,
            ..
        } = link;
        let mut exchange = Self {
            is_reused,
            method: head.method.clone(),
            sending: Sending::Done,
            request: None,
            answer: Answer::Over,
            is_lost_unheard: false,
            interims: 0,
            lease: None,
        };
        let has_body = matches!(head.framing, Framing::Length(_) | Framing::Chunked);
        let begun = request(head, lease.scheme()).and_then(|request| {
            sender.send_request(request, !has_body).map_err(|error| {
                // The head is fine, so it is the connection that takes no more streams.
                lease.retire();
                tracing::debug!(%error, "stream was not opened");
                ExchangeError::NotProcessed
            })
        });
        exchange.lease = Some(lease);
        match begun {
            Ok((answer, stream)) => {
                exchange.answer = Answer::Awaited(answer);
                exchange.request = Some(stream);
                if has_body {
                    exchange.sending = match head.expects_continue {
                        true => Sending::Held(Box::pin(tokio::time::sleep(CONTINUE_TIMEOUT))),
                        false => Sending::Body(Bytes::new()),
                    };
                }
            }
            Err(error) => exchange.answer = Answer::Failed(Some(error)),
        }
        exchange
    }

    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Poll<Result<ResponseHead, ExchangeError>> {
        loop {
            let sent = self.poll_send(cx, inflow)?;
            let awaited = match &mut self.answer {
                Answer::Awaited(awaited) => awaited,
                Answer::Failed(error) => {
                    let error = error.take().unwrap_or(ExchangeError::Unanswered);
                    return Poll::Ready(Err(error));
                }
                Answer::Body(_) | Answer::Over => {
                    return Poll::Ready(Err(ExchangeError::Unanswered));
                }
            };
            match awaited.poll_informational(cx) {
                Poll::Ready(Some(Ok(interim))) => {
                    self.interim(&interim, inflow)?;
                    continue;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.failed(error))),
                Poll::Ready(None) | Poll::Pending => {}
            }
            return match Pin::new(awaited).poll(cx) {
                Poll::Ready(Ok(response)) => Poll::Ready(self.answered(response)),
                Poll::Ready(Err(error)) => Poll::Ready(Err(self.failed(error))),
                Poll::Pending => poll_gone(sent, cx, inflow),
            };
        }
    }

    pub(super) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Poll<Result<Chunk, ExchangeError>> {
        let sent = self.poll_send(cx, inflow)?;
        let Answer::Body(body) = &mut self.answer else {
            return Poll::Ready(Ok(Chunk::End(None)));
        };
        loop {
            match body.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    // Fails only for more than was received.
                    let _ = body.flow_control().release_capacity(data.len());
                    if !data.is_empty() {
                        return Poll::Ready(Ok(Chunk::Data(data)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.failed(error))),
                Poll::Ready(None) => break,
                Poll::Pending => return poll_gone(sent, cx, inflow),
            }
        }
        match body.poll_trailers(cx) {
            Poll::Ready(Ok(trailers)) => {
                self.finish();
                let trailers = trailers.map(|trailers| {
                    let mut fields = Fields::from_header_map(&trailers);
                    strip_trailers(&mut fields);
                    Box::new(fields)
                });
                Poll::Ready(Ok(Chunk::End(trailers)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.failed(error))),
            Poll::Pending => poll_gone(sent, cx, inflow),
        }
    }

    pub(super) fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Result<(), ExchangeError> {
        self.poll_send(cx, inflow).map(drop)
    }

    pub(super) fn is_sent(&self) -> bool {
        matches!(self.sending, Sending::Done)
    }

    pub(super) fn may_be_stale(&self) -> bool {
        self.is_lost_unheard && self.is_reused
    }

    fn interim(
        &mut self,
        interim: &http::Response<()>,
        inflow: &mut dyn Inflow,
    ) -> Result<(), ExchangeError> {
        self.interims += 1;
        let status = interim.status().as_u16();
        // There is no switching of protocols in HTTP/2.
        if self.interims > INTERIM_MAX || status == 101 {
            return Err(Reject::StatusLine.into());
        }
        if status != 100 {
            inflow.interim(&ResponseHead {
                status,
                version: Version::Http2,
                fields: fields(interim.headers()),
                framing: Framing::Empty,
                keep_alive: true,
            });
        } else if matches!(self.sending, Sending::Held(_)) {
            self.sending = Sending::Body(Bytes::new());
        }
        Ok(())
    }

    fn answered(
        &mut self,
        response: http::Response<RecvStream>,
    ) -> Result<ResponseHead, ExchangeError> {
        let (parts, body) = response.into_parts();
        let status = parts.status.as_u16();
        if !(200..=599).contains(&status) {
            return Err(Reject::StatusLine.into());
        }
        let mut lengths = parts.headers.get_all(CONTENT_LENGTH).iter();
        let length = match (lengths.next(), lengths.next()) {
            (None, _) => None,
            (Some(length), None) => {
                let length = length
                    .to_str()
                    .ok()
                    .and_then(|text| text.parse::<u64>().ok());
                Some(length.ok_or(Reject::ContentLength)?)
            }
            _ => return Err(Reject::ContentLength.into()),
        };
        let is_bare = self.method == Method::HEAD || matches!(status, 204 | 205 | 304);
        if !is_bare && body.is_end_stream() && length.is_some_and(|length| length > 0) {
            return Err(BodyError::Cut.into());
        }
        let framing = match length {
            _ if is_bare || body.is_end_stream() => Framing::Empty,
            Some(0) => Framing::Empty,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        if matches!(self.sending, Sending::Held(_)) {
            // Who succeeds without a word about the body waits for it.
            self.sending = match status {
                200..=299 => Sending::Body(Bytes::new()),
                _ => Sending::Done,
            };
        }
        if framing == Framing::Empty {
            self.finish();
        } else {
            self.answer = Answer::Body(body);
        }
        Ok(ResponseHead {
            status,
            version: Version::Http2,
            fields: fields(&parts.headers),
            framing,
            keep_alive: true,
        })
    }

    /// The answer is complete; what is left of the request is not wanted any more.
    fn finish(&mut self) {
        self.answer = Answer::Over;
        self.sending = Sending::Done;
        self.request = None;
        self.lease = None;
    }

    fn failed(&mut self, error: h2::Error) -> ExchangeError {
        let is_unheard = matches!(self.answer, Answer::Awaited(_)) && self.interims == 0;
        self.answer = Answer::Over;
        if !error.is_reset()
            && let Some(lease) = &self.lease
        {
            lease.retire();
        }
        if error.is_remote()
            && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
        {
            // A server that goes away fails only the streams that it has not begun with.
            return ExchangeError::NotProcessed;
        }
        if error.is_io() {
            self.is_lost_unheard = is_unheard;
            if let Some(error) = error.into_io() {
                return ExchangeError::Io(error);
            }
            return ExchangeError::Unanswered;
        }
        ExchangeError::Reset(error)
    }

    /// Sends what there is to send. Pending while the client is waited for.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Result<Sent, ExchangeError> {
        let Some(stream) = &mut self.request else {
            return Ok(Sent::All);
        };
        loop {
            let part = match &mut self.sending {
                Sending::Done => return Ok(Sent::All),
                Sending::Held(until) => {
                    if until.as_mut().poll(cx).is_pending() {
                        return Ok(Sent::Blocked);
                    }
                    self.sending = Sending::Body(Bytes::new());
                    continue;
                }
                Sending::Body(part) => part,
            };
            if part.is_empty() {
                match inflow.poll_chunk(cx)? {
                    Poll::Ready(Chunk::Data(data)) => *part = data,
                    Poll::Ready(Chunk::End(trailers)) => {
                        let ended = match trailers {
                            Some(trailers) => stream.send_trailers(trailer_map(&trailers)?),
                            None => stream.send_data(Bytes::new(), true),
                        };
                        // If the server has reset the stream, the answer says so.
                        drop(ended);
                        self.sending = Sending::Done;
                    }
                    Poll::Pending => return Ok(Sent::AwaitsClient),
                }
                continue;
            }
            stream.reserve_capacity(part.len());
            let mut room = stream.capacity();
            if room == 0 {
                room = match stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(room))) => room,
                    Poll::Ready(Some(Err(_)) | None) => {
                        self.sending = Sending::Done;
                        return Ok(Sent::All);
                    }
                    Poll::Pending => return Ok(Sent::Blocked),
                };
            }
            if room == 0 {
                continue;
            }
            let now = part.split_to(room.min(part.len()));
            if stream.send_data(now, false).is_err() {
                self.sending = Sending::Done;
            }
        }
    }
}

fn request(head: &RequestHead, scheme: Scheme) -> Result<Request<()>, ExchangeError> {
    if head.upgrade.is_some() {
        return Err(unspeakable("another protocol is asked for"));
    }
    let scheme = match scheme {
        Scheme::Http => http::uri::Scheme::HTTP,
        Scheme::Https | Scheme::Quantum => http::uri::Scheme::HTTPS,
    };
    let authority = http::uri::Authority::from_maybe_shared(head.authority.clone());
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(authority.map_err(unspeakable)?)
        .path_and_query(head.target.as_str())
        .build()
        .map_err(unspeakable)?;
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = header_map(head)?;
    Ok(request)
}

fn header_map(head: &RequestHead) -> Result<HeaderMap, ExchangeError> {
    let mut map = head.fields.to_header_map().map_err(unspeakable)?;
    for name in CONNECTION_FIELDS {
        map.remove(*name);
    }
    if wants_trailers(&head.fields) {
        map.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        map.remove(TE);
    }
    match head.framing {
        Framing::Length(length) => {
            map.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        Framing::Empty if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) => {
            map.insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        Framing::Empty | Framing::Chunked | Framing::UntilClose => {
            map.remove(CONTENT_LENGTH);
        }
    }
    if head.expects_continue && head.framing != Framing::Empty {
        map.insert(EXPECT, HeaderValue::from_static("100-continue"));
    } else {
        map.remove(EXPECT);
    }
    // Clients share the connection's table of fields: one must not find out by the size of
    // its own request what another has sent.
    for (name, value) in &mut map {
        if *name == AUTHORIZATION || *name == COOKIE || SECRET_FIELDS.contains(&name.as_str()) {
            value.set_sensitive(true);
        }
    }
    Ok(map)
}

/// Trailers are asked for, or belong to the content's type.
fn wants_trailers(fields: &Fields) -> bool {
    let is_asked = fields.all(Known::Te).any(|value| {
        value
            .split(|byte| *byte == b',')
            .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    let is_grpc = fields
        .get(Known::ContentType)
        .is_some_and(|kind| kind.starts_with(b"application/grpc"));
    is_asked || is_grpc
}

fn trailer_map(trailers: &Fields) -> Result<HeaderMap, ExchangeError> {
    let mut trailers = trailers.clone();
    strip_hop_by_hop(&mut trailers);
    trailers.to_header_map().map_err(unspeakable)
}

fn fields(map: &HeaderMap) -> Fields {
    let mut fields = Fields::from_header_map(map);
    strip_hop_by_hop(&mut fields);
    fields
}

fn unspeakable(reason: impl ToString) -> ExchangeError {
    ExchangeError::Unspeakable(reason.to_string())
}

/// Fields that stand in no request of HTTP/2; the library refuses a request with one.
const CONNECTION_FIELDS: &[&str] = &[
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

const SECRET_FIELDS: &[&str] = &["x-api-key", "api-key", "x-goog-api-key"];

/// How long a body is held back for `100 Continue`.
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// Interim answers to one request.
const INTERIM_MAX: u32 = 16;

#[cfg(test)]
mod tests;
