//! Packets: header, SACK blocks, sealed payload, trailer.
//!
//! ```text
//! magic 4 | version 1 | flags 1 | GUUID 16 | sequence 4 | ack 4 | payload length 2      header
//! (start 4 | end 4) · n, n ≤ 8                                                      SACK blocks
//! payload, encrypted
//! counter 8 | tag 16                                                                    trailer
//! ```
//!
//! All numbers are big-endian. Nothing tells how many SACK blocks there are: they are what the
//! datagram holds beyond everything else, so its length decides, and a length that leaves part
//! of a block is refused. Header and SACK blocks are authenticated with the payload, so an
//! acknowledgement cannot be forged; the counter needs no place there, for it is the nonce.
//!
//! A packet with the flag RST is a stateless reset: header, a token of 16 bytes in clear, and no
//! trailer, since whoever sends it has no keys any more.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::Guuid;
use crate::crypto::{PacketKey, Rejected};

mod numbering;
mod sacks;

pub use numbering::Numbering;
pub use sacks::Sacks;

/// The first four bytes of each packet: "QUNT".
pub const MAGIC: u32 = 0x5155_4e54;
/// The version of the wire format.
pub const VERSION: u8 = 1;
/// Bytes of the header before the SACK blocks.
pub const HEADER_LEN: usize = 32;
/// Bytes after the payload: the counter and the tag.
pub const TRAILER_LEN: usize = COUNTER_LEN + TAG_LEN;
/// Bytes of the authentication tag.
pub const TAG_LEN: usize = 16;
/// The most SACK blocks of one packet.
pub const SACK_MAX: usize = 8;
/// Bytes of one SACK block.
pub const SACK_LEN: usize = 8;
/// Bytes of the token in a stateless reset.
pub const RESET_TOKEN_LEN: usize = 16;
/// Bytes of a stateless reset.
pub const RESET_LEN: usize = HEADER_LEN + RESET_TOKEN_LEN;

/// The flags of a packet, as a set of bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Part of the handshake: initial keys, or handshake keys if KEY_PHASE is set too.
    pub const SYN: Self = Self(0x01);
    /// The acknowledgement number means something.
    pub const ACK: Self = Self(0x02);
    /// The sender closes the connection.
    pub const FIN: Self = Self(0x04);
    /// A stateless reset.
    pub const RST: Self = Self(0x08);
    /// Carries a repair.
    pub const FEC: Self = Self(0x10);
    /// A message or a stream ends in this packet.
    pub const PSH: Self = Self(0x20);
    /// Which of two application keys sealed the packet.
    pub const KEY_PHASE: Self = Self(0x40);
    /// Packets arrived with the mark "congestion experienced" since this was last told.
    pub const ECE: Self = Self(0x80);

    /// Whether all flags of `other` are set here.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags of both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The flags of both if `set`, else these.
    #[must_use]
    pub fn with_if(self, other: Self, set: bool) -> Self {
        if set { self.with(other) } else { self }
    }
}

/// What a packet says in clear, the payload's length apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The packet's flags.
    pub flags: Flags,
    /// The connection.
    pub guuid: Guuid,
    /// Names the source part of the payload; 0 if there is none.
    pub sequence: u32,
    /// The last sequence number received in order; 0 if none was yet.
    pub ack: u32,
    /// What was received beyond `ack`.
    pub sacks: Sacks,
}

impl Header {
    /// Bytes of the header with its SACK blocks, at most 96.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a header is never empty, its length is that on the wire"
    )]
    pub fn len(&self) -> usize {
        HEADER_LEN + self.sacks.len() * SACK_LEN
    }

    /// Appends the header and its SACK blocks. [`seal`] sets the payload's length.
    pub fn write(&self, payload_len: u16, out: &mut BytesMut) {
        let mut fixed = [0; HEADER_LEN];
        fixed[..4].copy_from_slice(&MAGIC.to_be_bytes());
        fixed[4] = VERSION;
        fixed[5] = self.flags.0;
        fixed[6..22].copy_from_slice(self.guuid.as_bytes());
        fixed[22..26].copy_from_slice(&self.sequence.to_be_bytes());
        fixed[26..30].copy_from_slice(&self.ack.to_be_bytes());
        fixed[PAYLOAD_LEN_AT..].copy_from_slice(&payload_len.to_be_bytes());
        out.put_slice(&fixed);
        for (start, end) in &self.sacks {
            out.put_u32(start);
            out.put_u32(end);
        }
    }
}

