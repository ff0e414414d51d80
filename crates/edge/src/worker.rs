//! One thread that holds a share of the connections.
//!
//! A worker is a loop: wait for sockets, mail or a timer; handle what came; write
//! what that made, once per connection. A connection that rests is an entry in the
//! slab and nothing else: bytes are read into the worker's one buffer and parsed in
//! place, frames to be written are shared, timers are a number in the wheel.
//!
//! The worker has no rules of its own. What a client may do is decided in
//! `protocol::session`, who gets a message in `router`; here their outputs are
//! carried out ([`requests`]), bytes are moved ([`reading`], [`writing`]) and
//! connections come and go ([`life`]).
//!
//! A panic while one connection is handled ends that connection only; one in what
//! concerns no single connection (a delivery, an operator's question) loses that and
//! nothing else.

pub(crate) mod arrival;
pub(crate) mod connection;
mod drive;
pub(crate) mod inbox;
mod inspect;
mod life;
mod link;
pub(crate) mod live_dialect;
pub(crate) mod pipe;
mod queue;
mod reading;
mod requests;
pub(crate) mod slab;
pub(crate) mod stratix;
mod users;
mod wheel;
mod writing;

#[cfg(test)]
mod tests;

pub(crate) use inspect::{Census, Drained};
pub use inspect::{Glimpse, Select};

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use lifecycle::Clock;
use mio::{Events, Poll, Token, Waker};
use protocol::session::{Context, Now, Output};
use router::Router;
use router::relay::Relay;
use websocket::{Deflater, Inflater};

use crate::fleet::Registers;
use crate::gate::Gate;
use crate::live::{Current, Fixed, Live};
use crate::metrics::{Metrics, Tally};
use connection::Connection;
use inbox::{Inbox, Mail};
use slab::Slab;
use users::Users;
use wheel::Wheel;

/// The poll token of the inbox; sockets have their slot.
const MAIL: Token = Token(usize::MAX);

/// Most events taken from the system per turn.
const EVENTS: usize = 1_024;

/// Most mail handled before what it made is written.
const MAIL_PER_TURN: usize = 256;

/// Bytes read from one connection at a time, and the most a read takes.
const READ_BUFFER: usize = 64 * 1024;

/// Longest sleep, so that settings that were replaced are let go of soon.
const SLEEP_MAX: Duration = Duration::from_secs(5);

/// Bytes that a buffer of the worker keeps from one turn to the next; what a burst
/// needed beyond that is given back.
const BUFFER_KEPT: usize = 256 * 1024;

/// See the module's documentation.
pub(crate) struct Worker {
    poll: Poll,
    inbox: Arc<Inbox>,
    connections: Slab<Connection>,
    users: Users,
    wheel: Wheel,
    router: Router,
    relay: Option<Arc<Relay>>,
    gate: Arc<Gate>,
    registers: Arc<Registers>,
    current: Current,
    live: Arc<Live>,
    clock: Clock,
    now: Now,
    inflater: Inflater,
    read_buffer: Vec<u8>,
    write_buffer: Vec<u8>,
    /// Plaintext of the connection being read.
    plain: Vec<u8>,
    scratch: Vec<u8>,
    outputs: Vec<Output>,
    /// Connections with something to write.
    dirty: Vec<u32>,
    /// Connections that had more to read than their share.
    unread: Vec<u32>,
    /// Emptied queues, for the next connections that need one.
    spare_queues: queue::SpareQueues,
    metrics: Arc<Metrics>,
    tally: Tally,
    is_stopping: bool,
}

/// What a worker shares with others.
pub(crate) struct Surroundings {
    pub(crate) bus: Bus,
    pub(crate) relay: Option<Arc<Relay>>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) registers: Arc<Registers>,
    pub(crate) current: Current,
    pub(crate) fixed: Fixed,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
}

impl Worker {
    /// A worker and its inbox; [`Worker::run`] belongs on a thread of its own.
    pub(crate) fn new(around: Surroundings) -> io::Result<(Self, Arc<Inbox>)> {
        let poll = Poll::new()?;
        let inbox = Arc::new(Inbox::new(Waker::new(poll.registry(), MAIL)?));
        let sink = around.bus.attach(Arc::clone(&inbox) as Arc<dyn bus::Sink>);
        let deflater = Deflater::new(around.fixed.deflate_level);
        let clock = around.clock;
        let worker = Self {
            poll,
            inbox: Arc::clone(&inbox),
            connections: Slab::new(),
            users: Users::default(),
            wheel: Wheel::new(clock.mono_ms()),
            router: Router::new(around.bus, sink, deflater, around.fixed.deflate_min),
            relay: around.relay,
            gate: around.gate,
            registers: around.registers,
            live: around.current.load_full(),
            current: around.current,
            clock,
            now: Now {
                mono_ms: clock.mono_ms(),
                unix_ms: clock.unix_ms(),
            },
            inflater: Inflater::new(),
            read_buffer: vec![0; READ_BUFFER],
            write_buffer: Vec::new(),
            plain: Vec::new(),
            scratch: Vec::new(),
            outputs: Vec::new(),
            dirty: Vec::new(),
            unread: Vec::new(),
            spare_queues: queue::SpareQueues::default(),
            metrics: around.metrics,
            tally: Tally::default(),
            is_stopping: false,
        };
        Ok((worker, inbox))
    }

