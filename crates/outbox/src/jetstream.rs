//! Records in a stream of NATS JetStream.
//!
//! One gateway writes a stream. A record is a message with an [`envelope`] on
//! the subject of its priority (`<subject>.control`, `.interactive`, `.bulk`); its number is
//! the stream's sequence. What is noted about records stands in a second stream,
//! `<stream>_NOTES`, one message per record on `<subject>.note.<seq>`. Settling deletes both.
//!
//! Every message names the sequence it expects before itself, and an id of its own: records
//! that follow a lost one are refused by the server instead of overtaking it, one sent again
//! after an unknown outcome is stored once, and a second writer is noticed. Until NATS is back
//! nothing new is taken (`Busy`); what was taken waits.
//!
//! An acknowledgement is as durable as the server makes it. With its default `sync_interval`
//! of two minutes a crash of the machine takes what was acknowledged since the last sync:
//! one replica needs `sync_interval: always`. Clients can't see that setting, so the log says
//! what is needed each time. If records that were acknowledged are gone after NATS was away,
//! the outbox fails rather than go on silently.

mod stream;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::{CreateStreamError, RequestError};
use bus::NatsConnection;
use lifecycle::{CancellationToken, Clock, Tasks};

use crate::envelope;
use crate::face::{Done, Entry, Figures, Mark, ReadError, Record, RecordId};
use crate::intake::Intake;
use stream::Streams;

pub use crate::intake::Limits;

/// How it is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The process's connection.
    pub connection: NatsConnection,
    /// Name of the stream; this gateway's own. Default `TIDEGATE_OUTBOX`.
    pub stream: String,
    /// What subjects begin with. Default `tidegate.outbox`.
    pub subject: String,
    /// Copies of each record in the cluster, 1 to 5, if the stream is made now. Default 1.
    pub replicas: usize,
    /// Most bytes of one record with its client's id; the server's limit of a message (1 MiB
    /// by default) applies as well. Default 64 MiB.
    pub record_bytes_max: usize,
    /// How much may wait and how much is kept.
    pub limits: Limits,
}

impl Config {
    /// The defaults, over a connection.
    pub fn new(connection: NatsConnection) -> Self {
        Self {
            connection,
            stream: "TIDEGATE_OUTBOX".to_owned(),
            subject: "tidegate.outbox".to_owned(),
            replicas: 1,
            record_bytes_max: 64 << 20,
            limits: Limits::default(),
        }
    }
}

/// Why it could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The server is too old: those before lose acknowledged messages.
    #[error("nats-server {found} is too old; 2.12.7 or 2.14 is needed")]
    TooOld {
        /// Its version.
        found: String,
    },
    /// The stream could be neither found nor made.
    #[error("stream {stream:?} could not be made")]
    Stream {
        /// Its name.
        stream: String,
        /// What the server said.
        #[source]
        error: CreateStreamError,
    },
    /// The stream is there but loses records.
    #[error("stream {stream:?} can't hold an outbox: {why}")]
    Unfit {
        /// Its name.
        stream: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The stream could not be read.
    #[error("stream {stream:?} could not be read: {what}")]
    Unreadable {
        /// Its name.
        stream: String,
        /// What happened.
        what: String,
    },
    /// The server did not answer.
    #[error("jetstream did not answer")]
    Unanswered(#[from] RequestError),
}

/// The outbox.
pub(crate) struct JetStreamOutbox {
    intake: Arc<Intake>,
    streams: Arc<Streams>,
    ended: CancellationToken,
}

impl JetStreamOutbox {
    pub(crate) async fn open(
        config: Config,
        tasks: &Tasks,
        clock: Clock,
    ) -> Result<(Self, Vec<Entry>), OpenError> {
        let streams = Arc::new(Box::pin(Streams::open(&config)).await?);
        let recovered = streams.recover().await?;
        let intake = Arc::new(Intake::new(
            config.limits,
            config.record_bytes_max.min(streams.record_bytes_max()),
            clock,
            &recovered.entries,
        ));
        (0..recovered.damaged).for_each(|_| intake.corrupt());
        let outbox = Self {
            intake: Arc::clone(&intake),
            streams: Arc::clone(&streams),
            ended: CancellationToken::new(),
        };
        // A purge would take what is damaged with it.
        let may_purge = recovered.damaged == 0;
        let writer = writer::Writer::new(intake, streams, clock, recovered.top, may_purge);
        let ended = outbox.ended.clone();
        tasks.spawn("outbox jetstream writer", async move {
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
        let stored = self.streams.get(id.seq).await;
        let stored = stored.map_err(|error| ReadError::Io(std::io::Error::other(error)))?;
        let stored = stored.ok_or(ReadError::Missing(id))?;
        let opened = envelope::open(&stored.payload).map_err(|what| {
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
                .fail("outbox was closed before jetstream had everything");
            self.ended.cancelled().await;
        }
    }
}

impl Drop for JetStreamOutbox {
    fn drop(&mut self) {
        self.intake.close();
    }
}

/// What [`crate::Outbox::close`] promises.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);
