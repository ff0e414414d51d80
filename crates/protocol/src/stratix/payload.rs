//! The bytes behind `data` (`contracts`: relay 1.3, R7).
//!
//! The seed says that `data` is Base64; its clients send plain text. A text is therefore
//! relayed as it came, and only where its bytes are needed somebody has to decide which of
//! the two it is.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Kind, Message};

/// How a text in `data` is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// As Base64 if it is padded Base64 of valid UTF-8, else as it stands. Short plain words
    /// can be such Base64 by chance: `abcd` is not, `YWJj` is.
    #[default]
    Auto,
    /// As padded Base64, and as nothing else.
    Base64,
    /// As it stands.
    Plain,
}

/// Why the bytes can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`data` is not padded Base64")]
pub struct PayloadError(#[source] base64::DecodeError);

/// The bytes behind a text. Only [`Encoding::Base64`] fails.
pub fn data_bytes(data: &str, encoding: Encoding) -> Result<Cow<'_, [u8]>, PayloadError> {
    match encoding {
        Encoding::Plain => Ok(Cow::Borrowed(data.as_bytes())),
        Encoding::Base64 => STANDARD.decode(data).map(Cow::Owned).map_err(PayloadError),
        Encoding::Auto => Ok(
            text_in_base64(data).map_or(Cow::Borrowed(data.as_bytes()), |text| {
                Cow::Owned(text.into_bytes())
            }),
        ),
    }
}

/// The bytes of a message: of a binary one always Base64, of others as `encoding` says.
pub fn payload(message: &Message, encoding: Encoding) -> Result<Cow<'_, [u8]>, PayloadError> {
    match message.kind {
        Kind::Binary => data_bytes(&message.data, Encoding::Base64),
        Kind::Text | Kind::Control => data_bytes(&message.data, encoding),
    }
}

fn text_in_base64(data: &str) -> Option<String> {
    // Most plain texts are told by their length alone.
    if data.is_empty() || !data.len().is_multiple_of(4) {
        return None;
    }
    String::from_utf8(STANDARD.decode(data).ok()?).ok()
}

#[cfg(test)]
mod tests;