    /// Works until it is told to stop and its last connection is gone; an error says
    /// that the system lets it wait for sockets no longer.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut mail = Vec::with_capacity(MAIL_PER_TURN);
        let mut has_more_mail = false;
        while !(self.is_stopping && self.connections.len() == 0 && !has_more_mail) {
            let timeout = self.timeout(has_more_mail);
            match self.poll.poll(&mut events, Some(timeout)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.start_turn();
            for slot in std::mem::take(&mut self.unread) {
                // The end of the stream may have been announced in the turn before.
                self.guarded(slot, |worker| worker.readable(slot, true));
            }
            for event in &events {
                let Token(slot) = event.token();
                let Ok(slot) = u32::try_from(slot) else {
                    continue;
                };
                self.guarded(slot, |worker| {
                    if event.is_writable() {
                        worker.writable(slot);
                    }
                    if event.is_readable() {
                        worker.readable(slot, event.is_read_closed());
                    }
                });
            }
            self.inbox.looked();
            has_more_mail = self.inbox.take(MAIL_PER_TURN, &mut mail);
            let mut unflushed = 0;
            for piece in mail.drain(..) {
                if let Mail::Deliver(message) = &piece {
                    // A burst must not fill the queues of clients that read fast enough.
                    unflushed += inbox::size(message);
                    if unflushed > self.live.session.client.queue_max_size / 4 {
                        self.flush_all();
                        unflushed = inbox::size(message);
                    }
                }
                if !self.caught(|worker| worker.receive(piece)) {
                    tracing::error!("worker panicked over a message or task and dropped it");
                    self.metrics.worker_panics.inc();
                }
            }
            self.fire_timers();
            self.flush_all();
            if self.tally.deliveries > 0 {
                let took_ms = self.clock.mono_ms().saturating_sub(self.now.mono_ms);
                self.tally.push_seconds = Some(took_ms as f64 / 1_000.0);
            }
            self.tally.settle(&self.metrics);
            self.write_buffer.shrink_to(BUFFER_KEPT);
            self.scratch.shrink_to(BUFFER_KEPT);
        }
        Ok(())
    }

    /// Makes the worker end once its last connection is gone.
    pub(crate) fn stop(&mut self) {
        self.is_stopping = true;
    }

    fn start_turn(&mut self) {
        self.now = Now {
            mono_ms: self.clock.mono_ms(),
            unix_ms: self.clock.unix_ms(),
        };
        if !Arc::ptr_eq(&self.live, &self.current.load()) {
            self.live = self.current.load_full();
        }
    }

    fn timeout(&self, has_more_mail: bool) -> Duration {
        if has_more_mail || !self.unread.is_empty() {
            return Duration::ZERO;
        }
        let now_ms = self.clock.mono_ms();
        self.wheel.next_ms().map_or(SLEEP_MAX, |at_ms| {
            Duration::from_millis(at_ms.saturating_sub(now_ms)).min(SLEEP_MAX)
        })
    }

    fn receive(&mut self, mail: Mail) {
        match mail {
            Mail::Deliver(message) => self.deliver(&message),
            Mail::Arrive(arrival) => self.arrive(*arrival),
            Mail::Answer(key, response) => {
                if self.connections.holds(key) {
                    self.guarded(key.slot, |worker| worker.answer(key.slot, response));
                }
            }
            Mail::Entered(key, ask, found) => self.entered(key, &ask, found),
            Mail::Told(key, ticket, told) => {
                if self.connections.holds(key) {
                    self.guarded(key.slot, |worker| worker.told(key.slot, ticket, told));
                }
            }
            Mail::Frame(key, frame) => {
                if self.connections.holds(key) {
                    self.guarded(key.slot, |worker| worker.emulated_frame(key.slot, &frame));
                }
            }
            Mail::Room(key) => {
                if self.connections.holds(key) {
                    self.guarded(key.slot, |worker| worker.writable(key.slot));
                }
            }
            Mail::Gone(key) => {
                if self.connections.holds(key) {
                    self.depart(key.slot);
                }
            }
            Mail::Task(task) => task(self),
        }
    }

    fn fire_timers(&mut self) {
        while let Some((tick, slots)) = self.wheel.due(self.now.mono_ms) {
            for slot in slots {
                self.guarded(slot, |worker| worker.wake(slot, tick));
            }
        }
    }

    /// Does something for one connection; if that panics, the connection ends and
    /// the others do not notice.
    fn guarded(&mut self, slot: u32, work: impl FnOnce(&mut Self)) {
        if self.caught(work) {
            return;
        }
        tracing::error!(slot, "session panicked and was closed");
        self.metrics.session_panics.inc();
        // What is left of the session may make its orderly end panic as well.
        if !self.caught(|worker| worker.depart(slot)) {
            self.caught(|worker| worker.router.purge(slot));
            self.caught(|worker| worker.forget(slot));
        }
    }

    /// Whether `work` ended without a panic. After one the worker is fit to go on:
    /// what was lent out meanwhile is made anew.
    fn caught(&mut self, work: impl FnOnce(&mut Self)) -> bool {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(self)));
        if outcome.is_err() {
            self.outputs.clear();
            // An empty buffer would read as the end of every stream.
            self.read_buffer.resize(READ_BUFFER, 0);
        }
        outcome.is_ok()
    }
}

/// What a session is told with each call.
fn context<'a>(live: &'a Live, now: Now) -> Context<'a> {
    Context {
        now,
        settings: &live.session,
    }
}
