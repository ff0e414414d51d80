//! From bytes to messages.
//!
//! A decoder is fed from a read buffer that all connections of a worker share, so whatever it
//! does not finish it must keep itself, and whatever it finishes it lends out without copying.
//! Three cases follow, from common to rare:
//!
//! 1. A frame lies wholly in the input, and is a whole message or a control frame: it is unmasked
//!    in place and lent from there.
//! 2. A message spans inputs or frames: its parts are unmasked and checked as they come and
//!    collected in a box; with the last part the buffer moves to the [`Inflater`], which lends it,
//!    and the box is freed.
//! 3. A header spans inputs: its few bytes wait in the same box.

use crate::close::parse_close;
use crate::deflate::Inflater;
use crate::error::FrameError;
use crate::frame::{Header, OpCode};
use crate::handshake::extension::DeflateParams;
use crate::mask::apply_mask;

use unfinished::{OpenFrame, OpenMessage, Unfinished};

mod unfinished;

/// Which end of the connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We connected: what we receive is not masked.
    Client,
    /// We accepted: what we receive is masked.
    Server,
}

/// What a peer may send. A limit is the largest accepted value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a message as it travels, all fragments together.
    pub message_max: usize,
    /// Bytes of payload of one frame; checked when the header is read.
    pub frame_max: u64,
    /// Bytes of a compressed message after decompression.
    pub inflated_max: usize,
    /// How many times its size a compressed message may grow. Messages that stay below 4 KiB are
    /// exempt.
    pub inflate_ratio_max: u32,
}

impl Default for Limits {
    /// 64 KiB per frame, 256 KiB per message before and after decompression, ratio 100.
    fn default() -> Self {
        Self {
            message_max: 256 * 1024,
            frame_max: 64 * 1024,
            inflated_max: 256 * 1024,
            inflate_ratio_max: 100,
        }
    }
}

