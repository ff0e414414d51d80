//! Frames that wait for the socket.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use websocket::{OpCode, encode_frame};

use super::scratch;

/// The bytes behind each other, and positions in them that somebody wants to hear of.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    /// How many of `bytes` are written.
    done: usize,
    /// Bytes written since the connection opened.
    written: u64,
    /// Bytes written and flushed since then.
    flushed: u64,
    /// Ends of watched frames, counted as `flushed`, with their tags.
    watched: VecDeque<(u64, u64)>,
}

impl Outgoing {
    /// Appends a frame.
    pub(super) fn push(&mut self, opcode: OpCode, payload: &[u8]) -> Result<(), getrandom::Error> {
        let mask = scratch::mask()?;
        encode_frame(&mut self.bytes, opcode, true, false, Some(mask), payload);
        Ok(())
    }

    /// Appends a text frame whose tag [`Self::next_written`] tells once it is written.
    pub(super) fn push_watched(&mut self, tag: u64, text: &str) -> Result<(), getrandom::Error> {
        self.push(OpCode::Text, text.as_bytes())?;
        self.watched.push_back((self.end(), tag));
        Ok(())
    }

    /// Position behind the last frame.
    pub(super) fn end(&self) -> u64 {
        self.written + self.backlog() as u64
    }

    /// Bytes that the socket has taken.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that wait.
    pub(super) fn backlog(&self) -> usize {
        self.bytes.len() - self.done
    }

    /// Tag of the next watched frame that has been written.
    pub(super) fn next_written(&mut self) -> Option<u64> {
        let &(end, tag) = self.watched.front()?;
        (end <= self.flushed).then(|| {
            self.watched.pop_front();
            tag
        })
    }

    /// Writes what the socket takes. Ready with the number of bytes, which may be zero if
    /// something was flushed, and pending if nothing has changed.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<usize>> {
        let before = self.written;
        while self.backlog() > 0 {
            match Pin::new(&mut *stream).poll_write(context, &self.bytes[self.done..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.done += count;
                    self.written += count as u64;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        self.compact();
        if self.flushed < self.written && Pin::new(&mut *stream).poll_flush(context)?.is_ready() {
            self.flushed = self.written;
            return Poll::Ready(Ok((self.written - before) as usize));
        }
        match (self.written - before) as usize {
            0 => Poll::Pending,
            count => Poll::Ready(Ok(count)),
        }
    }

    /// Frees what is written, at a cost that is small against having written it.
    fn compact(&mut self) {
        if self.backlog() == 0 {
            self.bytes.clear();
            self.done = 0;
            if self.bytes.capacity() > CAPACITY_KEPT {
                self.bytes = Vec::new();
            }
        } else if self.done > self.bytes.len() / 2 {
            self.bytes.drain(..self.done);
            self.done = 0;
        }
    }
}

/// Bytes of buffer that a connection keeps when everything is written.
const CAPACITY_KEPT: usize = 4096;
