//! OPTIONS: what each side tells the other about itself.
//!
//! TLVs `type u8 | length u8 | value`, big-endian, in any order, each at most once. They travel
//! inside the handshake, so they are authenticated; the cookie alone travels in a frame.

use bytes::{Buf, BufMut, Bytes};

/// What one side tells about itself. The default is what an absent option means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Packets that the peer may send beyond the last one in order. Default 256 (S5), at least 1.
    pub packet_window: u32,
    /// The largest datagram it takes, bytes of UDP payload. Default 1,200, at least that.
    pub largest_datagram: u16,
    /// Repairs that it understands: bit n for scheme n. Default none.
    pub fec_schemes: u8,
    /// Proves that the client receives at its address. At most 255 bytes.
    pub cookie: Option<Bytes>,
    /// What a stateless reset of this side carries.
    pub reset_token: Option<[u8; 16]>,
    /// Where its sequence numbers begin; see [`crate::packet::Numbering`]. Default 0.
    pub first_sequence: u32,
    /// Bytes that the peer may send on all streams at first. Default 0.
    pub connection_window: u32,
    /// Bytes that the peer may send on each stream at first. Default 0.
    pub stream_window: u32,
    /// Streams that the peer may open at first. Default 0.
    pub max_streams: u32,
    /// How long it may hold an acknowledgement back, in microseconds. Default 5,000, at most
    /// 1,000,000.
    pub ack_delay_max: u32,
    /// After so many milliseconds without a packet it forgets the connection. Default 60,000;
    /// 0 never.
    pub idle_timeout: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            packet_window: 256,
            largest_datagram: DATAGRAM_MIN,
            fec_schemes: 0,
            cookie: None,
            reset_token: None,
            first_sequence: 0,
            connection_window: 0,
            stream_window: 0,
            max_streams: 0,
            ack_delay_max: 5_000,
            idle_timeout: 60_000,
        }
    }
}

impl Options {
    /// Appends the TLVs: whatever differs from the default.
    pub fn encode(&self, out: &mut impl BufMut) {
        let absent = Self::default();
        if self.largest_datagram != absent.largest_datagram {
            tlv(out, LARGEST_DATAGRAM, &self.largest_datagram.to_be_bytes());
        }
        if self.fec_schemes != absent.fec_schemes {
            tlv(out, FEC_SCHEMES, &[self.fec_schemes]);
        }
        if let Some(cookie) = &self.cookie {
            tlv(out, COOKIE, &cookie[..cookie.len().min(COOKIE_MAX)]);
        }
        if let Some(token) = &self.reset_token {
            tlv(out, RESET_TOKEN, token);
        }
        let mut absent = absent;
        let mut present = self.clone();
        for kind in NUMBERS {
            if let (Some(value), Some(absent)) = (present.number(kind), absent.number(kind))
                && value != absent
            {
                tlv(out, kind, &value.to_be_bytes());
            }
        }
    }

    /// Reads TLVs; unknown ones are ignored.
    ///
    /// # Errors
    /// A TLV is cut, comes twice, or holds what it never may.
    pub fn decode(mut tlvs: &[u8]) -> Result<Self, OptionsError> {
        let mut options = Self::default();
        let mut seen = 0_u32;
        let all = tlvs.len();
        while tlvs.has_remaining() {
            let at = all - tlvs.len();
            let cut = OptionsError::Cut { at };
            let (kind, len) = match tlvs {
                [kind, len, ..] => (*kind, usize::from(*len)),
                _ => return Err(cut),
            };
            let value = tlvs.get(2..2 + len).ok_or(cut)?;
            tlvs.advance(2 + len);
            if let Some(bit) = 1_u32.checked_shl(u32::from(kind)) {
                if seen & bit != 0 {
                    return Err(OptionsError::Twice { kind, at });
                }
                seen |= bit;
            }
            options.take(kind, value, at)?;
        }
        Ok(options)
    }

