//! The Quantum transport on real sockets, and gRPC over it.
//!
//! An [`Endpoint`] is a UDP address that connects, accepts, or both. A [`Connection`] carries
//! streams, each a [`SendStream`] and a [`RecvStream`]; [`ByteStream`] is such a pair for whoever
//! wants `AsyncRead` and `AsyncWrite`, and [`grpc`] carries one call per stream. What decides
//! lives in `quantum_proto`, here are sockets, tasks, the clock and [`tls`].
//!
//! Lock order: a lane's residents before a connection's state; nothing is held over an await or a
//! system call.
#![warn(missing_docs)]

mod byte_stream;
mod connection;
mod driver;
mod endpoint;
mod error;
mod event_log;
mod histogram;
mod lane;
mod metrics;
mod socket;
mod stream;
mod timer;

pub mod grpc;
pub mod identity;
pub mod tls;

pub use byte_stream::{ByteStream, Caller};
pub use connection::Connection;
pub use endpoint::{Endpoint, EndpointConfig};
pub use error::{BindError, ConnectError, OpenError, ReadError, WriteError};
pub use histogram::HistogramSnapshot;
pub use metrics::{Figures, Snapshot};
pub use stream::{ABANDONED, RecvStream, SendStream};

pub use quantum_proto::config::{Config, FecMode};
pub use quantum_proto::connection::{Closed, Stats};
pub use quantum_proto::crypto::{ClientCrypto, Peer, ServerCrypto};
pub use quantum_proto::streams::{Chunk, End, Priority, Role, StreamId};
pub use quantum_proto::{Guuid, codes};
