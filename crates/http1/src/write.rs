//! Heads and chunks to bytes.

use bytes::BytesMut;
use http::Method;

use crate::fields::Fields;

/// `GET /path HTTP/1.1`.
pub fn write_request_line(out: &mut BytesMut, method: &Method, target: &[u8]) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// `HTTP/1.1 200 OK`, with the usual reason.
pub fn write_status_line(out: &mut BytesMut, status: u16) {
    let reason = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("");
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.to_string().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// All fields, one per line, without the empty line that ends a head.
pub fn write_fields(out: &mut BytesMut, fields: &Fields) {
    for field in fields.iter() {
        out.extend_from_slice(field.name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(field.value);
        out.extend_from_slice(b"\r\n");
    }
}

/// What stands before a chunk of this length.
pub fn chunk_start(out: &mut BytesMut, length: usize) {
    out.extend_from_slice(format!("{length:x}\r\n").as_bytes());
}

/// The last chunk, with trailers.
pub fn chunk_end(out: &mut BytesMut, trailers: Option<&Fields>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        write_fields(out, trailers);
    }
    out.extend_from_slice(b"\r\n");
}
