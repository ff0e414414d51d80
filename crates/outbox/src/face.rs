//! What every kind of outbox offers.

use std::sync::Arc;

use bytes::Bytes;

/// How urgent a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Control messages.
    Control,
    /// What a person waits for.
    Interactive,
    /// Everything else.
    Bulk,
}

/// What is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose order it belongs to.
    pub client: Arc<str>,
    /// How urgent it is; order is kept per client within a priority.
    pub priority: Priority,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The caller's own key of it, given back by a recovery.
    pub key: u128,
    /// The contents.
    pub payload: Bytes,
}

/// Where a record is. Later records of one outbox have greater ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Its number in the order of appending.
    pub seq: u64,
    /// Whatever else the kind needs to find it.
    pub place: u64,
}

/// What is noted about a record after it was appended. A note rides along with the next
/// sync and nobody waits for it: one that is lost makes a record be tried once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// It has been sent for the `attempt`-th time, counted from 1.
    Attempted {
        /// Which attempt.
        attempt: u32,
        /// When, in milliseconds since the Unix epoch.
        at_ms: u64,
    },
    /// The recipient has it: it may be forgotten.
    Settled,
    /// It was given up and kept for operators.
    Dead {
        /// Why, in words for operators; at most 1,024 bytes are kept.
        reason: Arc<str>,
        /// When, in milliseconds since the Unix epoch.
        at_ms: u64,
    },
    /// A dead letter that is to be delivered after all: pending again, attempts from 0.
    Revived,
}

/// A record that was unsettled when the outbox was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub id: RecordId,
    /// Whose order it belongs to.
    pub client: Arc<str>,
    /// How urgent it is.
    pub priority: Priority,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The caller's own key of it.
    pub key: u128,
    /// Attempts noted.
    pub attempts: u32,
    /// When the first attempt was noted, in milliseconds since the Unix epoch.
    pub first_attempt_ms: Option<u64>,
    /// Bytes of its contents.
    pub size: usize,
    /// Whether it waits or was given up.
    pub state: State,
}

/// Whether a record waits or was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// To be delivered.
    Pending,
    /// Given up and kept.
    Dead {
        /// Why.
        reason: Arc<str>,
        /// When, in milliseconds since the Unix epoch.
        at_ms: u64,
    },
}

/// Called once, with where the record is as soon as it is safe, or with why it will not be.
/// Runs on the outbox's own thread and holds up everybody else's records: it must be short
/// and must not block.
pub type Done = Box<dyn FnOnce(Result<RecordId, AppendError>) + Send>;

/// Why a record was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too much waits to be synced; a later try may succeed.
    #[error("outbox has no room for more records at the moment")]
    Busy,
    /// The record is larger than the outbox takes.
    #[error("record of {size} bytes is larger than {max}")]
    TooLarge {
        /// Its bytes.
        size: usize,
        /// Most bytes.
        max: usize,
    },
    /// The storage failed; nothing is taken until the process is restarted. The record may
    /// or may not be there after that.
    #[error("outbox has failed: {0}")]
    Failed(Arc<str>),
}

/// Why a record can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nothing is there, or what was there is settled and reclaimed.
    #[error("record {0:?} is not there")]
    Missing(RecordId),
    /// What is there is not what was written.
    #[error("record {id:?} is damaged: {what}")]
    Damaged {
        /// Where.
        id: RecordId,
        /// What is wrong.
        what: String,
    },
    /// The storage did not answer.
    #[error("record can't be read")]
    Io(#[source] std::io::Error),
}

/// How an outbox fares; all from its start on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Records made safe.
    pub appended: u64,
    /// Records settled.
    pub settled: u64,
    /// Records neither settled nor reclaimed, dead letters included.
    pub unsettled: u64,
    /// Bytes it takes on disk; 0 if it is not on our disk.
    pub bytes: u64,
    /// Syncs.
    pub syncs: u64,
    /// Time spent in syncs, in seconds.
    pub sync_seconds: f64,
    /// Time of a sync at the 99th percentile of the last few thousand, in seconds.
    pub sync_p99_seconds: f64,
    /// Records found damaged.
    pub corrupt: u64,
    /// Dead letters dropped because they were too old or too many.
    pub dead_dropped: u64,
    /// Why it takes nothing any more, if so.
    pub failed: Option<Arc<str>>,
}
