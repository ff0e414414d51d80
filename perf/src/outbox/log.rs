//! Our log alone, through its public API.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use lifecycle::{Clock, Tasks};
use outbox::{AppendError, Mark, Outbox, Priority, Record, RecordId};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{Shape, Subject, Turn, histogram};
use crate::proc;

/// The log in a folder of its own.
pub(super) struct Log {
    outbox: Arc<Outbox>,
    runtime: Runtime,
    shape: Shape,
    record: Record,
    answers: (SyncSender<Answer>, Receiver<Answer>),
    /// Ends after the outbox.
    _folder: TempDir,
}

type Answer = (Instant, Instant, Result<RecordId, AppendError>);

impl Log {
    pub(super) fn open(shape: Shape) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("temporary folder was not made")?;
        let runtime = lifecycle::background_runtime(1).context("no runtime")?;
        let config = outbox::Config::Disk(outbox::disk::Config::new(folder.path()));
        let opened = runtime.block_on(outbox::open(config, &Tasks::new(), Clock::start()));
        let (outbox, _) = opened.context("outbox was not opened")?;
        Ok(Self {
            outbox: Arc::new(outbox),
            runtime,
            shape,
            record: Record {
                client: Arc::from("client-123"),
                priority: Priority::Interactive,
                at_ms: 1_709_078_400_000,
                key: 0,
                payload: Bytes::from(vec![b'x'; shape.size]),
            },
            answers: sync_channel(shape.in_flight),
            _folder: folder,
        })
    }

    fn append(&mut self) {
        let answers = self.answers.0.clone();
        let sent = Instant::now();
        let done = move |answer| {
            // There is room for all that are in flight.
            drop(answers.try_send((sent, Instant::now(), answer)));
        };
        self.record.key += 1;
        self.outbox.append(self.record.clone(), Box::new(done));
    }

    fn answer(&self) -> anyhow::Result<Answer> {
        let answer = self.answers.1.recv_timeout(PATIENCE);
        answer.context("the log did not answer")
    }
}

impl Subject for Log {
    fn name(&self) -> &str {
        NAME
    }

    /// Every record is settled as soon as it is durable, as by an agent without delay.
    fn turn(&mut self, duration: Duration) -> anyhow::Result<Turn> {
        for _ in 0..self.shape.in_flight {
            self.append();
        }
        let mut latency = histogram()?;
        let cpu = proc::cpu_seconds(std::process::id())?;
        let started = Instant::now();
        let (mut records, mut refused) = (0, 0);
        while started.elapsed() < duration {
            let (sent, durable, answer) = self.answer()?;
            match answer {
                Ok(id) => {
                    records += 1;
                    self.outbox.mark(id, Mark::Settled);
                }
                Err(AppendError::Busy) => refused += 1,
                Err(error) => bail!(error),
            }
            let micros = u64::try_from((durable - sent).as_micros()).unwrap_or(u64::MAX);
            latency.saturating_record(micros);
            self.append();
        }
        let elapsed = started.elapsed();
        for _ in 0..self.shape.in_flight {
            if let (_, _, Ok(id)) = self.answer()? {
                self.outbox.mark(id, Mark::Settled);
            }
        }
        Ok(Turn {
            records,
            elapsed,
            latency,
            cpu_seconds: proc::cpu_seconds(std::process::id())? - cpu,
            refused,
        })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.runtime.block_on(self.outbox.close());
    }
}

pub(super) const NAME: &str = "tidegate log";

/// For one answer.
const PATIENCE: Duration = Duration::from_secs(30);
