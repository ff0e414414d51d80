//! A request and its answer over HTTP/1.1.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use http::Method;
use http1::{
    BodyDecoder, BodyError, Chunk, Decoded, Framing, Inflow, Known, Limits, Outgoing, RequestHead,
    ResponseHead, chunk_end, give_back, take_buffer, write_fields, write_request_line,
};
use tokio::io::AsyncWrite;
use tokio::time::Sleep;
use tokio_util::io::poll_read_buf;

use super::{ExchangeError, Tunnel};
use crate::http_service::Stream;
use crate::http_service::pool::Http1Link;

/// Heads of answers.
const LIMITS: Limits = Limits {
    head: 64 * 1_024,
    fields: 256,
    target: 0,
};

/// Room to read into while a head or a chunk's line is not complete.
const MORE: usize = 4 * 1_024;

/// How long a body is held back for `100 Continue`, as the contract says (5.4).
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// Interim answers to one request.
const INTERIM_MAX: u32 = 16;

#[derive(Debug)]
pub(super) struct Http1Exchange {
    /// Gone once it is back at rest.
    link: Option<Http1Link>,
    method: Method,
    sending: Sending,
    out: Outgoing,
    /// What was written may still wait in the stream.
    is_unflushed: bool,
    input: BytesMut,
    decoder: Option<BodyDecoder>,
    /// The link can carry another request after this one.
    keep_alive: bool,
    /// Nothing of the answer has been seen.
    is_silent: bool,
    /// A part of the request may have reached the upstream.
    has_written: bool,
    interims: u32,
}

/// How far the request has got.
#[derive(Debug)]
enum Sending {
    /// Its body waits for leave.
    Held {
        until: Pin<Box<Sleep>>,
        chunked: bool,
    },
    /// Parts of its body follow.
    Body { chunked: bool },
    /// Nothing more is to come from the client.
    Last,
    /// All is written.
    Done,
    /// The upstream takes no more of it; what it says about that is still read.
    Refused(io::Error),
    /// Another answer than success came before the body was given leave: it is not sent
    /// any more.
    Withheld,
}