/// A datagram that has the form of a packet. What it says may still be a lie.
#[derive(Debug, Clone)]
pub enum Packet {
    /// A packet to be opened with a key.
    Sealed(Sealed),
    /// Somebody says that the peer knows nothing of this connection: true if the token is the
    /// one that the peer gave for this case.
    Reset {
        /// The connection.
        guuid: Guuid,
        /// Proves that the peer says so.
        token: [u8; RESET_TOKEN_LEN],
    },
}

impl Packet {
    /// Takes one datagram apart, without decrypting anything.
    ///
    /// # Errors
    /// Whatever does not have the form of a packet is to be dropped without an answer.
    pub fn parse(datagram: BytesMut) -> Result<Self, PacketError> {
        let (header, payload_len) = fixed_part(&datagram)?;
        if header.flags.contains(Flags::RST) {
            return reset(&header, payload_len, &datagram);
        }
        Sealed::with_header(header, payload_len, datagram).map(Self::Sealed)
    }
}

/// A packet whose payload is still encrypted.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// What stands in clear; not authenticated before [`Sealed::open`].
    pub header: Header,
    /// Names this transmission; never used twice in a connection and direction.
    pub counter: u64,
    datagram: BytesMut,
}

impl Sealed {
    /// Takes apart a datagram that is no stateless reset; see [`Packet::parse`].
    ///
    /// # Errors
    /// As [`Packet::parse`]; a stateless reset is [`PacketError::Reset`].
    pub fn parse(datagram: BytesMut) -> Result<Self, PacketError> {
        match Packet::parse(datagram)? {
            Packet::Sealed(sealed) => Ok(sealed),
            Packet::Reset { .. } => Err(PacketError::Reset),
        }
    }

    /// Decrypts in place and gives the payload.
    ///
    /// # Errors
    /// Key, counter, header, SACK blocks and payload do not belong together.
    pub fn open(self, key: &dyn PacketKey) -> Result<Bytes, Rejected> {
        let (head, mut datagram) = (self.header.len(), self.datagram);
        let payload_end = datagram.len() - TRAILER_LEN;
        // A cipher wants the tag behind the ciphertext; the counter, already read, stands there.
        datagram.copy_within(payload_end + COUNTER_LEN.., payload_end);
        datagram.truncate(payload_end + TAG_LEN);
        let (associated, sealed) = datagram.split_at_mut(head);
        key.open(self.counter, associated, sealed)?;
        datagram.truncate(payload_end);
        datagram.advance(head);
        Ok(datagram.freeze())
    }

    /// Header and SACK blocks as they arrived, which the tag covers too.
    pub fn associated(&self) -> &[u8] {
        &self.datagram[..self.header.len()]
    }

    /// Bytes of the whole datagram.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a packet is never empty, its length is that on the wire"
    )]
    pub fn len(&self) -> usize {
        self.datagram.len()
    }

    /// Bytes of the payload.
    pub fn payload_len(&self) -> usize {
        self.datagram.len() - self.header.len() - TRAILER_LEN
    }

    fn with_header(
        mut header: Header,
        payload_len: usize,
        datagram: BytesMut,
    ) -> Result<Self, PacketError> {
        let len = datagram.len();
        let wrong = PacketError::Length { len, payload_len };
        let Some(sacks) = len.checked_sub(HEADER_LEN + payload_len + TRAILER_LEN) else {
            return Err(wrong);
        };
        if !sacks.is_multiple_of(SACK_LEN) || sacks > SACK_MAX * SACK_LEN {
            return Err(wrong);
        }
        let mut blocks = &datagram[HEADER_LEN..HEADER_LEN + sacks];
        while blocks.has_remaining() {
            header.sacks.push(blocks.get_u32(), blocks.get_u32());
        }
        let counter = (&datagram[len - TRAILER_LEN..]).get_u64();
        Ok(Self {
            header,
            counter,
            datagram,
        })
    }
}

