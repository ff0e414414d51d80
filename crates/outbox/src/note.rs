//! What is noted about a record beside it.
//!
//! Written as text, words parted by single spaces: attempts, when the first was (`-` for
//! never), and for a dead letter when it died and why: `4 1709078400000 1709078407000 agent
//! refused it`. Times are milliseconds since the Unix epoch.

use std::sync::Arc;

use crate::face::{Entry, State};

/// What is noted about a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    /// Attempts.
    pub attempts: u32,
    /// When the first was.
    pub first_attempt_ms: Option<u64>,
    /// Why and when it was given up, if it was.
    pub dead: Option<(Arc<str>, u64)>,
}

impl Note {
    /// What an entry says.
    pub(crate) fn of(entry: &Entry) -> Self {
        Self {
            attempts: entry.attempts,
            first_attempt_ms: entry.first_attempt_ms,
            dead: match &entry.state {
                State::Pending => None,
                State::Dead { reason, at_ms } => Some((Arc::clone(reason), *at_ms)),
            },
        }
    }

    /// Puts what is noted into an entry.
    pub(crate) fn apply(self, entry: &mut Entry) {
        entry.attempts = self.attempts;
        entry.first_attempt_ms = self.first_attempt_ms;
        entry.state = match self.dead {
            None => State::Pending,
            Some((reason, at_ms)) => State::Dead { reason, at_ms },
        };
    }

    /// A reason of at most 1,024 bytes.
    pub(crate) fn short(reason: &Arc<str>) -> Arc<str> {
        if reason.len() <= REASON_BYTES_MAX {
            return Arc::clone(reason);
        }
        Arc::from(&reason[..reason.floor_char_boundary(REASON_BYTES_MAX)])
    }

    /// Writes a note.
    pub fn to_text(&self) -> String {
        let first = self
            .first_attempt_ms
            .map_or_else(|| "-".to_owned(), |at| at.to_string());
        let mut text = format!("{} {first}", self.attempts);
        if let Some((reason, at_ms)) = &self.dead {
            text.push_str(&format!(" {at_ms} {reason}"));
        }
        text
    }

    /// Reads a note; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(4, ' ');
        let attempts = words.next()?.parse().ok()?;
        let first_attempt_ms = match words.next()? {
            "-" => None,
            at => Some(at.parse().ok()?),
        };
        let dead = match words.next() {
            None => None,
            Some(at) => Some((Arc::from(words.next()?), at.parse().ok()?)),
        };
        Some(Self {
            attempts,
            first_attempt_ms,
            dead,
        })
    }
}

const REASON_BYTES_MAX: usize = 1024;
