//! Listen, admit, terminate TLS, and hold the connections.
//!
//! A socket is accepted by the [`front`] on the background runtime: PROXY header,
//! TLS handshake, request head, admission, upgrade. What becomes a client's
//! connection then moves to one of the [`fleet`]'s workers, where it rests in a slab
//! and costs no task, channel, timer or buffer. Everything else stays with hyper.

pub mod door;
pub mod fleet;
pub mod front;
#[doc(hidden)]
pub mod fuzzing;
mod gate;
pub mod live;
pub mod metrics;
pub mod tls;
mod worker;
