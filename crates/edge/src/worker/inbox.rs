//! How everybody else talks to a worker.
//!
//! One queue, one waker. Deliveries from the bus are counted and bounded: a full
//! inbox makes the bus refuse the publication, so that nothing is lost silently.
//! Everything else is bounded by its cause: an arrival by the handshakes under way,
//! an answer by the connections that wait for one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bus::{Message, Sink};
use bytes::Bytes;
use mio::Waker;
use protocol::session::Response;

use super::Worker;
use super::arrival::Arrival;
use super::slab::Key;

/// Most deliveries waiting; beyond it the bus refuses publications as busy.
const DELIVERIES_MAX: usize = 32_768;

/// Most bytes of payload waiting, likewise.
const DELIVERY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What can be put into an inbox.
pub(crate) enum Mail {
    /// A message for this worker's subscribers.
    Deliver(Arc<Message>),
    /// A connection to take in.
    Arrive(Box<Arrival>),
    /// The answer to a request that took a while.
    Answer(Key, Response),
    /// A frame of a client with an emulated transport.
    Frame(Key, Bytes),
    /// The body of an HTTP connection has room again.
    Room(Key),
    /// The client of an HTTP connection went away.
    Gone(Key),
    /// Something to be done on the worker's own thread.
    Task(Box<dyn FnOnce(&mut Worker) + Send>),
}

/// A worker's inbox.
pub(crate) struct Inbox {
    mail: Mutex<VecDeque<Mail>>,
    deliveries: AtomicUsize,
    delivery_bytes: AtomicUsize,
    /// The worker was woken and has not looked yet.
    woken: AtomicBool,
    waker: Waker,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Inbox").finish_non_exhaustive()
    }
}

impl Inbox {
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            mail: Mutex::default(),
            deliveries: AtomicUsize::new(0),
            delivery_bytes: AtomicUsize::new(0),
            woken: AtomicBool::new(false),
            waker,
        }
    }

    pub(crate) fn post(&self, mail: Mail) {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner).push_back(mail);
        if !self.woken.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "worker could not be woken");
        }
    }

    /// Says that the worker is about to look, so that later mail wakes it again.
    pub(crate) fn looked(&self) {
        self.woken.store(false, Ordering::Release);
    }

    /// Takes mail, at most `most` pieces, into `into`; whether there is more.
    pub(crate) fn take(&self, most: usize, into: &mut Vec<Mail>) -> bool {
        let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        let count = mail.len().min(most);
        into.extend(mail.drain(..count));
        let more = !mail.is_empty();
        if !more && mail.capacity() > 4_096 {
            mail.shrink_to(256);
        }
        drop(mail);
        let (mut deliveries, mut bytes) = (0, 0);
        for piece in into.iter() {
            if let Mail::Deliver(message) = piece {
                deliveries += 1;
                bytes += size(message);
            }
        }
        self.deliveries.fetch_sub(deliveries, Ordering::Relaxed);
        self.delivery_bytes.fetch_sub(bytes, Ordering::Relaxed);
        more
    }
}

impl Sink for Inbox {
    fn has_room(&self) -> bool {
        self.deliveries.load(Ordering::Relaxed) < DELIVERIES_MAX
            && self.delivery_bytes.load(Ordering::Relaxed) < DELIVERY_BYTES_MAX
    }

    fn deliver(&self, message: Arc<Message>) {
        self.deliveries.fetch_add(1, Ordering::Relaxed);
        self.delivery_bytes.fetch_add(size(&message), Ordering::Relaxed);
        self.post(Mail::Deliver(message));
    }
}

fn size(message: &Message) -> usize {
    message.publication().map_or(0, |publication| publication.data.len())
}
