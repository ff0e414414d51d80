//! Channels, and the subjects they name.
//!
//! A channel is what clients of the Centrifuge protocol say; a subject is what
//! messages are addressed to on a bus. The one names the other by an escape that is
//! reversible and keeps the tokens, so that patterns mean the same on both sides:
//!
//! - a byte that a literal subject forbids in a token (space, control characters,
//!   DEL, `*`, `>`, the bytes of characters outside ASCII), and `%` itself, becomes
//!   `%` and two upper-case hexadecimal digits;
//! - an empty token (leading, trailing or doubled dot, or an empty channel) becomes
//!   a lone `%`;
//! - everything else stays, so that most channels are their own subjects.
//!
//! The escape of a token never yields a lone `%`, so no two channels share a subject.
//! Only that one spelling is read back: a subject such as `a.%41` names no channel.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::subject::{Subject, is_token_byte, is_wildcard};

/// The name of a channel: any text, compared exactly. Cheap to clone, and maps keyed by
/// it can be asked by `&str`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(Arc<str>);

/// A subject that no channel maps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("subject has an escape at byte {at} that no channel is written with")]
pub struct EscapeError {
    /// Where the escape stands, in bytes.
    pub at: usize,
}

impl Channel {
    /// Names a channel; length and characters are for the channel's options to judge.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The channel that a subject stands for.
    pub fn from_subject(subject: &Subject) -> Result<Self, EscapeError> {
        unescape(subject.as_str()).map(|name| Self::new(&name))
    }

    /// The subject that the channel's messages are addressed to.
    pub fn to_subject(&self) -> Subject {
        Subject::from_checked(&escape(self))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Channel {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Channel {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Channel {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Channel {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for Channel {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl PartialEq<str> for Channel {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for Channel {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, formatter)
    }
}

/// Writes a channel's name as a literal subject; at most three times as long.
pub fn escape(channel: &str) -> Cow<'_, str> {
    if is_verbatim(channel) {
        return Cow::Borrowed(channel);
    }
    let mut subject = String::with_capacity(channel.len() + 8);
    for (index, token) in channel.split('.').enumerate() {
        if index > 0 {
            subject.push('.');
        }
        if token.is_empty() {
            subject.push(ESCAPE);
        }
        for byte in token.bytes() {
            if must_escape(byte) {
                subject.push(ESCAPE);
                subject.push(hex_digit(byte >> 4));
                subject.push(hex_digit(byte & 15));
            } else {
                subject.push(char::from(byte));
            }
        }
    }
    Cow::Owned(subject)
}

/// Reads a literal subject back as the channel's name that [`escape`] wrote.
pub fn unescape(subject: &str) -> Result<Cow<'_, str>, EscapeError> {
    if is_verbatim(subject) {
        return Ok(Cow::Borrowed(subject));
    }
    let mut channel = Vec::with_capacity(subject.len());
    let mut at = 0;
    for (index, token) in subject.split('.').enumerate() {
        if index > 0 {
            channel.push(b'.');
        }
        if token.is_empty() {
            return Err(EscapeError { at });
        }
        if token != LONE_ESCAPE {
            unescape_token(token.as_bytes(), at, &mut channel)?;
        }
        at += token.len() + 1;
    }
    // Escaped bytes may spell something that is not UTF-8; a channel never does.
    String::from_utf8(channel)
        .map(Cow::Owned)
        .map_err(|_| EscapeError { at: 0 })
}

fn unescape_token(token: &[u8], start: usize, channel: &mut Vec<u8>) -> Result<(), EscapeError> {
    let mut rest = token;
    while let [first, tail @ ..] = rest {
        let at = start + token.len() - rest.len();
        if *first != ESCAPE_BYTE {
            // What should have been escaped has another spelling.
            if must_escape(*first) {
                return Err(EscapeError { at });
            }
            channel.push(*first);
            rest = tail;
            continue;
        }
        let [high, low, tail @ ..] = tail else {
            return Err(EscapeError { at });
        };
        let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low)) else {
            return Err(EscapeError { at });
        };
        let byte = high << 4 | low;
        if !must_escape(byte) {
            return Err(EscapeError { at });
        }
        channel.push(byte);
        rest = tail;
    }
    Ok(())
}

/// Whether a text is a literal subject without an escape, and so stands for itself.
fn is_verbatim(text: &str) -> bool {
    let mut token_is_empty = true;
    for byte in text.bytes() {
        if byte == b'.' {
            if token_is_empty {
                return false;
            }
            token_is_empty = true;
        } else if must_escape(byte) {
            return false;
        } else {
            token_is_empty = false;
        }
    }
    !token_is_empty
}

/// A dot never gets here as part of a token, and is written only between tokens.
fn must_escape(byte: u8) -> bool {
    !is_token_byte(byte) && byte != b'.' || is_wildcard(byte) || byte == ESCAPE_BYTE
}

fn hex_digit(nibble: u8) -> char {
    char::from(match nibble {
        0..=9 => b'0' + nibble,
        _ => b'A' + (nibble - 10),
    })
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

const ESCAPE: char = '%';
const ESCAPE_BYTE: u8 = b'%';
const LONE_ESCAPE: &str = "%";

#[cfg(test)]
mod tests;
