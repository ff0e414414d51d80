//! Which subjects somebody may have: the `subjects` claim of a token, and the whitelist
//! of a dialect.

use crate::subject::{Pattern, SubjectError};

/// Patterns of what is allowed; what none of them covers is not. Without patterns
/// nothing is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subjects(Box<[Pattern]>);

/// Why a list of patterns is not one that is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectsError {
    /// Every subscription is held against all of them.
    #[error("{count} patterns are too many: at most {PATTERNS_MAX}")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// Longer than any channel has to be.
    #[error("pattern {index} has {bytes} bytes: at most {PATTERN_BYTES_MAX}")]
    TooLong {
        /// Which one, from 0.
        index: usize,
        /// Its length.
        bytes: usize,
    },
    /// Not of NATS grammar.
    #[error("pattern {index}: {error}")]
    Malformed {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        error: SubjectError,
    },
}

impl Subjects {
    /// Checks a list of patterns.
    pub fn new<T: AsRef<str>>(patterns: &[T]) -> Result<Self, SubjectsError> {
        if patterns.len() > PATTERNS_MAX {
            return Err(SubjectsError::TooMany {
                count: patterns.len(),
            });
        }
        let checked = patterns.iter().map(AsRef::as_ref).enumerate();
        let checked = checked.map(|(index, text)| {
            if text.len() > PATTERN_BYTES_MAX {
                return Err(SubjectsError::TooLong {
                    index,
                    bytes: text.len(),
                });
            }
            Pattern::new(text).map_err(|error| SubjectsError::Malformed { index, error })
        });
        checked.collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of the patterns allows a channel. One that is written like a pattern
    /// must lie within it as a whole, whether or not its namespace reads it as one; any
    /// other has to be covered.
    pub fn allow(&self, channel: &str) -> bool {
        let wanted = Pattern::new(channel)
            .ok()
            .filter(|wanted| !wanted.is_literal());
        self.0.iter().any(|pattern| match &wanted {
            Some(wanted) => pattern.includes(wanted),
            None => pattern.covers_text(channel),
        })
    }
}

/// For an operator's own list, which may be as long as it likes.
impl FromIterator<Pattern> for Subjects {
    fn from_iter<I: IntoIterator<Item = Pattern>>(patterns: I) -> Self {
        Self(patterns.into_iter().collect())
    }
}

/// Most patterns of one list.
pub const PATTERNS_MAX: usize = 64;

/// Most bytes of one pattern.
pub const PATTERN_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_covered_and_a_pattern_included() {
        let subjects = Subjects::new(&["xy.md.tick.a", "xy.ref.*", "news.>", "chat:room"]).unwrap();
        for allowed in [
            "xy.md.tick.a",
            "xy.ref.x",
            "xy.ref.*",
            "news.a",
            "news.a.b",
            "news.*",
            "news.>",
            "news.*.a",
            "chat:room",
        ] {
            assert!(subjects.allow(allowed), "{allowed}");
        }
        for refused in [
            "",
            "xy.md.tick.b",
            "xy.md.tick.*",
            "xy.md.tick.a.b",
            "xy.md.tick.>",
            "xy.ref.>",
            "xy.ref.a.b",
            "news",
            ">",
            "*.a",
            "*",
            "chat:roomy",
            "$chat:room",
        ] {
            assert!(!subjects.allow(refused), "{refused}");
        }
        assert!(!Subjects::new::<&str>(&[]).unwrap().allow("a"));
    }

    #[test]
    fn a_list_that_is_too_long_or_malformed_says_where() {
        let many = vec!["a"; PATTERNS_MAX + 1];
        assert_eq!(
            Subjects::new(&many),
            Err(SubjectsError::TooMany { count: 65 })
        );
        let long = "a".repeat(PATTERN_BYTES_MAX + 1);
        assert_eq!(
            Subjects::new(&["a", &long]),
            Err(SubjectsError::TooLong {
                index: 1,
                bytes: 257
            })
        );
        for malformed in ["", "a..b", "a.>.b", "a b", "a*"] {
            let refused = Subjects::new(&["a", malformed]).unwrap_err();
            assert!(matches!(refused, SubjectsError::Malformed { index: 1, .. }));
        }
    }
}