/// What a peer said, lent until the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message; with `binary` false it is valid UTF-8.
    Message {
        /// Whether it was sent as bytes rather than text.
        binary: bool,
        /// The message, decompressed.
        payload: &'a [u8],
    },
    /// To be answered by a pong with the same payload, at most 125 bytes.
    Ping(&'a [u8]),
    /// The answer to a ping, or unsolicited.
    Pong(&'a [u8]),
    /// The peer closes: answer with a close frame unless one was sent, and read no further.
    Close {
        /// The status, `None` if the peer gave none.
        code: Option<u16>,
        /// The reason, at most 123 bytes.
        reason: &'a str,
    },
}

/// The receiving half of one connection.
///
/// Call [`decode`](Self::decode) until the input is used up; nothing is left over in the caller's
/// buffer then. After a [`Event::Close`] or an error everything that follows is ignored.
#[derive(Debug)]
pub struct Decoder {
    unfinished: Option<Box<Unfinished>>,
    role: Role,
    deflate: bool,
    ended: bool,
}

impl Decoder {
    /// A decoder for the bytes after the handshake.
    ///
    /// `deflate` is what the handshake negotiated; without it RSV1 is refused.
    #[must_use]
    pub fn new(role: Role, deflate: Option<DeflateParams>) -> Self {
        Self {
            unfinished: None,
            role,
            deflate: deflate.is_some(),
            ended: false,
        }
    }

    /// Decodes at most one event from the start of `input`, unmasking in place.
    ///
    /// Returns how many bytes were used, and the event that ended with the last of them, if any.
    /// Without an event the call may still stop early, after a fragment; so call again while
    /// input is left. At least one byte is used if there is one.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol or a limit: send a close frame with
    /// [`FrameError::close_code`] and end the connection.
    pub fn decode<'a>(
        &mut self,
        limits: &Limits,
        inflater: &'a mut Inflater,
        input: &'a mut [u8],
    ) -> Result<(usize, Option<Event<'a>>), FrameError> {
        inflater.trim();
        if self.ended {
            return Ok((input.len(), None));
        }
        let outcome = self.advance(limits, inflater, input);
        if matches!(outcome, Err(_) | Ok((_, Some(Event::Close { .. })))) {
            self.ended = true;
            self.unfinished = None;
        }
        outcome
    }

    /// Heap bytes held by what is unfinished; 0 for a resting connection.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.unfinished.as_ref().map_or(0, |unfinished| {
            let message = unfinished.message.as_ref().map_or(0, OpenMessage::capacity);
            size_of::<Unfinished>() + message
        })
    }

    fn advance<'a>(
        &mut self,
        limits: &Limits,
        inflater: &'a mut Inflater,
        input: &'a mut [u8],
    ) -> Result<(usize, Option<Event<'a>>), FrameError> {
        if self
            .unfinished
            .as_ref()
            .is_some_and(|unfinished| unfinished.frame.is_some())
        {
            return self.advance_frame(limits, inflater, input);
        }
        let Some((header, used)) = self.read_header(input)? else {
            return Ok((input.len(), None));
        };
        self.check_header(limits, &header)?;
        let rest = &mut input[used..];

        let begins_message = matches!(header.opcode, OpCode::Text | OpCode::Binary);
        let whole = header.len <= rest.len() as u64;
        if whole && (header.opcode.is_control() || (begins_message && header.fin)) {
            let payload = &mut rest[..header.len as usize];
            apply_mask(payload, header.key);
            let event = whole_event(limits, inflater, &header, payload)?;
            return Ok((used + header.len as usize, Some(event)));
        }

        let unfinished = self.unfinished.get_or_insert_default();
        if begins_message {
            let binary = header.opcode == OpCode::Binary;
            unfinished.message = Some(OpenMessage::new(binary, header.compressed));
        }
        unfinished.frame = Some(OpenFrame::new(&header));
        let (part, event) = self.advance_frame(limits, inflater, rest)?;
        Ok((used + part, event))
    }

    /// The next header, and how many bytes of `input` it took; `None` if all of them were too few.
    fn read_header(&mut self, input: &[u8]) -> Result<Option<(Header, usize)>, FrameError> {
        let begun = self
            .unfinished
            .as_ref()
            .map_or(0, |unfinished| unfinished.header.len());
        if begun == 0 {
            let parsed = Header::parse(self.role, self.deflate, input)?;
            if let Some(header) = parsed {
                return Ok(Some((header, header.size)));
            }
        }
        if input.is_empty() {
            return Ok(None);
        }
        let spill = &mut self.unfinished.get_or_insert_default().header;
        spill.extend(input);
        let Some(header) = Header::parse(self.role, self.deflate, spill.bytes())? else {
            return Ok(None);
        };
        spill.clear();
        self.rest_if_idle();
        Ok(Some((header, header.size - begun)))
    }

    /// The checks that depend on limits and on the message that is open.
    fn check_header(&self, limits: &Limits, header: &Header) -> Result<(), FrameError> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let open = self
            .unfinished
            .as_ref()
            .and_then(|unfinished| unfinished.message.as_ref());
        let so_far = match (header.opcode, open) {
            (OpCode::Continuation, None) => return Err(FrameError::UnexpectedContinuation),
            (OpCode::Continuation, Some(message)) => message.len(),
            (_, None) => 0,
            (_, Some(_)) => return Err(FrameError::ExpectedContinuation),
        };
        if header.len > limits.frame_max {
            return Err(FrameError::FrameTooLarge);
        }
        if header.len > limits.message_max.saturating_sub(so_far) as u64 {
            return Err(FrameError::MessageTooLarge);
        }
        Ok(())
    }

    /// Takes the next part of the frame that is open, and ends frame and message with it.
    fn advance_frame<'a>(
        &mut self,
        limits: &Limits,
        inflater: &'a mut Inflater,
        input: &'a mut [u8],
    ) -> Result<(usize, Option<Event<'a>>), FrameError> {
        let Some(unfinished) = self.unfinished.as_deref_mut() else {
            return Ok((0, None));
        };
        let Some(frame) = unfinished.frame.as_mut() else {
            return Ok((0, None));
        };
        let part = frame.take(input);
        let used = part.len();
        let opcode = frame.opcode;
        let fin = frame.fin;
        let frame_ends = frame.remaining() == 0;

        if opcode.is_control() {
            unfinished.control.extend(part);
        } else if let Some(message) = unfinished.message.as_mut() {
            message.append(part, fin.then_some(frame.remaining()))?;
        }
        if !frame_ends {
            return Ok((used, None));
        }
        unfinished.frame = None;

        let event = if opcode.is_control() {
            let payload = inflater.hold_copy(unfinished.control.bytes());
            unfinished.control.clear();
            Some(control_event(opcode, payload)?)
        } else if fin && let Some(message) = unfinished.message.take() {
            Some(message.finish(limits, inflater)?)
        } else {
            None
        };
        self.rest_if_idle();
        Ok((used, event))
    }

    /// Frees the box if nothing is left in it.
    fn rest_if_idle(&mut self) {
        if self
            .unfinished
            .as_ref()
            .is_some_and(|unfinished| unfinished.is_idle())
        {
            self.unfinished = None;
        }
    }
}

/// The event of a frame that lies wholly in the input, already unmasked.
fn whole_event<'a>(
    limits: &Limits,
    inflater: &'a mut Inflater,
    header: &Header,
    payload: &'a [u8],
) -> Result<Event<'a>, FrameError> {
    if header.opcode.is_control() {
        return control_event(header.opcode, payload);
    }
    let payload = match header.compressed {
        true => inflater.inflate(limits, payload)?,
        false => payload,
    };
    let binary = header.opcode == OpCode::Binary;
    if !binary && simdutf8::basic::from_utf8(payload).is_err() {
        return Err(FrameError::TextUtf8);
    }
    Ok(Event::Message { binary, payload })
}

/// The event of a control frame; data frames do not come here.
fn control_event(opcode: OpCode, payload: &[u8]) -> Result<Event<'_>, FrameError> {
    match opcode {
        OpCode::Ping => Ok(Event::Ping(payload)),
        OpCode::Pong => Ok(Event::Pong(payload)),
        OpCode::Close | OpCode::Continuation | OpCode::Text | OpCode::Binary => {
            let (code, reason) = parse_close(payload)?;
            Ok(Event::Close { code, reason })
        }
    }
}

#[cfg(test)]
mod tests;
