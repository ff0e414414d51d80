//! Frames to messages and back.
//!
//! A frame is what one WebSocket message or HTTP body carries: several messages,
//! joined by a newline in JSON, each behind its length in Protobuf (`contracts`:
//! centrifuge 11.2). Frames are decoded message by message, on demand, because a
//! command may have to wait (for a token check, say) while those behind it stay
//! undecoded; [`Messages::rest`] is what to keep for later.
//!
//! Decoding allocates at most 64 times the frame, whatever the frame claims about itself
//! (the worst names a channel every six bytes; nearly all take less than the frame), and
//! recurses no deeper than the messages nest.

mod json;
mod protobuf;

use std::marker::PhantomData;

use prost::Message;
use serde::Serialize;

use crate::message::{Command, EmulationRequest, Publication, Reply, Structure};

/// How a client's messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// Text, one message a line.
    Json,
    /// Binary, each message behind its length.
    Protobuf,
}

/// The messages of a frame, decoded one by one. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Messages<'a, M> {
    encoding: Encoding,
    rest: &'a [u8],
    /// An empty frame is an error; an empty rest is the end.
    started: bool,
    kind: PhantomData<fn() -> M>,
}

/// The commands of a frame.
pub type Commands<'a> = Messages<'a, Command>;

/// The replies, pushes and pings of a frame.
pub type Replies<'a> = Messages<'a, Reply>;

/// Why a frame, or the rest of it, can't be read. Says where, never what: the frame may
/// hold a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A frame without a message.
    #[error("frame is empty")]
    EmptyFrame,
    /// A newline too many.
    #[error("frame has a blank line")]
    BlankLine,
    /// Not JSON.
    #[error("message is not valid JSON at byte {at}")]
    NotJson {
        /// Where in the message, in bytes from 1.
        at: usize,
    },
    /// JSON, but a field has the wrong type.
    #[error("message has a value of the wrong type before byte {at}")]
    WrongType {
        /// Where in the message, in bytes from 1.
        at: usize,
    },
    /// A length that is not a varint, or is beyond the frame's end.
    #[error("frame ends within a message, or has a malformed length")]
    Truncated,
    /// Not Protobuf, or a field has the wrong type.
    #[error("message is not valid Protobuf")]
    NotProtobuf(#[source] prost::DecodeError),
}

/// Why a message can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A `bytes` field holds something else than JSON, and the client speaks JSON: it is
    /// to be closed with 3506.
    #[error("message has a payload that is not valid JSON")]
    NotJson,
}

/// Reads the commands of a frame.
pub fn commands(encoding: Encoding, frame: &[u8]) -> Commands<'_> {
    Messages::new(encoding, frame)
}

/// Whether a frame is the answer to a ping as SDKs write it, and nothing else.
pub fn is_pong(encoding: Encoding, frame: &[u8]) -> bool {
    match encoding {
        Encoding::Json => frame.trim_ascii_end() == b"{}",
        Encoding::Protobuf => frame == [0],
    }
}

/// Reads the replies of a frame, as a client does.
pub fn replies(encoding: Encoding, frame: &[u8]) -> Replies<'_> {
    Messages::new(encoding, frame)
}

/// Appends one reply, push or ping: JSON without a newline, Protobuf behind its length.
///
/// On an error `out` is as before.
pub fn encode_reply(
    encoding: Encoding,
    reply: &Reply,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    encode(encoding, reply, out)
}

/// Appends one command, as a client does; otherwise as [`encode_reply`].
pub fn encode_command(
    encoding: Encoding,
    command: &Command,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    encode(encoding, command, out)
}

/// Appends the push of a publication, byte for byte as [`encode_reply`] does, without
/// building it first.
pub fn encode_push_publication(
    encoding: Encoding,
    channel: &str,
    publication: &Publication,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    match encoding {
        Encoding::Json => json::encode_push_publication(channel, publication, out),
        Encoding::Protobuf => {
            protobuf::encode_push_publication(channel, publication, out);
            Ok(())
        }
    }
}

/// Appends what must stand between two messages of a frame: call it before all messages
/// but the first. Nothing is added if it stands there already.
pub fn join(encoding: Encoding, out: &mut Vec<u8>) {
    match encoding {
        Encoding::Json if out.last() != Some(&b'\n') => out.push(b'\n'),
        Encoding::Json | Encoding::Protobuf => {}
    }
}

/// Reads the body of a request to the emulation endpoint (11.15).
pub fn decode_emulation(encoding: Encoding, body: &[u8]) -> Result<EmulationRequest, DecodeError> {
    match encoding {
        Encoding::Json => json::decode_emulation(body),
        Encoding::Protobuf => EmulationRequest::decode(body).map_err(DecodeError::NotProtobuf),
    }
}

impl<'a, M> Messages<'a, M> {
    fn new(encoding: Encoding, frame: &'a [u8]) -> Self {
        Self {
            encoding,
            rest: frame,
            started: false,
            kind: PhantomData,
        }
    }

    /// What is not decoded yet: empty, or a frame of its own. Empty after an error.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<M: Message + Default + Structure> Iterator for Messages<'_, M> {
    type Item = Result<M, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            let is_empty_frame = !std::mem::replace(&mut self.started, true);
            return is_empty_frame.then_some(Err(DecodeError::EmptyFrame));
        }
        self.started = true;
        let split = match self.encoding {
            Encoding::Json => json::split(self.rest),
            Encoding::Protobuf => protobuf::split(self.rest),
        };
        let decoded = split.and_then(|(message, rest)| {
            self.rest = rest;
            match self.encoding {
                Encoding::Json => json::decode(message),
                Encoding::Protobuf => M::decode(message).map_err(DecodeError::NotProtobuf),
            }
        });
        if decoded.is_err() {
            self.rest = &[];
        }
        Some(decoded)
    }
}

impl<M: Message + Default + Structure> std::iter::FusedIterator for Messages<'_, M> {}

fn encode<M: Message + Serialize>(
    encoding: Encoding,
    message: &M,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    match encoding {
        Encoding::Json => json::encode(message, out),
        Encoding::Protobuf => {
            protobuf::encode(message, out);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
