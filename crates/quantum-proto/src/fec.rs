//! Forward error correction: repairs rebuild lost source parts without a round trip.
//!
//! The sender's [`Encoder`] remembers the source parts that the peer may not have yet and decides
//! when a repair of them is worth its bytes; the receiver's [`Decoder`] keeps what arrived and
//! solves for what did not.
//!
//! # Code
//!
//! The symbol of a source part is `length u16 | source part`, padded with zeros to the length of
//! the longest one that the repair covers. The repair's own symbol is the sum of these, each
//! multiplied by a coefficient, in GF(2^8) with the polynomial 0x11D. A row names a vector of
//! coefficients, so several repairs of the same packets are independent of each other:
//!
//! - Scheme 1, block: the j-th covered packet, counted from 0, has the inverse of
//!   `(128 + row) XOR j`. At most ten packets; rows 0 to 127, of which we send 0 to 2.
//! - Scheme 2, sliding window: the packet whose sequence number on the wire is `s` has the inverse
//!   of `(128 + row mod 128) XOR (s mod 128)`. At most 32 packets; the row goes up by one with
//!   each repair and wraps after 255.
//!
//! Both are Cauchy matrices: any n losses are solvable with n repairs of different rows, modulo 128,
//! that cover all of them (in scheme 1, under the same mask). A window in scheme 2 needs no agreement: whatever the
//! sender chose to cover, the mask says it, and the packet's number is its column.
//!
//! Test vector: the parts `0a`, `14 1e` and `28 32 3c` have the numbers 5, 6 and 7. Row 1 of
//! scheme 2 has the coefficients `7c b0 e4` and the symbol `00 30 a8 43 f3`; row 1 of
//! scheme 1 has `54 1b 1d` and `00 45 9c 5f d6`.
//!
//! # Cost
//!
//! A repair costs one pass over each part that it covers. The decoder copies each part that
//! arrives, and computes nothing while nothing is missing.

mod code;
mod decoder;
mod encoder;
mod field;
mod loss;
mod schedule;
mod window;

pub use decoder::{Decoder, DecoderStats, FecError};
pub use encoder::{Encoder, EncoderStats, Repaired, Situation};

use crate::frame::REPAIR_HEAD;

/// The largest source part that repairs cover, in bytes; larger ones go without.
pub const LARGEST_SOURCE: usize = 1_383;

/// By how many bytes a REPAIR frame exceeds the largest source part that it covers. A sender that
/// wants its packets covered leaves so much room in them.
pub const OVERHEAD: usize = REPAIR_HEAD + code::LENGTH;

#[cfg(test)]
mod tests;
