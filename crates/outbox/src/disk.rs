//! Records in our own log on a local disk.
//!
//! What must hold: a record whose `done` said yes is there after the process was killed and
//! after a power cut, until it is settled; what is read is what was written; order is the order
//! of appending. It rests on a disk that keeps what it said it had synced.
//!
//! # Files
//!
//! Everything lies flat in one folder, numbers are little-endian, checksums are CRC-32C
//! (Castagnoli), pages are 4,096 bytes.
//!
//! - `LOCK`: locked (`flock`) by the process that uses the folder.
//! - `MANIFEST`: two pages written in turn; the valid one with the higher epoch counts.
//! - `<20 digits>.seg`: segments. They are made full length and synced under another name
//!   before they are needed: zeros, or a segment that is no longer needed.
//! - `<20 digits>.free`: what waits to be used again. `*.tmp`: unfinished, removed by recovery.
//! - `<20 digits>.quarantined`: damaged, put aside when its loss was accepted.
//!
//! ```text
//! manifest page                          header of a segment, one page
//!  0  8  "TIDEMAN\n"                      0  8  "TIDELOG\n"
//!  8  4  version, 1                       8  4  version, 1
//! 12  4  0                               12  4  0
//! 16  8  epoch, counts writes            16  8  number of the segment
//! 24  8  oldest segment needed           24 16  salt, random
//! 32  8  number of its first batch       40  8  bytes of the segment
//! 40  4  checksum before that batch      48  4  checksum of bytes 0 to 48
//! 44  4  0                               52     zeros to the end of the page
//! 48  8  newest segment that may be used
//! 56  8  a number no record has yet     record, in a batch
//! 64  8  a batch known to be synced       0  4  bytes of the payload
//! 72  4  checksum of bytes 0 to 72        4  1  type
//! 76     zeros to the end of the page     5  1  priority: 0 control, 1 interactive, 2 bulk
//!                                         6  2  lag, see below
//! batch, starts on a page                 8  8  seq: number of the record it is about
//!    records                             16  8  number of the batch
//!    trailer, a record of type 5         24  8  time, milliseconds since the Unix epoch
//!    zeros to the end of the page        32  8  FNV-1a of the client's name
//!                                        40  4  checksum of the record before
//!                                        44  4  checksum of salt, bytes 0 to 44, payload
//!                                        48     payload, then zeros to a multiple of 8
//!
//! type          payload
//! 1 record      key 16, length of the client 2, client, contents
//! 2 moved       state as in 3, then as in 1: the record `seq`, written again
//! 3 state       attempts 4, first attempt 8, given up 8, length of the reason 2, reason;
//!               times in milliseconds since the Unix epoch, 2^64 - 1 if there is none
//! 4 settled     runs: first number 8, how many 4
//! 5 trailer     records 4, bytes of the records 4, checksum of their checksums 4;
//!               its `seq` is the highest number given to a record so far
//! ```
//!
//! The number of a batch is one more than that of the batch before, across segments, and the
//! first record of a batch holds the checksum of the trailer before: nothing can be missing in
//! between. The salt keeps what a segment held in a former life from passing. *Lag* says how
//! many batches before this one were not known to be synced when it was written (65,535: that
//! many or more); with a sync after each batch it is 0. Since batches start on pages, a torn
//! write can't damage what was acknowledged before.
//!
//! # Writing
//!
//! One thread takes all that waits, at most 1 MiB or 1,024 records, writes it as a batch, syncs,
//! calls back. Notes ride along, or go alone after 100 ms. Another thread makes segments ahead,
//! takes old ones back and reads sealed ones again at a low rate.
//!
//! An error while writing or syncing ends it: after a failed sync the system may have forgotten
//! what it did not write, so nothing is tried again, nothing is taken any more, and only a
//! restart, which reads the disk, helps. A disk that is full when a segment is to be made is
//! another matter: nothing was promised, so records are refused until there is room.
//!
//! # Reading at start
//!
//! Batches are taken in until one is not whole. If something valid that was written after this
//! batch had been synced stands anywhere behind (the lag tells), or the manifest says it was
//! synced, the log is damaged: it is not opened, unless the loss is accepted; then what is whole
//! is written to new segments and damaged ones are put aside. Otherwise it is a torn tail, which
//! nobody was told about: it is overwritten with zeros. The batches that nothing proves synced
//! are written once more, because what can be read after a failed sync need not be on the disk.
//!
//! # Giving up
//!
//! Only the oldest segment is given up, when all its records are settled and that is synced: a
//! settlement is always in the segment of its record or a later one. Records that hold up old
//! segments are written again at the end, with their state, once the log is longer than half
//! of its limit (or 16 segments) and a quarter of it is settled. Numbers of records stay.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::{CancellationToken, Clock, Tasks};

