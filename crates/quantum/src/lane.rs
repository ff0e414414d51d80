//! One socket's connections: what its task and everybody else share.
//!
//! The task ([`crate::driver`]) sleeps until datagrams, deadlines or wishes come. Whoever changes
//! a connection puts it on the list here, once however much changes, and wakes the task; so a
//! burst of small writes becomes one batch of datagrams.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use futures_util::task::AtomicWaker;
use lifecycle::Clock;
use quantum_proto::Time;
use quantum_proto::connection::Stats;
use quantum_proto::endpoint::{Endpoint as Table, Handle, Reason};
use quantum_proto::streams::Role;
use tokio::sync::Notify;

use crate::connection::Shared;

pub(crate) struct Lane {
    clock: Clock,
    inbox: Mutex<Inbox>,
    waker: AtomicWaker,
    residents: Mutex<Residents>,
    /// The last connection has gone, or the task has ended.
    pub(crate) emptied: Notify,
}

/// What the task takes up at its next turn.
#[derive(Default)]
pub(crate) struct Inbox {
    /// Each connection at most once.
    pub(crate) dirty: Vec<Arc<Shared>>,
    /// Datagrams that came to the socket of another lane; beyond [`STRAYS_MAX`] they are dropped.
    pub(crate) strays: VecDeque<Stray>,
    /// Connections are no longer let in; the task ends with the last of them.
    pub(crate) is_closing: bool,
}

/// A datagram that came to another socket of the group.
pub(crate) struct Stray {
    pub(crate) from: SocketAddr,
    pub(crate) to: Option<IpAddr>,
    pub(crate) ce: bool,
    pub(crate) datagram: BytesMut,
}

/// The connections themselves.
pub(crate) struct Residents {
    pub(crate) table: Table,
    slots: Vec<Option<Arc<Shared>>>,
    /// What connections that are gone have counted, clients' and servers'.
    pub(crate) retired: [Stats; 2],
    /// How many have ended, clients' and servers'.
    pub(crate) ended: [u64; 2],
}

/// Datagrams that wait for their lane.
const STRAYS_MAX: usize = 1_024;

impl Lane {
    pub(crate) fn new(clock: Clock, table: Table) -> Self {
        Self {
            clock,
            inbox: Mutex::default(),
            waker: AtomicWaker::new(),
            residents: Mutex::new(Residents {
                table,
                slots: Vec::new(),
                retired: <[Stats; 2]>::default(),
                ended: [0; 2],
            }),
            emptied: Notify::new(),
        }
    }

    /// To be asked under the lock of the connection that it is for: its time must not go back.
    pub(crate) fn now(&self) -> Time {
        Time::after(self.clock.elapsed())
    }

    pub(crate) fn waker(&self) -> &AtomicWaker {
        &self.waker
    }

    /// The caller has set the connection's flag.
    pub(crate) fn push_dirty(&self, connection: Arc<Shared>) {
        self.inbox().dirty.push(connection);
        self.waker.wake();
    }

    /// Hands over a datagram; `false` if there is no room.
    pub(crate) fn push_stray(&self, stray: Stray) -> bool {
        {
            let mut inbox = self.inbox();
            if inbox.strays.len() >= STRAYS_MAX {
                return false;
            }
            inbox.strays.push_back(stray);
        }
        self.waker.wake();
        true
    }

    /// Lets no connection in any more.
    pub(crate) fn begin_close(&self) {
        self.inbox().is_closing = true;
        self.residents().table.set_server(None);
        self.waker.wake();
    }

    pub(crate) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn residents(&self) -> MutexGuard<'_, Residents> {
        self.residents
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Residents {
    pub(crate) fn settle(&mut self, handle: Handle, connection: Arc<Shared>) {
        let index = handle.0 as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        self.slots[index] = Some(connection);
    }

    pub(crate) fn get(&self, handle: Handle) -> Option<&Arc<Shared>> {
        self.slots.get(handle.0 as usize)?.as_ref()
    }

    /// Forgets a connection and keeps what it has counted.
    pub(crate) fn remove(&mut self, handle: Handle, stats: &Stats) {
        let slot = self.slots.get_mut(handle.0 as usize);
        if let Some(gone) = slot.and_then(Option::take) {
            gone.set_gone();
            let role = index(gone.role);
            add(&mut self.retired[role], stats);
            self.ended[role] += 1;
            self.table.remove(handle);
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Shared>> {
        self.slots.iter().flatten()
    }

    pub(crate) fn dropped(&mut self, reason: Reason) {
        self.table.dropped(reason);
    }
}

/// Where figures of a role stand.
pub(crate) fn index(role: Role) -> usize {
    match role {
        Role::Client => 0,
        Role::Server => 1,
    }
}

/// Adds what counts up; values of a moment end with their connection.
pub(crate) fn add(sum: &mut Stats, one: &Stats) {
    sum.packets_sent += one.packets_sent;
    sum.packets_received += one.packets_received;
    sum.packets_lost += one.packets_lost;
    sum.retransmissions += one.retransmissions;
    sum.spurious += one.spurious;
    sum.bytes_sent += one.bytes_sent;
    sum.bytes_received += one.bytes_received;
    sum.fec_recoveries += one.fec_recoveries;
    sum.fec_repairs_sent += one.fec_repairs_sent;
    sum.fec_repair_bytes += one.fec_repair_bytes;
    sum.fec_unrecoverable += one.fec_unrecoverable;
    sum.decrypt_failures += one.decrypt_failures;
    sum.dropped_replayed += one.dropped_replayed;
    sum.dropped_no_key += one.dropped_no_key;
    sum.dropped_beyond_window += one.dropped_beyond_window;
    sum.amplification_held += one.amplification_held;
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}
