//! How far a body reaches in the bytes of a connection.

use crate::body::chunks::{Chunks, Part};
use crate::body::{BodyError, Framing};

/// Counts the bytes that belong to one message's body, framing included, and keeps none.
///
/// Who hands a connection on to another parser gives it so many bytes and no more: then
/// the two can't differ over where the next message starts. Feed what comes with
/// [`take`](Self::take) until the body is complete.
#[derive(Debug)]
pub struct Boundary {
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    Bytes(u64),
    Chunks(Box<Chunks>),
    Everything,
}

impl Boundary {
    /// For a body with this framing, right behind the head.
    pub fn new(framing: Framing) -> Self {
        let rest = match framing {
            Framing::Empty => Rest::Bytes(0),
            Framing::Length(length) => Rest::Bytes(length),
            Framing::Chunked => Rest::Chunks(Box::new(Chunks::new())),
            Framing::UntilClose => Rest::Everything,
        };
        Self { rest }
    }

    /// How many of these bytes, from the first, belong to the body, and whether it is
    /// complete with them. As long as it is not, all of them do.
    ///
    /// # Errors
    ///
    /// The chunks break a rule or a limit; nothing of `bytes` may be handed on then.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), BodyError> {
        match &mut self.rest {
            Rest::Everything => Ok((bytes.len(), false)),
            Rest::Bytes(left) => {
                let count = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                *left -= count as u64;
                Ok((count, *left == 0))
            }
            Rest::Chunks(chunks) => {
                let mut taken = 0;
                loop {
                    let rest = bytes.get(taken..).unwrap_or_default();
                    let (framing, part) = chunks.read(rest, |_| ())?;
                    taken += framing;
                    match part {
                        Part::Wants => return Ok((taken, false)),
                        Part::Content(count) => taken += count,
                        Part::End => return Ok((taken, true)),
                    }
                }
            }
        }
    }

    /// The body is complete.
    pub fn is_complete(&self) -> bool {
        match &self.rest {
            Rest::Everything => false,
            Rest::Bytes(left) => *left == 0,
            Rest::Chunks(chunks) => chunks.is_complete(),
        }
    }
}

#[cfg(test)]
mod tests;
