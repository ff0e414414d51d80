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
mod boundary;
mod buffer;
mod fields;
mod forward;
mod head;
mod inflow;
mod outgoing;
mod parse;
mod section;
mod write;

pub use body::{BodyDecoder, BodyError, Decoded, Framing};
pub use boundary::Boundary;
pub use buffer::{BUFFER_SIZE, give_back, take_buffer};
pub use fields::{Field, Fields, InvalidField, Known};
pub use forward::{connection_tokens, strip_hop_by_hop, strip_request_trailers, strip_trailers};
pub use head::{RequestHead, ResponseHead, Target, Version};
pub use inflow::{Chunk, Gone, Inflow};
pub use outgoing::Outgoing;
pub use parse::{Limits, Reject, http2_request, request, response};
pub use write::{chunk_end, chunk_start, write_fields, write_request_line, write_status_line};
