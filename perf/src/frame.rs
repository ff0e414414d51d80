//! As much of WebSocket (RFC 6455) as a load generator needs on the client's side.
//!
//! Masks are all zero: the server must unmask all the same, and the generator
//! saves the work.

/// A frame found in received bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub(crate) kind: Kind,
    pub(crate) payload: &'a [u8],
    /// Bytes of header and payload together.
    pub(crate) length: usize,
}

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text, binary, or the continuation of either.
    Message,
    Close,
    Ping,
    Pong,
}

/// Finds the first whole frame of a server; `None` means more bytes are needed.
pub(crate) fn next(bytes: &[u8]) -> Option<Found<'_>> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (header, payload) = match second & 0x7f {
        126 => (
            4,
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        ),
        127 => (
            10,
            usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?,
        ),
        short => (2, usize::from(short)),
    };
    let length = header + payload;
    let kind = match first & 0x0f {
        0x8 => Kind::Close,
        0x9 => Kind::Ping,
        0xa => Kind::Pong,
        _ => Kind::Message,
    };
    Some(Found {
        kind,
        payload: bytes.get(header..length)?,
        length,
    })
}

/// Appends a text frame.
pub(crate) fn text(out: &mut Vec<u8>, payload: &[u8]) {
    push(out, 0x81, payload);
}

/// Appends a binary frame.
pub(crate) fn binary(out: &mut Vec<u8>, payload: &[u8]) {
    push(out, 0x82, payload);
}

/// Appends the pong that answers a ping.
pub(crate) fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    push(out, 0x8a, payload);
}

/// Appends a close frame with code 1000.
pub(crate) fn close(out: &mut Vec<u8>) {
    push(out, 0x88, &1000_u16.to_be_bytes());
}

fn push(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.push(first);
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_each_length_form_are_found_when_whole() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let mut sent = vec![0x81];
            match length {
                0..=125 => sent.push(length as u8),
                126..=0xffff => {
                    sent.push(126);
                    sent.extend_from_slice(&(length as u16).to_be_bytes());
                }
                _ => {
                    sent.push(127);
                    sent.extend_from_slice(&(length as u64).to_be_bytes());
                }
            }
            sent.resize(sent.len() + length, b'x');
            assert_eq!(next(&sent[..sent.len() - 1]), None);
            let found = next(&sent).unwrap();
            assert_eq!((found.kind, found.payload.len()), (Kind::Message, length));
            assert_eq!(found.length, sent.len());
        }
    }

    #[test]
    fn client_frames_carry_the_mask_bit_and_a_zero_mask() {
        let mut out = Vec::new();
        text(&mut out, b"{}");
        assert_eq!(out, [0x81, 0x82, 0, 0, 0, 0, b'{', b'}']);
    }
}
