//! gRPC over Quantum: any tonic client and service, in one of two ways.
//!
//! **One stream per call**, the default: [`Channel`] is what a generated client is made from,
//! [`serve`] offers services. A loss delays only the calls whose packets were lost.
//! **HTTP/2 in the ordered mode**: [`connector`] for `Endpoint::connect_with_connector`,
//! [`incoming`] for `Server::serve_with_incoming_shutdown`; for what wants HTTP/2 itself.
//!
//! # A call on a stream
//!
//! The client opens a stream. Each direction carries messages (their ends are the stream's
//! message marks), and the first byte of a message says what it is:
//!
//! | byte | message | rest of it |
//! |---|---|---|
//! | 1 | HEADERS | a block of fields, see [`fields`] |
//! | 2 | DATA | bytes of the gRPC body: messages, each `compressed u8`, `length u32`, bytes; cut anywhere |
//! | 3 | TRAILERS | a block of fields |
//!
//! A request is HEADERS, any number of DATA, end of the stream. An answer is HEADERS, any number
//! of DATA, TRAILERS with `grpc-status`, end; or HEADERS alone with `grpc-status` among them. Any
//! other order breaks the call ([`code::PROTOCOL`]), as does a block that is too large or cannot
//! be read. The method is always POST. Fields of the request that start with a colon are `:path`
//! (must be there) and `:authority`; of the answer `:status`, which is 200 unless given. `te:
//! trailers` is understood and not sent.
//!
//! A client that loses interest resets its half and stops the other with [`code::CANCELLED`];
//! the server then drops what works on the call. A server that has answered stops a request that
//! still comes with [`code::DONE`], which is no failure. [`code::REFUSED`] and [`code::LEAVING`]
//! say that nothing was done; then, and only then, a call may be sent again whatever it does.

mod body;
mod channel;
mod connecting;
mod deadline;
mod ordered;
mod pump;
mod reading;
mod server;
mod staggered;

pub mod fields;

pub use channel::{CallError, Channel};
pub use ordered::{Connector, connector, incoming};
pub use server::{Limits, serve};
pub use staggered::staggered;

use std::net::SocketAddr;

use crate::error::ConnectError;
use crate::{Connection, Endpoint};

/// Codes of RESET and STOP on streams of calls.
pub mod code {
    /// Nothing is wrong: the rest is not needed.
    pub const DONE: u32 = 0;
    /// Nobody waits for the answer any more.
    pub const CANCELLED: u32 = 1;
    /// The deadline has passed.
    pub const DEADLINE: u32 = 2;
    /// Nothing was done with the call: it may go elsewhere, or be tried again later.
    pub const REFUSED: u32 = 3;
    /// The peer broke the rules above.
    pub const PROTOCOL: u32 = 4;
    /// The body failed, or the service did.
    pub const INTERNAL: u32 = 5;
    /// As [`REFUSED`], and this connection takes no more calls.
    pub const LEAVING: u32 = 6;
}

/// What kinds of message there are.
mod kind {
    pub(super) const HEADERS: u8 = 1;
    pub(super) const DATA: u8 = 2;
    pub(super) const TRAILERS: u8 = 3;
}

/// A server to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `host:port`; the host is looked up for each connection.
    pub address: String,
    /// What the server's certificate must say.
    pub server_name: String,
}

impl Target {
    /// A server that proves to be the host it is found at. An IPv6 address stands in brackets.
    pub fn new(address: impl Into<String>) -> Self {
        let address = address.into();
        let host = address.rsplit_once(':').map_or(&*address, |parts| parts.0);
        let server_name = host.trim_matches(['[', ']']).to_owned();
        Self {
            address,
            server_name,
        }
    }

    /// Connects, to the address that answers first.
    async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, TargetError> {
        let lookup = tokio::net::lookup_host(&self.address).await;
        let addresses = lookup.map_err(|error| TargetError::Name(error.to_string()))?;
        let local = endpoint.local_addr();
        let addresses = addresses.filter_map(|address| reachable(local, address));
        let attempts = addresses.take(ADDRESSES_MAX).map(|address| async move {
            let connected = endpoint.connect(address, &self.server_name).await;
            connected.map_err(TargetError::Connect)
        });
        let none = TargetError::Name("no address that this endpoint can reach".to_owned());
        staggered(attempts, none).await
    }
}

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

/// A socket of one family cannot send to the other, but a socket of IPv6 may take a mapped address.
fn reachable(local: SocketAddr, address: SocketAddr) -> Option<SocketAddr> {
    match (local, address) {
        (SocketAddr::V4(_), SocketAddr::V6(_)) => None,
        (SocketAddr::V6(local), SocketAddr::V4(v4)) => local
            .ip()
            .is_unspecified()
            .then(|| SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port()))),
        _ => Some(address),
    }
}

/// A server was not reached.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TargetError {
    /// Its name has no address.
    #[error("address was not found: {0}")]
    Name(String),
    /// It does not answer, or not as it should.
    #[error("connection was not established")]
    Connect(#[source] ConnectError),
}