use self::format::PAGE;
use self::inbox::Inbox;
use self::index::Place;
use self::log::{Log, Waiting};
use self::recovery::{Settings, recover};
use self::segment::Segment;
use self::shared::{Limits, Shared};
use self::storage::{Folder, Storage};
use self::supply::{Shelf, Supply};
use crate::face::{AppendError, Done, Entry, Figures, Mark, ReadError, Record, RecordId};

mod format;
pub(crate) mod fuzzing;
mod inbox;
mod index;
mod keeper;
mod keeping;
mod log;
mod manifest;
mod read;
mod recovery;
mod scan;
mod segment;
mod shared;
mod storage;
mod supply;
#[cfg(test)]
mod tests;
mod writing;

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
    /// What was acknowledged is not what is on the disk.
    #[error(
        "{file} is damaged from byte {from} to byte {to}: {what}; nothing was changed, and what \
         can still be read is kept if the loss is accepted"
    )]
    Damaged {
        /// The file in the folder.
        file: String,
        /// Where it stops being what was written.
        from: u64,
        /// Where it goes on, or where the file ends.
        to: u64,
        /// What is wrong.
        what: String,
    },
    /// The storage did not do what it was asked to.
    #[error("{what} failed")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// It can't be opened like that.
    #[error("{0}")]
    Refused(String),
    /// No thread could be started.
    #[error("the outbox needs a thread of its own")]
    Thread(#[from] lifecycle::ThreadError),
}

pub(crate) struct DiskOutbox {
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    tasks: Tasks,
    closed: CancellationToken,
    record_max: usize,
    dead_max: usize,
}

impl DiskOutbox {
    pub(crate) async fn open(
        config: Config,
        tasks: &Tasks,
        clock: Clock,
    ) -> Result<(Self, Vec<Entry>), OpenError> {
        let opening = {
            let config = config.clone();
            tasks.blocking(move || on_disk(&config, clock))
        };
        let (log, entries) = opening
            .await
            .ok_or_else(|| OpenError::Refused("opening was broken off".to_owned()))??;
        let outbox = Self::start(log, &config, tasks.clone())?;
        Ok((outbox, entries))
    }

    /// Starts the threads of a log.
    fn start(mut log: Log, config: &Config, tasks: Tasks) -> Result<Self, OpenError> {
        let shared = Arc::clone(&log.shared);
        let inbox = Arc::new(Inbox::new(config.waiting_max, config.waiting_bytes_max));
        let shelf = Arc::new(Shelf::default());
        let closed = CancellationToken::new();
        let supply = std::mem::replace(&mut log.supply, Supply::Shelf(Arc::clone(&shelf)));
        if let Supply::Inline(keeper) = supply {
            let keeping = keeping::Keeping {
                keeper,
                shelf: Arc::clone(&shelf),
                shared: Arc::clone(&shared),
                inbox: Arc::clone(&inbox),
                closed: closed.clone(),
                dead_retention: config.dead_retention,
                dead_max: config.dead_max,
                scrub_bytes: config.scrub_bytes_per_second,
            };
            lifecycle::thread("outbox-keeper", move || keeping.run())?;
        }
        let writing = writing::Writing {
            log,
            inbox: Arc::clone(&inbox),
            shelf: Arc::clone(&shelf),
        };
        if let Err(error) = lifecycle::thread("outbox-writer", move || writing.run()) {
            shelf.stop(None);
            return Err(error.into());
        }
        Ok(Self {
            shared,
            inbox,
            tasks,
            closed,
            record_max: record_max(config.segment_bytes),
            dead_max: config.dead_max,
        })
    }

    pub(crate) fn append(&self, record: Record, done: Done) {
        let size = record.client.len() + record.payload.len();
        let refusal = if record.client.len() > CLIENT_MAX {
            Some((record.client.len(), CLIENT_MAX))
        } else {
            (size > self.record_max).then_some((size, self.record_max))
        };
        if let Some((size, max)) = refusal {
            done(Err(AppendError::TooLarge { size, max }));
            return;
        }
        self.inbox.push(Waiting { record, done }, |records, bytes| {
            self.shared.admits(records, bytes)
        });
    }

