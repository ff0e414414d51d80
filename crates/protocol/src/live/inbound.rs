//! What a live-data client says.

use std::fmt;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// What is to be done.
    pub verb: Verb,
    /// To which subjects, as the client wrote them.
    pub subjects: Vec<String>,
}

/// What is to be done with the subjects of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// They come to those there are (`contracts`: L7).
    Subscribe,
    /// They are all there shall be.
    Replace,
    /// They are no longer wanted.
    Unsubscribe,
}

/// Why a message is ignored. Says where, never what: the text may be private.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InboundError {
    /// A binary frame, which has no meaning here.
    #[error("message is binary")]
    Binary,
    /// Not an object with a `type` and a list of `subjects`.
    #[error("message is not one that is known, at byte {at}")]
    Unknown {
        /// Where reading it ended, in bytes from 1; in the last line, if there are several.
        at: usize,
    },
    /// A `type` other than `subscribe` and `unsubscribe`.
    #[error("type of the message is not known")]
    Type,
    /// More subjects than a message may have.
    #[error("message has {count} subjects, but may have {max}")]
    TooMany {
        /// How many it has.
        count: usize,
        /// How many it may have.
        max: usize,
    },
}

impl Inbound {
    /// Reads a message of at most `subjects_max` subjects. Fields that are not known are
    /// no concern of ours.
    pub fn parse(binary: bool, message: &[u8], subjects_max: usize) -> Result<Self, InboundError> {
        if binary {
            return Err(InboundError::Binary);
        }
        let raw: Raw = serde_json::from_slice(message)
            .map_err(|error| InboundError::Unknown { at: error.column() })?;
        let verb = match (raw.r#type.as_str(), raw.replace) {
            ("subscribe", false) => Verb::Subscribe,
            ("subscribe", true) => Verb::Replace,
            ("unsubscribe", _) => Verb::Unsubscribe,
            _ => return Err(InboundError::Type),
        };
        let List { mut kept, count } = raw.subjects;
        if count > subjects_max {
            return Err(InboundError::TooMany {
                count,
                max: subjects_max,
            });
        }
        kept.truncate(count);
        Ok(Self {
            verb,
            subjects: kept,
        })
    }
}

#[derive(Deserialize)]
struct Raw {
    r#type: String,
    subjects: List,
    #[serde(default)]
    replace: bool,
}

/// A list of texts of which no more are kept than any setting lets through; the others
/// are counted.
struct List {
    kept: Vec<String>,
    count: usize,
}

/// No setting lets through more subjects of one message.
const KEPT_MAX: usize = 100_000;

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = List;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of subjects")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<List, A::Error> {
                let mut kept = Vec::new();
                while kept.len() < KEPT_MAX
                    && let Some(subject) = list.next_element()?
                {
                    kept.push(subject);
                }
                let mut count = kept.len();
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(List { kept, count })
            }
        }
        input.deserialize_seq(ListVisitor)
    }
}
