//! One request and its answer, on one link.
//!
//! An exchange is polled by the task that serves the client: it sends what the client
//! sends, and gives the answer part by part. There is no queue in between, so whoever is
//! slower sets the pace for both. Dropping an exchange before its end tells the upstream
//! that nobody waits for the answer any more.

mod http1;
mod http2;
mod quantum;
mod sent;

use std::io;
use std::task::{Context, Poll};

use ::http1::{BodyError, Chunk, Gone, Inflow, Reject, RequestHead, ResponseHead};
use bytes::Bytes;

use super::pool::Link;
use super::stream::Stream;

use self::http1::Http1Exchange;
use self::http2::Http2Exchange;
use self::quantum::QuantumExchange;

/// One request and its answer.
#[derive(Debug)]
pub struct Exchange {
    side: Side,
}

#[derive(Debug)]
enum Side {
    Http1(Box<Http1Exchange>),
    Http2(Box<Http2Exchange>),
    Quantum(Box<QuantumExchange>),
}

/// What the link becomes after `101 Switching Protocols`.
#[derive(Debug)]
pub struct Tunnel {
    /// The connection to the upstream.
    pub stream: Stream,
    /// What came behind the answer's head already.
    pub early: Bytes,
}

/// Why there is no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The client's side ended it.
    #[error(transparent)]
    Client(#[from] Gone),
    /// The upstream closed the connection before it answered.
    #[error("upstream closed the connection without an answer")]
    Unanswered,
    /// Reading or writing failed.
    #[error("connection to the upstream failed: {0}")]
    Io(#[from] io::Error),
    /// The upstream says that it has not begun with the request.
    #[error("upstream did not process the request")]
    NotProcessed,
    /// The upstream broke the stream off.
    #[error("upstream reset the stream: {0}")]
    Reset(h2::Error),
    /// The answer's head can't be understood.
    #[error("answer of the upstream is malformed: {0}")]
    Head(#[from] Reject),
    /// The answer's body was cut or is malformed.
    #[error("answer of the upstream is broken: {0}")]
    Body(#[from] BodyError),
    /// A call over Quantum failed.
    #[error("call over quantum failed: {0}")]
    Quantum(String),
    /// The request can't be said in the upstream's version of HTTP.
    #[error("request can't be expressed in HTTP/2: {0}")]
    Unspeakable(String),
}

impl Exchange {
    /// Prepares the request. `head` is what goes upstream: its target is the upstream's
    /// own, its authority the upstream's, and none of its fields speaks of a connection
    /// or of framing.
    pub fn new(link: Link, head: &RequestHead) -> Self {
        let side = match link {
            Link::Http1(link) => Side::Http1(Box::new(Http1Exchange::new(link, head))),
            Link::Http2(link) => Side::Http2(Box::new(Http2Exchange::new(link, head))),
            Link::Quantum(link) => Side::Quantum(Box::new(QuantumExchange::new(link, head))),
        };
        Self { side }
    }

    /// Sends, and waits for the answer's head. Interim answers go to the client by
    /// themselves.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Poll<Result<ResponseHead, ExchangeError>> {
        match &mut self.side {
            Side::Http1(exchange) => exchange.poll_head(cx, inflow),
            Side::Http2(exchange) => exchange.poll_head(cx, inflow),
            Side::Quantum(exchange) => exchange.poll_head(cx, inflow),
        }
    }

    /// The answer's next part, while what is left of the request is sent. After the end
    /// or an error it is not polled again.
    pub fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Poll<Result<Chunk, ExchangeError>> {
        match &mut self.side {
            Side::Http1(exchange) => exchange.poll_chunk(cx, inflow),
            Side::Http2(exchange) => exchange.poll_chunk(cx, inflow),
            Side::Quantum(exchange) => exchange.poll_chunk(cx, inflow),
        }
    }

    /// Sends what there is of the request, without asking for the answer: for a client
    /// that takes none of it before its whole request is taken.
    pub fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Result<(), ExchangeError> {
        match &mut self.side {
            Side::Http1(exchange) => exchange.poll_request(cx, inflow),
            Side::Http2(exchange) => exchange.poll_request(cx, inflow),
            Side::Quantum(exchange) => exchange.poll_request(cx, inflow),
        }
    }

    /// All of the request has left: from now on the upstream is waited for.
    pub fn is_sent(&self) -> bool {
        match &self.side {
            Side::Http1(exchange) => exchange.is_sent(),
            Side::Http2(exchange) => exchange.is_sent(),
            Side::Quantum(exchange) => exchange.is_sent(),
        }
    }

    /// The connection had served before, and has said nothing about this request: it may
    /// have been closed while it rested.
    pub fn may_be_stale(&self) -> bool {
        match &self.side {
            Side::Http1(exchange) => exchange.may_be_stale(),
            Side::Http2(exchange) => exchange.may_be_stale(),
            // It has asked for itself whether the connection stands.
            Side::Quantum(_) => false,
        }
    }

    /// It was closed before any of the request was on it: what is not to be done twice was
    /// not begun either.
    pub fn was_stale(&self) -> bool {
        match &self.side {
            Side::Http1(exchange) => exchange.was_stale(),
            Side::Http2(_) | Side::Quantum(_) => false,
        }
    }

    /// The bare connection, after `101 Switching Protocols`.
    pub fn into_tunnel(self) -> Option<Tunnel> {
        match self.side {
            Side::Http1(exchange) => exchange.into_tunnel(),
            Side::Http2(_) | Side::Quantum(_) => None,
        }
    }
}

impl ExchangeError {
    /// The upstream can't have acted on the request.
    pub fn is_unprocessed(&self) -> bool {
        matches!(self, Self::NotProcessed | Self::Unspeakable(_))
    }
}
