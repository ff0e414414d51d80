//! A server's TLS connection without I/O.
//!
//! Bytes that came from the socket go through [`TlsState::read`], bytes for the peer
//! through [`TlsState::write`]; both append to buffers of the caller, who sends
//! what is in `out` in that order. Nothing of the caller's buffers is kept except
//! an incomplete record, so that a connection at rest holds none.
//!
//! rustls remembers handshake fragments by their place in the buffer it was given.
//! What it did not discard must therefore be in front again at the next call, for
//! writing too; that is what `incomplete` is for.

use std::mem;
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{ProtocolVersion, ServerConfig};

use super::TlsError;

/// The most that is kept of a record or handshake message that is not complete, in
/// bytes. A record has 16 KiB and a little; handshakes are far smaller.
pub(super) const INCOMPLETE_BYTES_MAX: usize = 64 * 1024;

/// A TLS connection, to be boxed.
pub struct TlsState {
    connection: UnbufferedServerConnection,
    /// Received, but not to be processed before more comes; no allocation when empty.
    incomplete: Vec<u8>,
    /// It has failed, and rustls must not be asked again.
    failed: bool,
    peer_closed: bool,
    close_sent: bool,
}

/// What reading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// More may come.
    Open,
    /// The peer has said that nothing more comes; one may still write.
    PeerClosed,
}

impl TlsState {
    /// A connection that waits for the client's first bytes.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config).map_err(TlsError::Setup)?,
            incomplete: Vec::new(),
            failed: false,
            peer_closed: false,
            close_sent: false,
        })
    }

    /// Takes what came from the socket. Appends the plaintext to `plaintext`, and to
    /// `out` what must be sent: handshake messages, tickets, key updates, alerts.
    ///
    /// `received` is decrypted in place and worthless afterwards. After an error the
    /// connection is dead; `out` may hold an alert to send before closing.
    pub fn read(
        &mut self,
        received: &mut [u8],
        plaintext: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Reading, TlsError> {
        if self.failed {
            return Err(TlsError::NotOpen);
        }
        // Only lifted when all has gone well.
        self.failed = true;
        if self.incomplete.is_empty() {
            let used = self.process(received, plaintext, out)?;
            self.incomplete = received.get(used..).unwrap_or_default().to_vec();
        } else {
            let mut joined = mem::take(&mut self.incomplete);
            joined.extend_from_slice(received);
            let used = self.process(&mut joined, plaintext, out)?;
            // A copy, so that what is kept is as small as it can be.
            self.incomplete = joined.get(used..).unwrap_or_default().to_vec();
        }
        if self.peer_closed {
            self.failed = false;
            self.incomplete = Vec::new();
            return Ok(Reading::PeerClosed);
        }
        if self.incomplete.len() > INCOMPLETE_BYTES_MAX {
            self.incomplete = Vec::new();
            return Err(TlsError::IncompleteTooLong);
        }
        self.failed = false;
        Ok(Reading::Open)
    }

    /// Seals `plaintext` into records appended to `out`: one per 16 KiB.
    pub fn write(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.close_sent {
            return Err(TlsError::NotOpen);
        }
        let records = plaintext.len().div_ceil(RECORD_BYTES_MAX);
        let sealed_max = plaintext.len() + records * RECORD_OVERHEAD_MAX + KEY_UPDATE_BYTES_MAX;
        self.with_traffic(out, |traffic, out| {
            append(out, sealed_max, |space| {
                match traffic.encrypt(plaintext, space) {
                    Ok(written) => Ok(written),
                    Err(EncryptError::InsufficientSize(needed)) => Err(Needs::Space(needed)),
                    Err(EncryptError::EncryptExhausted) => Err(Needs::Nothing),
                }
            })
        })
    }

    /// Says to the peer that nothing more comes. Does nothing before the handshake is
    /// done, after a failure, or the second time.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        if self.failed || self.close_sent || self.connection.is_handshaking() {
            return;
        }
        self.close_sent = true;
        let outcome = self.with_traffic(out, |traffic, out| {
            append(out, ALERT_BYTES_MAX, |space| {
                match traffic.queue_close_notify(space) {
                    Ok(written) => Ok(written),
                    Err(EncryptError::InsufficientSize(needed)) => Err(Needs::Space(needed)),
                    Err(EncryptError::EncryptExhausted) => Err(Needs::Nothing),
                }
            })
        });
        // A peer that can't be told any more finds out by the socket's end.
        self.failed |= outcome.is_err();
    }

    /// Whether the handshake is under way, so that nothing can be written yet.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether HTTP/2 was agreed on (ALPN).
    pub fn has_chosen_http2(&self) -> bool {
        self.connection.alpn_protocol() == Some(super::ALPN_HTTP2)
    }

    /// Whether the peer, too, sees the handshake as done whatever we still have to send.
    /// In TLS 1.2 the last word is the server's.
    pub(super) fn awaits_nothing(&self) -> bool {
        let version = self.connection.protocol_version();
        !self.is_handshaking() && version == Some(ProtocolVersion::TLSv1_3)
    }

    /// The protocol version's name for logs and metrics, once it is agreed.
    pub fn version(&self) -> Option<&'static str> {
        self.connection
            .protocol_version()
            .and_then(|version| version.as_str())
    }

    /// Bytes kept of an incomplete record or message.
    pub fn kept_bytes(&self) -> usize {
        self.incomplete.capacity()
    }

    /// Runs rustls over `buffer` until it needs more; returns how much of it is used up.
    fn process(
        &mut self,
        buffer: &mut [u8],
        plaintext: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<usize, TlsError> {
        let mut used = 0;
        loop {
            let rest = buffer.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(rest);
            used += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                plaintext.extend_from_slice(record.payload);
                                used += record.discard;
                            }
                            Err(error) => return Err(TlsError::Peer(error)),
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(encoding)) => encode(encoding, out)?,
                Ok(ConnectionState::TransmitTlsData(transmission)) => transmission.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                Ok(
                    ConnectionState::BlockedHandshake
                    | ConnectionState::WriteTraffic(_)
                    | ConnectionState::Closed,
                ) => return Ok(used),
                // Early data is not accepted, so there is none; nothing else is known.
                Ok(_) => return Err(TlsError::NotOpen),
                Err(error) => {
                    let rest = buffer.get_mut(used..).unwrap_or_default();
                    self.last_alert(rest, out);
                    return Err(TlsError::Peer(error));
                }
            }
        }
    }

    /// Fetches the alert that a failure has queued. One call and not a loop: once
    /// nothing is queued, rustls would go on reading where it has just failed.
    fn last_alert(&mut self, rest: &mut [u8], out: &mut Vec<u8>) {
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(rest);
        if let Ok(ConnectionState::EncodeTlsData(encoding)) = state {
            // The failure before it is what counts.
            encode(encoding, out).ok();
        }
    }

    /// Brings rustls to where it can send, and lets `send` do so.
    fn with_traffic(
        &mut self,
        out: &mut Vec<u8>,
        mut send: impl FnMut(
            &mut WriteTraffic<'_, rustls::server::ServerConnectionData>,
            &mut Vec<u8>,
        ) -> Result<(), TlsError>,
    ) -> Result<(), TlsError> {
        if self.failed {
            return Err(TlsError::NotOpen);
        }
        loop {
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut self.incomplete);
            let outcome = match state {
                Ok(ConnectionState::EncodeTlsData(encoding)) => {
                    encode(encoding, out).map(|()| None)
                }
                Ok(ConnectionState::TransmitTlsData(transmission)) => {
                    transmission.done();
                    Ok(None)
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => send(&mut traffic, out).map(Some),
                Ok(_) => Err(TlsError::NotOpen),
                Err(error) => {
                    self.failed = true;
                    Err(TlsError::Peer(error))
                }
            };
            if discard > 0 {
                self.incomplete.drain(..discard.min(self.incomplete.len()));
            }
            if let Some(()) = outcome? {
                return Ok(());
            }
        }
    }
}

