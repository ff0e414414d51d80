//! Records in our own log on a local disk.

use std::path::PathBuf;
use std::time::Duration;

use lifecycle::{CancellationToken, Clock, Tasks};

use crate::face::{Done, Entry, Figures, Mark, ReadError, Record, RecordId};

/// How the log is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder; created if it is missing. One process at a time may use it.
    pub folder: PathBuf,
    /// When a record counts as appended.
    pub sync: Sync,
    /// Most bytes on disk, roughly. Unsettled records may take three quarters of it; beyond
    /// that appending answers `Busy`. Default 8 GiB.
    pub bytes_max: u64,
    /// Most unsettled records, dead letters included; each takes about 150 bytes of memory.
    /// Beyond it appending answers `Busy`. Default 4,000,000.
    pub records_max: usize,
    /// Bytes of a segment file: a multiple of 4 KiB from 64 KiB to 1 GiB. Default 64 MiB.
    pub segment_bytes: u64,
    /// Most records that wait for the writer; beyond it appending answers `Busy`. Default 8,192.
    pub waiting_max: usize,
    /// Most bytes that wait for the writer; a single record is taken whatever its size.
    /// Default 64 MiB.
    pub waiting_bytes_max: usize,
    /// How long dead letters are kept. Default 7 days.
    pub dead_retention: Duration,
    /// How many dead letters are kept; the oldest goes first. Default 100,000.
    pub dead_max: usize,
    /// Bytes per second that are read again to find damage early; 0 turns it off.
    /// Default 4 MiB.
    pub scrub_bytes_per_second: u64,
    /// Opens a log that is damaged before its end: what is damaged is put aside and lost.
    pub accept_loss: bool,
}

/// When a record counts as appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// After a sync that covers it: it survives a power cut.
    Always,
    /// After it is written; syncs follow at this distance. It survives the end of the process,
    /// and a power cut takes what was appended during the last interval.
    Interval(Duration),
    /// After it is written; the system syncs when it likes.
    Never,
}

impl Config {
    /// The defaults, in a folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            sync: Sync::Always,
            bytes_max: 8 << 30,
            records_max: 4_000_000,
            segment_bytes: 64 << 20,
            waiting_max: 8_192,
            waiting_bytes_max: 64 << 20,
            dead_retention: Duration::from_secs(7 * 24 * 3600),
            dead_max: 100_000,
            scrub_bytes_per_second: 4 << 20,
            accept_loss: false,
        }
    }
}

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("folder {folder:?} is in use by another process")]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
}

pub(crate) struct DiskOutbox {}

#[expect(clippy::unused_async, reason = "the face of every kind")]
impl DiskOutbox {
    pub(crate) async fn open(
        config: Config,
        _tasks: &Tasks,
        _clock: Clock,
    ) -> Result<(Self, Vec<Entry>), OpenError> {
        Err(OpenError::Locked {
            folder: config.folder,
        })
    }

    pub(crate) fn append(&self, _record: Record, _done: Done) {}

    pub(crate) fn mark(&self, _id: RecordId, _mark: Mark) {}

    pub(crate) async fn read(&self, id: RecordId) -> Result<Record, ReadError> {
        Err(ReadError::Missing(id))
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures::default()
    }

    pub(crate) fn failed(&self) -> CancellationToken {
        CancellationToken::new()
    }

    pub(crate) async fn close(&self) {}
}
