//! The two streams, and what is asked of them.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{ContextBuilder, PublishError};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::stream::{
    self, DiscardPolicy, PersistenceMode, RawMessageError, RawMessageErrorKind, RetentionPolicy,
    StorageType, Stream,
};
use async_nats::jetstream::{Context, message::StreamMessage};
use bus::{NatsConnection, NatsState};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tracing::{error, warn};

use super::{Config, OpenError};
use crate::envelope;
use crate::face::Priority;
use crate::note::Note;
use crate::recovered::Recovered;

/// The stream of records and that of notes.
pub(super) struct Streams {
    connection: NatsConnection,
    context: Context,
    records: Stream,
    notes: Stream,
    name: String,
    subject: String,
}

impl Streams {
    /// Finds or makes them and checks what they promise.
    pub(super) async fn open(config: &Config) -> Result<Self, OpenError> {
        let Config {
            connection,
            stream: name,
            subject,
            replicas,
            ..
        } = config;
        let found = connection.server_version();
        if !is_recent(&found) {
            return Err(OpenError::TooOld { found });
        }
        let context = ContextBuilder::new()
            .timeout(TIMEOUT)
            .ack_timeout(TIMEOUT)
            .build(connection.client().clone());
        let kept = stream::Config {
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            num_replicas: *replicas,
            ..stream::Config::default()
        };
        let records = stream::Config {
            name: name.clone(),
            subjects: PRIORITIES
                .map(|priority| subject_of(subject, priority))
                .to_vec(),
            discard: DiscardPolicy::New,
            duplicate_window: DUPLICATE_WINDOW,
            description: Some("records of a Tidegate outbox".to_owned()),
            ..kept.clone()
        };
        let notes = stream::Config {
            name: format!("{name}_NOTES"),
            subjects: vec![format!("{subject}.note.*")],
            max_messages_per_subject: 1,
            description: Some("what is noted about records of a Tidegate outbox".to_owned()),
            ..kept
        };
        let records = find_or_make(&context, records).await?;
        let notes = find_or_make(&context, notes).await?;
        if records.cached_info().config.num_replicas < 2 {
            warn!(
                stream = name,
                "jetstream acknowledges before it syncs unless nats-server has `sync_interval: \
                 always`, which can't be checked from here: with one replica it must be set"
            );
        }
        Ok(Self {
            connection: connection.clone(),
            context,
            records,
            notes,
            name: name.clone(),
            subject: subject.clone(),
        })
    }

    /// Most bytes of a record that the server takes.
    pub(super) fn record_bytes_max(&self) -> usize {
        let server = self.context.client().max_payload();
        server.saturating_sub(HEADERS_MAX)
    }

    /// Where the connection stands.
    pub(super) fn state(&self) -> watch::Receiver<NatsState> {
        self.connection.state()
    }

    /// Sends a record that is to follow `after`; the answer comes later. With `msg_id` it is
    /// stored once however often it is sent within two minutes.
    pub(super) async fn send(
        &self,
        priority: Priority,
        envelope: Bytes,
        msg_id: &str,
        after: u64,
    ) -> Result<impl Future<Output = Result<PublishAck, PublishError>> + Send + use<>, PublishError>
    {
        let message = PublishMessage::build()
            .payload(envelope)
            .message_id(msg_id)
            .expected_stream(&self.name)
            .expected_last_sequence(after);
        let subject = subject_of(&self.subject, priority);
        let sent = self.context.send_publish(subject, message).await?;
        Ok(sent.into_future())
    }

    /// The sequence of the last message ever added.
    pub(super) async fn top(&self) -> Result<u64, stream::InfoError> {
        Ok(self.records.get_info().await?.state.last_sequence)
    }

