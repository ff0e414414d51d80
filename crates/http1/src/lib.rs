//! HTTP messages on their way through a gateway.
//!
//! Heads are parsed strictly (RFC 9112): what two parsers might read differently is
//! refused, never repaired. Bodies are framed and unframed without copies. Fields keep
//! their order and spelling, and stand for HTTP/2 as well, so that one data path
//! serves both versions.
//!
//! Nothing here does I/O; [`Inflow`] is the one thing that is polled, and is
//! implemented where the sockets are.
#![warn(missing_docs)]

mod body;
mod fields;
mod head;
mod inflow;
mod parse;
mod write;

pub use body::{BodyDecoder, BodyError, Decoded, Framing};
pub use fields::{Field, Fields, InvalidField, Known};
pub use head::{RequestHead, ResponseHead, Target, Version};
pub use inflow::{Chunk, Gone, Inflow};
pub use parse::{Limits, Reject, request, response};
pub use write::{chunk_end, chunk_start, write_request_line, write_status_line, write_fields};
