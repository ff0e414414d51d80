//! Which coefficient a covered packet has.

use super::LARGEST_SOURCE;
use super::field::inverse;

/// Bytes of the length before a source part in its symbol.
pub(super) const LENGTH: usize = 2;
/// Bytes of the longest symbol.
pub(super) const LARGEST_SYMBOL: usize = LENGTH + LARGEST_SOURCE;
/// The most packets that a block covers.
pub(super) const BLOCK_SOURCES: u32 = 10;
/// The most rows that we send for a block.
pub(super) const BLOCK_ROWS: u8 = 3;

/// How repairs are computed; the number is the REPAIR frame's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Block = 1,
    Sliding = 2,
}

impl Scheme {
    /// The scheme of a REPAIR frame, if it allows `row` over so many packets.
    pub(super) fn of(scheme: u8, row: u8, covered: u32) -> Option<Self> {
        match scheme {
            1 if row < 128 && (1..=BLOCK_SOURCES).contains(&covered) => Some(Self::Block),
            2 if covered > 0 => Some(Self::Sliding),
            _ => None,
        }
    }

    /// The coefficient, never 0, of the packet that has the number `wire` and is the `place`-th
    /// of those covered.
    pub(super) fn coefficient(self, row: u8, place: u32, wire: u32) -> u8 {
        let column = match self {
            Self::Block => place,
            Self::Sliding => wire,
        };
        inverse((0x80 | row) ^ (column & 0x7f) as u8)
    }
}
