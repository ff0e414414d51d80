//! Where a body ends, and taking it out of its framing.

use bytes::{Bytes, BytesMut};

use crate::fields::Fields;

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
            _ => 0,
        };
        Self { framing, left }
    }

    /// Takes what there is.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, BodyError> {
        match self.framing {
            Framing::Empty => Ok(Decoded::End(None)),
            Framing::Length(_) if self.left == 0 => Ok(Decoded::End(None)),
            _ if buffer.is_empty() => Ok(Decoded::Wants),
            Framing::Length(_) => {
                let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
                self.left -= count as u64;
                Ok(Decoded::Data(buffer.split_to(count).freeze()))
            }
            Framing::UntilClose => Ok(Decoded::Data(buffer.split().freeze())),
            Framing::Chunked => Err(BodyError::Chunk),
        }
    }

    /// The connection has closed: the end of the body, or a body that was cut.
    pub fn closed(&mut self) -> Result<(), BodyError> {
        match self.framing {
            Framing::Empty | Framing::UntilClose => Ok(()),
            Framing::Length(_) if self.left == 0 => Ok(()),
            Framing::Length(_) | Framing::Chunked => Err(BodyError::Cut),
        }
    }

    /// Nothing is left to come.
    pub fn is_complete(&self) -> bool {
        match self.framing {
            Framing::Empty => true,
            Framing::Length(_) => self.left == 0,
            Framing::Chunked | Framing::UntilClose => false,
        }
    }
}
