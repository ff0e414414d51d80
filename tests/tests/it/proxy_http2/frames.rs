//! HTTP/2 by hand: frames as they are told, whatever a client may send.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use testkit::PATIENCE;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection whose preface has been sent.
pub(crate) struct Raw {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Raw {
    pub(crate) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = testkit::http::connect(address)?;
        stream.write_all(PREFACE)?;
        stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
        Ok(Self {
            stream,
            input: Vec::new(),
        })
    }

    /// Serves a connection: waits for the client's preface and sends our settings; `None` if
    /// it does not come.
    pub(crate) fn serve(mut stream: TcpStream) -> Option<Self> {
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).ok()?;
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).ok()?;
        (preface == *PREFACE).then_some(Self {
            stream,
            input: Vec::new(),
        })
    }

    /// Sends bytes; `false` if the other side has closed.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next frame; `None` at the end of the connection, or after [`PATIENCE`].
    pub(crate) fn next(&mut self) -> Option<Frame> {
        self.next_within(PATIENCE)
    }

    pub(crate) fn next_within(&mut self, patience: Duration) -> Option<Frame> {
        drop(self.stream.set_read_timeout(Some(patience)));
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head = self.input.get(..9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let payload = self.input.get(9..9 + length)?.to_vec();
        self.input.drain(..9 + length);
        Some(Frame {
            kind,
            flags,
            stream,
            payload,
        })
    }
}

/// A frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a short frame")
        .to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A block of fields, each spelled out, none to be remembered.
pub(crate) fn block(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for part in [name, value] {
            length(&mut out, part.len());
            out.extend_from_slice(part);
        }
    }
    out
}

/// An integer with a prefix of seven bits (RFC 7541, 5.1).
fn length(out: &mut Vec<u8>, value: usize) {
    let Some(mut rest) = value.checked_sub(127) else {
        out.push(u8::try_from(value).expect("below 127"));
        return;
    };
    out.push(127);
    while rest >= 128 {
        out.push(u8::try_from(rest & 127).expect("seven bits") | 128);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).expect("seven bits"));
}

/// The status at the beginning of an answer's block.
pub(crate) fn status(block: &[u8]) -> Option<u16> {
    let skipped = block
        .iter()
        .take_while(|byte| **byte & 0xe0 == 0x20)
        .count();
    match block.get(skipped..)? {
        [indexed, ..] if indexed & 0x80 != 0 => [200, 204, 206, 304, 400, 404, 500]
            .get(usize::from(indexed & 0x7f).checked_sub(8)?)
            .copied(),
        [0x48 | 0x08 | 0x18, length, value @ ..] => {
            let value = value.get(..usize::from(length & 0x7f))?;
            if length & 0x80 == 0 {
                return std::str::from_utf8(value).ok()?.parse().ok();
            }
            digits(value)
        }
        _ => None,
    }
}

/// Three digits in Huffman's code: the first three have five bits, the others six.
fn digits(bytes: &[u8]) -> Option<u16> {
    let mut bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| u16::from(byte >> at & 1)));
    let mut number = 0;
    for _ in 0..3 {
        let mut code = 0;
        for _ in 0..5 {
            code = code << 1 | bits.next()?;
        }
        let digit = if code <= 2 {
            code
        } else {
            (code << 1 | bits.next()?).checked_sub(0b01_1001)? + 3
        };
        number = number * 10 + digit;
    }
    Some(number)
}
