//! A client's connection of HTTP/1.1: heads and bodies in, answers out.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http1::{
    BodyDecoder, BodyError, Chunk, Decoded, Framing, Gone, Inflow, Known, Outgoing, Reject,
    RequestHead, ResponseHead, Version, give_back, take_buffer,
};
use lifecycle::Clock;
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

use super::alarm::Alarm;
use super::socket::Unstalled;

/// Bytes that are read ahead of a request's end, to notice that its client leaves.
const AHEAD_MAX: usize = 64 * 1_024;

/// Bytes of a body nobody wanted that are read and forgotten, to keep the connection.
const UNWANTED_MAX: usize = 256 * 1_024;

/// A client's connection.
pub(super) struct Client {
    pub(super) stream: Unstalled,
    /// Read, and not yet understood.
    pub(super) input: BytesMut,
    pub(super) out: Outgoing,
    clock: Clock,
    alarm: Alarm,
    body: BodyDecoder,
    is_body_read: bool,
    /// It holds its body back until it hears `100 Continue`.
    expects_continue: bool,
    /// It knows interim answers.
    takes_interim: bool,
    /// Nothing that was written waits in the stream.
    is_flushed: bool,
    /// How long a body may make no progress, in milliseconds.
    body_patience_ms: u64,
    body_due_ms: Option<u64>,
    has_left: bool,
}

/// What came instead of a request.
#[derive(Debug)]
pub(super) enum NoRequest {
    /// The client closed the connection between two requests.
    Closed,
    /// It closed it within a head, or the connection failed.
    Lost,
    /// Nothing came in time; `is_begun`: a part of a head had.
    TimedOut { is_begun: bool },
    /// The head is refused.
    Rejected(Reject),
}

impl Client {
    pub(super) fn new(stream: Unstalled, clock: Clock, early: &[u8]) -> Self {
        let mut input = BytesMut::new();
        if !early.is_empty() {
            input = take_buffer();
            input.extend_from_slice(early);
        }
        Self {
            stream,
            input,
            out: Outgoing::default(),
            clock,
            alarm: Alarm::default(),
            body: BodyDecoder::new(Framing::Empty),
            is_body_read: true,
            expects_continue: false,
            takes_interim: false,
            is_flushed: true,
            body_patience_ms: u64::MAX,
            body_due_ms: None,
            has_left: false,
        }
    }