    /// What is stored at a sequence.
    pub(super) async fn get(&self, seq: u64) -> Result<Option<StreamMessage>, RawMessageError> {
        match self.records.get_raw_message(seq).await {
            Ok(message) => Ok(Some(message)),
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes one record.
    pub(super) async fn delete(&self, seq: u64) -> Result<(), async_nats::Error> {
        use async_nats::jetstream::stream::DeleteMessageErrorKind;
        match self.records.delete_message(seq).await {
            Ok(_) => Ok(()),
            // An earlier try may have deleted it without our learning so.
            Err(error) if matches!(error.kind(), DeleteMessageErrorKind::JetStream(_)) => {
                match self.get(seq).await {
                    Ok(None) => Ok(()),
                    _ => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes every record before `floor`.
    pub(super) async fn delete_before(&self, floor: u64) -> Result<(), async_nats::Error> {
        self.records.purge().sequence(floor).await?;
        Ok(())
    }

    /// Replaces the note about a record.
    pub(super) async fn note(&self, seq: u64, note: &Note) -> Result<(), async_nats::Error> {
        let subject = format!("{}.note.{seq}", self.subject);
        let sent = self.context.publish(subject, note.to_text().into()).await?;
        sent.await?;
        Ok(())
    }

    /// Deletes the note about a record.
    pub(super) async fn forget_note(&self, seq: u64) -> Result<(), async_nats::Error> {
        let subject = format!("{}.note.{seq}", self.subject);
        self.notes.purge().filter(subject).await?;
        Ok(())
    }

    /// Everything that is unsettled.
    pub(super) async fn recover(&self) -> Result<Recovered, OpenError> {
        let mut notes = HashMap::new();
        let mut alien = 0;
        self.each(&self.notes, |subject, _, payload| {
            let seq = subject
                .rsplit('.')
                .next()
                .and_then(|seq| seq.parse::<u64>().ok());
            match (seq, std::str::from_utf8(payload)) {
                (Some(seq), Ok(text)) => drop(notes.insert(seq, text.to_owned())),
                _ => alien += 1,
            }
        })
        .await?;
        if alien > 0 {
            error!(alien, "messages in the stream of notes are not ours");
        }
        let unanswered = |error: stream::InfoError| OpenError::Unreadable {
            stream: self.name.clone(),
            what: error.to_string(),
        };
        let mut recovered = Recovered {
            top: self.top().await.map_err(unanswered)?,
            entries: Vec::new(),
            damaged: 0,
        };
        self.each(&self.records, |_, seq, payload| {
            let note = notes.remove(&seq);
            let opened = envelope::open(payload);
            recovered.add(seq, opened, note.as_deref());
        })
        .await?;
        // A crash between two deletions leaves notes of records that are gone.
        for seq in notes.into_keys() {
            let forgotten = self.forget_note(seq).await;
            forgotten.map_err(|error| OpenError::Unreadable {
                stream: self.name.clone(),
                what: error.to_string(),
            })?;
        }
        Ok(recovered)
    }

    /// Calls `each` with subject, sequence and payload of all messages of a stream, in order.
    async fn each(
        &self,
        stream: &Stream,
        mut each: impl FnMut(&str, u64, &Bytes),
    ) -> Result<(), OpenError> {
        let unreadable = |what: String| OpenError::Unreadable {
            stream: stream.cached_info().config.name.clone(),
            what,
        };
        let info = stream.get_info().await;
        let state = info.map_err(|error| unreadable(error.to_string()))?.state;
        if state.messages == 0 {
            return Ok(());
        }
        let consumer = stream
            .create_consumer(pull::Config {
                deliver_policy: DeliverPolicy::All,
                ack_policy: AckPolicy::None,
                inactive_threshold: Duration::from_secs(60),
                memory_storage: true,
                num_replicas: 1,
                ..pull::Config::default()
            })
            .await
            .map_err(|error| unreadable(error.to_string()))?;
        let mut after = 0;
        while after < state.last_sequence {
            let batch = consumer.batch().max_messages(AT_ONCE).expires(TIMEOUT);
            let batch = batch.messages().await;
            let mut batch = batch.map_err(|error| unreadable(error.to_string()))?;
            let before = after;
            while let Some(message) = batch.next().await {
                let message = message.map_err(|error| unreadable(error.to_string()))?;
                let info = message
                    .info()
                    .map_err(|error| unreadable(error.to_string()))?;
                // Deleted messages are gaps; what is delivered twice is not.
                if info.stream_sequence <= after {
                    continue;
                }
                after = info.stream_sequence;
                each(&message.subject, after, &message.payload);
                if info.pending == 0 {
                    after = state.last_sequence;
                    break;
                }
            }
            if after == before {
                return Err(unreadable("the server stopped sending".to_owned()));
            }
        }
        Ok(())
    }
}

async fn find_or_make(context: &Context, wanted: stream::Config) -> Result<Stream, OpenError> {
    let stream = wanted.name.clone();
    let made = context.get_or_create_stream(wanted.clone()).await;
    let made = made.map_err(|error| OpenError::Stream {
        stream: stream.clone(),
        error,
    })?;
    let config = &made.cached_info().config;
    let why = if wanted
        .subjects
        .iter()
        .any(|subject| !config.subjects.contains(subject))
    {
        Some("it does not have our subjects")
    } else if config.retention != RetentionPolicy::Limits {
        Some("its retention is not by limits")
    } else if config.storage != StorageType::File {
        Some("it is not stored in files")
    } else if config.max_age != Duration::ZERO {
        Some("messages expire by age")
    } else if wanted.discard == DiscardPolicy::New && config.discard != DiscardPolicy::New {
        Some("old messages give way to new ones")
    } else if config.no_ack {
        Some("it acknowledges nothing")
    } else if config.deny_delete || config.deny_purge || config.sealed {
        Some("messages can't be deleted")
    } else if config.persist_mode == Some(PersistenceMode::Async) {
        Some("it acknowledges before it stores")
    } else {
        None
    };
    match why {
        Some(why) => Err(OpenError::Unfit { stream, why }),
        None => Ok(made),
    }
}

fn subject_of(prefix: &str, priority: Priority) -> String {
    let name = match priority {
        Priority::Control => "control",
        Priority::Interactive => "interactive",
        Priority::Bulk => "bulk",
    };
    format!("{prefix}.{name}")
}

/// Whether a version is 2.12.7 or later of its line, or 2.14 or newer.
fn is_recent(version: &str) -> bool {
    let mut numbers = version
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let version = (next(), next(), next());
    version >= (2, 14, 0) || ((2, 12, 7)..(2, 13, 0)).contains(&version)
}

const PRIORITIES: [Priority; 3] = [Priority::Control, Priority::Interactive, Priority::Bulk];

/// An answer that has not come by then will not come.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long the server knows message ids: longer than a record is sent again without asking.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// What the headers of a record take of the server's limit of a message.
const HEADERS_MAX: usize = 1024;

/// Messages read in one go when a stream is opened.
const AT_ONCE: usize = 500;

#[cfg(test)]
mod tests {
    use super::is_recent;

    #[test]
    fn versions_that_lose_acknowledged_messages_are_refused() {
        for good in [
            "2.12.7",
            "2.12.11",
            "2.14.0",
            "2.14.0-RC.1",
            "2.15.1",
            "3.0.0",
        ] {
            assert!(is_recent(good), "{good}");
        }
        for bad in ["2.12.6", "2.10.22", "2.13.0", "1.4.1", "", "dev"] {
            assert!(!is_recent(bad), "{bad}");
        }
    }
}
