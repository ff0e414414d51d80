//! One JSON message a line.

use memchr::{memchr, memchr2};
use serde::{Deserialize, Serialize};

use super::{DecodeError, EncodeError};
use crate::message::{EmulationRequest, Object, Publication, Structure};

/// Splits the first line off; one newline at the end of a frame is tolerated.
pub(super) fn split(frame: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let (line, rest) = match memchr(b'\n', frame) {
        Some(end) => (&frame[..end], &frame[end + 1..]),
        None => (frame, &[][..]),
    };
    if line.iter().all(u8::is_ascii_whitespace) {
        return Err(DecodeError::BlankLine);
    }
    Ok((line, rest))
}

pub(super) fn decode<M: Structure>(line: &[u8]) -> Result<M, DecodeError> {
    // Checked whole, once: what is skipped or kept raw is not checked by the parser.
    let line = std::str::from_utf8(line).map_err(|error| DecodeError::NotJson {
        at: error.valid_up_to() + 1,
    })?;
    serde_json::from_str(line)
        .map(|Object(message)| message)
        .map_err(|error| {
            let at = error.column();
            if error.is_data() {
                DecodeError::WrongType { at }
            } else {
                DecodeError::NotJson { at }
            }
        })
}

/// Appends the message without newlines.
///
/// Line ends can only stem from raw values, and there only between tokens, so that all
/// of them can go: `\n` would split the message, and `\r` an event of an event stream.
pub(super) fn encode<M: Serialize>(message: &M, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    // A vector takes all that is written, so only a raw value can be at fault.
    if serde_json::to_writer(&mut *out, message).is_err() {
        out.truncate(start);
        return Err(EncodeError::NotJson);
    }
    if let Some(first) = memchr2(b'\n', b'\r', &out[start..]) {
        let mut at = 0;
        out.retain(|byte| {
            let keep = at < start + first || (*byte != b'\n' && *byte != b'\r');
            at += 1;
            keep
        });
    }
    Ok(())
}

pub(super) fn encode_push_publication(
    channel: &str,
    publication: &Publication,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    encode(
        &PublicationReply {
            push: PublicationPush {
                channel,
                publication,
            },
        },
        out,
    )
}

pub(super) fn decode_emulation(body: &[u8]) -> Result<EmulationRequest, DecodeError> {
    let EmulationBody {
        node,
        session,
        data,
    } = decode(body)?;
    Ok(EmulationRequest {
        node,
        session,
        data: data.into(),
    })
}

/// [`crate::message::Reply`] with a publication, borrowed.
#[derive(Serialize)]
struct PublicationReply<'a> {
    push: PublicationPush<'a>,
}

#[derive(Serialize)]
struct PublicationPush<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    channel: &'a str,
    #[serde(rename = "pub")]
    publication: &'a Publication,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct EmulationBody {
    node: String,
    session: String,
    data: String,
}

impl Structure for EmulationBody {}
