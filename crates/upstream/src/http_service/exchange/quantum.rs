//! A call and its answer over Quantum: one stream of its own.
//!
//! The call is polled by the task that serves the client. What the client sends goes through a
//! place for one part, as the channel may take it from a task of its own; so the peer's window
//! sets the pace of the client. Dropping the exchange cancels the call.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Body as _, Frame};
use http1::{
    Chunk, Fields, Framing, Inflow, RequestHead, ResponseHead, Version, strip_hop_by_hop,
    strip_trailers,
};
use quantum::grpc::CallError;
use tonic::Code;
use tonic::body::Body;
use tower_service::Service as _;

use super::ExchangeError;
use super::sent::{Sent, poll_gone};
use crate::http_service::pool::QuantumLink;

pub(super) struct QuantumExchange {
    state: State,
    place: Arc<Mutex<Place>>,
}

enum State {
    Failed(Option<ExchangeError>),
    Calling(Pin<Box<dyn Future<Output = Result<Response<Body>, CallError>> + Send>>),
    Answer(Body),
    Over,
}

/// One part of the request, on its way from the client to the channel.
#[derive(Default)]
struct Place {
    part: Option<Bytes>,
    /// All parts have come.
    is_complete: bool,
    /// None will come any more, though not all have.
    is_given_up: bool,
    /// The channel wants no more.
    is_unwanted: bool,
    giver: Option<Waker>,
    taker: Option<Waker>,
}

/// The request's body, as the channel takes it.
struct Taker(Arc<Mutex<Place>>);

