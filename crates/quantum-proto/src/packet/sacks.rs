//! The SACK blocks of a header.

use super::SACK_MAX;

/// At most [`SACK_MAX`] ranges of sequence numbers as they stand on the wire, ends included.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sacks {
    blocks: [(u32, u32); SACK_MAX],
    len: u8,
}

impl Sacks {
    /// Appends a block; false if there is no room any more.
    pub fn push(&mut self, start: u32, end: u32) -> bool {
        let Some(block) = self.blocks.get_mut(usize::from(self.len)) else {
            return false;
        };
        *block = (start, end);
        self.len += 1;
        true
    }

    /// How many blocks there are.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The blocks in their order on the wire.
    pub fn as_slice(&self) -> &[(u32, u32)] {
        &self.blocks[..self.len()]
    }
}

impl PartialEq for Sacks {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Sacks {}

impl<'a> IntoIterator for &'a Sacks {
    type Item = (u32, u32);
    type IntoIter = std::iter::Copied<std::slice::Iter<'a, (u32, u32)>>;

    fn into_iter(self) -> Self::IntoIter {
        self.as_slice().iter().copied()
    }
}
