//! Bytes that come in pieces, put together again: handshakes, and source parts cut up for a
//! narrower path.

use bytes::Bytes;

/// A row of bytes from offset 0, of bounded length.
#[derive(Debug)]
pub(super) struct Assembly {
    bytes: Vec<u8>,
    /// Ranges that have come, in order, none touching another: (start, end).
    have: Vec<(usize, usize)>,
    taken: usize,
    limit: usize,
}

/// More than the limit, or in too many pieces.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

/// No honest peer leaves more holes.
const PIECES_MAX: usize = 64;

impl Assembly {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            have: Vec::new(),
            taken: 0,
            limit,
        }
    }

    /// Puts a piece in its place. What comes twice is the same, or a lie that costs the liar its
    /// connection.
    pub(super) fn put(&mut self, offset: usize, piece: &[u8]) -> Result<(), TooMuch> {
        let end = offset.checked_add(piece.len()).ok_or(TooMuch)?;
        if end > self.limit {
            return Err(TooMuch);
        }
        if piece.is_empty() {
            return Ok(());
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(piece);
        self.have.push((offset, end));
        self.have.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::with_capacity(self.have.len());
        for (start, end) in self.have.drain(..) {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        self.have = merged;
        if self.have.len() > PIECES_MAX {
            return Err(TooMuch);
        }
        Ok(())
    }

    /// What has come in order and was not taken yet.
    pub(super) fn take(&mut self) -> Option<&[u8]> {
        let ready = match self.have.first() {
            Some((0, end)) => *end,
            _ => 0,
        };
        if ready <= self.taken {
            return None;
        }
        let from = std::mem::replace(&mut self.taken, ready);
        Some(&self.bytes[from..ready])
    }

    /// All of it, once `total` bytes are there.
    pub(super) fn whole(&self, total: usize) -> Option<Bytes> {
        (self.have.first() == Some(&(0, total))).then(|| Bytes::copy_from_slice(&self.bytes))
    }
}
