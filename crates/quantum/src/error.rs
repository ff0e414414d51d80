//! What can go wrong, for whoever uses the transport.

use std::net::SocketAddr;

use quantum_proto::connection::Closed;
use quantum_proto::crypto::HandshakeError;

/// An endpoint could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address could not be had.
    #[error("UDP address {addr} cannot be bound")]
    Address {
        /// The one that was asked for.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something else that an endpoint needs is not there.
    #[error("{what} is not available")]
    Resource {
        /// What is missing.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file of the event log cannot be written.
    #[error("event log {path:?} cannot be opened")]
    EventLog {
        /// Where it should be.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A connection was not established; nothing that was meant for it has left.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint has no client's keys.
    #[error("this endpoint only accepts connections")]
    ServerOnly,
    /// The endpoint is closed, or closing.
    #[error("endpoint is closed")]
    EndpointClosed,
    /// As many connections as the endpoint may have are open.
    #[error("endpoint has {limit} connections already")]
    Full {
        /// `connections_max`.
        limit: usize,
    },
    /// No random number could be drawn.
    #[error("no random numbers available: {0}")]
    NoChance(String),
    /// The handshake could not begin.
    #[error("handshake could not begin")]
    Handshake(#[from] HandshakeError),
    /// The handshake has failed.
    #[error("handshake failed")]
    Closed(#[from] Closed),
}

/// A stream could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// All ids of this connection are used up; a new connection has fresh ones.
    #[error("connection has used all its stream ids")]
    Exhausted,
    /// The connection is over.
    #[error("connection is closed")]
    Closed(#[from] Closed),
}

/// Data was not taken for sending.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The peer does not want any more.
    #[error("peer stopped the stream with code {0}")]
    Stopped(u32),
    /// We have ended or reset it ourselves.
    #[error("stream is ended")]
    Ended,
    /// The connection is over.
    #[error("connection is closed")]
    Closed(#[from] Closed),
}

/// Nothing more can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The peer gave the stream up.
    #[error("peer reset the stream with code {0}")]
    Reset(u32),
    /// We have stopped it ourselves.
    #[error("stream is stopped")]
    Stopped,
    /// The connection is over.
    #[error("connection is closed")]
    Closed(#[from] Closed),
}

impl From<WriteError> for std::io::Error {
    fn from(error: WriteError) -> Self {
        let kind = match &error {
            WriteError::Stopped(_) => std::io::ErrorKind::BrokenPipe,
            WriteError::Ended => std::io::ErrorKind::NotConnected,
            WriteError::Closed(closed) => kind(closed),
        };
        Self::new(kind, error)
    }
}

impl From<ReadError> for std::io::Error {
    fn from(error: ReadError) -> Self {
        let kind = match &error {
            ReadError::Reset(_) => std::io::ErrorKind::ConnectionReset,
            ReadError::Stopped => std::io::ErrorKind::NotConnected,
            ReadError::Closed(closed) => kind(closed),
        };
        Self::new(kind, error)
    }
}

fn kind(closed: &Closed) -> std::io::ErrorKind {
    match closed {
        Closed::Silent { .. } | Closed::HandshakeTimedOut { .. } => std::io::ErrorKind::TimedOut,
        Closed::Here { .. } | Closed::There { .. } => std::io::ErrorKind::ConnectionAborted,
        Closed::Reset => std::io::ErrorKind::ConnectionReset,
    }
}
