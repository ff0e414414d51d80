//! Records in a stream of NATS JetStream.

use lifecycle::{CancellationToken, Clock, Tasks};

use crate::face::{Done, Entry, Figures, Mark, ReadError, Record, RecordId};

/// How it is set up.
#[derive(Debug, Clone)]
pub struct Config {}

/// Why it could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// This build does not have it.
    #[error("this kind of outbox is not built in")]
    NotBuiltIn,
}

pub(crate) enum JetStreamOutbox {}

#[expect(clippy::unused_async, reason = "the face of every kind")]
impl JetStreamOutbox {
    pub(crate) async fn open(
        _config: Config,
        _tasks: &Tasks,
        _clock: Clock,
    ) -> Result<(Self, Vec<Entry>), OpenError> {
        Err(OpenError::NotBuiltIn)
    }

    pub(crate) fn append(&self, _record: Record, _done: Done) {
        match *self {}
    }

    pub(crate) fn mark(&self, _id: RecordId, _mark: Mark) {
        match *self {}
    }

    pub(crate) async fn read(&self, _id: RecordId) -> Result<Record, ReadError> {
        match *self {}
    }

    pub(crate) fn figures(&self) -> Figures {
        match *self {}
    }

    pub(crate) fn failed(&self) -> CancellationToken {
        match *self {}
    }

    pub(crate) async fn close(&self) {
        match *self {}
    }
}
