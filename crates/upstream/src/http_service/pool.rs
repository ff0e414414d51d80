//! Connections that rest between two requests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lifecycle::{Clock, Tasks};

use super::{Origin, Stream};

/// How many connections may rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// To all origins together; the one that rested longest makes room.
    pub idle_max: usize,
    /// To one origin.
    pub idle_per_origin_max: usize,
    /// HTTP/2 connections to one origin at once.
    pub http2_per_origin_max: usize,
    /// How long a TLS handshake may take.
    pub tls_timeout: Duration,
    /// How old a connection may become; spread by chance.
    pub lifetime_max: Duration,
}

/// The connections. Clones share them.
#[derive(Debug, Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: PoolSettings,
    clock: Clock,
    tasks: Tasks,
}

/// A connection, taken from the pool or made.
#[derive(Debug)]
pub enum Link {
    /// For one request at a time.
    Http1(Http1Link),
    /// A stream of a shared connection.
    Http2(Http2Link),
}

/// A connection of HTTP/1.1. Dropping it closes it.
#[derive(Debug)]
pub struct Http1Link {
    /// The connection.
    pub stream: Stream,
    /// It has served a request before: if it turns out to be closed, that says nothing
    /// about the upstream.
    pub is_reused: bool,
    origin: Arc<Origin>,
    pool: Pool,
}

/// Leave to open a stream on a connection of HTTP/2.
#[derive(Debug)]
pub struct Http2Link {
    /// Opens the stream; ready.
    pub sender: h2::client::SendRequest<Bytes>,
    /// The connection has served requests before.
    pub is_reused: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nothing was connected within the time.
    #[error("upstream did not accept a connection in time")]
    TimedOut,
}

impl Pool {
    /// An empty pool.
    pub fn new(settings: PoolSettings, clock: Clock, tasks: Tasks) -> Self {
        Self {
            shared: Arc::new(Shared {
                settings,
                clock,
                tasks,
            }),
        }
    }

    /// A connection to an origin: one that rests, unless `fresh` is asked for, or a new
    /// one.
    pub async fn take(&self, _origin: &Arc<Origin>, _fresh: bool) -> Result<Link, DialError> {
        Err(DialError::TimedOut)
    }
}

impl Http1Link {
    /// Puts it back to rest: its last answer was read to the end, and nothing more.
    pub fn put_back(self) {}
}
