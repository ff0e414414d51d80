//! The chunked coding (RFC 9112, 7.1), read byte by byte without holding any.

use super::BodyError;

/// What comes next in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// More bytes are needed to say.
    Wants,
    /// So many bytes of the body; at least one.
    Content(usize),
    /// Nothing.
    End,
}

/// Reads sizes, extensions and trailers. Extensions are passed over, trailers are checked
/// and handed on.
#[derive(Debug)]
pub(crate) struct Chunks {
    state: State,
    /// Bytes of the extension in the chunk that is being read.
    extension: usize,
    extensions: usize,
    trailer_bytes: usize,
    trailer_fields: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { size: u64, digits: u8 },
    Extension { size: u64 },
    SizeFeed { size: u64 },
    Content { left: u64 },
    ContentReturn,
    ContentFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerFeed,
    LastFeed,
    End,
}

impl Chunks {
    /// Before the first chunk.
    pub(crate) fn new() -> Self {
        Self {
            state: State::Size { size: 0, digits: 0 },
            extension: 0,
            extensions: 0,
            trailer_bytes: 0,
            trailer_fields: 0,
        }
    }

    /// The last byte of the body has been read.
    pub(crate) fn is_complete(&self) -> bool {
        self.state == State::End
    }

    /// Reads on: how many bytes of `input` are framing, and what follows them. The
    /// content that is announced counts as read. `trailer` gets each byte of a trailer's
    /// line, its CRLF included.
    pub(crate) fn read(
        &mut self,
        input: &[u8],
        mut trailer: impl FnMut(u8),
    ) -> Result<(usize, Part), BodyError> {
        for (at, byte) in input.iter().enumerate() {
            match &mut self.state {
                State::Content { left } => {
                    let here = input.len() - at;
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(here);
                    *left -= count as u64;
                    if *left == 0 {
                        self.state = State::ContentReturn;
                    }
                    return Ok((at, Part::Content(count)));
                }
                State::End => return Ok((at, Part::End)),
                _ => self.step(*byte, &mut trailer)?,
            }
        }
        let part = if self.is_complete() {
            Part::End
        } else {
            Part::Wants
        };
        Ok((input.len(), part))
    }

    /// One byte that is not content.
    fn step(&mut self, byte: u8, trailer: &mut impl FnMut(u8)) -> Result<(), BodyError> {
        self.state = match (self.state, byte) {
            (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                // 16 digits fit into 64 bits; the highest bit stays clear.
                let size = size << 4 | hex(byte);
                if digits == LONGEST_SIZE || size >= 1 << 63 {
                    return Err(BodyError::Chunk);
                }
                State::Size {
                    size,
                    digits: digits + 1,
                }
            }
            (State::Size { digits: 0, .. }, _) => return Err(BodyError::Chunk),
            (State::Size { size, .. } | State::Extension { size }, b'\r') => {
                self.extension = 0;
                State::SizeFeed { size }
            }
            (State::Size { size, .. }, b';') => self.extend(size)?,
            (State::Extension { size }, b'\t' | 0x20..=0x7e | 0x80..) => self.extend(size)?,
            (State::SizeFeed { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeFeed { size }, b'\n') => State::Content { left: size },
            (State::ContentReturn, b'\r') => State::ContentFeed,
            (State::ContentFeed, b'\n') => State::Size { size: 0, digits: 0 },
            (
                State::Size { .. }
                | State::Extension { .. }
                | State::SizeFeed { .. }
                | State::ContentReturn
                | State::ContentFeed,
                _,
            ) => return Err(BodyError::Chunk),
            (State::TrailerStart, b'\r') => State::LastFeed,
            (State::LastFeed, b'\n') => State::End,
            (State::LastFeed, _) => return Err(BodyError::Trailers),
            (
                state @ (State::TrailerStart
                | State::TrailerName
                | State::TrailerValue
                | State::TrailerFeed),
                _,
            ) => {
                self.trailer_bytes += 1;
                if self.trailer_bytes > MOST_TRAILER_BYTES {
                    return Err(BodyError::Overhead);
                }
                trailer(byte);
                self.trailer(state, byte)?
            }
            // `read` deals with these.
            (state @ (State::Content { .. } | State::End), _) => state,
        };
        Ok(())
    }

    /// One byte of a chunk extension.
    fn extend(&mut self, size: u64) -> Result<State, BodyError> {
        self.extension += 1;
        self.extensions += 1;
        if self.extension > LONGEST_EXTENSION || self.extensions > MOST_EXTENSIONS {
            return Err(BodyError::Overhead);
        }
        Ok(State::Extension { size })
    }

    /// One byte of a trailer's line.
    fn trailer(&mut self, state: State, byte: u8) -> Result<State, BodyError> {
        match (state, byte) {
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerStart | State::TrailerName, _) if crate::fields::is_name(&[byte]) => {
                Ok(State::TrailerName)
            }
            (State::TrailerValue, b'\r') => Ok(State::TrailerFeed),
            (State::TrailerValue, _) if crate::fields::is_value(&[byte]) => Ok(State::TrailerValue),
            (State::TrailerFeed, b'\n') => {
                self.trailer_fields += 1;
                if self.trailer_fields > MOST_TRAILERS {
                    return Err(BodyError::Overhead);
                }
                Ok(State::TrailerStart)
            }
            _ => Err(BodyError::Trailers),
        }
    }
}

fn hex(digit: u8) -> u64 {
    u64::from(match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    })
}

/// Digits of a chunk's size.
const LONGEST_SIZE: u8 = 16;
/// Bytes of one chunk's extension.
pub(crate) const LONGEST_EXTENSION: usize = 4096;
/// Bytes of all extensions of a body.
pub(crate) const MOST_EXTENSIONS: usize = 16 * 1024;
/// Bytes of all trailers.
pub(crate) const MOST_TRAILER_BYTES: usize = 8 * 1024;
/// Fields among the trailers.
pub(crate) const MOST_TRAILERS: usize = 64;
