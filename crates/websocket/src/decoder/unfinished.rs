//! What a connection holds while a header, a frame or a message is incomplete.

use crate::decoder::{Event, Limits};
use crate::deflate::Inflater;
use crate::error::FrameError;
use crate::frame::{CONTROL_MAX, FRAME_HEADER_MAX, Header, OpCode};
use crate::mask::apply_mask;

/// The one heap block of a connection that is in the middle of something.
///
/// A control frame may arrive in pieces between the pieces of a message, so both have their room.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    pub(super) header: Spill<FRAME_HEADER_MAX>,
    pub(super) frame: Option<OpenFrame>,
    pub(super) message: Option<OpenMessage>,
    pub(super) control: Spill<CONTROL_MAX>,
}

impl Unfinished {
    /// Whether nothing is open; the header is no part of the question, as it is complete by then.
    pub(super) fn is_idle(&self) -> bool {
        self.frame.is_none() && self.message.is_none()
    }
}

/// A frame whose header is complete and whose payload is not.
#[derive(Debug)]
pub(super) struct OpenFrame {
    pub(super) opcode: OpCode,
    pub(super) fin: bool,
    /// Rotated so that its first byte is due next.
    key: [u8; 4],
    remaining: u64,
}

impl OpenFrame {
    pub(super) fn new(header: &Header) -> Self {
        Self {
            opcode: header.opcode,
            fin: header.fin,
            key: header.key,
            remaining: header.len,
        }
    }

    /// Unmasks what belongs to this frame at the start of `input`.
    pub(super) fn take<'a>(&mut self, input: &'a mut [u8]) -> &'a [u8] {
        let len = self.remaining.min(input.len() as u64) as usize;
        let part = &mut input[..len];
        apply_mask(part, self.key);
        self.key.rotate_left(len % 4);
        self.remaining -= len as u64;
        part
    }

    /// Bytes of payload that have not come yet.
    pub(super) fn remaining(&self) -> u64 {
        self.remaining
    }
}

/// A message that has begun and not ended.
#[derive(Debug)]
pub(super) struct OpenMessage {
    binary: bool,
    compressed: bool,
    /// As travelled, unmasked.
    buffer: Vec<u8>,
    /// How much of the buffer is known to be UTF-8; for uncompressed text only.
    checked: usize,
}

impl OpenMessage {
    pub(super) fn new(binary: bool, compressed: bool) -> Self {
        Self {
            binary,
            compressed,
            buffer: Vec::new(),
            checked: 0,
        }
    }

    /// Adds `part`; `coming` is how many bytes the message still has, if the last frame is known.
    ///
    /// The buffer doubles with what has arrived and ignores what was announced, except that it
    /// never outgrows the end: a header that claims megabytes costs half a kilobyte.
    pub(super) fn append(&mut self, part: &[u8], coming: Option<u64>) -> Result<(), FrameError> {
        if self.buffer.capacity() - self.buffer.len() < part.len() {
            let useful = coming.and_then(|coming| usize::try_from(coming).ok());
            let useful = useful.map_or(usize::MAX, |coming| coming.saturating_add(part.len()));
            let grown = self.buffer.len().max(BUFFER_FIRST);
            self.buffer.reserve_exact(grown.min(useful).max(part.len()));
        }
        self.buffer.extend_from_slice(part);
        if self.binary || self.compressed {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(&self.buffer[self.checked..]) {
            Ok(_) => self.checked = self.buffer.len(),
            // A character is cut: at most its three bytes are looked at again.
            Err(cut) if cut.error_len().is_none() => self.checked += cut.valid_up_to(),
            Err(_) => return Err(FrameError::TextUtf8),
        }
        Ok(())
    }

    /// Ends the message and moves its bytes to the inflater.
    pub(super) fn finish<'a>(
        self,
        limits: &Limits,
        inflater: &'a mut Inflater,
    ) -> Result<Event<'a>, FrameError> {
        let binary = self.binary;
        if !self.compressed {
            if !binary && self.checked != self.buffer.len() {
                return Err(FrameError::TextUtf8);
            }
            return Ok(Event::Message {
                binary,
                payload: inflater.hold(self.buffer),
            });
        }
        let payload = inflater.inflate(limits, &self.buffer)?;
        if !binary && simdutf8::basic::from_utf8(payload).is_err() {
            return Err(FrameError::TextUtf8);
        }
        Ok(Event::Message { binary, payload })
    }

    /// Bytes collected so far.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes allocated.
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

/// The least room, in bytes, that a message of unknown or greater length begins with.
const BUFFER_FIRST: usize = 512;

/// A few bytes that wait for more.
#[derive(Debug)]
pub(super) struct Spill<const N: usize> {
    bytes: [u8; N],
    used: u8,
}

impl<const N: usize> Default for Spill<N> {
    fn default() -> Self {
        const { assert!(N <= u8::MAX as usize) };
        Self {
            bytes: [0; N],
            used: 0,
        }
    }
}

impl<const N: usize> Spill<N> {
    /// Adds as much of `more` as there is room for.
    pub(super) fn extend(&mut self, more: &[u8]) {
        let used = self.len();
        let len = more.len().min(N - used);
        self.bytes[used..used + len].copy_from_slice(&more[..len]);
        self.used = (used + len) as u8;
    }

    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.used)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len()]
    }
}
