//! One face for the three kinds.

use lifecycle::{CancellationToken, Clock, Tasks};

use crate::disk::{self, DiskOutbox};
use crate::face::{Done, Entry, Figures, Mark, ReadError, Record, RecordId};
use crate::jetstream::{self, JetStreamOutbox};
use crate::redis::{self, RedisOutbox};

/// Which kind of outbox, and how it is set up.
#[derive(Debug, Clone)]
pub enum Config {
    /// Our own log on a local disk.
    Disk(disk::Config),
    /// A Redis stream.
    Redis(redis::Config),
    /// A stream of NATS JetStream.
    Nats(jetstream::Config),
}

/// Why an outbox could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log on disk.
    #[error("outbox on disk could not be opened")]
    Disk(#[from] disk::OpenError),
    /// The Redis stream.
    #[error("outbox in redis could not be opened")]
    Redis(#[from] redis::OpenError),
    /// The JetStream stream.
    #[error("outbox in jetstream could not be opened")]
    Nats(#[from] jetstream::OpenError),
}

/// Opens an outbox, recovers it, and returns with it what is unsettled, in order of ids.
pub async fn open(
    config: Config,
    tasks: &Tasks,
    clock: Clock,
) -> Result<(Outbox, Vec<Entry>), OpenError> {
    let (kind, entries) = match config {
        Config::Disk(config) => {
            let (kind, entries) = DiskOutbox::open(config, tasks, clock).await?;
            (Kind::Disk(kind), entries)
        }
        Config::Redis(config) => {
            let (kind, entries) = Box::pin(RedisOutbox::open(config, tasks, clock)).await?;
            (Kind::Redis(kind), entries)
        }
        Config::Nats(config) => {
            let (kind, entries) = Box::pin(JetStreamOutbox::open(config, tasks, clock)).await?;
            (Kind::Nats(kind), entries)
        }
    };
    Ok((Outbox { kind }, entries))
}

/// An outbox of one of the kinds. Shared behind an `Arc`; nothing in it blocks but what is
/// `async`. Close it before the process ends.
pub struct Outbox {
    kind: Kind,
}

enum Kind {
    Disk(DiskOutbox),
    Redis(RedisOutbox),
    Nats(JetStreamOutbox),
}

impl Outbox {
    /// Keeps a record. Never blocks. `done` is called once: with the record's id after it is
    /// as safe as the kind promises, in the order of appending, or with why it was not taken;
    /// the latter at once, on the caller's thread, if there is no room or the record is too
    /// large.
    pub fn append(&self, record: Record, done: Done) {
        match &self.kind {
            Kind::Disk(disk) => disk.append(record, done),
            Kind::Redis(redis) => redis.append(record, done),
            Kind::Nats(nats) => nats.append(record, done),
        }
    }

    /// Notes something about a record. Never blocks, and is not lost while the process lives;
    /// a note about a record that is not there is ignored.
    pub fn mark(&self, id: RecordId, mark: Mark) {
        match &self.kind {
            Kind::Disk(disk) => disk.mark(id, mark),
            Kind::Redis(redis) => redis.mark(id, mark),
            Kind::Nats(nats) => nats.mark(id, mark),
        }
    }

    /// Reads an unsettled record back and checks that it is what was written.
    pub async fn read(&self, id: RecordId) -> Result<Record, ReadError> {
        match &self.kind {
            Kind::Disk(disk) => disk.read(id).await,
            Kind::Redis(redis) => redis.read(id).await,
            Kind::Nats(nats) => nats.read(id).await,
        }
    }

    /// How it fares.
    pub fn figures(&self) -> Figures {
        match &self.kind {
            Kind::Disk(disk) => disk.figures(),
            Kind::Redis(redis) => redis.figures(),
            Kind::Nats(nats) => nats.figures(),
        }
    }

    /// Fires when the storage has failed: nothing is taken any more until the process is
    /// restarted, and the gateway is not ready.
    pub fn failed(&self) -> CancellationToken {
        match &self.kind {
            Kind::Disk(disk) => disk.failed(),
            Kind::Redis(redis) => redis.failed(),
            Kind::Nats(nats) => nats.failed(),
        }
    }

    /// Makes everything safe that was appended or marked, waits until every `done` was
    /// called, and takes nothing afterwards. Waits for 30 seconds at most.
    pub async fn close(&self) {
        match &self.kind {
            Kind::Disk(disk) => disk.close().await,
            Kind::Redis(redis) => redis.close().await,
            Kind::Nats(nats) => nats.close().await,
        }
    }
}
