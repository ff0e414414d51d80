//! Writers of frames: each appends one whole frame, or the part of it before its data.

use bytes::{BufMut, BytesMut};

use super::{FRAME_HEAD, kind};

/// PADDING of `size` bytes in all, at least 3; nothing for less.
pub fn write_padding(out: &mut BytesMut, size: usize) {
    if let Some(body) = size.checked_sub(FRAME_HEAD) {
        head(out, kind::PADDING, body);
        out.put_bytes(0, body);
    }
}

/// A STREAM frame: `end` is a set of [`super::END_STREAM`] and [`super::END_MESSAGE`], the data
/// are `parts` one after the other.
pub fn write_stream(out: &mut BytesMut, id: u32, offset: u64, end: u8, parts: &[&[u8]]) {
    let len = parts.iter().map(|part| part.len()).sum();
    write_stream_head(out, id, offset, end, len);
    for part in parts {
        out.put_slice(part);
    }
}

/// The [`super::STREAM_HEAD`] bytes of a STREAM frame before its data, `data_len` bytes that the
/// caller appends.
pub fn write_stream_head(out: &mut BytesMut, id: u32, offset: u64, end: u8, data_len: usize) {
    head(out, kind::STREAM, 13 + data_len);
    out.put_u32(id);
    out.put_u64(offset);
    out.put_u8(end);
}

/// MAX_DATA: 15 bytes.
pub fn write_max_data(out: &mut BytesMut, id: u32, limit: u64) {
    head(out, kind::MAX_DATA, 12);
    out.put_u32(id);
    out.put_u64(limit);
}

/// RESET: 11 bytes.
pub fn write_reset(out: &mut BytesMut, id: u32, code: u32) {
    head(out, kind::RESET, 8);
    out.put_u32(id);
    out.put_u32(code);
}

/// STOP: 11 bytes.
pub fn write_stop(out: &mut BytesMut, id: u32, code: u32) {
    head(out, kind::STOP, 8);
    out.put_u32(id);
    out.put_u32(code);
}

/// MAX_STREAMS: 7 bytes.
pub fn write_max_streams(out: &mut BytesMut, count: u32) {
    head(out, kind::MAX_STREAMS, 4);
    out.put_u32(count);
}

/// A REPAIR frame.
pub fn write_repair(out: &mut BytesMut, repair: &super::Repair) {
    let super::Repair {
        scheme,
        row,
        first,
        mask,
        symbol,
    } = repair;
    write_repair_head(out, (*scheme, *row), *first, *mask, symbol.len());
    out.put_slice(symbol);
}

/// The [`super::REPAIR_HEAD`] bytes of a REPAIR frame before its symbol, `symbol_len` bytes that
/// the caller appends; `first` is a sequence number as on the wire.
pub fn write_repair_head(
    out: &mut BytesMut,
    (scheme, row): (u8, u8),
    first: u32,
    mask: u32,
    symbol_len: usize,
) {
    head(out, kind::REPAIR, 12 + symbol_len);
    out.put_u8(scheme);
    out.put_u8(row);
    out.put_u16(symbol_len as u16);
    out.put_u32(first);
    out.put_u32(mask);
}

/// OPTIONS with TLVs as [`super::Options::encode`] writes them.
pub fn write_options(out: &mut BytesMut, tlvs: &[u8]) {
    head(out, kind::OPTIONS, tlvs.len());
    out.put_slice(tlvs);
}

/// CLOSE: 7 bytes and as much of the text, in whole characters, as fits into `room` bytes.
pub fn write_close(out: &mut BytesMut, code: u32, text: &str, room: usize) {
    let fits = room.saturating_sub(FRAME_HEAD + 4).min(text.len());
    let end = (0..=fits).rev().find(|end| text.is_char_boundary(*end));
    let text = &text[..end.unwrap_or(0)];
    head(out, kind::CLOSE, 4 + text.len());
    out.put_u32(code);
    out.put_slice(text.as_bytes());
}

/// A PIECE frame: `data` stand at `offset` of the source part of `total` bytes that `sequence`
/// (as on the wire) names.
pub fn write_piece(out: &mut BytesMut, sequence: u32, offset: u16, total: u16, data: &[u8]) {
    head(out, kind::PIECE, 8 + data.len());
    out.put_u32(sequence);
    out.put_u16(offset);
    out.put_u16(total);
    out.put_slice(data);
}

/// PING: 3 bytes.
pub fn write_ping(out: &mut BytesMut) {
    head(out, kind::PING, 0);
}

/// PATH_CHALLENGE: 11 bytes.
pub fn write_path_challenge(out: &mut BytesMut, token: [u8; 8]) {
    head(out, kind::PATH_CHALLENGE, 8);
    out.put_slice(&token);
}

/// PATH_RESPONSE: 11 bytes.
pub fn write_path_response(out: &mut BytesMut, token: [u8; 8]) {
    head(out, kind::PATH_RESPONSE, 8);
    out.put_slice(&token);
}

/// A CRYPTO frame.
pub fn write_crypto(out: &mut BytesMut, offset: u32, data: &[u8]) {
    write_crypto_head(out, offset, data.len());
    out.put_slice(data);
}

/// The [`super::CRYPTO_HEAD`] bytes of a CRYPTO frame before its data, `data_len` bytes that the
/// caller appends.
pub fn write_crypto_head(out: &mut BytesMut, offset: u32, data_len: usize) {
    head(out, kind::CRYPTO, 4 + data_len);
    out.put_u32(offset);
}

/// DONE: 3 bytes.
pub fn write_done(out: &mut BytesMut) {
    head(out, kind::DONE, 0);
}

/// ECN: 7 bytes.
pub fn write_ecn(out: &mut BytesMut, count: u32) {
    head(out, kind::ECN, 4);
    out.put_u32(count);
}

/// Type and length. A body never exceeds a datagram, so its length has 16 bits.
pub(super) fn head(out: &mut BytesMut, kind: u8, body: usize) {
    debug_assert!(body <= usize::from(u16::MAX), "fits into a datagram");
    out.put_u8(kind);
    out.put_u16(body as u16);
}
