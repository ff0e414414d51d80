//! The receiver's side.

use bytes::Bytes;

use crate::frame::Repair;
use crate::packet::Numbering;

/// Why a repair was refused. The peer is wrong or lies; the connection lives on without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FecError {
    /// The scheme is none of ours, or does not allow this row or so many packets.
    #[error("repair of scheme {scheme} with row {row} over {covered} packets is not defined")]
    Undefined {
        /// The scheme.
        scheme: u8,
        /// The row.
        row: u8,
        /// How many packets it covers.
        covered: u32,
    },
    /// A symbol that cannot hold any source part, or a larger one than repairs may cover.
    #[error("repair symbol of {0} bytes is outside of the limits")]
    Length(usize),
    /// It contradicts the source parts or the other repairs.
    #[error("repair contradicts what else was received")]
    Contradiction,
}

/// Figures since the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecoderStats {
    /// Repairs received.
    pub repairs: u64,
    /// Source parts rebuilt.
    pub recovered: u64,
    /// Repairs given up while something that they cover was still missing.
    pub unrecoverable: u64,
    /// Repairs refused, see [`FecError`].
    pub refused: u64,
}

/// Keeps what arrived, and solves for what did not.
#[derive(Debug, Default)]
pub struct Decoder {
    stats: DecoderStats,
}

impl Decoder {
    /// A decoder that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A source part arrived, by whatever way but that of [`Decoder::poll_recovered`].
    pub fn on_source(&mut self, _seq: u64, _part: &Bytes) {}

    /// A repair arrived; `numbering` is the peer's.
    ///
    /// # Errors
    /// The repair is wrong; it was dropped and counted.
    pub fn on_repair(&mut self, _repair: &Repair, _numbering: &Numbering) -> Result<(), FecError> {
        self.stats.repairs += 1;
        Ok(())
    }

    /// A source part that was rebuilt; to be asked until it gives none.
    pub fn poll_recovered(&mut self) -> Option<(u64, Bytes)> {
        None
    }

    /// Figures.
    pub fn stats(&self) -> DecoderStats {
        self.stats
    }
}
