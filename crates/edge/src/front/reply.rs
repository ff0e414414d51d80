//! Answers of the main listener.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use router::proxy::Broken;

use super::gatekeeper::Answering;
use super::http2::StreamBody;
use crate::worker::pipe::PipeBody;

/// What hyper sends.
pub(crate) type Reply = Response<ReplyBody>;

/// The body of an answer.
pub(crate) enum ReplyBody {
    /// Something short.
    Short(Full<Bytes>),
    /// A connection's frames.
    Pipe(PipeBody),
    /// An upstream's answer.
    Proxied(Box<StreamBody>),
}

/// A body, and word of its end to who waits for it.
pub(crate) struct Counted {
    body: ReplyBody,
    _answering: Answering,
}

impl Counted {
    pub(crate) fn new(body: ReplyBody, answering: Answering) -> Self {
        Self {
            body,
            _answering: answering,
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Short(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Self::Pipe(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Self::Proxied(body) => Pin::new(&mut **body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Short(body) => body.is_end_stream(),
            Self::Pipe(body) => body.is_end_stream(),
            Self::Proxied(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Short(body) => body.size_hint(),
            Self::Pipe(body) => body.size_hint(),
            Self::Proxied(body) => body.size_hint(),
        }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Something short, as a body.
pub(crate) fn full(bytes: Bytes) -> ReplyBody {
    ReplyBody::Short(Full::new(bytes))
}

/// An upstream's answer, as a body.
pub(crate) fn proxied(body: StreamBody) -> ReplyBody {
    ReplyBody::Proxied(Box::new(body))
}

/// A short text.
pub(crate) fn text(status: StatusCode, message: &str) -> Reply {
    let mut reply = content(
        "text/plain; charset=utf-8",
        Bytes::from(format!("{message}\n")),
    );
    *reply.status_mut() = status;
    if matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    ) {
        reply
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    reply
}

/// A status without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(ReplyBody::Short(Full::default()));
    *reply.status_mut() = status;
    reply
}

/// Something to show.
pub(crate) fn content(kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(full(body.into()));
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// A connection's frames, with headers that forbid caching and buffering on the way.
pub(crate) fn stream(kind: &'static str, body: PipeBody) -> Reply {
    let mut reply = Response::new(ReplyBody::Pipe(body));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("private, no-cache, no-store, must-revalidate, max-age=0"),
    );
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    reply
}
