//! HTTP services: where they are, connections to them, one request and its answer.
//!
//! ```text
//! Origin ─► Pool::take ─► Link ─► Exchange ─► answer ─► back into the pool
//!           resolve, guard,       HTTP/1.1 in the caller's own task,
//!           connect, TLS          HTTP/2 over a shared connection
//! ```

mod origin;
mod pool;
mod stream;

pub use origin::{Origin, Scheme, TlsTerms, Versions};
pub use pool::{DialError, Http1Link, Http2Link, Link, Pool, PoolSettings};
pub use stream::Stream;
