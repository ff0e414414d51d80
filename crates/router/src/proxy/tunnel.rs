//! A connection that has become something else: bytes, both ways.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use upstream::http_service::Stream;

use super::outcome::Ended;
use super::story::Held;

/// The upstream's end of a tunnel. Its slot is taken until it is dropped.
#[derive(Debug)]
pub struct Tunnel {
    stream: Stream,
    early: Bytes,
    held: Box<Held>,
}

impl Tunnel {
    pub(super) fn new(tunnel: upstream::http_service::Tunnel, held: Box<Held>) -> Self {
        Self {
            stream: tunnel.stream,
            early: tunnel.early,
            held,
        }
    }

    /// How long it may stand, and how long it may be silent, in milliseconds.
    pub fn limits(&self) -> (Option<u64>, Option<u64>) {
        self.held.tunnel_limits()
    }

    /// Says how it ended.
    pub fn ends(mut self, how: Ended) {
        self.held.ends(how);
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.has_remaining() {
            let part = this
                .early
                .split_to(this.early.len().min(buffer.remaining()));
            buffer.put_slice(&part);
            this.held.passed(part.len());
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        this.held.passed(buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = polled {
            this.held.story.received += count as u64;
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