impl QuantumExchange {
    pub(super) fn new(link: QuantumLink, head: &RequestHead) -> Self {
        let place = Arc::new(Mutex::new(Place {
            is_complete: head.framing == Framing::Empty,
            ..Place::default()
        }));
        let state = match request(head, Taker(Arc::clone(&place))) {
            Ok(request) => {
                let mut channel = link.channel.0;
                // It is always ready: what is to be waited for is part of the call.
                State::Calling(channel.call(request))
            }
            Err(error) => State::Failed(Some(error)),
        };
        Self { state, place }
    }

    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Poll<Result<ResponseHead, ExchangeError>> {
        loop {
            let sent = self.poll_send(cx, inflow)?;
            let calling = match &mut self.state {
                State::Calling(calling) => calling,
                State::Failed(error) => {
                    let error = error.take().unwrap_or(ExchangeError::Unanswered);
                    return Poll::Ready(Err(error));
                }
                State::Answer(_) | State::Over => {
                    return Poll::Ready(Err(ExchangeError::Unanswered));
                }
            };
            return match calling.as_mut().poll(cx) {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(self.answered(response))),
                // The deadline is the client's: it is told as by any service that keeps it.
                Poll::Ready(Err(error)) if error.status().code() == Code::DeadlineExceeded => {
                    let response = error.status().clone().into_http();
                    Poll::Ready(Ok(self.answered(response)))
                }
                Poll::Ready(Err(error)) => {
                    self.state = State::Over;
                    Poll::Ready(Err(failed(&error)))
                }
                // The channel has taken a part at once: the next may be there.
                Poll::Pending if sent == Sent::Blocked && self.lock().part.is_none() => continue,
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
        loop {
            let State::Answer(body) = &mut self.state else {
                return Poll::Ready(Ok(Chunk::End(None)));
            };
            let frame = match Pin::new(body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => return poll_gone(sent, cx, inflow),
            };
            match frame.transpose() {
                Err(status) if status.code() == Code::DeadlineExceeded => {
                    self.finish();
                    let trailers = status.into_http::<()>().into_parts().0.headers;
                    let mut fields = Fields::from_header_map(&trailers);
                    strip_trailers(&mut fields);
                    return Poll::Ready(Ok(Chunk::End(Some(Box::new(fields)))));
                }
                Err(status) => {
                    self.state = State::Over;
                    let reason = status.message().to_owned();
                    return Poll::Ready(Err(ExchangeError::Quantum(reason)));
                }
                Ok(None) => {
                    self.finish();
                    return Poll::Ready(Ok(Chunk::End(None)));
                }
                Ok(Some(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Poll::Ready(Ok(Chunk::Data(data))),
                    Err(frame) => {
                        self.finish();
                        let trailers = frame.into_trailers().ok().map(|trailers| {
                            let mut fields = Fields::from_header_map(&trailers);
                            strip_trailers(&mut fields);
                            Box::new(fields)
                        });
                        return Poll::Ready(Ok(Chunk::End(trailers)));
                    }
                },
            }
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
        let place = self.lock();
        place.is_unwanted || place.is_complete && place.part.is_none()
    }

    fn answered(&mut self, response: Response<Body>) -> ResponseHead {
        let (parts, body) = response.into_parts();
        let mut fields = Fields::from_header_map(&parts.headers);
        strip_hop_by_hop(&mut fields);
        let framing = if body.is_end_stream() {
            self.finish();
            Framing::Empty
        } else {
            self.state = State::Answer(body);
            Framing::Chunked
        };
        ResponseHead {
            status: parts.status.as_u16(),
            version: Version::Http2,
            fields,
            framing,
            keep_alive: true,
        }
    }

    /// The answer is complete; what is left of the request is not wanted any more.
    fn finish(&mut self) {
        self.state = State::Over;
        let mut place = self.lock();
        place.is_unwanted = true;
        place.part = None;
    }

    /// Puts what the client sends where the channel takes it.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Result<Sent, ExchangeError> {
        loop {
            {
                let mut place = self.lock();
                if place.is_complete || place.is_unwanted {
                    return Ok(Sent::All);
                }
                if place.part.is_some() {
                    place.giver = Some(cx.waker().clone());
                    return Ok(Sent::Blocked);
                }
            }
            let chunk = match inflow.poll_chunk(cx)? {
                Poll::Ready(chunk) => chunk,
                Poll::Pending => return Ok(Sent::AwaitsClient),
            };
            let taker = {
                let mut place = self.lock();
                match chunk {
                    Chunk::Data(data) => place.part = Some(data),
                    // Requests of gRPC have no trailers.
                    Chunk::End(_) => place.is_complete = true,
                }
                place.taker.take()
            };
            if let Some(taker) = taker {
                taker.wake();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for QuantumExchange {
    fn drop(&mut self) {
        let taker = {
            let mut place = self.lock();
            place.is_given_up = !place.is_complete;
            place.taker.take()
        };
        if let Some(taker) = taker {
            taker.wake();
        }
    }
}

impl fmt::Debug for QuantumExchange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("QuantumExchange")
            .finish_non_exhaustive()
    }
}

impl http_body::Body for Taker {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = place.part.take() {
            let giver = place.giver.take();
            drop(place);
            if let Some(giver) = giver {
                giver.wake();
            }
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        if place.is_complete {
            return Poll::Ready(None);
        }
        if place.is_given_up {
            return Poll::Ready(Some(Err(GivenUp)));
        }
        place.taker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        place.is_complete && place.part.is_none()
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        let giver = {
            let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            place.is_unwanted = true;
            place.part = None;
            place.giver.take()
        };
        if let Some(giver) = giver {
            giver.wake();
        }
    }
}

/// The client has left in the middle of its request.
#[derive(Debug, Clone, Copy)]
struct GivenUp;

impl fmt::Display for GivenUp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("client has left")
    }
}

impl Error for GivenUp {}

fn request(head: &RequestHead, body: Taker) -> Result<Request<Body>, ExchangeError> {
    let unspeakable = |reason: &dyn fmt::Display| ExchangeError::Unspeakable(reason.to_string());
    let authority = http::uri::Authority::from_maybe_shared(head.authority.clone());
    let uri = Uri::builder()
        .scheme(http::uri::Scheme::HTTPS)
        .authority(authority.map_err(|error| unspeakable(&error))?)
        .path_and_query(head.target.as_str())
        .build()
        .map_err(|error| unspeakable(&error))?;
    let mut fields = head.fields.clone();
    strip_hop_by_hop(&mut fields);
    let mut headers = fields
        .to_header_map()
        .map_err(|error| unspeakable(&error))?;
    headers.remove(http::header::HOST);
    headers.remove(http::header::CONTENT_LENGTH);
    let mut request = Request::new(Body::new(body));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

fn failed(error: &CallError) -> ExchangeError {
    let status = error.status();
    tracing::debug!(code = ?status.code(), message = status.message(), "call over quantum failed");
    if error.may_have_reached() {
        ExchangeError::Quantum(status.message().to_owned())
    } else {
        ExchangeError::NotProcessed
    }
}
