//! Frames: what a payload consists of.
//!
//! Each frame is `type u8 | length u16 | body`, big-endian, one after the other. *Volatile* frames
//! come first: they hold for the moment, and whatever of them is still true when their packet
//! is lost is written anew. *Source* frames follow, from the first one to the payload's end: the
//! source part, which the packet's sequence number names, which repairs cover, and which a
//! retransmission repeats byte for byte. A volatile frame after a source frame is an error, so
//! is an unknown type: both sides of a connection speak the same version.
//!
//! [`Frames`] reads without copying: bodies are slices of the payload.

use bytes::Bytes;

mod ack;
mod options;
mod read;
mod write;

pub use ack::{ACK_EXT_HEAD, AckExt, write_ack_ext};
pub use options::{Options, OptionsError};
pub use write::{
    write_close, write_crypto, write_crypto_head, write_done, write_ecn, write_max_data,
    write_max_streams, write_options, write_padding, write_path_challenge, write_path_response,
    write_piece, write_ping, write_repair, write_repair_head, write_reset, write_stop,
    write_stream, write_stream_head,
};

/// Bytes before a frame's body: type and length.
pub const FRAME_HEAD: usize = 3;
/// Bytes of a STREAM frame before its data.
pub const STREAM_HEAD: usize = FRAME_HEAD + 13;
/// Bytes of a REPAIR frame before its symbol.
pub const REPAIR_HEAD: usize = FRAME_HEAD + 12;
/// Bytes of a CRYPTO frame before its data.
pub const CRYPTO_HEAD: usize = FRAME_HEAD + 4;
/// Bytes of a PIECE frame before its data.
pub const PIECE_HEAD: usize = FRAME_HEAD + 8;
/// In a STREAM frame's end byte: the stream ends with this frame.
pub const END_STREAM: u8 = 0x01;
/// In a STREAM frame's end byte: a message ends with this frame.
pub const END_MESSAGE: u8 = 0x02;

/// The types of frames.
pub mod kind {
    /// Nothing: makes a packet larger.
    pub const PADDING: u8 = 0x00;
    /// Data of a stream.
    pub const STREAM: u8 = 0x01;
    /// How much data may be sent.
    pub const MAX_DATA: u8 = 0x02;
    /// A repair symbol.
    pub const REPAIR: u8 = 0x03;
    /// Settings of the sender.
    pub const OPTIONS: u8 = 0x04;
    /// The sender gives a stream up.
    pub const RESET: u8 = 0x05;
    /// The connection ends.
    pub const CLOSE: u8 = 0x06;
    /// Acknowledges packet counters.
    pub const ACK_EXT: u8 = 0x07;
    /// The receiver of a stream wants no more of it.
    pub const STOP: u8 = 0x08;
    /// How many streams may be opened.
    pub const MAX_STREAMS: u8 = 0x09;
    /// Part of a source part.
    pub const PIECE: u8 = 0x0a;
    /// Asks for an acknowledgement.
    pub const PING: u8 = 0x0b;
    /// Asks an address to prove that it receives.
    pub const PATH_CHALLENGE: u8 = 0x0c;
    /// The proof.
    pub const PATH_RESPONSE: u8 = 0x0d;
    /// Bytes of the handshake.
    pub const CRYPTO: u8 = 0x0e;
    /// The handshake is done.
    pub const DONE: u8 = 0x0f;
    /// Marks "congestion experienced" received so far.
    pub const ECN: u8 = 0x10;
}

/// One frame. Its data are slices of the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Volatile. Nothing: so many bytes of body.
    Padding(usize),
    /// Source. Data of a stream at an offset.
    Stream {
        /// The stream; never 0.
        id: u32,
        /// Where the data stand in the stream, in bytes. Offset plus length stays below 2^64.
        offset: u64,
        /// The stream ends behind these data.
        fin: bool,
        /// A message ends behind these data.
        message_end: bool,
        /// The bytes.
        data: Bytes,
    },
    /// Source. The peer may send so many bytes in all.
    MaxData {
        /// The stream; 0 is the connection.
        id: u32,
        /// Bytes since the beginning.
        limit: u64,
    },
    /// Source. The sender gives the stream up: no more data come.
    Reset {
        /// The stream; never 0.
        id: u32,
        /// The application's reason.
        code: u32,
    },
    /// Source. Please send no more of this stream.
    Stop {
        /// The stream; never 0.
        id: u32,
        /// The application's reason.
        code: u32,
    },
    /// Source. So many streams may the peer have opened since the beginning.
    MaxStreams(u32),
    /// Volatile. A repair symbol.
    Repair(Repair),
    /// Volatile. TLVs for [`Options::decode`]; in SYN packets, for the cookie only.
    Options(Bytes),
    /// Volatile. The connection ends.
    Close {
        /// The reason.
        code: u32,
        /// The reason in words; UTF-8.
        text: String,
    },
    /// Volatile. Packets received.
    AckExt(AckExt),
    /// Volatile. Part of the source part of another packet.
    Piece {
        /// The source part's sequence number as on the wire; never 0.
        sequence: u32,
        /// Where the data stand in it.
        offset: u16,
        /// Bytes of the whole source part; offset plus length is within it.
        total: u16,
        /// The bytes, at least one.
        data: Bytes,
    },
    /// Volatile. Asks for an acknowledgement.
    Ping,
    /// Volatile. Asks the receiving address to send these bytes back.
    PathChallenge([u8; 8]),
    /// Volatile. The bytes of a challenge.
    PathResponse([u8; 8]),
    /// Volatile. Bytes of the handshake.
    Crypto {
        /// Where they stand in the bytes of this level. Offset plus length stays below 2^32.
        offset: u32,
        /// The bytes.
        data: Bytes,
    },
    /// Volatile. The server has seen the end of the handshake.
    Done,
    /// Volatile. Packets received with the mark "congestion experienced", modulo 2^32.
    Ecn(u32),
}

