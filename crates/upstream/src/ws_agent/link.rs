//! One agent's link: what is known of it at rest, and the doorstep between those who deliver and
//! the task that owns the connection while there is one.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::peer::{HoldReason, PeerState};
use super::pool::LinkId;
use super::{Delivery, DeliveryBody, Outcome, Target};

pub(super) use task::{Ended, run};

mod outgoing;
mod scratch;
mod task;

/// A link. At rest it holds its target and some numbers: no task, no buffer.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) target: Arc<Target>,
    /// Wakes the task.
    pub(super) changed: Notify,
    pub(super) counts: Counts,
    /// When it was last used, in milliseconds of the clock.
    pub(super) used_ms: AtomicU64,
    state: Mutex<State>,
}

/// What has happened, for metrics.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) connects: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) answers: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) received_bytes: AtomicU64,
}

/// What those who deliver, the pool and the task share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// Somebody has asked for a connection since it was last there.
    pub(super) wanted: bool,
    /// Nobody needs it any more.
    pub(super) released: bool,
    /// Another link needs its place.
    pub(super) evicted: bool,
    /// Waits since the last connection that was ready.
    pub(super) pauses: u32,
    /// It was told in the log that there is no way to the agent, since there last was one.
    pub(super) is_missed: bool,
    /// When the next connection may be tried, in milliseconds of the clock.
    pub(super) not_before_ms: u64,
    /// The last obstacle that was logged.
    pub(super) obstacle: Option<HoldReason>,
    pub(super) last_error: Option<Box<str>>,
    /// The conversation between connections.
    pub(super) peer: Option<PeerState>,
    /// Not given to the peer yet.
    pub(super) orders: VecDeque<Order>,
    /// Everything without an outcome, the orders included. Bounded by the target's `in_flight`.
    pub(super) waiting: HashMap<u64, oneshot::Sender<Outcome>>,
    /// Tries that nobody waits for any more and that the peer is still to be told of. Bounded
    /// as `waiting`: the task takes them with its next turn.
    pub(super) forgotten: Vec<u64>,
    /// Bytes in `orders`.
    ordered_bytes: usize,
    /// Bytes that the task has encoded and the socket has not taken.
    pub(super) backlog_bytes: usize,
}

/// Where a link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No connection, and none is asked for.
    Rest,
    /// A connection is asked for and waits for its place.
    Queued,
    /// The next try waits for its time.
    Paused,
    /// Being made.
    Dialling,
    /// Deliveries may come.
    Up,
    /// On its way down.
    Closing,
}

/// One try, on its way to the peer.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) tag: u64,
    pub(super) delivery: Arc<Delivery>,
}

impl Link {
    pub(super) fn new(id: LinkId, target: Arc<Target>) -> Self {
        Self {
            id,
            target,
            changed: Notify::new(),
            counts: Counts::default(),
            used_ms: AtomicU64::new(0),
            state: Mutex::new(State {
                phase: Phase::Rest,
                wanted: false,
                released: false,
                evicted: false,
                pauses: 0,
                is_missed: false,
                not_before_ms: 0,
                obstacle: None,
                last_error: None,
                peer: None,
                orders: VecDeque::new(),
                waiting: HashMap::new(),
                forgotten: Vec::new(),
                ordered_bytes: 0,
                backlog_bytes: 0,
            }),
        }
    }

    /// Never held over anything that waits, nor while another lock is taken.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a try on the doorstep; the error says why it is not sent.
    pub(super) fn order(
        &self,
        tag: u64,
        delivery: Arc<Delivery>,
        queue_bytes: usize,
    ) -> Result<oneshot::Receiver<Outcome>, &'static str> {
        let size = size_of_delivery(&delivery);
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state();
            if state.phase != Phase::Up {
                return Err("agent is not connected");
            }
            if state.waiting.len() >= self.target.in_flight {
                return Err("too many messages are in flight to the agent");
            }
            // A message larger than the whole queue may have it for itself.
            let queued = state.ordered_bytes + state.backlog_bytes;
            if queued > 0 && queued + size > queue_bytes {
                return Err("write queue is full");
            }
            state.waiting.insert(tag, sender);
            state.orders.push_back(Order { tag, delivery });
            state.ordered_bytes += size;
        }
        self.changed.notify_one();
        Ok(receiver)
    }

    /// Nobody waits for this try any more.
    pub(super) fn forget(&self, tag: u64) {
        {
            let mut state = self.state();
            if state.waiting.remove(&tag).is_none() {
                return;
            }
            match state.orders.iter().position(|order| order.tag == tag) {
                Some(at) => {
                    if let Some(order) = state.orders.remove(at) {
                        state.ordered_bytes -= size_of_delivery(&order.delivery);
                    }
                }
                None => state.forgotten.push(tag),
            }
        }
        self.changed.notify_one();
    }

    /// Tells an outcome to whoever waits for it.
    pub(super) fn settle(&self, tag: u64, outcome: Outcome) {
        let waiting = self.state().waiting.remove(&tag);
        if outcome == Outcome::Delivered {
            self.counts.delivered.fetch_add(1, Relaxed);
        }
        if let Some(waiting) = waiting {
            // If nobody waits any more, the outcome is of no interest.
            drop(waiting.send(outcome));
        }
    }

    /// The URL as operators may see it.
    pub(super) fn shown_url(&self) -> &str {
        self.target.shown_url()
    }
}

impl State {
    /// Takes the next try from the doorstep.
    pub(super) fn next_order(&mut self) -> Option<Order> {
        let order = self.orders.pop_front()?;
        let size = size_of_delivery(&order.delivery);
        self.ordered_bytes -= size;
        // Until the task says how much it really is.
        self.backlog_bytes += size;
        Some(order)
    }

    /// Frees what a link at rest does not need.
    pub(super) fn shrink(&mut self) {
        self.orders = VecDeque::new();
        self.waiting = HashMap::new();
        self.forgotten = Vec::new();
        self.ordered_bytes = 0;
        self.backlog_bytes = 0;
    }
}

/// About as many bytes as a delivery takes on the wire.
fn size_of_delivery(delivery: &Delivery) -> usize {
    let body = match &delivery.body {
        DeliveryBody::Text(text) => text.len(),
        DeliveryBody::Binary(bytes) => bytes.len().div_ceil(3) * 4,
    };
    body + delivery.client.len() + delivery.message_id.len() + 256
}

// A link at rest is little more than this, its target and its URL.
const _: () = assert!(size_of::<Link>() + size_of::<Target>() <= 500);
