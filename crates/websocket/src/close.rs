//! Status codes and the payload of close frames (RFC 6455, 5.5.1 and 7.4).

use crate::error::FrameError;

/// The purpose of the connection is fulfilled.
pub const NORMAL: u16 = 1000;
/// The endpoint goes away, for instance because the server stops.
pub const GOING_AWAY: u16 = 1001;
/// The peer broke the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;
/// The peer sent a kind of message that is not accepted.
pub const UNSUPPORTED: u16 = 1003;
/// A message is inconsistent with its type, such as text that is not UTF-8.
pub const INVALID_PAYLOAD: u16 = 1007;
/// A message violates a policy.
pub const POLICY: u16 = 1008;
/// A message is too large.
pub const TOO_LARGE: u16 = 1009;
/// The server failed.
pub const INTERNAL: u16 = 1011;
/// The server is overloaded; try again later.
pub const TRY_AGAIN_LATER: u16 = 1013;

/// The longest reason, in bytes, that fits beside the code into a control frame.
pub const REASON_MAX: usize = 123;

/// The payload of a close frame; a reason over [`REASON_MAX`] bytes is cut at a character.
#[must_use]
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(REASON_MAX)];
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(reason.as_bytes());
    payload
}

/// Whether an endpoint may put `code` into a close frame (7.4.1, 7.4.2 and the registry of IANA).
///
/// 1005, 1006 and 1015 describe what happened locally and never travel; 1004 and 1016–2999 are
/// reserved; 3000–4999 belong to libraries and applications.
#[must_use]
pub fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Takes the payload of a received close frame apart.
///
/// # Errors
///
/// [`FrameError::CloseTruncated`], [`FrameError::CloseCode`] or [`FrameError::CloseReasonUtf8`].
pub fn parse_close(payload: &[u8]) -> Result<(Option<u16>, &str), FrameError> {
    match payload {
        [] => Ok((None, "")),
        [_] => Err(FrameError::CloseTruncated),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !is_sendable(code) {
                return Err(FrameError::CloseCode(code));
            }
            let reason = str::from_utf8(reason).map_err(|_| FrameError::CloseReasonUtf8)?;
            Ok((Some(code), reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reason_is_cut_between_characters() {
        let reason = format!("{}é", "x".repeat(122));
        let payload = close_payload(1000, &reason);
        assert_eq!(payload.len(), 2 + 122);
        assert_eq!(
            parse_close(&payload),
            Ok((Some(1000), "x".repeat(122).as_str()))
        );
        assert_eq!(close_payload(1000, &"x".repeat(123)).len(), 125);
    }

    #[test]
    fn codes_that_never_travel_are_refused() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
            assert_eq!(
                parse_close(&close_payload(code, "")),
                Err(FrameError::CloseCode(code))
            );
        }
        for code in [1000, 1003, 1007, 1014, 3000, 4999] {
            assert_eq!(parse_close(&close_payload(code, "")), Ok((Some(code), "")));
        }
    }

    #[test]
    fn half_a_code_and_broken_reasons_are_refused() {
        assert_eq!(parse_close(&[]), Ok((None, "")));
        assert_eq!(parse_close(&[3]), Err(FrameError::CloseTruncated));
        assert_eq!(
            parse_close(&[3, 232, 0xff]),
            Err(FrameError::CloseReasonUtf8)
        );
    }
}
