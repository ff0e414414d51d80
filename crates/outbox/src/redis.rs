//! Records in a Redis stream.
//!
//! One gateway writes a stream. A record is an entry with the single field `r`, an
//! [`envelope`], at the id `<seq>-0`: ids are ours, so that a record sent again
//! after an unknown outcome can't be stored twice. What is noted about records stands in the
//! hash `<stream>:notes` under their seq. Settling deletes both.
//!
//! Everything goes through one connection in batches of what waited, as pipelines; the next
//! batch is sent when the last is answered. When the connection is lost, the stream's top id
//! tells how much of the batch arrived. Until Redis is back nothing new is taken (`Busy`); what
//! was taken waits.
//!
//! A consumer group, one consumer per gateway, says whose unsettled records these are: opening
//! claims for its consumer whatever the group has and whatever is new.
//!
//! An acknowledgement is as durable as Redis makes it: with `appendonly yes` and `appendfsync
//! always` it is after the sync. Anything less is logged as a warning. If records that were
//! acknowledged are gone after Redis was away, the outbox fails rather than go on silently.

mod link;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::RedisError;
use lifecycle::{CancellationToken, Clock, Tasks};

use crate::envelope;
use crate::face::{Done, Entry, Figures, Mark, ReadError, Record, RecordId};
use crate::intake::Intake;
use link::Link;

pub use crate::intake::Limits;

/// How it is set up.
#[derive(Clone)]
pub struct Config {
    /// The server: `redis://host:6379/0`, or `rediss://` for TLS against the system's roots.
    pub url: String,
    /// The user, if it is not the default one.
    pub user: Option<String>,
    /// The password, if there is one.
    pub password: Option<String>,
    /// Key of the stream; this gateway's own.
    pub stream: String,
    /// The consumer group.
    pub group: String,
    /// This gateway's name in the group.
    pub consumer: String,
    /// Most bytes of one record with its client's id. Default 64 MiB.
    pub record_bytes_max: usize,
    /// How much may wait and how much is kept.
    pub limits: Limits,
    /// How long the first connection is tried for. Default 10 seconds.
    pub connect_within: Duration,
}

impl Config {
    /// The defaults, for a server and a stream of this gateway's own.
    pub fn new(url: impl Into<String>, stream: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            user: None,
            password: None,
            stream: stream.into(),
            group: "tidegate".to_owned(),
            consumer: "tidegate".to_owned(),
            record_bytes_max: 64 << 20,
            limits: Limits::default(),
            connect_within: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold credentials.
        formatter
            .debug_struct("Config")
            .field("stream", &self.stream)
            .field("group", &self.group)
            .field("consumer", &self.consumer)
            .field("record_bytes_max", &self.record_bytes_max)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Why it could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL says nothing that can be connected to.
    #[error("redis URL can't be used")]
    Url(#[source] RedisError),
    /// The server did not let us in or did not answer in time.
    #[error("redis was not reached within {within:?}")]
    NotReached {
        /// How long it was tried.
        within: Duration,
        /// What the last try met.
        #[source]
        last: RedisError,
    },
    /// The server is too old.
    #[error("redis {found} is too old; 7.0 or newer is needed")]
    TooOld {
        /// Its version.
        found: String,
    },
    /// The server refused a command.
    #[error("redis refused to {what}")]
    Refused {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        #[source]
        error: RedisError,
    },
}

/// The outbox.
pub(crate) struct RedisOutbox {
    intake: Arc<Intake>,
    link: Arc<Link>,
    ended: CancellationToken,
}

impl RedisOutbox {
    pub(crate) async fn open(
        config: Config,
        tasks: &Tasks,
        clock: Clock,
    ) -> Result<(Self, Vec<Entry>), OpenError> {
        let link = Arc::new(Link::open(&config).await?);
        let recovered = link.recover().await?;
        let next = recovered.top + 1;
        let intake = Arc::new(Intake::new(
            config.limits,
            config.record_bytes_max,
            clock,
            &recovered.entries,
        ));
        (0..recovered.damaged).for_each(|_| intake.corrupt());
        let outbox = Self {
            intake: Arc::clone(&intake),
            link: Arc::clone(&link),
            ended: CancellationToken::new(),
        };
        let writer = writer::Writer::new(intake, link, clock, next);
        let ended = outbox.ended.clone();
        tasks.spawn("outbox redis writer", async move {
            writer.run().await;
            ended.cancel();
        });
        Ok((outbox, recovered.entries))
    }

    pub(crate) fn append(&self, record: Record, done: Done) {
        self.intake.append(record, done);
    }

    pub(crate) fn mark(&self, id: RecordId, mark: Mark) {
        self.intake.mark(id, mark);
    }

    pub(crate) async fn read(&self, id: RecordId) -> Result<Record, ReadError> {
        let stored = self.link.get(id.seq).await;
        let stored = stored.map_err(|error| ReadError::Io(std::io::Error::other(error)))?;
        let stored = stored.ok_or(ReadError::Missing(id))?;
        let opened = envelope::open(&stored).map_err(|what| {
            self.intake.corrupt();
            ReadError::Damaged { id, what }
        })?;
        Ok(opened.record)
    }

    pub(crate) fn figures(&self) -> Figures {
        self.intake.figures()
    }

    pub(crate) fn failed(&self) -> CancellationToken {
        self.intake.failed()
    }

    pub(crate) async fn close(&self) {
        self.intake.close();
        if tokio::time::timeout(CLOSE_WITHIN, self.ended.cancelled())
            .await
            .is_err()
        {
            self.intake
                .fail("outbox was closed before redis had everything");
            self.ended.cancelled().await;
        }
    }
}

impl Drop for RedisOutbox {
    fn drop(&mut self) {
        self.intake.close();
    }
}

/// What [`crate::Outbox::close`] promises.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);
