//! HTTP services: where they are, connections to them, one request and its answer.
//!
//! ```text
//! Origin ─► Pool::take ─► Link ─► Exchange ─► answer ─► back into the pool
//!           resolve, guard,       HTTP/1.1 in the caller's own task,
//!           connect, TLS          HTTP/2 over a shared connection
//! ```

mod dial;
mod exchange;
mod guarded;
mod origin;
mod pool;
mod stream;

pub use dial::DialError;
pub use exchange::{Exchange, ExchangeError, Tunnel};
pub use guarded::Forbidden;
pub use origin::{Origin, Scheme, TlsTerms, Versions};
pub use pool::{Http1Link, Http2Link, Link, Miss, Pool, PoolFigures, PoolSettings, QuantumLink};
pub use stream::Stream;