    fn take(&mut self, kind: u8, value: &[u8], at: usize) -> Result<(), OptionsError> {
        let len = value.len();
        let length = OptionsError::Length { kind, at, len };
        match kind {
            LARGEST_DATAGRAM => {
                let value = value.try_into().map_err(|_| length)?;
                self.largest_datagram = u16::from_be_bytes(value);
            }
            FEC_SCHEMES => {
                let [value] = value else { return Err(length) };
                self.fec_schemes = *value;
            }
            COOKIE => self.cookie = Some(Bytes::copy_from_slice(value)),
            RESET_TOKEN => self.reset_token = Some(value.try_into().map_err(|_| length)?),
            _ => {
                if let Some(number) = self.number(kind) {
                    *number = u32::from_be_bytes(value.try_into().map_err(|_| length)?);
                }
            }
        }
        let allowed = self.packet_window > 0
            && self.largest_datagram >= DATAGRAM_MIN
            && self.ack_delay_max <= ACK_DELAY_MAX;
        allowed
            .then_some(())
            .ok_or(OptionsError::Value { kind, at })
    }

    /// The option of this type, if that holds a number of 32 bits.
    fn number(&mut self, kind: u8) -> Option<&mut u32> {
        Some(match kind {
            PACKET_WINDOW => &mut self.packet_window,
            FIRST_SEQUENCE => &mut self.first_sequence,
            CONNECTION_WINDOW => &mut self.connection_window,
            STREAM_WINDOW => &mut self.stream_window,
            MAX_STREAMS => &mut self.max_streams,
            ACK_DELAY => &mut self.ack_delay_max,
            IDLE_TIMEOUT => &mut self.idle_timeout,
            _ => return None,
        })
    }
}

/// What is wrong with OPTIONS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// An option does not end within the bytes.
    #[error("option at byte {at} does not end within the options")]
    Cut {
        /// Where the option begins.
        at: usize,
    },
    /// An option comes a second time.
    #[error("option {kind} at byte {at} comes a second time")]
    Twice {
        /// The option's type.
        kind: u8,
        /// Where it begins.
        at: usize,
    },
    /// An option is shorter or longer than its type wants.
    #[error("option {kind} at byte {at} has a value of {len} bytes, not what its type wants")]
    Length {
        /// The option's type.
        kind: u8,
        /// Where it begins.
        at: usize,
        /// Bytes of its value.
        len: usize,
    },
    /// An option holds what it never may.
    #[error("option {kind} at byte {at} has a value that is not allowed")]
    Value {
        /// The option's type.
        kind: u8,
        /// Where it begins.
        at: usize,
    },
}

fn tlv(out: &mut impl BufMut, kind: u8, value: &[u8]) {
    out.put_u8(kind);
    out.put_u8(value.len() as u8);
    out.put_slice(value);
}

const PACKET_WINDOW: u8 = 1;
const LARGEST_DATAGRAM: u8 = 2;
const FEC_SCHEMES: u8 = 3;
const COOKIE: u8 = 4;
const RESET_TOKEN: u8 = 5;
const FIRST_SEQUENCE: u8 = 6;
const CONNECTION_WINDOW: u8 = 7;
const STREAM_WINDOW: u8 = 8;
const MAX_STREAMS: u8 = 9;
const ACK_DELAY: u8 = 10;
const IDLE_TIMEOUT: u8 = 11;

/// The options that hold a number of 32 bits.
const NUMBERS: [u8; 7] = [
    PACKET_WINDOW,
    FIRST_SEQUENCE,
    CONNECTION_WINDOW,
    STREAM_WINDOW,
    MAX_STREAMS,
    ACK_DELAY,
    IDLE_TIMEOUT,
];
/// What every path carries.
const DATAGRAM_MIN: u16 = 1_200;
/// One second, in microseconds: no timer can be built upon more.
const ACK_DELAY_MAX: u32 = 1_000_000;
const COOKIE_MAX: usize = 255;
