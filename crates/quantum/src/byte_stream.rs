//! A stream as an ordered sequence of bytes, for whoever speaks a protocol of its own on it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use quantum_proto::Guuid;
use quantum_proto::crypto::Peer;
use quantum_proto::streams::End;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use crate::{Connection, RecvStream, SendStream};

/// Both halves of a stream. Message marks are lost on the way in; on the way out each write ends
/// a message, so that it leaves and is repaired without waiting for the next.
#[derive(Debug)]
pub struct ByteStream {
    send: SendStream,
    recv: RecvStream,
    unread: Bytes,
}

/// Who calls; found among the extensions of a request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The connection.
    pub guuid: Guuid,
    /// Where the caller was when the connection or the call began.
    pub remote: SocketAddr,
    /// Who it has proved to be; `None` for anonymous clients.
    pub peer: Option<Peer>,
}

/// What one write takes at most.
const WRITE_MAX: usize = 64 << 10;

impl ByteStream {
    /// Puts the halves of a stream together.
    pub fn new(send: SendStream, recv: RecvStream) -> Self {
        Self {
            send,
            recv,
            unread: Bytes::new(),
        }
    }

    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        data: Bytes,
        end: End,
    ) -> Poll<io::Result<usize>> {
        let taken = ready!(self.send.poll_write(cx, &data, end))?;
        if taken < data.len() {
            // What was taken leaves as a message of its own.
            let mut mark = VecDeque::from([(Bytes::new(), End::Message)]);
            let _ = self.send.poll_write_all(cx, &mut mark);
        }
        Poll::Ready(Ok(taken))
    }
}

impl Caller {
    /// Who is at the other end.
    pub fn of(connection: &Connection) -> Self {
        Self {
            guuid: connection.guuid(),
            remote: connection.remote(),
            peer: connection.peer(),
        }
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.unread.is_empty() {
            match ready!(this.recv.poll_read(cx))? {
                Some(chunk) => this.unread = chunk.data,
                None => return Poll::Ready(Ok(())),
            }
        }
        let len = this.unread.len().min(buf.remaining());
        buf.put_slice(&this.unread.split_to(len));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let data = Bytes::copy_from_slice(&buf[..buf.len().min(WRITE_MAX)]);
        self.poll_take(cx, data, End::Message)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut data = BytesMut::with_capacity(all.min(WRITE_MAX));
        for buf in bufs {
            let room = WRITE_MAX - data.len();
            data.extend_from_slice(&buf[..buf.len().min(room)]);
        }
        self.poll_take(cx, data.freeze(), End::Message)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was written leaves by itself.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.send.poll_write(cx, &Bytes::new(), End::Stream)) {
            Ok(_) | Err(crate::WriteError::Ended) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

impl Connected for ByteStream {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        Caller::of(&self.send.connection())
    }
}
