//! Compression of messages (RFC 7692), without context takeover.
//!
//! A compressor takes about 300 KB and a decompressor about 50 KB, so neither belongs to a
//! connection: a worker owns one [`Inflater`] and one [`Deflater`], which start afresh with every
//! message.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::decoder::Limits;
use crate::error::FrameError;
use crate::frame::{OpCode, encode_frame};
use crate::handshake::extension::DeflateParams;

/// Decompresses messages, and holds the bytes of the latest event that did not lie in the
/// caller's buffer.
///
/// One per worker. Its memory is bounded by the limits passed to
/// [`Decoder::decode`](crate::Decoder::decode), and falls back to a small buffer with the next
/// call after a large message.
#[derive(Debug, Default)]
pub struct Inflater {
    /// Made when the first compressed message arrives.
    stream: Option<Decompress>,
    held: Vec<u8>,
}

impl Inflater {
    /// An inflater that has allocated nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Frees what an earlier large message left behind.
    pub(crate) fn trim(&mut self) {
        if self.held.capacity() > HELD_KEPT_MAX {
            self.held = Vec::new();
        }
    }

    /// Takes a finished message over, so that its connection is at rest at once.
    pub(crate) fn hold(&mut self, payload: Vec<u8>) -> &[u8] {
        self.held = payload;
        &self.held
    }

    /// Copies the payload of a control frame.
    pub(crate) fn hold_copy(&mut self, payload: &[u8]) -> &[u8] {
        self.held.clear();
        self.held.extend_from_slice(payload);
        &self.held
    }

    /// Decompresses a whole message.
    pub(crate) fn inflate(
        &mut self,
        limits: &Limits,
        compressed: &[u8],
    ) -> Result<&[u8], FrameError> {
        let by_ratio = compressed
            .len()
            .saturating_mul(limits.inflate_ratio_max as usize);
        let by_ratio = by_ratio.max(RATIO_FREE);
        let (cap, over) = if by_ratio < limits.inflated_max {
            (by_ratio, FrameError::InflateRatio)
        } else {
            (limits.inflated_max, FrameError::InflatedTooLarge)
        };
        self.held.clear();
        if !compressed.is_empty() {
            let stream = self.stream.get_or_insert_with(|| Decompress::new(false));
            stream.reset(false);
            for part in [compressed, &TAIL] {
                inflate_part(stream, part, &mut self.held, cap, over)?;
            }
        }
        Ok(&self.held)
    }
}

/// Compresses messages for peers of any window size.
///
/// One per worker. A compressor for a window size is made when first asked for and kept: 250 to
/// 380 KB each, at most seven.
#[derive(Debug)]
pub struct Deflater {
    level: Compression,
    scratch: Vec<u8>,
    streams: [Option<Compress>; WINDOW_SIZES],
}

impl Deflater {
    /// A deflater of a compression level from 0 (none) to 9 (best); higher ones count as 9.
    #[must_use]
    pub fn new(level: u32) -> Self {
        Self {
            level: Compression::new(level.min(9)),
            scratch: Vec::new(),
            streams: [const { None }; WINDOW_SIZES],
        }
    }

    /// Appends the compressed `payload`, without the tail that RFC 7692 (7.2.1) strips, to `out`.
    ///
    /// Returns false and leaves `out` as it was if that saves nothing, or if `window_bits` is not
    /// one of 9 to 15 (zlib cannot do the smallest window that RFC 7692 knows, 8): the message
    /// then has to travel uncompressed, which is always permitted.
    pub fn compress(&mut self, window_bits: u8, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(slot) = window_bits
            .checked_sub(WINDOW_BITS_MIN)
            .and_then(|index| self.streams.get_mut(usize::from(index)))
        else {
            return false;
        };
        let level = self.level;
        let stream =
            slot.get_or_insert_with(|| Compress::new_with_window_bits(level, false, window_bits));
        stream.reset();
        let start = out.len();
        let complete = deflate_all(stream, payload, out);
        let end = out.len().saturating_sub(TAIL.len());
        if complete && out.ends_with(&TAIL) && end > start && end - start < payload.len() {
            out.truncate(end);
            true
        } else {
            out.truncate(start);
            false
        }
    }
}