/// Makes a packet of `out[start..]`, which holds `head` bytes of header and SACK blocks
/// ([`Header::len`]) and then the payload: sets the payload's length, encrypts in place, and
/// appends counter and tag.
///
/// Allocates nothing if `out` has room for [`TRAILER_LEN`] bytes. The payload is at most 65,535
/// bytes, which every UDP datagram keeps.
pub fn seal(out: &mut BytesMut, start: usize, head: usize, counter: u64, key: &dyn PacketKey) {
    let (associated, payload) = out[start..].split_at_mut(head);
    debug_assert!(payload.len() <= usize::from(u16::MAX), "a UDP datagram");
    let payload_len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    associated[PAYLOAD_LEN_AT..HEADER_LEN].copy_from_slice(&payload_len.to_be_bytes());
    let tag = key.seal(counter, associated, payload);
    out.put_u64(counter);
    out.put_slice(&tag);
}

/// Sets flags and sequence number of a header that was written before its payload was known.
pub fn amend(out: &mut BytesMut, start: usize, flags: Flags, sequence: u32) {
    out[start + 5] = flags.0;
    out[start + 22..start + 26].copy_from_slice(&sequence.to_be_bytes());
}

/// Appends a stateless reset: [`RESET_LEN`] bytes.
pub fn write_reset(guuid: Guuid, token: &[u8; RESET_TOKEN_LEN], out: &mut BytesMut) {
    let header = Header {
        flags: Flags::RST,
        guuid,
        sequence: 0,
        ack: 0,
        sacks: Sacks::default(),
    };
    header.write(RESET_TOKEN_LEN as u16, out);
    out.put_slice(token);
}

/// Why a datagram is no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// It ends before the header does.
    #[error("datagram of {0} bytes is shorter than the header of 32")]
    Short(usize),
    /// It does not begin with [`MAGIC`].
    #[error("bytes 0 to 3 are {0:#010x} instead of the magic number")]
    Magic(u32),
    /// It is of another [`VERSION`].
    #[error("byte 4 asks for version {0}, this is version 1")]
    Version(u8),
    /// The GUUID is all zero.
    #[error("bytes 6 to 21, the GUUID, are all zero")]
    Guuid,
    /// What is left for SACK blocks is negative, part of a block, or more than [`SACK_MAX`].
    #[error(
        "datagram of {len} bytes with a payload of {payload_len} (bytes 30 and 31) leaves no \
         whole number of SACK blocks from 0 to 8"
    )]
    Length {
        /// Bytes of the datagram.
        len: usize,
        /// Bytes of the payload, as the header says.
        payload_len: usize,
    },
    /// It has the flag RST, but is more or less than a stateless reset.
    #[error("datagram of {0} bytes with the flag RST (byte 5) is no stateless reset of 48")]
    ResetForm(usize),
    /// A packet was expected, and this is a stateless reset.
    #[error("datagram is a stateless reset")]
    Reset,
}

/// The header without SACK blocks, and the length of the payload.
fn fixed_part(datagram: &[u8]) -> Result<(Header, usize), PacketError> {
    let Some(mut fixed) = datagram.get(..HEADER_LEN) else {
        return Err(PacketError::Short(datagram.len()));
    };
    let magic = fixed.get_u32();
    if magic != MAGIC {
        return Err(PacketError::Magic(magic));
    }
    let version = fixed.get_u8();
    if version != VERSION {
        return Err(PacketError::Version(version));
    }
    let flags = Flags(fixed.get_u8());
    let guuid = Guuid::new(fixed.get_u128().to_be_bytes()).ok_or(PacketError::Guuid)?;
    let header = Header {
        flags,
        guuid,
        sequence: fixed.get_u32(),
        ack: fixed.get_u32(),
        sacks: Sacks::default(),
    };
    Ok((header, usize::from(fixed.get_u16())))
}

fn reset(header: &Header, payload_len: usize, datagram: &[u8]) -> Result<Packet, PacketError> {
    let form = PacketError::ResetForm(datagram.len());
    if header.flags != Flags::RST || payload_len != RESET_TOKEN_LEN {
        return Err(form);
    }
    if header.sequence != 0 || header.ack != 0 {
        return Err(form);
    }
    let token = datagram[HEADER_LEN..].try_into().map_err(|_| form)?;
    Ok(Packet::Reset {
        guuid: header.guuid,
        token,
    })
}

/// Bytes of the packet counter.
const COUNTER_LEN: usize = 8;
/// Where the payload's length stands, the last field of the fixed header.
const PAYLOAD_LEN_AT: usize = 30;

#[cfg(test)]
mod tests;
