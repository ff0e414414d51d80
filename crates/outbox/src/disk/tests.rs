//! Tests of the log on a disk that loses what was not synced.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lifecycle::Clock;

use super::log::{Log, Waiting, locked};
use super::recovery::{Settings, recover};
use super::shared::Limits;
use super::storage::Storage;
use super::storage::model::{Chance, ModelDisk};
use super::{OpenError, Sync, read};
use crate::face::{AppendError, Entry, Mark, Priority, Record, RecordId, State};

mod damage;
mod faults;
mod golden;
mod power;
mod running;

/// A record's key and what became of it.
type Answer = (u128, Result<RecordId, AppendError>);

/// A small log on a model disk, driven by hand.
struct Bench {
    log: Log,
    waiting: VecDeque<Waiting>,
    answers: Arc<Mutex<Vec<Answer>>>,
}

impl Bench {
    #[track_caller]
    fn open(disk: &ModelDisk) -> (Self, Vec<Entry>) {
        Self::try_open(disk, false).unwrap()
    }

    fn try_open(disk: &ModelDisk, accept_loss: bool) -> Result<(Self, Vec<Entry>), OpenError> {
        Self::with(disk, accept_loss, Sync::Always)
    }

    fn with(
        disk: &ModelDisk,
        accept_loss: bool,
        sync: Sync,
    ) -> Result<(Self, Vec<Entry>), OpenError> {
        let storage: Arc<dyn Storage> = Arc::new(disk.clone());
        let mut salts = Chance(disk.operations());
        let settings = Settings {
            limits: Limits {
                segment_bytes: SEGMENT,
                bytes_max: 16 * SEGMENT,
                records_max: 10_000,
            },
            sync,
            accept_loss,
            clock: Clock::start(),
            salts: Box::new(move || Ok((u128::from(salts.next()) << 64 | 1).to_le_bytes())),
        };
        let (log, entries) = recover(&storage, settings)?;
        let bench = Self {
            log,
            waiting: VecDeque::new(),
            answers: Arc::default(),
        };
        Ok((bench, entries))
    }

    fn append(&mut self, record: Record) {
        let answers = Arc::clone(&self.answers);
        let key = record.key;
        self.waiting.push_back(Waiting {
            record,
            done: Box::new(move |answer| locked(&answers).push((key, answer))),
        });
    }

    /// Writes everything that waits; `false` if the storage failed.
    fn commit(&mut self) -> bool {
        loop {
            match self.log.commit(&mut self.waiting) {
                Ok(true) => {}
                Ok(false) if self.waiting.is_empty() => return true,
                Ok(false) => {}
                Err(fault) => {
                    self.log.refuse(&AppendError::Failed(Arc::from(fault.what)));
                    return false;
                }
            }
        }
    }

    fn answers(&self) -> Vec<Answer> {
        std::mem::take(&mut locked(&self.answers))
    }

    /// Appends, commits, and says where everything is.
    #[track_caller]
    fn appended(&mut self, records: impl IntoIterator<Item = Record>) -> Vec<RecordId> {
        for record in records {
            self.append(record);
        }
        assert!(self.commit());
        self.answers()
            .into_iter()
            .map(|(_, answer)| answer.unwrap())
            .collect()
    }

    fn mark(&mut self, id: RecordId, mark: Mark) {
        self.log.shared.index().mark(id.seq, mark);
    }

    fn read(&self, id: RecordId) -> Option<Record> {
        let index = self.log.shared.index();
        let place = index.slots.get(&id.seq)?.place;
        let segment = Arc::clone(&index.part(place.segment)?.segment);
        drop(index);
        let mut bytes = vec![0; place.len as usize];
        segment
            .file
            .read_at(&mut bytes, u64::from(place.offset))
            .ok()?;
        read::decoded(&segment, bytes, id.seq).ok()
    }
}

fn record(key: u64, size: usize) -> Record {
    let seed = key.to_le_bytes();
    Record {
        client: Arc::from(format!("client-{}", key % 5)),
        priority: [Priority::Control, Priority::Interactive, Priority::Bulk]
            [usize::try_from(key % 3).unwrap()],
        at_ms: key,
        key: u128::from(key),
        payload: Bytes::from(seed.iter().copied().cycle().take(size).collect::<Vec<_>>()),
    }
}

const SEGMENT: u64 = 64 << 10;
