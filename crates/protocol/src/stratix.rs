//! The wire format of Stratix clients and agents, as pure codecs (`contracts`: relay
//! 1.2 to 1.5).
//!
//! A client says a message in one of three ways: a text frame ([`Inbound`]), a binary
//! frame that is the payload itself, or chunks in binary frames ([`Frame`], put together by
//! [`Chunks`]). What it is told in return is written by [`ack`], [`error`],
//! [`history_complete`] and [`answer`]; what it wants of its history stands in the query of
//! its handshake ([`History`]).
//!
//! What must hold:
//! - a text that was sent is passed on as it came: only [`payload()`] looks behind it;
//! - nothing is allocated because a client claims that much will come;
//! - an error names the field or the message, and never repeats what the client sent in it.

mod chunks;
mod history;
mod id;
mod inbound;
mod message;
mod outbound;
mod payload;

pub use chunks::{
    Assembled, CHUNK_COUNT_MAX, Chunk, ChunkError, ChunkProblem, Chunks, Frame, Limits, PARKED_MAX,
    Start,
};
pub use history::{History, LIMIT_DEFAULT};
pub use id::{
    CLIENT_ID_BYTES_MAX, IdError, MESSAGE_ID_BYTES_MAX, check_client_id, check_message_id,
};
pub use inbound::{DecodeError, Inbound, Level, Priority};
pub use message::{Kind, Message};
pub use outbound::{Outbound, ack, answer, error, history_complete};
pub use payload::{Encoding, PayloadError, data_bytes, payload};
