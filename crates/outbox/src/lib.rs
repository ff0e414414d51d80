//! Durable records: appended, synced, replayed, settled.
//!
//! Whoever appends is called back once the record is as safe as its kind promises;
//! the record stays until it is settled. What is unsettled after a restart comes back
//! from [`open`]. Three kinds behind one face: our own log on disk, Redis Streams,
//! NATS JetStream. The contents of a record are the caller's.
#![warn(missing_docs)]

pub mod disk;
pub mod envelope;
mod face;
pub mod fuzzing;
mod intake;
pub mod jetstream;
mod kinds;
pub mod note;
mod recovered;
pub mod redis;
mod retry;

pub use face::{
    AppendError, Done, Entry, Figures, Mark, Priority, ReadError, Record, RecordId, State,
};
pub use kinds::{Config, OpenError, Outbox, open};
