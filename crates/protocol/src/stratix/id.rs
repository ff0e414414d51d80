//! What an id may be.

/// Most bytes of a client's id.
pub const CLIENT_ID_BYTES_MAX: usize = 128;
/// Most bytes of a message's id.
pub const MESSAGE_ID_BYTES_MAX: usize = 256;

/// Why an id is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing is there.
    #[error("is empty")]
    Empty,
    /// More than fits.
    #[error("has {size} bytes, more than {max}")]
    TooLong {
        /// Its bytes.
        size: usize,
        /// Most bytes.
        max: usize,
    },
    /// Ids stand in logs, keys and texts that are signed line by line.
    #[error("has a control character at byte {at}")]
    Control {
        /// Where, in bytes from 1.
        at: usize,
    },
}

/// Checks the id of a client: 1 to [`CLIENT_ID_BYTES_MAX`] bytes without control characters.
pub fn check_client_id(id: &str) -> Result<(), IdError> {
    check(id, CLIENT_ID_BYTES_MAX)
}

/// Checks the id of a message: 1 to [`MESSAGE_ID_BYTES_MAX`] bytes without control characters.
pub fn check_message_id(id: &str) -> Result<(), IdError> {
    check(id, MESSAGE_ID_BYTES_MAX)
}

/// Checks any short text of a client that is kept or logged.
pub(super) fn check(text: &str, max: usize) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > max {
        return Err(IdError::TooLong {
            size: text.len(),
            max,
        });
    }
    match text.char_indices().find(|(_, one)| one.is_control()) {
        Some((at, _)) => Err(IdError::Control { at: at + 1 }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{IdError, check_client_id, check_message_id};

    #[test]
    fn ids_are_bounded_and_have_no_control_characters() {
        assert_eq!(check_client_id("client-123"), Ok(()));
        assert_eq!(check_client_id("客户 7"), Ok(()));
        assert_eq!(check_client_id(&"x".repeat(128)), Ok(()));
        let long = IdError::TooLong {
            size: 129,
            max: 128,
        };
        assert_eq!(check_client_id(&"x".repeat(129)), Err(long));
        assert_eq!(check_message_id(&"x".repeat(256)), Ok(()));
        assert!(check_message_id(&"x".repeat(257)).is_err());
        assert_eq!(check_message_id(""), Err(IdError::Empty));
        for wrong in ["a\n", "a\0", "a\u{7f}", "a\u{85}"] {
            assert_eq!(check_message_id(wrong), Err(IdError::Control { at: 2 }));
        }
    }
}
