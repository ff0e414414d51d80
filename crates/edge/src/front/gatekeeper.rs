//! Lets hyper see the requests that are for it, and nothing else of the connection.
//!
//! Each head is checked before hyper reads it, by the parser that stands before the
//! proxy: what that refuses no part of the gateway ever sees. A request for the proxy
//! ends hyper's turn: once it has answered what it was given, it finds the connection at
//! its end, and the connection goes back to the one who lent it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;
use http1::{Boundary, Framing, Limits, Reject, take_buffer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::socket::Unstalled;

/// Whether hyper has an answer under way.
#[derive(Debug, Default)]
pub(super) struct Busy {
    is_busy: AtomicBool,
    reader: AtomicWaker,
}

/// Held while an answer is under way.
#[derive(Debug)]
pub(super) struct Answering(Arc<Busy>);

/// What hyper reads and writes.
pub(super) struct Gatekeeper {
    stream: Unstalled,
    input: BytesMut,
    /// Bytes of the input that hyper may have.
    allowed: usize,
    /// The body of the request that hyper has.
    body: Option<Boundary>,
    /// The request that hyper has is the connection's last: what comes behind it is none.
    is_last: bool,
    limits: Limits,
    /// There is a proxy, whose requests hyper does not get.
    may_proxy: bool,
    /// What hyper does not get; it sees the end instead.
    stop: Option<Stop>,
    busy: Arc<Busy>,
}

/// Why hyper's turn is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The next request is for the proxy.
    Proxied,
    /// What comes next is no request.
    Rejected(Reject),
    /// The body of the request is malformed.
    Malformed,
}

impl Busy {
    /// An answer begins.
    pub(super) fn begin(self: &Arc<Self>) -> Answering {
        self.is_busy.store(true, Ordering::Release);
        Answering(Arc::clone(self))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.is_busy.store(false, Ordering::Release);
        self.0.reader.wake();
    }
}

impl Gatekeeper {
    /// For a connection whose next request is for hyper.
    pub(super) fn new(
        stream: Unstalled,
        input: BytesMut,
        limits: Limits,
        may_proxy: bool,
        busy: Arc<Busy>,
    ) -> Self {
        Self {
            stream,
            input,
            allowed: 0,
            body: None,
            is_last: false,
            limits,
            may_proxy,
            stop: None,
            busy,
        }
    }

    /// The connection, what was read of it and not given to hyper, and why its turn is
    /// over, if that is not for hyper to say.
    pub(super) fn into_parts(self) -> (Unstalled, BytesMut, Option<Stop>) {
        (self.stream, self.input, self.stop)
    }

    /// Looks at what has been read; `false` if more is needed to know.
    fn look(&mut self) -> bool {
        if let Some(body) = &mut self.body {
            return match body.take(&self.input) {
                Ok((count, is_complete)) => {
                    self.allowed = count;
                    if is_complete {
                        self.body = None;
                    }
                    count > 0 || is_complete
                }
                Err(_) => {
                    self.stop = Some(Stop::Malformed);
                    true
                }
            };
        }
        if self.is_last {
            // Only the end of it is still of interest.
            self.input.clear();
            return false;
        }
        match examine(&self.input, &self.limits) {
            Ok(None) => false,
            Ok(Some(examined)) if examined.is_proxied && self.may_proxy => {
                self.stop = Some(Stop::Proxied);
                true
            }
            Ok(Some(examined)) => {
                self.allowed = examined.length;
                self.is_last = examined.is_last;
                if examined.framing != Framing::Empty {
                    self.body = Some(Boundary::new(examined.framing));
                }
                true
            }
            Err(reject) => {
                self.stop = Some(Stop::Rejected(reject));
                true
            }
        }
    }
}

/// What a head says, without having been taken.
pub(super) struct Examined {
    pub(super) is_proxied: bool,
    /// Bytes of the head, and of empty lines before it.
    pub(super) length: usize,
    pub(super) framing: Framing,
    /// Its sender lets the connection end with it (RFC 9112, 9.6).
    pub(super) is_last: bool,
}

/// Looks at the head at the beginning of the input; `None` if it is not complete.
pub(super) fn examine(input: &[u8], limits: &Limits) -> Result<Option<Examined>, Reject> {
    if input.is_empty() {
        return Ok(None);
    }
    // Heads that are not for the proxy are few enough to be copied. As much is shown as
    // makes sure that one which is too large is seen to be so.
    let shown = input
        .get(..limits.head.saturating_add(EMPTY_LINES_BYTES))
        .unwrap_or(input);
    let mut copy = BytesMut::from(shown);
    let Some(head) = http1::request(&mut copy, limits)? else {
        return Ok(None);
    };
    Ok(Some(Examined {
        is_proxied: is_proxied(head.target.path()),
        length: shown.len() - copy.len(),
        framing: head.framing,
        is_last: !head.keep_alive && head.upgrade.is_none(),
    }))
}

/// Bytes of the empty lines that may stand before a head.
const EMPTY_LINES_BYTES: usize = 4;

/// Whether a path belongs to the proxy.
pub(super) fn is_proxied(path: &str) -> bool {
    path.strip_prefix("/-")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl AsyncRead for Gatekeeper {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.allowed > 0 {
                let count = this.allowed.min(buffer.remaining());
                buffer.put_slice(this.input.get(..count).unwrap_or_default());
                this.input.advance(count);
                this.allowed -= count;
                return Poll::Ready(Ok(()));
            }
            if let Some(stop) = this.stop {
                if stop == Stop::Malformed {
                    // Whoever answers may wait for the rest of the body, which never comes.
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                this.busy.reader.register(cx.waker());
                if this.busy.is_busy.load(Ordering::Acquire) {
                    return Poll::Pending;
                }
                return Poll::Ready(Ok(()));
            }
            if !this.input.is_empty() && this.look() {
                continue;
            }
            if this.input.capacity() == 0 {
                this.input = take_buffer();
            }
            let polled = poll_read_buf(Pin::new(&mut this.stream), cx, &mut this.input);
            if polled.is_pending() && this.input.is_empty() {
                http1::give_back(std::mem::take(&mut this.input));
            }
            if ready!(polled)? == 0 {
                // An incomplete head is hyper's to complain about.
                this.allowed = this.input.len();
                if this.allowed == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Gatekeeper {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.stop.is_some() {
            // Only hyper's turn is over.
            return Pin::new(&mut this.stream).poll_flush(cx);
        }
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
