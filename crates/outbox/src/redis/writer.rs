//! The one task that writes.

use std::collections::VecDeque;
use std::sync::Arc;

use ::redis::{Pipeline, RedisError, RedisResult, Value};
use bytes::Bytes;
use lifecycle::Clock;
use tracing::{info, warn};

use super::link::Link;
use crate::envelope;
use crate::face::{AppendError, Done, RecordId};
use crate::intake::{Change, Intake, Work};
use crate::retry::Backoff;

pub(super) struct Writer {
    intake: Arc<Intake>,
    link: Arc<Link>,
    clock: Clock,
    /// Drawn anew by every process: tells our records from another writer's.
    writer: u128,
    next: u64,
    /// The last record that Redis acknowledged.
    confirmed: u64,
}

/// A record on its way.
struct Sent {
    seq: u64,
    envelope: Bytes,
    done: Done,
}

impl Writer {
    pub(super) fn new(intake: Arc<Intake>, link: Arc<Link>, clock: Clock, next: u64) -> Self {
        Self {
            intake,
            link,
            clock,
            writer: crate::retry::random(),
            next,
            confirmed: next - 1,
        }
    }

    pub(super) async fn run(mut self) {
        while let Some(work) = self.intake.work(RECORDS_AT_ONCE, BYTES_AT_ONCE).await {
            self.write(work).await;
        }
    }

    /// Writes a batch, however often Redis goes away meanwhile.
    async fn write(&mut self, work: Work) {
        let mut sent: VecDeque<Sent> = VecDeque::with_capacity(work.appends.len());
        for waiting in work.appends {
            sent.push_back(Sent {
                seq: self.next,
                envelope: envelope::seal(&waiting.record, self.writer),
                done: waiting.done,
            });
            self.next += 1;
        }
        let mut backoff = Backoff::default();
        loop {
            let started = self.clock.elapsed();
            let pipeline = self.pipeline(&sent, &work.changes);
            match self.send(pipeline).await {
                Ok(answers) => {
                    self.intake.round(self.clock.elapsed() - started);
                    self.settle(sent, answers).await;
                    return;
                }
                Err(error) => {
                    warn!(%error, waiting = sent.len(), "redis connection lost");
                    self.intake.set_connected(false);
                    if !self.resume(&mut sent, &mut backoff).await {
                        return self.give_up(sent);
                    }
                    self.intake.set_connected(true);
                    info!(waiting = sent.len(), "redis connected again");
                }
            }
        }
    }

    fn pipeline(&self, sent: &VecDeque<Sent>, changes: &[Change]) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(sent.len() + changes.len());
        for one in sent {
            self.link.add(&mut pipeline, one.seq, &one.envelope);
        }
        let mut forget = Vec::new();
        let mut noted = Vec::new();
        for change in changes {
            match change {
                Change::Forget { seq, noted: false } => forget.push(*seq),
                Change::Forget { seq, noted: true } => {
                    forget.push(*seq);
                    noted.push(*seq);
                }
                Change::Note { seq, note } => self.link.note(&mut pipeline, *seq, note),
            }
        }
        self.link.forget(&mut pipeline, &forget, &noted);
        pipeline
    }

    async fn send(&self, mut pipeline: Pipeline) -> RedisResult<Vec<RedisResult<Value>>> {
        // All that was to be written may be there already.
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        self.link.send(&mut pipeline).await
    }

    /// Answers the appends of a batch. Marks are repeatable and their errors leave the record
    /// as it was, so they are only reported.
    async fn settle(&mut self, sent: VecDeque<Sent>, answers: Vec<RedisResult<Value>>) {
        let mut answers = answers.into_iter();
        for one in sent {
            match answers.next() {
                Some(Ok(_)) => self.stored(one),
                Some(Err(error)) => match self.is_ours(one.seq).await {
                    Some(true) => self.stored(one),
                    _ => self.refused(one, &error),
                },
                None => self.intake.refused(one.done, AppendError::Busy),
            }
        }
        for error in answers.filter_map(Result::err).take(1) {
            warn!(%error, "redis refused a note about a record");
        }
    }

    fn stored(&mut self, one: Sent) {
        self.confirmed = one.seq;
        let id = RecordId {
            seq: one.seq,
            place: 0,
        };
        self.intake.stored(id, one.done);
    }

    fn refused(&self, one: Sent, error: &RedisError) {
        // "The ID specified in XADD is equal or smaller than the target stream top item".
        if error.to_string().contains("equal or smaller") {
            self.intake
                .fail("another process writes to the redis stream");
            let reason = self.intake.failure().unwrap_or_default();
            return self.intake.refused(one.done, AppendError::Failed(reason));
        }
        warn!(%error, seq = one.seq, "redis refused a record");
        self.intake.refused(one.done, AppendError::Busy);
    }

    /// Waits until Redis is back and takes from `sent` what had arrived. `false` if that is
    /// not to be: the outbox has failed.
    async fn resume(&mut self, sent: &mut VecDeque<Sent>, backoff: &mut Backoff) -> bool {
        let failed = self.intake.failed();
        let top = loop {
            tokio::select! {
                () = failed.cancelled() => return false,
                () = tokio::time::sleep(backoff.next()) => {}
            }
            tokio::select! {
                () = failed.cancelled() => return false,
                top = self.link.top() => match top {
                    Ok(top) => break top,
                    // The stream itself is gone.
                    Err(error) if error.to_string().contains("no such key") => break 0,
                    Err(error) => tracing::debug!(%error, "redis is still away"),
                },
            }
        };
        if top < self.confirmed {
            self.intake.fail(&format!(
                "redis lost acknowledged records: those after {top} up to {}",
                self.confirmed
            ));
            return false;
        }
        while sent.front().is_some_and(|one| one.seq <= top) {
            let Some(one) = sent.pop_front() else { break };
            match self.is_ours(one.seq).await {
                Some(true) => self.stored(one),
                Some(false) => {
                    self.intake
                        .fail("another process writes to the redis stream");
                    sent.push_front(one);
                    return false;
                }
                // Gone again: the next try tells.
                None => {
                    sent.push_front(one);
                    break;
                }
            }
        }
        true
    }

    /// Whether what is stored at an id is what we sent; `None` if Redis does not say.
    async fn is_ours(&self, seq: u64) -> Option<bool> {
        let stored = self.link.get(seq).await.ok()?;
        let opened = stored.and_then(|stored| envelope::open(&stored).ok());
        Some(opened.is_some_and(|opened| opened.writer == self.writer))
    }

    fn give_up(&self, sent: VecDeque<Sent>) {
        let reason = self.intake.failure().unwrap_or_default();
        for one in sent {
            let error = AppendError::Failed(Arc::clone(&reason));
            self.intake.refused(one.done, error);
        }
    }
}

/// Redis syncs once per turn of its loop, so that more at once cost little more.
const RECORDS_AT_ONCE: usize = 1024;
const BYTES_AT_ONCE: usize = 1 << 20;
