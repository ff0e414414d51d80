//! What a broker held when an outbox was opened.

use std::sync::Arc;

use tracing::error;

use crate::envelope::Opened;
use crate::face::{Entry, RecordId, State};
use crate::note::Note;

/// Unsettled records, and how many of them are unreadable.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// The number of the last record ever added.
    pub(crate) top: u64,
    pub(crate) entries: Vec<Entry>,
    /// Records that are not what was written; they stay where they are.
    pub(crate) damaged: usize,
}

impl Recovered {
    /// Takes in what was found at a number, with what is noted about it.
    pub(crate) fn add(&mut self, seq: u64, found: Result<Opened, String>, note: Option<&str>) {
        let record = match found {
            Ok(opened) => opened.record,
            Err(what) => {
                self.damaged += 1;
                error!(seq, what, "record is damaged and left where it is");
                return;
            }
        };
        let mut entry = Entry {
            id: RecordId { seq, place: 0 },
            client: Arc::clone(&record.client),
            priority: record.priority,
            at_ms: record.at_ms,
            key: record.key,
            attempts: 0,
            first_attempt_ms: None,
            size: record.payload.len(),
            state: State::Pending,
        };
        if let Some(note) = note {
            match Note::parse(note) {
                Some(note) => note.apply(&mut entry),
                None => error!(seq, "note about a record is damaged"),
            }
        }
        self.entries.push(entry);
    }
}
