//! Subjects and patterns in NATS grammar.
//!
//! A subject is one or more non-empty tokens joined by `.`. A pattern may have `*`
//! in place of a token, which stands for exactly one, and `>` as its last token,
//! which stands for one or more.
//!
//! Tokens hold printable ASCII other than space. NATS itself also lets UTF-8 pass,
//! but servers and clients differ in how they treat it, so here a name has one
//! spelling: other characters are escaped ([`crate::channel`]).

use std::fmt;
use std::sync::Arc;

/// A literal subject: what a message is addressed to. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(Arc<str>);

/// A set of subjects. Cheap to clone. A literal subject is a pattern that covers itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Arc<str>);

/// Why a text is not a subject, or not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Nothing at all.
    #[error("subject is empty")]
    Empty,
    /// A leading, trailing or doubled dot.
    #[error("subject has an empty token at byte {at}")]
    EmptyToken {
        /// Where the token would have started, in bytes.
        at: usize,
    },
    /// A space, a control character, or one outside ASCII.
    #[error("subject has a character that is not printable ASCII at byte {at}")]
    Forbidden {
        /// Where it stands, in bytes.
        at: usize,
    },
    /// `*` or `>` in a subject that must be literal.
    #[error("subject has a wildcard at byte {at}, but must be literal")]
    Wildcard {
        /// Where it stands, in bytes.
        at: usize,
    },
    /// `*` or `>` beside other characters of a token (`a*`).
    #[error("wildcard at byte {at} is not a token of its own")]
    PartialWildcard {
        /// Where it stands, in bytes.
        at: usize,
    },
    /// `>` before the last token.
    #[error("wildcard \">\" at byte {at} is not the last token")]
    TailNotLast {
        /// Where it stands, in bytes.
        at: usize,
    },
}

impl Subject {
    /// Checks that the text is a literal subject.
    pub fn new(text: &str) -> Result<Self, SubjectError> {
        check_tokens(text, |token, at| {
            match token.bytes().position(is_wildcard) {
                Some(inner) => Err(SubjectError::Wildcard { at: at + inner }),
                None => Ok(()),
            }
        })?;
        Ok(Self(text.into()))
    }

    /// For text that is a literal subject by construction.
    pub(crate) fn from_checked(text: &str) -> Self {
        debug_assert!(Self::new(text).is_ok(), "{text:?} is not a literal subject");
        Self(text.into())
    }

    /// The subject as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Pattern {
    /// Checks that the text is a pattern.
    pub fn new(text: &str) -> Result<Self, SubjectError> {
        check_tokens(text, |token, at| {
            match (token, token.bytes().position(is_wildcard)) {
                (">", _) if at + 1 != text.len() => Err(SubjectError::TailNotLast { at }),
                ("*" | ">", _) | (_, None) => Ok(()),
                (_, Some(inner)) => Err(SubjectError::PartialWildcard { at: at + inner }),
            }
        })?;
        Ok(Self(text.into()))
    }

    /// Whether the subject is in the set.
    pub fn covers(&self, subject: &Subject) -> bool {
        self.covers_text(subject.as_str())
    }

    /// Whether a text, split at its dots, is in the set.
    ///
    /// The text need not be a subject. Its empty tokens count as tokens, and a wildcard
    /// in it is an ordinary character; so a channel is covered exactly if the subject
    /// it maps to is (as long as the pattern's own tokens need no escape).
    pub fn covers_text(&self, text: &str) -> bool {
        let mut tokens = text.split('.');
        for wanted in self.0.split('.') {
            match (wanted, tokens.next()) {
                (_, None) => return false,
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (literal, Some(token)) if literal == token => {}
                (_, Some(_)) => return false,
            }
        }
        tokens.next().is_none()
    }

    /// Whether every subject in the other set is in this one.
    pub fn includes(&self, other: &Self) -> bool {
        let mut others = other.0.split('.');
        for own in self.0.split('.') {
            match (own, others.next()) {
                (_, None) => return false,
                (">", Some(_)) => return true,
                ("*", Some(token)) if token != ">" => {}
                (own, Some(token)) if own == token => {}
                (_, Some(_)) => return false,
            }
        }
        others.next().is_none()
    }

    /// Whether some subject is in both sets.
    pub fn overlaps(&self, other: &Self) -> bool {
        let mut others = other.0.split('.');
        for own in self.0.split('.') {
            match (own, others.next()) {
                (_, None) => return false,
                (">", Some(_)) | (_, Some(">")) => return true,
                ("*", Some(_)) | (_, Some("*")) => {}
                (own, Some(token)) if own == token => {}
                (_, Some(_)) => return false,
            }
        }
        others.next().is_none()
    }

    /// Whether it has no wildcard, and so covers one subject only.
    pub fn is_literal(&self) -> bool {
        !self.0.bytes().any(is_wildcard)
    }

    /// The pattern as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Subject> for Pattern {
    fn from(subject: Subject) -> Self {
        Self(subject.0)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, formatter)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, formatter)
    }
}

/// Whether a byte may stand in a token; wildcards count as such here.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'.'
}

pub(crate) fn is_wildcard(byte: u8) -> bool {
    byte == b'*' || byte == b'>'
}

fn check_tokens(
    text: &str,
    check: impl Fn(&str, usize) -> Result<(), SubjectError>,
) -> Result<(), SubjectError> {
    if text.is_empty() {
        return Err(SubjectError::Empty);
    }
    let mut at = 0;
    for token in text.split('.') {
        if token.is_empty() {
            return Err(SubjectError::EmptyToken { at });
        }
        if let Some(inner) = token.bytes().position(|byte| !is_token_byte(byte)) {
            return Err(SubjectError::Forbidden { at: at + inner });
        }
        check(token, at)?;
        at += token.len() + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
