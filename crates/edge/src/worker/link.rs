//! What carries a connection's bytes, under one face.

use std::io::{self, Read, Write};

use bytes::Bytes;
use mio::event::Source;
use mio::net::TcpStream;

use super::pipe::Pipe;
use crate::tls::TlsState;

/// A connection's transport.
pub(crate) enum Link {
    Tcp(TcpStream),
    Tls(TcpStream, Box<TlsLink>),
    Http(Pipe),
}

/// TLS on a socket: its state, and sealed bytes the socket has not taken yet.
pub(crate) struct TlsLink {
    pub(crate) state: Box<TlsState>,
    pending: Vec<u8>,
}

/// What writing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wrote {
    /// Bytes of the input that are taken care of.
    pub(crate) taken: usize,
    /// The link takes no more for now.
    pub(crate) blocked: bool,
    /// Anything went out at all.
    pub(crate) progressed: bool,
}

impl Link {
    /// A TLS link; `unsent` is what the handshake has sealed and not sent.
    pub(crate) fn tls(stream: TcpStream, state: Box<TlsState>, unsent: Vec<u8>) -> Self {
        Self::Tls(
            stream,
            Box::new(TlsLink {
                state,
                pending: unsent,
            }),
        )
    }

    /// The socket to poll; HTTP links have none.
    pub(crate) fn source(&mut self) -> Option<&mut impl Source> {
        match self {
            Self::Tcp(stream) | Self::Tls(stream, _) => Some(stream),
            Self::Http(_) => None,
        }
    }

    /// Bounds what the system holds without having sent it (`TCP_NOTSENT_LOWAT`). Where
    /// that is not to be had, a slow client sees what the system holds first.
    pub(crate) fn bound_unsent(&self, bytes: u32) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Self::Tcp(stream) | Self::Tls(stream, _) = self
            && let Err(error) = socket2::SockRef::from(stream).set_tcp_notsent_lowat(bytes)
        {
            tracing::debug!(%error, "unsent bytes could not be bounded");
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _not_here = bytes;
    }

    /// Reads what there is into the worker's buffer.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) | Self::Tls(stream, _) => stream.read(buffer),
            Self::Http(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes as much as the link takes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<Wrote> {
        match self {
            Self::Tcp(stream) => {
                let (taken, blocked) = write_some(stream, bytes)?;
                Ok(Wrote {
                    taken,
                    blocked,
                    progressed: taken > 0,
                })
            }
            Self::Tls(stream, tls) => {
                let waiting = tls.pending.len();
                let mut blocked = tls.flush(stream)?;
                let mut taken = 0;
                if !blocked && !bytes.is_empty() {
                    tls.state
                        .write(bytes, &mut tls.pending)
                        .map_err(io::Error::other)?;
                    taken = bytes.len();
                    blocked = tls.flush(stream)?;
                }
                let progressed = taken > 0 || tls.pending.len() < waiting;
                Ok(Wrote {
                    taken,
                    blocked,
                    progressed,
                })
            }
            Self::Http(pipe) => {
                if pipe.is_abandoned() {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                let room = pipe.room();
                if room == 0 {
                    return Ok(Wrote {
                        taken: 0,
                        blocked: !bytes.is_empty(),
                        progressed: false,
                    });
                }
                // Whole frames may overshoot the room a little; it is bounded by the
                // worker's write buffer.
                if !bytes.is_empty() {
                    pipe.push(Bytes::copy_from_slice(bytes));
                }
                Ok(Wrote {
                    taken: bytes.len(),
                    blocked: false,
                    progressed: true,
                })
            }
        }
    }

    /// Queues bytes that TLS itself has to say (alerts, key updates).
    pub(crate) fn push_sealed(&mut self, bytes: &[u8]) {
        if let Self::Tls(_, tls) = self {
            tls.pending.extend_from_slice(bytes);
        }
    }

    /// Whether sealed bytes wait.
    pub(crate) fn has_pending(&self) -> bool {
        matches!(self, Self::Tls(_, tls) if !tls.pending.is_empty())
    }

    /// Says that nothing more will be written.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
            Self::Tls(stream, tls) => {
                tls.state.close_notify(&mut tls.pending);
                // Best effort: a peer that does not read does not get it.
                let _blocked = tls.flush(stream)?;
                stream.shutdown(std::net::Shutdown::Write)
            }
            Self::Http(pipe) => {
                pipe.end();
                Ok(())
            }
        }
    }
}

impl TlsLink {
    /// Writes what is sealed; whether some is left.
    fn flush(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        if self.pending.is_empty() {
            return Ok(false);
        }
        let (written, blocked) = write_some(stream, &self.pending)?;
        if written == self.pending.len() {
            // A resting connection holds no buffer.
            self.pending = Vec::new();
        } else {
            self.pending.drain(..written);
        }
        Ok(blocked)
    }
}

/// Writes until the socket takes no more: how much, and whether it was less than all.
fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<(usize, bool)> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok((written, true));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((written, false))
}