    pub(crate) fn mark(&self, id: RecordId, mark: Mark) {
        let mut index = self.shared.index();
        let dead = matches!(mark, Mark::Dead { .. });
        if !index.mark(id.seq, mark) {
            return;
        }
        if dead {
            index.expire(0, self.dead_max);
        }
        let many = index.marks() >= MANY_MARKS;
        self.shared.lighter(&index);
        drop(index);
        self.inbox.mark(many);
    }

    pub(crate) async fn read(&self, id: RecordId) -> Result<Record, ReadError> {
        let mut place = self.place(id);
        while let Some((segment, at)) = place {
            let bytes = self.bytes(&segment, at).await.map_err(ReadError::Io)?;
            let what = match read::decoded(&segment, bytes, id.seq) {
                Ok(record) => return Ok(record),
                Err(what) => what,
            };
            // It may have moved, or been settled and overwritten, while it was read.
            place = self.place(id);
            if place.as_ref().is_some_and(|(_, now)| *now == at) {
                self.shared
                    .corrupt
                    .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let what = format!("segment {}, byte {}: {what}", at.segment, at.offset);
                return Err(ReadError::Damaged { id, what });
            }
        }
        Err(ReadError::Missing(id))
    }

    pub(crate) fn figures(&self) -> Figures {
        self.shared.figures()
    }

    pub(crate) fn failed(&self) -> CancellationToken {
        self.shared.failed.clone()
    }

    pub(crate) async fn close(&self) {
        self.inbox.close();
        if tokio::time::timeout(CLOSE_WAIT, self.closed.cancelled())
            .await
            .is_err()
        {
            tracing::error!("outbox did not close in time");
        }
    }

    fn place(&self, id: RecordId) -> Option<(Arc<Segment>, Place)> {
        let index = self.shared.index();
        let place = index.slots.get(&id.seq)?.place;
        let part = index.part(place.segment)?;
        Some((Arc::clone(&part.segment), place))
    }

    /// From memory if the system has it there, else on a thread that may wait for the disk.
    async fn bytes(&self, segment: &Arc<Segment>, place: Place) -> io::Result<Vec<u8>> {
        let offset = u64::from(place.offset);
        let mut bytes = vec![0; place.len as usize];
        if segment.file.read_cached(&mut bytes, offset)? {
            return Ok(bytes);
        }
        let segment = Arc::clone(segment);
        self.tasks
            .blocking(move || segment.file.read_at(&mut bytes, offset).map(|()| bytes))
            .await
            .unwrap_or_else(|| Err(io::Error::other("reading was broken off")))
    }
}

impl Drop for DiskOutbox {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

fn on_disk(config: &Config, clock: Clock) -> Result<(Log, Vec<Entry>), OpenError> {
    check(config)?;
    let opening = |source| OpenError::Io {
        what: format!("opening folder {:?}", config.folder),
        source,
    };
    let storage: Arc<dyn Storage> = Arc::new(Folder::new(&config.folder).map_err(opening)?);
    if !storage.lock().map_err(opening)? {
        return Err(OpenError::Locked {
            folder: config.folder.clone(),
        });
    }
    let settings = Settings {
        limits: limits(config),
        sync: config.sync,
        accept_loss: config.accept_loss,
        clock,
        salts: Box::new(|| {
            let mut salt = [0; 16];
            getrandom::fill(&mut salt).map_err(io::Error::other)?;
            Ok(salt)
        }),
    };
    recover(&storage, settings)
}

fn limits(config: &Config) -> Limits {
    Limits {
        segment_bytes: config.segment_bytes,
        bytes_max: config.bytes_max,
        records_max: config.records_max,
    }
}

fn check(config: &Config) -> Result<(), OpenError> {
    let segment = config.segment_bytes;
    let what = if !(64 << 10..=1 << 30).contains(&segment) || !segment.is_multiple_of(PAGE as u64) {
        format!("segments of {segment} bytes are not a multiple of 4,096 from 65,536 to 2^30")
    } else if config.bytes_max < 4 * segment {
        format!(
            "limit of {} bytes is less than four segments",
            config.bytes_max
        )
    } else if config.waiting_max == 0 || config.records_max == 0 {
        "an outbox without room for a record is of no use".to_owned()
    } else {
        return Ok(());
    };
    Err(OpenError::Refused(what))
}

/// Most bytes of client and contents together: a record and its later copy fit in a segment.
fn record_max(segment_bytes: u64) -> usize {
    usize::try_from(segment_bytes)
        .unwrap_or(usize::MAX)
        .saturating_sub(3 * PAGE)
}

const CLIENT_MAX: usize = u16::MAX as usize;
const CLOSE_WAIT: Duration = Duration::from_secs(30);
/// So many notes are not left waiting.
const MANY_MARKS: usize = 4096;
