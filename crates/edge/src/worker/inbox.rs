//! How everybody else talks to a worker.
//!
//! One queue, one waker. Deliveries from the bus are counted and bounded: a full
//! inbox makes the bus refuse the publication, so that nothing is lost silently. So
//! are the frames of emulated transports, whose requests are refused then. Everything
//! else is bounded by its cause: an arrival by the sockets at the front, an answer by
//! the connections that wait for one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bus::{Message, Sink};
use bytes::Bytes;
use mio::Waker;
use protocol::session::{Response, SubscribeAsk};
use router::Found;
use router::relay::{Receipt, Refused};

use super::Worker;
use super::arrival::Arrival;
use super::slab::Key;
use super::stratix::Ticket;

/// Most deliveries waiting; beyond it the bus refuses publications as busy.
const DELIVERIES_MAX: usize = 32_768;

/// Most bytes of payload waiting, likewise.
const DELIVERY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most bytes of frames of emulated transports waiting; each counts
/// [`FRAME_OVERHEAD`] more.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
const FRAME_OVERHEAD: usize = 64;

/// What can be put into an inbox.
pub(crate) enum Mail {
    /// A message for this worker's subscribers.
    Deliver(Arc<Message>),
    /// A connection to take in.
    Arrive(Box<Arrival>),
    /// The answer to a request that took a while.
    Answer(Key, Response),
    /// What the bus found for a session that subscribes.
    Entered(Key, Box<SubscribeAsk>, Found),
    /// What became of a message for an agent.
    Told(Key, Ticket, Result<Receipt, Refused>),
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
    /// `None` once the worker has ended.
    mail: Mutex<Option<VecDeque<Mail>>>,
    deliveries: AtomicUsize,
    delivery_bytes: AtomicUsize,
    frame_bytes: AtomicUsize,
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
            mail: Mutex::new(Some(VecDeque::new())),
            deliveries: AtomicUsize::new(0),
            delivery_bytes: AtomicUsize::new(0),
            frame_bytes: AtomicUsize::new(0),
            woken: AtomicBool::new(false),
            waker,
        }
    }

    /// Puts mail in; what comes after the worker has ended is dropped.
    pub(crate) fn post(&self, mail: Mail) {
        let mut mail_box = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = &mut *mail_box else { return };
        queue.push_back(mail);
        drop(mail_box);
        if !self.woken.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "worker could not be woken");
        }
    }

    /// Hands on a frame of an emulated transport; `false` if too many wait already.
    pub(crate) fn post_frame(&self, key: Key, frame: Bytes) -> bool {
        let size = frame.len() + FRAME_OVERHEAD;
        if self.frame_bytes.fetch_add(size, Ordering::Relaxed) > FRAME_BYTES_MAX {
            self.frame_bytes.fetch_sub(size, Ordering::Relaxed);
            return false;
        }
        self.post(Mail::Frame(key, frame));
        true
    }

    /// Says that nobody will look any more: whoever waits for an answer stops waiting.
    pub(crate) fn close(&self) {
        let mail = self
            .mail
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // Outside the lock: what is dropped may post.
        drop(mail);
    }

    /// Says that the worker is about to look, so that later mail wakes it again.
    pub(crate) fn looked(&self) {
        self.woken.store(false, Ordering::Release);
    }

    /// Takes mail, at most `most` pieces, into `into`; whether there is more.
    pub(crate) fn take(&self, most: usize, into: &mut Vec<Mail>) -> bool {
        let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = &mut *mail else {
            return false;
        };
        let count = queue.len().min(most);
        into.extend(queue.drain(..count));
        let more = !queue.is_empty();
        if !more && queue.capacity() > 4_096 {
            queue.shrink_to(256);
        }
        drop(mail);
        let (mut deliveries, mut bytes, mut frame_bytes) = (0, 0, 0);
        for piece in into.iter() {
            match piece {
                Mail::Deliver(message) => {
                    deliveries += 1;
                    bytes += size(message);
                }
                Mail::Frame(_, frame) => frame_bytes += frame.len() + FRAME_OVERHEAD,
                Mail::Arrive(_)
                | Mail::Answer(..)
                | Mail::Entered(..)
                | Mail::Told(..)
                | Mail::Room(_)
                | Mail::Gone(_)
                | Mail::Task(_) => {}
            }
        }
        self.deliveries.fetch_sub(deliveries, Ordering::Relaxed);
        self.delivery_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.frame_bytes.fetch_sub(frame_bytes, Ordering::Relaxed);
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
        self.delivery_bytes
            .fetch_add(size(&message), Ordering::Relaxed);
        self.post(Mail::Deliver(message));
    }
}

/// Bytes of payload.
pub(super) fn size(message: &Message) -> usize {
    message
        .publication()
        .map_or(0, |publication| publication.data.len())
}
