//! The one task that writes.

use std::collections::VecDeque;
use std::sync::Arc;

use async_nats::HeaderValue;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::publish::PublishAck;
use bus::NatsState;
use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, FuturesUnordered, StreamExt as _};
use lifecycle::Clock;
use tracing::{debug, info, warn};

use super::stream::Streams;
use crate::envelope;
use crate::face::{AppendError, Done, Priority, RecordId};
use crate::intake::{Change, Intake, Work};
use crate::retry::{Backoff, random};

pub(super) struct Writer {
    intake: Arc<Intake>,
    streams: Arc<Streams>,
    clock: Clock,
    /// Drawn anew by every process: tells our records from another writer's.
    writer: u128,
    /// The last record that the server acknowledged, or that was there at the start.
    confirmed: u64,
    /// How many records were sent: the rest of their message ids.
    sent: u64,
    may_purge: bool,
}

/// A record on its way.
struct Sent {
    msg_id: String,
    priority: Priority,
    envelope: Bytes,
    done: Done,
}

/// Why a batch did not get through.
enum Stopped {
    /// The server did not take its first unanswered record.
    Refused(PublishError),
    /// Nobody knows what arrived.
    Unknown(String),
}

impl Writer {
    pub(super) fn new(
        intake: Arc<Intake>,
        streams: Arc<Streams>,
        clock: Clock,
        top: u64,
        may_purge: bool,
    ) -> Self {
        Self {
            intake,
            streams,
            clock,
            writer: random(),
            confirmed: top,
            sent: 0,
            may_purge,
        }
    }

    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        while let Some(work) = self.intake.work(RECORDS_AT_ONCE, BYTES_AT_ONCE).await {
            let Work { appends, changes } = work;
            let mut batch = VecDeque::with_capacity(appends.len());
            for waiting in appends {
                self.sent += 1;
                batch.push_back(Sent {
                    msg_id: format!("{:032x}-{}", self.writer, self.sent),
                    priority: waiting.record.priority,
                    envelope: envelope::seal(&waiting.record, self.writer),
                    done: waiting.done,
                });
            }
            if !batch.is_empty() {
                self.write(batch).await;
            }
            if changes.is_empty() || self.change(changes).await {
                backoff = Backoff::default();
                continue;
            }
            let failed = self.intake.failed();
            tokio::select! {
                () = failed.cancelled() => {}
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
    }

    /// Stores a batch, however often NATS goes away meanwhile.
    async fn write(&mut self, mut batch: VecDeque<Sent>) {
        let mut backoff = Backoff::default();
        while !batch.is_empty() {
            let started = self.clock.elapsed();
            match self.publish(&mut batch).await {
                Ok(()) => self.intake.round(self.clock.elapsed() - started),
                Err(Stopped::Refused(error)) => {
                    warn!(%error, "jetstream refused a record");
                    if let Some(first) = batch.pop_front() {
                        self.intake.refused(first.done, AppendError::Busy);
                    }
                }
                Err(Stopped::Unknown(error)) => {
                    warn!(error, waiting = batch.len(), "jetstream did not answer");
                    self.intake.set_connected(false);
                    if !self.resume(&mut batch, &mut backoff).await {
                        return self.give_up(batch);
                    }
                    self.intake.set_connected(true);
                    info!(waiting = batch.len(), "jetstream answers again");
                }
            }
        }
    }

    /// Sends all of a batch, then takes from it what is acknowledged, in order.
    async fn publish(&mut self, batch: &mut VecDeque<Sent>) -> Result<(), Stopped> {
        let mut answers = FuturesOrdered::new();
        let mut state = self.streams.state();
        let mut stopped = None;
        let order: Vec<_> = batch
            .iter()
            .map(|one| (one.priority, one.envelope.clone(), one.msg_id.clone()))
            .collect();
        for (after, (priority, envelope, msg_id)) in (self.confirmed..).zip(order) {
            match self.streams.send(priority, envelope, &msg_id, after).await {
                Ok(answer) => answers.push_back(answer),
                Err(error) => {
                    stopped = Some(Stopped::Unknown(error.to_string()));
                    break;
                }
            }
        }
        let mut first = true;
        loop {
            let answer: Result<PublishAck, PublishError> = tokio::select! {
                answer = answers.next() => match answer {
                    Some(answer) => answer,
                    None => return stopped.map_or(Ok(()), Err),
                },
                // Answers on their way are lost with the connection.
                _ = state.wait_for(|state| *state != NatsState::Connected) => {
                    return Err(Stopped::Unknown("connection lost".to_owned()));
                }
            };
            match answer {
                Ok(ack) if ack.sequence > self.confirmed => {
                    if let Some(one) = batch.pop_front() {
                        self.stored(ack.sequence, one);
                    }
                    first = false;
                }
                Ok(ack) => {
                    let what = format!("acknowledged sequence {} again", ack.sequence);
                    return Err(Stopped::Unknown(what));
                }
                Err(error) if first && is_refusal(&error) => {
                    // The others expected this one before them and are refused as well.
                    while answers.next().await.is_some() {}
                    return Err(Stopped::Refused(error));
                }
                Err(error) => return Err(Stopped::Unknown(error.to_string())),
            }
        }
    }

    fn stored(&mut self, seq: u64, one: Sent) {
        self.confirmed = seq;
        self.intake.stored(RecordId { seq, place: 0 }, one.done);
    }

    /// Waits until NATS is back and takes from the batch what had arrived. `false` if that is
    /// not to be: the outbox has failed.
    async fn resume(&mut self, batch: &mut VecDeque<Sent>, backoff: &mut Backoff) -> bool {
        let failed = self.intake.failed();
        let mut state = self.streams.state();
        let ids: Vec<String> = batch.iter().map(|one| one.msg_id.clone()).collect();
        loop {
            let step = async {
                tokio::time::sleep(backoff.next()).await;
                let connected = state.wait_for(|state| *state == NatsState::Connected);
                connected
                    .await
                    .map(|_| ())
                    .map_err(|_| "connection closed".to_owned())?;
                let top = self
                    .streams
                    .top()
                    .await
                    .map_err(|error| error.to_string())?;
                self.arrived(top, &ids).await
            };
            let outcome = tokio::select! {
                () = failed.cancelled() => return false,
                outcome = step => outcome,
            };
            match outcome {
                Ok(sequences) => {
                    for seq in sequences {
                        if let Some(one) = batch.pop_front() {
                            self.stored(seq, one);
                        }
                    }
                    return self.intake.failure().is_none();
                }
                Err(error) => debug!(error, "jetstream is still away"),
            }
        }
    }

    /// The sequences at which the first of these message ids are stored.
    async fn arrived(&self, top: u64, ids: &[String]) -> Result<Vec<u64>, String> {
        if top < self.confirmed {
            self.intake.fail(&format!(
                "jetstream lost acknowledged records: those after {top} up to {}",
                self.confirmed
            ));
            return Ok(Vec::new());
        }
        let mut sequences = Vec::new();
        for seq in self.confirmed + 1..=top {
            let stored = self
                .streams
                .get(seq)
                .await
                .map_err(|error| error.to_string())?;
            let header = stored
                .as_ref()
                .and_then(|stored| stored.headers.get("Nats-Msg-Id"));
            if header.map(HeaderValue::as_str) != ids.get(sequences.len()).map(String::as_str) {
                self.intake
                    .fail(&format!("another process wrote to the stream, at {seq}"));
                return Ok(Vec::new());
            }
            sequences.push(seq);
        }
        Ok(sequences)
    }

    fn give_up(&self, batch: VecDeque<Sent>) {
        let reason = self.intake.failure().unwrap_or_default();
        for one in batch {
            let error = AppendError::Failed(Arc::clone(&reason));
            self.intake.refused(one.done, error);
        }
    }

    /// Writes what is noted and deletes what is settled. What fails is put back; `false` then.
    async fn change(&self, changes: Vec<Change>) -> bool {
        let floor = self.intake.floor().unwrap_or(self.confirmed + 1);
        let below = |change: &Change| matches!(change, Change::Forget { seq, .. } if *seq < floor);
        let purge = self.may_purge && changes.iter().filter(|&change| below(change)).count() > 1;
        if purge && let Err(error) = self.streams.delete_before(floor).await {
            warn!(%error, "jetstream did not delete settled records");
            self.intake.put_back(changes);
            return false;
        }
        let mut waiting = changes.into_iter();
        let mut running = FuturesUnordered::new();
        let mut failed = Vec::new();
        loop {
            if running.len() < CHANGES_AT_ONCE
                && let Some(change) = waiting.next()
            {
                let deleted = purge && below(&change);
                running.push(self.change_one(change, deleted));
                continue;
            }
            match running.next().await {
                Some(Ok(())) => {}
                Some(Err(change)) => failed.push(change),
                None => break,
            }
        }
        let all = failed.is_empty();
        self.intake.put_back(failed);
        all
    }

    async fn change_one(&self, change: Change, deleted: bool) -> Result<(), Change> {
        let outcome = match &change {
            Change::Note { seq, note } => self.streams.note(*seq, note).await,
            Change::Forget { seq, noted } => {
                let deleted = match deleted {
                    true => Ok(()),
                    false => self.streams.delete(*seq).await,
                };
                match (deleted, noted) {
                    (Ok(()), true) => self.streams.forget_note(*seq).await,
                    (deleted, _) => deleted,
                }
            }
        };
        outcome.map_err(|error| {
            warn!(%error, "jetstream did not write a note about a record");
            change
        })
    }
}

/// Whether the server answered that it does not store a record, for a reason of its own.
fn is_refusal(error: &PublishError) -> bool {
    match error.kind() {
        PublishErrorKind::Other | PublishErrorKind::MaxPayloadExceeded => {
            use std::error::Error as _;
            let source = error.source();
            source.is_some_and(<dyn std::error::Error>::is::<async_nats::jetstream::Error>)
        }
        PublishErrorKind::StreamNotFound
        | PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::WrongLastSequence
        | PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending => false,
    }
}

/// The server syncs each record by itself, so larger batches only wait longer.
const RECORDS_AT_ONCE: usize = 256;
const BYTES_AT_ONCE: usize = 4 << 20;

/// Deletions and notes on their way at once.
const CHANGES_AT_ONCE: usize = 64;
