//! The thread that writes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Sync;
use super::inbox::{Inbox, Woken};
use super::keeping::Alarm;
use super::log::{Fault, Log, Waiting};
use super::supply::{Last, Shelf};
use crate::face::AppendError;

/// What it works with.
pub(crate) struct Writing {
    pub(crate) log: Log,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) shelf: Arc<Shelf>,
}

impl Writing {
    /// Writes until it is closed or the storage fails.
    pub(crate) fn run(mut self) {
        let alarm = Alarm {
            shared: Arc::clone(&self.log.shared),
            inbox: Arc::clone(&self.inbox),
            shelf: Arc::clone(&self.shelf),
            thread: "writer",
        };
        let mut waiting = VecDeque::new();
        let last = match self.serve(&mut waiting) {
            Ok(()) => Some(Last {
                next_seq: self.log.next_seq,
                synced: self.log.synced,
            }),
            Err(fault) => {
                self.fail(&fault, waiting);
                None
            }
        };
        self.shelf.stop(last);
        drop(alarm);
    }

    fn serve(&mut self, waiting: &mut VecDeque<Waiting>) -> Result<(), Fault> {
        let clock = self.log.shared.clock;
        let mut unsynced_since: Option<Duration> = None;
        let mut compacting = false;
        loop {
            let sync_in = match (self.log.sync, unsynced_since) {
                _ if compacting => Some(Duration::ZERO),
                (Sync::Interval(every), Some(since)) => {
                    Some((since + every).saturating_sub(clock.elapsed()))
                }
                _ => None,
            };
            let woken = self.inbox.take(waiting, sync_in, || clock.elapsed());
            if let Some(reason) = self.log.shared.reason() {
                return Err(Fault {
                    what: "keeping segments".to_owned(),
                    source: std::io::Error::other(reason.to_string()),
                });
            }
            match woken {
                Woken::Work => {
                    let mut wrote = self.log.commit(waiting)?;
                    while !waiting.is_empty() {
                        wrote |= self.log.commit(waiting)?;
                    }
                    compacting = wrote && self.goes_on();
                }
                Woken::Due if compacting => {
                    let wrote = self.log.commit(waiting)?;
                    compacting = wrote && self.goes_on();
                }
                Woken::Due => {}
                Woken::Closing => {
                    self.log.closing = true;
                    while self.log.commit(waiting)? {}
                    return self.log.sync();
                }
            }
            if let (Sync::Interval(every), Some(since)) = (self.log.sync, unsynced_since)
                && clock.elapsed() >= since + every
            {
                self.log.sync()?;
            }
            if self.log.unsynced() {
                unsynced_since.get_or_insert(clock.elapsed());
            } else {
                unsynced_since = None;
            }
        }
    }

    /// After a batch: whether to compact. Notes that had no room in it come with the next.
    fn goes_on(&self) -> bool {
        let index = self.log.shared.index();
        let left = index.marks();
        let compact = self.log.wants_compaction(&index);
        drop(index);
        if left > 0 {
            self.inbox.mark(left >= super::MANY_MARKS);
        }
        compact
    }

    /// Nothing is acknowledged from here on.
    fn fail(&mut self, fault: &Fault, waiting: VecDeque<Waiting>) {
        let (from, to) = (self.log.synced_seq + 1, self.log.next_seq - 1);
        let unconfirmed = if from <= to {
            format!("records {from} to {to} are unconfirmed")
        } else {
            "no record is unconfirmed".to_owned()
        };
        let reason = format!("{}: {}; {unconfirmed}", fault.what, fault.source);
        let reason = self.log.shared.fail(Arc::from(reason));
        tracing::error!(%reason, "outbox has failed and takes nothing until a restart");
        let error = AppendError::Failed(reason);
        self.log.refuse(&error);
        for waiting in waiting {
            (waiting.done)(Err(error.clone()));
        }
        self.inbox.fail(&error);
    }
}
