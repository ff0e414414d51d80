//! A connection on its way from the front to a worker.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use protocol::claims::ConnectionClaims;
use protocol::session::Transport;
use router::Flavor;
use websocket::DeflateParams;

use super::connection::Own;
use super::pipe::Pipe;
use super::slab::Key;
use crate::door::Pass;
use crate::tls::TlsState;

/// Everything a worker needs to take a connection in.
pub(crate) struct Arrival {
    pub(crate) socket: Socket,
    pub(crate) flavor: Flavor,
    pub(crate) transport: Transport,
    /// What a token said that came with the request.
    pub(crate) verified: Option<ConnectionClaims>,
    /// What a client of a dialect of its own has asked for.
    pub(crate) own: Option<Box<Own>>,
    pub(crate) deflate: Option<DeflateParams>,
    /// Bytes that came after the request head; for HTTP, the first frame.
    pub(crate) early: Bytes,
    pub(crate) address: IpAddr,
    pub(crate) pass: Pass,
}

/// What carries the bytes.
pub(crate) enum Socket {
    Tcp(std::net::TcpStream),
    Tls {
        stream: std::net::TcpStream,
        state: Box<TlsState>,
        unsent: Vec<u8>,
    },
    Http {
        pipe: Pipe,
        key: Arc<OnceLock<Key>>,
    },
}
