//! Each Protobuf message behind its length.

use prost::Message;

use super::DecodeError;
use crate::message::Publication;

/// Splits the first message off, without its length.
pub(super) fn split(frame: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let mut rest = frame;
    let length = prost::decode_length_delimiter(&mut rest).map_err(|_| DecodeError::Truncated)?;
    rest.split_at_checked(length).ok_or(DecodeError::Truncated)
}

pub(super) fn encode<M: Message>(message: &M, out: &mut Vec<u8>) {
    let length = message.encoded_len();
    out.reserve(length + prost::length_delimiter_len(length));
    write_length(length, out);
    message.encode_raw(out);
}

/// Writes `Reply { push: Push { channel, pub } }` from the outside in, so that each
/// length must be known before: they are worked out from the inside out.
pub(super) fn encode_push_publication(channel: &str, publication: &Publication, out: &mut Vec<u8>) {
    let publication_len = publication.encoded_len();
    let channel_len = if channel.is_empty() {
        0
    } else {
        field_len(channel.len())
    };
    let push_len = channel_len + field_len(publication_len);
    let reply_len = field_len(push_len);
    out.reserve(field_len(reply_len));
    write_length(reply_len, out);
    out.push(REPLY_PUSH);
    write_length(push_len, out);
    if !channel.is_empty() {
        out.push(PUSH_CHANNEL);
        write_length(channel.len(), out);
        out.extend_from_slice(channel.as_bytes());
    }
    out.push(PUSH_PUBLICATION);
    write_length(publication_len, out);
    publication.encode_raw(out);
}

/// The bytes of a length-delimited field with a one-byte key.
fn field_len(length: usize) -> usize {
    1 + prost::length_delimiter_len(length) + length
}

fn write_length(length: usize, out: &mut Vec<u8>) {
    let mut left = length;
    while left >= 0x80 {
        out.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// Keys: field number and wire type 2 (length-delimited).
const REPLY_PUSH: u8 = 4 << 3 | 2;
const PUSH_CHANNEL: u8 = 2 << 3 | 2;
const PUSH_PUBLICATION: u8 = 4 << 3 | 2;
