//! What all who take part know: where the gateway is, how things go, what has arrived.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::agent::Manner;
use super::message::{Hash, Name};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Scene {
    door: Mutex<Door>,
    moved: Condvar,
    /// Longest message, in bytes.
    pub(super) size_max: AtomicU64,
    /// Messages in the ledger.
    acked: AtomicU64,
    /// Messages that have reached the agent, each counted once.
    arrived: AtomicU64,
    manner: Mutex<Manner>,
    book: Mutex<Book>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Door {
    address: Option<SocketAddr>,
    is_finishing: bool,
}

/// What has reached the agent.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// By client and number.
    pub(super) arrivals: HashMap<(u16, u32), Arrival>,
    /// Newest first arrival of each client and priority.
    newest: HashMap<(u16, usize), u32>,
    /// Arrivals beyond the first.
    pub(super) duplicates: u64,
    /// First arrivals behind a later one.
    pub(super) reordered: u64,
    /// What should not have happened, as far as it was noted.
    pub(super) remarks: Vec<String>,
}

/// A message that has reached the agent.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) name: Name,
    pub(super) hash: Hash,
}

impl Scene {
    /// The gateway listens here.
    pub(super) fn open(&self, address: SocketAddr) {
        self.lock_door().address = Some(address);
        self.moved.notify_all();
    }

    /// The gateway is no more.
    pub(super) fn shut(&self) {
        self.lock_door().address = None;
    }

    /// Nothing new is to be sent.
    pub(super) fn finish(&self) {
        self.lock_door().is_finishing = true;
        self.moved.notify_all();
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.lock_door().is_finishing
    }

    /// Where the gateway is, as soon as it is anywhere.
    pub(super) fn wait_open(&self, patience: Duration) -> Option<SocketAddr> {
        let door = self.lock_door();
        let (door, _) = self
            .moved
            .wait_timeout_while(door, patience, |door| door.address.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        door.address
    }

    pub(super) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    pub(super) fn add_acked(&self, count: u64) {
        self.acked.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Whether so little waits for the agent that more may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.acked().saturating_sub(self.arrived()) < BACKLOG_MAX
    }

    pub(super) fn manner(&self) -> Manner {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_manner(&self, manner: Manner) {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
    }

    /// Notes that a message has reached the agent.
    pub(super) fn arrive(&self, name: Name, hash: Hash) {
        let mut book = self.book();
        if let Some(earlier) = book.arrivals.get(&(name.client, name.number)) {
            let is_same = earlier.hash == hash && earlier.name == name;
            book.duplicates += 1;
            if !is_same {
                book.remark(format!("{name:?} came again with other contents"));
            }
            return;
        }
        let line = (name.client, name.priority);
        let newest = book.newest.get(&line).copied();
        if let Some(newest) = newest.filter(|newest| *newest > name.number) {
            book.reordered += 1;
            book.remark(format!("{name:?} came for the first time behind {newest}"));
        } else {
            book.newest.insert(line, name.number);
        }
        let arrival = Arrival { name, hash };
        book.arrivals.insert((name.client, name.number), arrival);
        drop(book);
        self.arrived.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes what should not have happened.
    pub(super) fn remark(&self, remark: String) {
        self.book().remark(remark);
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_door(&self) -> MutexGuard<'_, Door> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn remark(&mut self, remark: String) {
        if self.remarks.len() < REMARKS_MAX {
            self.remarks.push(remark);
        }
    }
}

/// Acknowledged messages that have not reached the agent: above it clients wait. More would
/// only make the end take longer.
const BACKLOG_MAX: u64 = 3_000;

/// Most remarks kept: who has read these wants no more.
const REMARKS_MAX: usize = 50;
