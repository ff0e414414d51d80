//! Forward error correction: repairs rebuild lost source parts without a round trip.
//!
//! The sender's [`Encoder`] remembers the source parts that the peer may not have yet and decides
//! when a repair of them is worth its bytes; the receiver's [`Decoder`] keeps what arrived and
//! solves for what did not.

mod decoder;
mod encoder;

pub use decoder::{Decoder, DecoderStats, FecError};
pub use encoder::{Encoder, EncoderStats, Repaired, Situation};

use crate::frame::REPAIR_HEAD;

/// The largest source part that repairs cover, in bytes; larger ones go without.
pub const LARGEST_SOURCE: usize = 1_383;

/// By how many bytes a REPAIR frame exceeds the largest source part that it covers. A sender that
/// wants its packets covered leaves so much room in them.
pub const OVERHEAD: usize = REPAIR_HEAD + 2;
