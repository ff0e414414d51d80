//! What is to be written, in as few copies and writes as it takes.

use bytes::{Buf, Bytes, BytesMut};

use crate::buffer::{BUFFER_SIZE, give_back};
use crate::write::chunk_start;

/// Parts of a body up to this size are copied behind what is to be written before them;
/// larger ones are written from where they lie.
const COPIED_MAX: usize = 4 * 1_024;

/// What is to be written: copied bytes first, then a large part where it lies, then what
/// closes its chunk.
#[derive(Debug, Default)]
pub struct Outgoing {
    copied: BytesMut,
    large: Bytes,
    close: &'static [u8],
}

impl Outgoing {
    /// Begins with these bytes, usually a head.
    pub fn new(first: BytesMut) -> Self {
        Self {
            copied: first,
            ..Self::default()
        }
    }

    /// All is written.
    pub fn is_empty(&self) -> bool {
        self.copied.is_empty() && self.large.is_empty() && self.close.is_empty()
    }

    /// Another part can be put behind what there is.
    pub fn has_room(&self) -> bool {
        self.large.is_empty() && self.close.is_empty() && self.copied.len() < BUFFER_SIZE
    }

    /// Where heads and ends are written; only while there is room.
    pub fn copied(&mut self) -> &mut BytesMut {
        debug_assert!(
            self.large.is_empty(),
            "it would overtake a part of the body"
        );
        &mut self.copied
    }

    /// Puts a part of a body behind, as a chunk or as it is; only while there is room.
    pub fn push(&mut self, data: Bytes, chunked: bool) {
        debug_assert!(self.has_room(), "it would replace a part of the body");
        if chunked {
            chunk_start(&mut self.copied, data.len());
        }
        let close: &[u8] = if chunked { b"\r\n" } else { b"" };
        if data.len() <= COPIED_MAX {
            self.copied.extend_from_slice(&data);
            self.copied.extend_from_slice(close);
        } else {
            self.large = data;
            self.close = close;
        }
    }

    /// What is left, in order.
    pub fn parts(&self) -> [&[u8]; 3] {
        [&self.copied, &self.large, self.close]
    }

    /// So many bytes were written.
    pub fn advance(&mut self, mut written: usize) {
        let of_copied = written.min(self.copied.len());
        self.copied.advance(of_copied);
        written -= of_copied;
        let of_large = written.min(self.large.len());
        self.large.advance(of_large);
        written -= of_large;
        self.close = self.close.get(written..).unwrap_or_default();
    }

    /// Gives the memory back while there is nothing to write.
    pub fn give_back(&mut self) {
        debug_assert!(self.is_empty(), "it would be lost");
        give_back(std::mem::take(&mut self.copied));
        self.large = Bytes::new();
    }
}