impl Http1Exchange {
    pub(super) fn new(link: Http1Link, head: &RequestHead) -> Self {
        let mut head_bytes = take_buffer();
        write_head(&mut head_bytes, head);
        let chunked = head.framing == Framing::Chunked;
        let sending = match head.framing {
            Framing::Empty | Framing::UntilClose => Sending::Last,
            _ if !head.expects_continue => Sending::Body { chunked },
            _ => Sending::Held {
                until: Box::pin(tokio::time::sleep(CONTINUE_TIMEOUT)),
                chunked,
            },
        };
        Self {
            link: Some(link),
            method: head.method.clone(),
            sending,
            out: Outgoing::new(head_bytes),
            is_unflushed: false,
            input: BytesMut::new(),
            decoder: None,
            keep_alive: false,
            is_silent: true,
            has_written: false,
            interims: 0,
        }
    }

    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Poll<Result<ResponseHead, ExchangeError>> {
        loop {
            let is_sent = self.poll_send(cx, inflow)?.is_ready();
            if let Some(head) = self.next_head()? {
                match head.status {
                    100..=199 if head.status != 101 => self.interim(&head, inflow)?,
                    _ => {
                        if let Sending::Held { chunked, .. } = self.sending {
                            // Who succeeds without a word about the body waits for it.
                            self.sending = match head.status {
                                200..=299 => Sending::Body { chunked },
                                _ => Sending::Withheld,
                            };
                        }
                        self.keep_alive = head.keep_alive && head.framing != Framing::UntilClose;
                        self.decoder = Some(BodyDecoder::new(head.framing));
                        if let Some(value) = head.fields.get(Known::KeepAlive)
                            && let Some(link) = &mut self.link
                        {
                            link.heard_keep_alive(value);
                        }
                        return Poll::Ready(Ok(head));
                    }
                }
                continue;
            }
            match self.poll_fill(cx)? {
                Poll::Ready(0) => {
                    let sending = std::mem::replace(&mut self.sending, Sending::Done);
                    return Poll::Ready(Err(match sending {
                        Sending::Refused(error) => error.into(),
                        _ => ExchangeError::Unanswered,
                    }));
                }
                Poll::Ready(_) => self.is_silent = false,
                Poll::Pending if is_sent => {
                    return inflow.poll_gone(cx).map(|gone| Err(gone.into()));
                }
                // The upstream takes nothing: nobody else listens to the client.
                Poll::Pending if !self.out.is_empty() || self.is_unflushed => {
                    return inflow.poll_gone(cx).map(|gone| Err(gone.into()));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    pub(super) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Poll<Result<Chunk, ExchangeError>> {
        let is_sent = self.is_sent() || self.poll_send(cx, inflow)?.is_ready();
        loop {
            let decoder = self.decoder.as_mut().ok_or(BodyError::Cut)?;
            match decoder.decode(&mut self.input)? {
                Decoded::Data(data) => return Poll::Ready(Ok(Chunk::Data(data))),
                Decoded::End(trailers) => {
                    self.finish();
                    return Poll::Ready(Ok(Chunk::End(trailers)));
                }
                Decoded::Wants => {}
            }
            match self.poll_fill(cx)? {
                Poll::Ready(0) => {
                    self.decoder
                        .as_mut()
                        .map_or(Err(BodyError::Cut), BodyDecoder::closed)?;
                    return Poll::Ready(Ok(Chunk::End(None)));
                }
                Poll::Ready(_) => {}
                Poll::Pending if is_sent => {
                    return inflow.poll_gone(cx).map(|gone| Err(gone.into()));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    pub(super) fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Result<(), ExchangeError> {
        if !self.is_sent() {
            // Whoever polls next is told if it is done.
            let _ = self.poll_send(cx, inflow)?;
        }
        Ok(())
    }

    pub(super) fn is_sent(&self) -> bool {
        matches!(
            self.sending,
            Sending::Done | Sending::Refused(_) | Sending::Withheld
        )
    }

    pub(super) fn may_be_stale(&self) -> bool {
        self.is_silent && self.link.as_ref().is_some_and(|link| link.is_reused)
    }

    pub(super) fn was_stale(&self) -> bool {
        self.may_be_stale() && !self.has_written
    }

    pub(super) fn into_tunnel(mut self) -> Option<Tunnel> {
        Some(Tunnel {
            stream: self.link.take()?.stream,
            early: self.input.split().freeze(),
        })
    }

    /// The answer is complete: the link goes back to rest if it can carry another
    /// request.
    fn finish(&mut self) {
        let is_clean = self.input.is_empty() && matches!(self.sending, Sending::Done);
        give_back(std::mem::take(&mut self.input));
        let link = self.link.take();
        if self.keep_alive
            && is_clean
            && let Some(link) = link
        {
            link.put_back();
        }
    }

    fn next_head(&mut self) -> Result<Option<ResponseHead>, ExchangeError> {
        if self.input.is_empty() {
            return Ok(None);
        }
        Ok(http1::response(&mut self.input, &self.method, &LIMITS)?)
    }

    /// An interim answer: a body that waits may go now; what is not ours is passed on.
    fn interim(
        &mut self,
        head: &ResponseHead,
        inflow: &mut dyn Inflow,
    ) -> Result<(), ExchangeError> {
        self.interims += 1;
        if self.interims > INTERIM_MAX {
            return Err(http1::Reject::StatusLine.into());
        }
        if head.status != 100 {
            inflow.interim(head);
        } else if let Sending::Held { chunked, .. } = self.sending {
            self.sending = Sending::Body { chunked };
        }
        Ok(())
    }

    /// Sends what there is to send; ready once nothing more will be.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Poll<Result<(), ExchangeError>> {
        loop {
            // What the client has sent already goes out with the head, in one write.
            let taken = self.poll_take(cx, inflow)?;
            if self.out.is_empty() && !self.is_unflushed {
                self.out.give_back();
                if matches!(self.sending, Sending::Last) {
                    self.sending = Sending::Done;
                }
                return taken.map(Ok);
            }
            let Some(link) = &mut self.link else {
                return Poll::Ready(Ok(()));
            };
            self.is_unflushed = true;
            let has_written = &mut self.has_written;
            let written = ready!(poll_write(&mut self.out, cx, &mut link.stream, has_written));
            self.is_unflushed = false;
            if let Err(error) = written {
                // It may have answered before it closed.
                self.out = Outgoing::default();
                self.sending = Sending::Refused(error);
            }
        }
    }

    /// Takes parts of the body until there is enough to write at once; ready if that is
    /// so or there will be no more.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        inflow: &mut dyn Inflow,
    ) -> Result<Poll<()>, ExchangeError> {
        if let Sending::Held { until, chunked } = &mut self.sending {
            let chunked = *chunked;
            if until.as_mut().poll(cx).is_pending() {
                return Ok(Poll::Pending);
            }
            self.sending = Sending::Body { chunked };
        }
        while let Sending::Body { chunked } = self.sending
            && self.out.has_room()
        {
            match inflow.poll_chunk(cx)? {
                Poll::Ready(Chunk::Data(data)) => self.out.push(data, chunked),
                Poll::Ready(Chunk::End(trailers)) => {
                    if chunked {
                        chunk_end(self.out.copied(), trailers.as_deref());
                    }
                    self.sending = Sending::Last;
                }
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Reads what there is; 0 is the end of the connection.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Result<Poll<usize>, ExchangeError> {
        let Some(link) = &mut self.link else {
            return Ok(Poll::Ready(0));
        };
        if self.input.is_empty() {
            // The parts of it that are still on their way keep what they need.
            give_back(std::mem::replace(&mut self.input, take_buffer()));
        } else {
            self.input.reserve(MORE);
        }
        match poll_read_buf(Pin::new(&mut link.stream), cx, &mut self.input) {
            Poll::Ready(count) => Ok(Poll::Ready(count?)),
            Poll::Pending => {
                if self.input.is_empty() {
                    give_back(std::mem::take(&mut self.input));
                }
                Ok(Poll::Pending)
            }
        }
    }
}

/// Writes all there is, and sees that none of it waits in the stream.
fn poll_write(
    out: &mut Outgoing,
    cx: &mut Context<'_>,
    stream: &mut Stream,
    has_written: &mut bool,
) -> Poll<io::Result<()>> {
    while !out.is_empty() {
        let stream = Pin::new(&mut *stream);
        let written = match out.parts() {
            [one, [], []] => ready!(stream.poll_write(cx, one))?,
            parts => ready!(stream.poll_write_vectored(cx, &parts.map(IoSlice::new)))?,
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        *has_written = true;
        out.advance(written);
    }
    Pin::new(stream).poll_flush(cx)
}

fn write_head(out: &mut BytesMut, head: &RequestHead) {
    write_request_line(out, &head.method, head.target.as_bytes());
    put(out, &[b"host: ", &head.authority, b"\r\n"]);
    write_fields(out, &head.fields);
    match head.framing {
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(length.to_string().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        // Servers want to hear that there is nothing where they expect something.
        _ if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) => {
            out.extend_from_slice(b"content-length: 0\r\n");
        }
        _ => {}
    }
    if head.expects_continue && head.framing != Framing::Empty {
        out.extend_from_slice(b"expect: 100-continue\r\n");
    }
    if let Some(protocol) = &head.upgrade {
        put(
            out,
            &[b"connection: upgrade\r\nupgrade: ", protocol, b"\r\n"],
        );
    }
    out.extend_from_slice(b"\r\n");
}

fn put(out: &mut BytesMut, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}
