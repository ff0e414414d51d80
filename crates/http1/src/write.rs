//! Heads and chunks to bytes.

use bytes::BytesMut;
use http::Method;

use crate::fields::Fields;

/// `GET /path HTTP/1.1`.
pub fn write_request_line(out: &mut BytesMut, method: &Method, target: &[u8]) {
    out.reserve(method.as_str().len() + target.len() + 12);
    out.extend_from_slice(method.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// `HTTP/1.1 200 OK`, with the usual reason. The status has three digits.
pub fn write_status_line(out: &mut BytesMut, status: u16) {
    if status == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    let reason = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("");
    let digit = |value: u16| b'0' + (value % 10) as u8;
    let digits = [digit(status / 100), digit(status / 10), digit(status), b' '];
    out.reserve(15 + reason.len());
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&digits);
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// All fields, one per line, without the empty line that ends a head.
pub fn write_fields(out: &mut BytesMut, fields: &Fields) {
    out.reserve(
        fields
            .raw()
            .map(|(name, value)| name.len() + value.len() + 4)
            .sum(),
    );
    for (name, value) in fields.raw() {
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

/// What stands before a chunk of this length; the chunk itself is followed by CRLF. A
/// chunk of length 0 would end the body: use [`chunk_end`] for that.
pub fn chunk_start(out: &mut BytesMut, length: usize) {
    let mut digits = [0_u8; 18];
    let (mut at, mut left) = (digits.len() - 2, length);
    digits[at..].copy_from_slice(b"\r\n");
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[left & 15];
        left >>= 4;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The last chunk, with trailers.
pub fn chunk_end(out: &mut BytesMut, trailers: Option<&Fields>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        write_fields(out, trailers);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
