//! Where a body ends, and taking it out of its framing.

pub(crate) mod chunks;

use std::mem;

use bytes::{Buf, Bytes, BytesMut};

use crate::fields::Fields;
use crate::forward;
use crate::section::{self, Underscores};
use chunks::{Chunks, Part};

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// So many bytes, at least one.
    Length(u64),
    /// In chunks, perhaps with trailers (RFC 9112, 7.1).
    Chunked,
    /// Until the connection closes; answers only.
    UntilClose,
}

/// Takes a body out of its framing.
#[derive(Debug)]
pub struct BodyDecoder {
    framing: Framing,
    left: u64,
    chunks: Chunks,
    /// Lines of the trailers so far, each with its CRLF.
    trailers: Vec<u8>,
}

/// What the decoder found.
#[derive(Debug)]
pub enum Decoded {
    /// More bytes are needed.
    Wants,
    /// A part of the body; never empty.
    Data(Bytes),
    /// The body is complete. What is left in the buffer belongs to the next message.
    End(Option<Box<Fields>>),
}

/// A body that breaks the rules of its framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A chunk size that is not plain hexadecimal, is too large, or a chunk without its end.
    #[error("chunk is malformed")]
    Chunk,
    /// Chunk extensions or trailers beyond the limit.
    #[error("chunk extensions or trailers are too large")]
    Overhead,
    /// Trailers that are no fields.
    #[error("trailers are malformed")]
    Trailers,
    /// The connection closed before the body was complete.
    #[error("body was cut")]
    Cut,
}

impl BodyDecoder {
    /// For a body with this framing.
    pub fn new(framing: Framing) -> Self {
        let left = match framing {
            Framing::Length(length) => length,
            Framing::Empty | Framing::Chunked | Framing::UntilClose => 0,
        };
        Self {
            framing,
            left,
            chunks: Chunks::new(),
            trailers: Vec::new(),
        }
    }

    /// Takes what there is. Content is split off where it lies; a chunk that comes in
    /// several reads gives several parts.
    ///
    /// # Errors
    ///
    /// The body breaks its framing; then neither decoder nor buffer is of further use.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, BodyError> {
        match self.framing {
            Framing::Empty => Ok(Decoded::End(None)),
            Framing::Length(_) if self.left == 0 => Ok(Decoded::End(None)),
            Framing::Chunked => self.decode_chunks(buffer),
            _ if buffer.is_empty() => Ok(Decoded::Wants),
            Framing::Length(_) => {
                let count = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(buffer.len());
                self.left -= count as u64;
                Ok(Decoded::Data(buffer.split_to(count).freeze()))
            }
            Framing::UntilClose => Ok(Decoded::Data(buffer.split().freeze())),
        }
    }

    /// The connection has closed, and the buffer is decoded: the end of the body, or a
    /// body that was cut.
    ///
    /// # Errors
    ///
    /// [`BodyError::Cut`].
    pub fn closed(&mut self) -> Result<(), BodyError> {
        if self.is_complete() || self.framing == Framing::UntilClose {
            Ok(())
        } else {
            Err(BodyError::Cut)
        }
    }

    /// Nothing is left to come.
    pub fn is_complete(&self) -> bool {
        match self.framing {
            Framing::Empty => true,
            Framing::Length(_) => self.left == 0,
            Framing::Chunked => self.chunks.is_complete(),
            Framing::UntilClose => false,
        }
    }

    fn decode_chunks(&mut self, buffer: &mut BytesMut) -> Result<Decoded, BodyError> {
        let trailers = &mut self.trailers;
        let (framing, part) = self.chunks.read(buffer, |byte| trailers.push(byte))?;
        buffer.advance(framing);
        match part {
            Part::Wants => Ok(Decoded::Wants),
            Part::Content(count) => Ok(Decoded::Data(buffer.split_to(count).freeze())),
            Part::End => self.take_trailers().map(Decoded::End),
        }
    }

    fn take_trailers(&mut self) -> Result<Option<Box<Fields>>, BodyError> {
        if self.trailers.is_empty() {
            return Ok(None);
        }
        let block = Bytes::from(mem::take(&mut self.trailers));
        let limit = chunks::MOST_TRAILERS;
        let mut fields = section::fields(&block, 0, limit, Underscores::Allowed, |_, _, _| Ok(()))
            .map_err(|_| BodyError::Trailers)?;
        forward::strip_trailers(&mut fields);
        Ok(if fields.is_empty() {
            None
        } else {
            Some(Box::new(fields))
        })
    }
}

#[cfg(test)]
mod tests;
