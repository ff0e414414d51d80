//! Frame headers: reading, checking and writing (RFC 6455, 5.2).

use crate::decoder::Role;
use crate::error::FrameError;
use crate::mask::apply_mask;

/// The longest frame header in bytes: two, an eight-byte length and a mask key.
pub const FRAME_HEADER_MAX: usize = 14;

/// The longest payload of a control frame in bytes (5.5).
pub(crate) const CONTROL_MAX: usize = 125;

/// What a frame is (11.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpCode {
    /// A further part of the message that is open.
    Continuation,
    /// A message of UTF-8 text, or its first part.
    Text,
    /// A message of bytes, or its first part.
    Binary,
    /// The end of the connection.
    Close,
    /// A request for a pong with the same payload.
    Ping,
    /// The answer to a ping, or a sign of life.
    Pong,
}

impl OpCode {
    fn from_bits(bits: u8) -> Result<Self, FrameError> {
        match bits {
            0 => Ok(Self::Continuation),
            1 => Ok(Self::Text),
            2 => Ok(Self::Binary),
            8 => Ok(Self::Close),
            9 => Ok(Self::Ping),
            10 => Ok(Self::Pong),
            _ => Err(FrameError::ReservedOpCode(bits)),
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    pub(crate) fn is_control(self) -> bool {
        match self {
            Self::Continuation | Self::Text | Self::Binary => false,
            Self::Close | Self::Ping | Self::Pong => true,
        }
    }
}

/// Appends a frame to `out`; with `mask` the payload is masked, as clients must.
///
/// `rsv1` marks the first frame of a compressed message (RFC 7692, 6).
pub fn encode_frame(
    out: &mut Vec<u8>,
    opcode: OpCode,
    fin: bool,
    rsv1: bool,
    mask: Option<[u8; 4]>,
    payload: &[u8],
) {
    let (mut header, header_len) = frame_header(opcode, rsv1, payload.len());
    if !fin {
        header[0] &= !FIN;
    }
    out.reserve(header_len + 4 + payload.len());
    match mask {
        None => {
            out.extend_from_slice(&header[..header_len]);
            out.extend_from_slice(payload);
        }
        Some(key) => {
            header[1] |= MASK;
            out.extend_from_slice(&header[..header_len]);
            out.extend_from_slice(&key);
            let start = out.len();
            out.extend_from_slice(payload);
            apply_mask(&mut out[start..], key);
        }
    }
}

/// The header of an unmasked frame with FIN set and `len` bytes of payload, and how many of the
/// ten bytes it takes.
#[must_use]
pub fn frame_header(opcode: OpCode, rsv1: bool, len: usize) -> ([u8; 10], usize) {
    let mut header = [0; 10];
    header[0] = FIN | opcode.bits() | if rsv1 { RSV1 } else { 0 };
    let used = match len {
        0..=125 => {
            header[1] = len as u8;
            2
        }
        126..=0xffff => {
            header[1] = LEN_16;
            header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = LEN_64;
            header[2..10].copy_from_slice(&(len as u64).to_be_bytes());
            10
        }
    };
    (header, used)
}

/// A header that passed every check that needs no other frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) opcode: OpCode,
    pub(crate) fin: bool,
    /// Whether this frame begins a compressed message.
    pub(crate) compressed: bool,
    /// The key, or zeros for an unmasked frame, which make unmasking a no-op.
    pub(crate) key: [u8; 4],
    /// Bytes of payload.
    pub(crate) len: u64,
    /// Bytes of the header itself.
    pub(crate) size: usize,
}

impl Header {
    /// Reads a header from the start of `bytes`; `None` if it goes on after their end.
    ///
    /// Each byte is checked as soon as it is there, so that a peer that breaks the protocol is
    /// found out before it has sent the rest.
    pub(crate) fn parse(
        role: Role,
        deflate: bool,
        bytes: &[u8],
    ) -> Result<Option<Self>, FrameError> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let opcode = OpCode::from_bits(first & OPCODE)?;
        let fin = first & FIN != 0;
        let compressed = first & RSV1 != 0;
        let may_begin_compressed = deflate && matches!(opcode, OpCode::Text | OpCode::Binary);
        if first & (RSV2 | RSV3) != 0 || (compressed && !may_begin_compressed) {
            return Err(FrameError::ReservedBits);
        }
        if opcode.is_control() && !fin {
            return Err(FrameError::FragmentedControl);
        }

        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        match (role, second & MASK != 0) {
            (Role::Server, true) | (Role::Client, false) => {}
            (Role::Server, false) => return Err(FrameError::Unmasked),
            (Role::Client, true) => return Err(FrameError::Masked),
        }
        let short = second & !MASK;
        if opcode.is_control() && usize::from(short) > CONTROL_MAX {
            return Err(FrameError::OversizedControl);
        }

        let Some((len, key_at)) = parse_length(short, bytes)? else {
            return Ok(None);
        };
        let (key, size) = match role {
            Role::Client => ([0; 4], key_at),
            Role::Server => match bytes.get(key_at..key_at + 4) {
                Some(&[a, b, c, d]) => ([a, b, c, d], key_at + 4),
                _ => return Ok(None),
            },
        };
        Ok(Some(Self {
            opcode,
            fin,
            compressed,
            key,
            len,
            size,
        }))
    }
}

/// The payload length and the offset after it, given the seven bits of the second byte.
fn parse_length(short: u8, bytes: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    match short {
        LEN_16 => {
            let Some(&[a, b]) = bytes.get(2..4) else {
                return Ok(None);
            };
            match u16::from_be_bytes([a, b]) {
                0..=125 => Err(FrameError::LengthNotMinimal),
                len => Ok(Some((u64::from(len), 4))),
            }
        }
        LEN_64 => {
            if bytes.get(2).is_some_and(|top| top & 0x80 != 0) {
                return Err(FrameError::LengthOverflow);
            }
            let Some((&field, _)) = bytes.get(2..).and_then(<[u8]>::split_first_chunk::<8>) else {
                return Ok(None);
            };
            match u64::from_be_bytes(field) {
                0..=0xffff => Err(FrameError::LengthNotMinimal),
                len => Ok(Some((len, 10))),
            }
        }
        _ => Ok(Some((u64::from(short), 2))),
    }
}

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2: u8 = 0x20;
const RSV3: u8 = 0x10;
const OPCODE: u8 = 0x0f;
const MASK: u8 = 0x80;
const LEN_16: u8 = 126;
const LEN_64: u8 = 127;

#[cfg(test)]
mod tests;