/// Appends a whole message as one frame to `out`, compressed if `deflate` names a deflater and a
/// window and compression helps.
///
/// Without `mask` the result can be prepared once and sent to every client that agreed to a
/// window at least as large.
pub fn encode_message(
    out: &mut Vec<u8>,
    binary: bool,
    mask: Option<[u8; 4]>,
    payload: &[u8],
    deflate: Option<(&mut Deflater, DeflateParams)>,
) {
    let opcode = if binary { OpCode::Binary } else { OpCode::Text };
    let Some((deflater, params)) = deflate else {
        return encode_frame(out, opcode, true, false, mask, payload);
    };
    let mut scratch = std::mem::take(&mut deflater.scratch);
    if deflater.compress(params.window_bits, payload, &mut scratch) {
        encode_frame(out, opcode, true, true, mask, &scratch);
    } else {
        encode_frame(out, opcode, true, false, mask, payload);
    }
    if scratch.capacity() <= HELD_KEPT_MAX {
        scratch.clear();
        deflater.scratch = scratch;
    }
}

/// Feeds `input` and appends what comes out, stopping soon after `out` passes `cap`.
fn inflate_part(
    stream: &mut Decompress,
    mut input: &[u8],
    out: &mut Vec<u8>,
    cap: usize,
    over: FrameError,
) -> Result<(), FrameError> {
    loop {
        if out.len() == out.capacity() {
            // Doubling, but never further than the byte that proves the excess.
            let room = cap.saturating_sub(out.len()).saturating_add(1);
            out.reserve_exact(out.len().max(INFLATE_STEP).min(room));
        }
        let (read, written) = (stream.total_in(), out.len());
        let status = stream
            .decompress_vec(input, out, FlushDecompress::Sync)
            .map_err(|_| FrameError::DeflateCorrupt)?;
        input = &input[(stream.total_in() - read) as usize..];
        if out.len() > cap {
            return Err(over);
        }
        match status {
            Status::StreamEnd => {
                // A peer may end with a final block and append an empty one (7.2.3.4): what
                // follows is a stream of its own.
                stream.reset(false);
                if input.is_empty() {
                    return Ok(());
                }
            }
            Status::Ok | Status::BufError => {
                if input.is_empty() && out.len() < out.capacity() {
                    return Ok(());
                }
                if stream.total_in() == read && out.len() == written && written < out.capacity() {
                    return Err(FrameError::DeflateCorrupt);
                }
            }
        }
    }
}

/// Compresses all of `input` to the end of `out` with a sync flush; false if zlib refused.
fn deflate_all(stream: &mut Compress, mut input: &[u8], out: &mut Vec<u8>) -> bool {
    loop {
        out.reserve(input.len() / 2 + 64);
        let read = stream.total_in();
        let Ok(status) = stream.compress_vec(input, out, FlushCompress::Sync) else {
            return false;
        };
        input = &input[(stream.total_in() - read) as usize..];
        match status {
            Status::Ok if input.is_empty() && out.len() < out.capacity() => return true,
            // Nothing was left to flush.
            Status::BufError if input.is_empty() => return true,
            Status::Ok => {}
            Status::BufError | Status::StreamEnd => return false,
        }
    }
}

/// What a sender strips and a receiver appends (RFC 7692, 7.2.1 and 7.2.2).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Messages up to this many decompressed bytes are exempt from the ratio: a short text of one
/// repeated word is no attack.
pub(crate) const RATIO_FREE: usize = 4096;

/// What the held buffer may keep between events, in bytes.
const HELD_KEPT_MAX: usize = 64 * 1024;

/// The first step in which the output grows, in bytes.
const INFLATE_STEP: usize = 1024;

const WINDOW_BITS_MIN: u8 = 9;
const WINDOW_SIZES: usize = 7;

#[cfg(test)]
mod tests;
