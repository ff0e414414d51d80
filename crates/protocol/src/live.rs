//! The wire format of live-data clients, as pure codecs (`contracts`: live-data 6.2).
//!
//! A client says which subjects it wants, in text frames ([`Inbound`]); what is published
//! there comes as it is, in binary frames, with the subject before it if the client asked
//! for that ([`enveloped`]). Success is not acknowledged; what is refused is told in text
//! ([`error`]).
//!
//! There is one session state machine for all dialects, and it knows commands: [`Desk`]
//! makes commands of what such a client says, and of the replies what it is told.

mod desk;
mod inbound;

pub use desk::{Desk, Told};
pub use inbound::{Inbound, InboundError, Verb};

use serde::Serialize;

/// The sub-protocol that asks for the subject before each payload.
pub const ENVELOPED: &str = "xy.v1";

/// Who is not let in: no token, or a page that may not connect.
pub const UNAUTHORIZED: &str = "XYW001";
/// A subject that is refused.
pub const SUBJECT_REFUSED: &str = "XYW002";
/// A path that is none.
pub const WRONG_PATH: &str = "XYW003";
/// The bus is out of reach.
pub const BUS_LOST: &str = "XYW004";
/// A token that is not good.
pub const TOKEN_INVALID: &str = "XYW005";

/// Appends the head of an enveloped payload: how long the subject is, in two bytes with
/// the most significant first, and the subject. One of more than 65,535 bytes is cut off,
/// and no channel is that long.
pub fn envelope(subject: &str, out: &mut Vec<u8>) {
    let bytes = subject.as_bytes();
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes.get(..usize::from(length)).unwrap_or_default());
}

/// Reads an enveloped payload: its subject, and the payload; `None` if it is none.
pub fn enveloped(frame: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = frame.split_first_chunk()?;
    let (subject, payload) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((std::str::from_utf8(subject).ok()?, payload))
}

/// What a client is told that cannot have a subject.
pub fn error(subject: &str, message: Option<&str>) -> String {
    #[derive(Serialize)]
    struct Error<'a> {
        r#type: &'static str,
        code: &'static str,
        subject: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
    }
    let error = Error {
        r#type: "error",
        code: SUBJECT_REFUSED,
        subject,
        message,
    };
    serde_json::json!(error).to_string()
}

/// The body of an answer that refuses a handshake.
pub fn refusal(code: &str, message: &str) -> String {
    serde_json::json!({ "code": code, "message": message }).to_string()
}

#[cfg(test)]
mod tests;