    /// Waits until there is something of the next request, so many milliseconds.
    pub(super) async fn wakes(&mut self, rest_ms: u64) -> Result<(), NoRequest> {
        if !self.input.is_empty() {
            return Ok(());
        }
        let mut until = None;
        poll_fn(|cx| match self.poll_fill(cx) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(NoRequest::Closed)),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => Poll::Ready(Err(NoRequest::Lost)),
            Poll::Pending => {
                let clock = self.clock;
                let until = *until.get_or_insert_with(|| clock.mono_ms().saturating_add(rest_ms));
                ready!(self.alarm.poll(cx, clock, until));
                Poll::Ready(Err(NoRequest::TimedOut { is_begun: false }))
            }
        })
        .await
    }

    /// Reads on until `done` finds what it looks for in the input, so many milliseconds
    /// from the first wait on.
    pub(super) async fn read_until<T>(
        &mut self,
        patience_ms: u64,
        mut done: impl FnMut(&mut BytesMut) -> Result<Option<T>, Reject>,
    ) -> Result<T, NoRequest> {
        let mut until = None;
        poll_fn(|cx| {
            loop {
                match done(&mut self.input) {
                    Ok(Some(found)) => return Poll::Ready(Ok(found)),
                    Ok(None) => {}
                    Err(reject) => return Poll::Ready(Err(NoRequest::Rejected(reject))),
                }
                match self.poll_fill(cx) {
                    Poll::Ready(Ok(0)) if self.input.is_empty() => {
                        return Poll::Ready(Err(NoRequest::Closed));
                    }
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(NoRequest::Lost)),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => {
                        let clock = self.clock;
                        // From the first wait on, however many there are.
                        let until = *until
                            .get_or_insert_with(|| clock.mono_ms().saturating_add(patience_ms));
                        ready!(self.alarm.poll(cx, clock, until));
                        let is_begun = !self.input.is_empty();
                        return Poll::Ready(Err(NoRequest::TimedOut { is_begun }));
                    }
                }
            }
        })
        .await
    }

    /// A request begins: what follows is its body.
    pub(super) fn begins(&mut self, head: &RequestHead, body_patience_ms: u64) {
        self.body = BodyDecoder::new(head.framing);
        self.is_body_read = head.framing == Framing::Empty;
        self.expects_continue = head.expects_continue && !self.is_body_read;
        self.takes_interim = head.version == Version::Http11;
        self.body_patience_ms = body_patience_ms;
        self.body_due_ms = None;
    }

    /// The answer begins: from now on nothing else is written. Tells whether the
    /// connection may stand after it: not if a body was held back, as whether it still
    /// comes can't be known.
    pub(super) fn answers(&mut self) -> bool {
        self.takes_interim = false;
        !std::mem::take(&mut self.expects_continue) && !self.has_left
    }

    /// Whether the connection can carry another request: what is left of the present one
    /// is read and forgotten, if it is little and comes soon.
    pub(super) async fn is_ready_for_next(&mut self) -> bool {
        if self.is_body_read {
            return !self.has_left;
        }
        let until = self.clock.mono_ms().saturating_add(self.body_patience_ms);
        let mut unwanted = 0;
        while !self.is_body_read {
            if unwanted > UNWANTED_MAX {
                return false;
            }
            let part = poll_fn(|cx| match self.poll_chunk(cx) {
                Poll::Pending => self.poll_deadline(cx, until).map(|()| Err(Gone::TooSlow)),
                part @ Poll::Ready(_) => part,
            });
            match part.await {
                Ok(Chunk::Data(data)) => unwanted += data.len(),
                Ok(Chunk::End(_)) => {}
                Err(_) => return false,
            }
        }
        !self.has_left
    }

    /// Writes all that is to be written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let stream = Pin::new(&mut self.stream);
            let written = match self.out.parts() {
                [one, [], []] => ready!(stream.poll_write(cx, one))?,
                parts => ready!(stream.poll_write_vectored(cx, &parts.map(IoSlice::new)))?,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.is_flushed = false;
            self.out.advance(written);
        }
        self.out.give_back();
        if !self.is_flushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// All that was to be written has left.
    pub(super) fn is_written(&self) -> bool {
        self.out.is_empty() && self.is_flushed
    }

    /// Reads what there is; 0 is the end of what the client sends.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.is_empty() {
            give_back(std::mem::replace(&mut self.input, take_buffer()));
        } else {
            self.input.reserve(MORE);
        }
        let polled = poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input);
        if polled.is_pending() && self.input.is_empty() {
            give_back(std::mem::take(&mut self.input));
        }
        polled
    }

    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        let (clock, patience_ms) = (self.clock, self.body_patience_ms);
        let due = *self
            .body_due_ms
            .get_or_insert_with(|| clock.mono_ms().saturating_add(patience_ms));
        self.alarm.poll(cx, self.clock, due).map(|()| Gone::TooSlow)
    }
}

/// Room to read into while something is not complete.
const MORE: usize = 4 * 1_024;

impl Inflow for Client {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Chunk, Gone>> {
        if std::mem::take(&mut self.expects_continue) {
            self.out
                .copied()
                .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if !self.is_written() && matches!(self.poll_write(cx), Poll::Ready(Err(_))) {
            self.has_left = true;
            return Poll::Ready(Err(Gone::Left));
        }
        loop {
            match self.body.decode(&mut self.input) {
                Ok(Decoded::Data(data)) => {
                    self.body_due_ms = None;
                    return Poll::Ready(Ok(Chunk::Data(data)));
                }
                Ok(Decoded::End(mut trailers)) => {
                    self.is_body_read = true;
                    if let Some(trailers) = &mut trailers {
                        http1::strip_request_trailers(trailers);
                    }
                    return Poll::Ready(Ok(Chunk::End(trailers)));
                }
                Ok(Decoded::Wants) => {}
                Err(error) => {
                    debug_assert!(error != BodyError::Cut, "only the end cuts");
                    self.has_left = true;
                    return Poll::Ready(Err(Gone::Malformed));
                }
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.has_left = true;
                    return Poll::Ready(Err(Gone::Left));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    let gone = ready!(self.poll_too_slow(cx));
                    self.has_left = true;
                    return Poll::Ready(Err(gone));
                }
            }
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        // Interim answers are worth nothing once the answer has come.
        if !self.is_written() && matches!(self.poll_write(cx), Poll::Ready(Err(_))) {
            self.has_left = true;
        }
        while !self.has_left {
            if self.input.len() >= AHEAD_MAX {
                return Poll::Pending;
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) | Err(_) => self.has_left = true,
                Ok(_) => {}
            }
        }
        Poll::Ready(Gone::Left)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, at: u64) -> Poll<()> {
        self.alarm.poll(cx, self.clock, at)
    }

    fn interim(&mut self, head: &ResponseHead) {
        if self.takes_interim && self.out.has_room() {
            let mut fields = head.fields.clone();
            http1::strip_hop_by_hop(&mut fields);
            fields.remove(Known::ContentLength);
            let out = self.out.copied();
            http1::write_status_line(out, head.status);
            http1::write_fields(out, &fields);
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests;