/// A repair: a symbol computed from several source parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// How it was computed: 1 Reed-Solomon, 2 sliding window.
    pub scheme: u8,
    /// Which of several repairs of the same source parts.
    pub row: u8,
    /// The first sequence number covered, as on the wire; never 0.
    pub first: u32,
    /// Bit i says that `first + i` is covered; never 0.
    pub mask: u32,
    /// The symbol.
    pub symbol: Bytes,
}

impl Frame {
    /// Whether it belongs to the source part.
    pub fn is_source(&self) -> bool {
        matches!(
            self,
            Self::Stream { .. }
                | Self::MaxData { .. }
                | Self::Reset { .. }
                | Self::Stop { .. }
                | Self::MaxStreams(_)
        )
    }

    /// Whether a packet with this frame asks for an acknowledgement.
    pub fn is_eliciting(&self) -> bool {
        match self {
            Self::Padding(_) | Self::AckExt(_) | Self::Ecn(_) | Self::Close { .. } => false,
            Self::Stream { .. }
            | Self::MaxData { .. }
            | Self::Reset { .. }
            | Self::Stop { .. }
            | Self::MaxStreams(_)
            | Self::Repair(_)
            | Self::Options(_)
            | Self::Piece { .. }
            | Self::Ping
            | Self::PathChallenge(_)
            | Self::PathResponse(_)
            | Self::Crypto { .. }
            | Self::Done => true,
        }
    }
}

/// Reads the frames of a payload, one after the other; after an error it ends.
#[derive(Debug, Clone)]
pub struct Frames {
    payload: Bytes,
    at: usize,
    source_at: Option<usize>,
}

impl Frames {
    /// The frames of a packet's payload.
    pub fn new(payload: Bytes) -> Self {
        Self {
            payload,
            at: 0,
            source_at: None,
        }
    }

    /// The frames of a source part that was rebuilt from repairs or pieces: no volatile ones.
    pub fn of_source_part(part: Bytes) -> Self {
        Self {
            payload: part,
            at: 0,
            source_at: Some(0),
        }
    }

    /// At which byte the source part begins: known once its first frame was given.
    pub fn source_offset(&self) -> Option<usize> {
        self.source_at
    }

    /// The source part: known once its first frame was given.
    pub fn source_part(&self) -> Option<Bytes> {
        self.source_at.map(|at| self.payload.slice(at..))
    }

    fn read(&mut self) -> Result<Frame, FrameError> {
        let start = self.at;
        let rest = &self.payload[start..];
        let kind = rest[0];
        let wrong = |problem| FrameError {
            at: start,
            kind,
            problem,
        };
        if rest.len() < FRAME_HEAD {
            return Err(wrong(Problem::Cut));
        }
        let body_at = start + FRAME_HEAD;
        let end = body_at + usize::from(u16::from_be_bytes([rest[1], rest[2]]));
        if end > self.payload.len() {
            return Err(wrong(Problem::Cut));
        }
        if read::is_source(kind) {
            self.source_at.get_or_insert(start);
        } else if self.source_at.is_some() {
            return Err(wrong(Problem::Order));
        }
        self.at = end;
        read::body(kind, self.payload.slice(body_at..end)).map_err(wrong)
    }
}

impl Iterator for Frames {
    type Item = Result<Frame, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.payload.len() {
            return None;
        }
        let frame = self.read();
        if frame.is_err() {
            self.at = self.payload.len();
        }
        Some(frame)
    }
}

/// A frame breaks the format. The connection ends: whoever sent it had the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("frame {kind:#04x} at byte {at} of the payload {problem}")]
pub struct FrameError {
    /// At which byte of the payload the frame begins.
    pub at: usize,
    /// The frame's type.
    pub kind: u8,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It does not end within the payload.
    #[error("does not end within the payload")]
    Cut,
    /// Its type is not known.
    #[error("is of no known type")]
    Unknown,
    /// It is volatile and follows a source frame.
    #[error("is volatile and follows a source frame")]
    Order,
    /// Its body is shorter or longer than its type wants.
    #[error("has a body of {0} bytes, which is not what its type wants")]
    Length(usize),
    /// A field holds what it never may.
    #[error("has a value that is not allowed in the field {0}")]
    Value(&'static str),
}

#[cfg(test)]
mod tests;
