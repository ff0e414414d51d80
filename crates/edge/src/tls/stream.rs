//! TLS over an asynchronous socket: the handshake, and HTTP before an upgrade.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::{Reading, TlsError, TlsState};

/// An accepted TLS connection over `T`.
///
/// An end without close_notify is an error of kind `UnexpectedEof`, so that nobody
/// takes a cut-off message for a whole one.
pub struct TlsStream<T> {
    socket: T,
    state: Box<TlsState>,
    received: Box<[u8]>,
    plaintext: Vec<u8>,
    /// How much of `plaintext` has been read.
    plaintext_read: usize,
    out: Vec<u8>,
    /// How much of `out` has been sent.
    out_sent: usize,
    ended: bool,
}

/// A stream taken apart, for a worker to go on with.
pub struct Parts<T> {
    /// The socket.
    pub socket: T,
    /// The connection.
    pub state: Box<TlsState>,
    /// Received and decrypted, but not read yet.
    pub plaintext: Vec<u8>,
    /// Sealed, but not sent yet; goes before anything else.
    pub unsent: Vec<u8>,
}

/// Why a handshake did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The socket failed, or ended before the handshake did.
    #[error("socket failed during the TLS handshake")]
    Socket(#[source] io::Error),
    /// The peer does not speak TLS as we do.
    #[error("TLS handshake failed")]
    Tls(#[source] TlsError),
}

impl<T: AsyncRead + AsyncWrite + Unpin> TlsStream<T> {
    /// Does the handshake. It has no deadline of its own: the caller sets one.
    pub async fn accept(config: Arc<ServerConfig>, socket: T) -> Result<Self, AcceptError> {
        let mut stream = Self {
            socket,
            state: Box::new(TlsState::new(config).map_err(AcceptError::Tls)?),
            received: vec![0; RECEIVE_BYTES].into_boxed_slice(),
            plaintext: Vec::new(),
            plaintext_read: 0,
            out: Vec::new(),
            out_sent: 0,
            ended: false,
        };
        while stream.state.is_handshaking() {
            let count = stream
                .socket
                .read(&mut stream.received)
                .await
                .map_err(AcceptError::Socket)?;
            if count == 0 {
                return Err(AcceptError::Socket(io::ErrorKind::UnexpectedEof.into()));
            }
            let outcome = stream.process(count);
            if outcome.is_ok() && stream.state.awaits_nothing() {
                // Tickets go out as far as they can, and else with the first read or
                // write: the peer may not read before it has written.
                poll_fn(|context| Poll::Ready(stream.poll_send(context).is_ready())).await;
                break;
            }
            // An alert is sent too, so that the peer learns why.
            let sent = stream.socket.write_all(&stream.out).await;
            stream.out.clear();
            match outcome.map_err(AcceptError::Tls)? {
                Reading::Open => sent.map_err(AcceptError::Socket)?,
                Reading::PeerClosed => {
                    return Err(AcceptError::Socket(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
        Ok(stream)
    }

    /// The connection's state.
    pub fn state(&self) -> &TlsState {
        &self.state
    }

    /// The socket.
    pub fn socket(&self) -> &T {
        &self.socket
    }

    /// Takes the stream apart, after an upgrade.
    pub fn into_parts(mut self) -> Parts<T> {
        self.plaintext.drain(..self.plaintext_read);
        self.out.drain(..self.out_sent);
        Parts {
            socket: self.socket,
            state: self.state,
            plaintext: self.plaintext,
            unsent: self.out,
        }
    }

    /// Processes what has just been received.
    fn process(&mut self, count: usize) -> Result<Reading, TlsError> {
        let received = self.received.get_mut(..count).unwrap_or_default();
        self.state
            .read(received, &mut self.plaintext, &mut self.out)
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self
            .out
            .get(self.out_sent..)
            .filter(|rest| !rest.is_empty())
        {
            let count = ready!(Pin::new(&mut self.socket).poll_write(context, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out_sent += count;
        }
        self.out_sent = 0;
        self.out.clear();
        if self.out.capacity() > OUT_BYTES_KEPT {
            self.out = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Hands out plaintext that is there; false if there is none.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let rest = self
            .plaintext
            .get(self.plaintext_read..)
            .unwrap_or_default();
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        self.plaintext_read += count;
        if self.plaintext_read == self.plaintext.len() {
            self.plaintext.clear();
            self.plaintext_read = 0;
        }
        count > 0
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        loop {
            if buffer.remaining() == 0 || stream.give(buffer) || stream.ended {
                return Poll::Ready(Ok(()));
            }
            // What TLS itself has to say is sent even if nobody writes. If it can't be,
            // there may still be something to read.
            let _ = stream.poll_send(context);
            let mut space = ReadBuf::new(&mut stream.received);
            ready!(Pin::new(&mut stream.socket).poll_read(context, &mut space))?;
            let count = space.filled().len();
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            match stream.process(count) {
                Ok(Reading::Open) => {}
                Ok(Reading::PeerClosed) => stream.ended = true,
                Err(error) => {
                    stream.ended = true;
                    // The alert, as far as the socket takes it at once.
                    let _ = stream.poll_send(context);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        // What was sealed before goes first, so that never more than one portion waits.
        ready!(stream.poll_send(context))?;
        let portion = buffer.get(..WRITE_BYTES_MAX).unwrap_or(buffer);
        stream
            .state
            .write(portion, &mut stream.out)
            .map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))?;
        match stream.poll_send(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(portion.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        ready!(stream.poll_send(context))?;
        Pin::new(&mut stream.socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        stream.state.close_notify(&mut stream.out);
        ready!(stream.poll_send(context))?;
        Pin::new(&mut stream.socket).poll_shutdown(context)
    }
}

/// What is received at once: a record.
const RECEIVE_BYTES: usize = 17 * 1024;
/// The most plaintext that is sealed at once.
const WRITE_BYTES_MAX: usize = 64 * 1024;
/// An emptied output buffer up to this size is kept for the next write.
const OUT_BYTES_KEPT: usize = 4 * 1024;