impl std::fmt::Debug for TlsState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TlsState")
            .field("version", &self.version())
            .field("incomplete", &self.incomplete.len())
            .field("failed", &self.failed)
            .field("peer_closed", &self.peer_closed)
            .finish_non_exhaustive()
    }
}

/// What an attempt to append lacks.
enum Needs {
    Space(InsufficientSizeError),
    /// Nothing would help.
    Nothing,
}

fn encode<Data>(mut encoding: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> Result<(), TlsError> {
    append(out, HANDSHAKE_BYTES_USUAL, |space| {
        match encoding.encode(space) {
            Ok(written) => Ok(written),
            Err(EncodeError::InsufficientSize(needed)) => Err(Needs::Space(needed)),
            Err(EncodeError::AlreadyEncoded) => Err(Needs::Nothing),
        }
    })
}

/// Grows `out` by the space that `fill` asks for, and leaves what it has written.
fn append(
    out: &mut Vec<u8>,
    guess: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, Needs>,
) -> Result<(), TlsError> {
    let start = out.len();
    let mut size = guess;
    for _ in 0..2 {
        out.resize(start + size, 0);
        match fill(out.get_mut(start..).unwrap_or_default()) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(Needs::Space(InsufficientSizeError { required_size })) => size = required_size,
            Err(Needs::Nothing) => break,
        }
    }
    out.truncate(start);
    Err(TlsError::Exhausted)
}

/// Plaintext in one record (RFC 8446, 5.1).
const RECORD_BYTES_MAX: usize = 16 * 1024;
/// Header, explicit nonce, type and tag.
const RECORD_OVERHEAD_MAX: usize = 5 + 8 + 1 + 16;
/// A key update that goes before the data.
const KEY_UPDATE_BYTES_MAX: usize = 64;
/// A sealed alert.
const ALERT_BYTES_MAX: usize = 64;
/// Enough for most chunks of a handshake.
const HANDSHAKE_BYTES_USUAL: usize = 512;
