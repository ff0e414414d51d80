//! RFC 6455 and RFC 7692 as a state machine over bytes, both roles, no I/O.
//!
//! The crate reads no socket, no clock and no random source: bytes, limits and mask keys are
//! passed in, events and bytes come out. That makes every rule testable byte by byte.
//!
//! Memory is arranged for very many resting connections and few workers:
//!
//! - A connection keeps one [`Decoder`], 16 bytes. Only while a header, a frame or a message is
//!   unfinished does it own a heap block, and that block goes when the message is complete.
//! - A worker keeps one [`Inflater`] and one [`Deflater`] for all its connections. This works
//!   because contexts are never carried from message to message: the handshake always settles on
//!   `server_no_context_takeover` and `client_no_context_takeover`.
//! - A message that lies wholly in the caller's read buffer is unmasked there and lent out from
//!   there, without a copy or an allocation.
//!
//! ```
//! use websocket::{Decoder, Event, Inflater, Limits, OpCode, Role, encode_frame};
//!
//! let mut wire = Vec::new();
//! encode_frame(&mut wire, OpCode::Text, true, false, Some([1, 2, 3, 4]), b"hello");
//!
//! let mut decoder = Decoder::new(Role::Server, None);
//! let mut inflater = Inflater::new();
//! let mut input = wire.as_mut_slice();
//! while !input.is_empty() {
//!     let (used, event) = decoder.decode(&Limits::default(), &mut inflater, input)?;
//!     assert_eq!(event, Some(Event::Message { binary: false, payload: b"hello" }));
//!     input = &mut input[used..];
//! }
//! # Ok::<(), websocket::FrameError>(())
//! ```

pub mod close;
pub mod handshake;

mod decoder;
mod deflate;
mod error;
mod frame;
mod mask;

pub use close::close_payload;
pub use decoder::{Decoder, Event, Limits, Role};
pub use deflate::{Deflater, Inflater, encode_message};
pub use error::FrameError;
pub use frame::{FRAME_HEADER_MAX, OpCode, encode_frame, frame_header};
pub use handshake::extension::{DeflateConfig, DeflateParams, negotiate_deflate};
pub use mask::apply_mask;
