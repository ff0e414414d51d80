//! The task of one socket: reads, feeds connections, sends what they say, waits.
//!
//! It decides nothing: which connection a datagram belongs to says the table, everything else the
//! connection. Each turn it reads one batch, lets connections act whose deadline has come, and
//! then takes from each connection that something happened to all that it has to say; so
//! whatever came up in a turn leaves in as few system calls as possible.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use quantum_proto::Time;
use quantum_proto::codes::close;
use quantum_proto::connection::Connection as Machine;
use quantum_proto::connection::Setup;
use quantum_proto::endpoint::{Handle, Incoming, Reason, Verdict};
use quantum_proto::packet::Packet;
use quantum_proto::streams::Role;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::connection::{Connection, Owner, Shared};
use crate::endpoint::{self, Common};
use crate::lane::{Lane, Stray};
use crate::socket::{Arrival, Inbound, Outgoing, Socket, lane_of};
use crate::timer::Timer;

/// A future that ends when the endpoint is closed and the last connection has gone.
pub(crate) struct Driver {
    index: usize,
    lanes: Arc<[Arc<Lane>]>,
    common: Arc<Common>,
    socket: Socket,
    /// Taken out while it is looked through.
    inbound: Option<Box<Inbound>>,
    timer: Timer,
    timer_at: Time,
    /// When connections want to act; one entry each.
    deadlines: BTreeSet<(Time, Handle)>,
    /// By handle.
    residents: Vec<Resident>,
    /// Connections to look after in this turn.
    dirty: VecDeque<Arc<Shared>>,
    /// Written by a connection, not taken by the kernel yet.
    blocked: Option<(Outgoing, BytesMut)>,
    buffer: BytesMut,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    is_stopping: bool,
}

#[derive(Clone, Copy)]
struct Resident {
    armed: Time,
    sampled: Time,
}

const NOBODY: Resident = Resident {
    armed: Time::NEVER,
    sampled: Time::ZERO,
};

/// Turns before other tasks of the thread get theirs.
const TURNS: usize = 8;
/// Batches that one connection may send before the others get their turn.
const BATCHES: usize = 8;
/// What a batch may hold, in bytes: the largest UDP payload of a system call.
const BATCH_BYTES: usize = 65_000;
/// How often measurements go into the histograms.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

impl Driver {
    pub(crate) fn new(
        index: usize,
        lanes: Arc<[Arc<Lane>]>,
        common: Arc<Common>,
        socket: Socket,
        stopping: lifecycle::CancellationToken,
    ) -> std::io::Result<Self> {
        Ok(Self {
            index,
            lanes,
            common,
            socket,
            inbound: Some(Box::new(Inbound::new())),
            timer: Timer::new()?,
            timer_at: Time::NEVER,
            deadlines: BTreeSet::new(),
            residents: Vec::new(),
            dirty: VecDeque::new(),
            blocked: None,
            buffer: BytesMut::with_capacity(BATCH_BYTES),
            stopping: Box::pin(stopping.cancelled_owned()),
            is_stopping: false,
        })
    }

    fn lane(&self) -> &Arc<Lane> {
        &self.lanes[self.index]
    }

    /// One turn; `true` if there may be more to do at once.
    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        let received = self.receive(cx);
        self.take_inbox(cx);
        self.act_on_deadlines();
        self.attend_all(cx);
        received || self.wait_for_deadline(cx)
    }

    /// Reads one batch; `false` if there was nothing.
    fn receive(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(inbound) = &mut self.inbound else {
            return false;
        };
        match self.socket.poll_recv(cx, inbound) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "reading from the socket failed");
                cx.waker().wake_by_ref();
                return false;
            }
        }
        let Some(inbound) = self.inbound.take() else {
            return false;
        };
        for (arrival, bytes) in inbound.arrivals() {
            for datagram in bytes.chunks(arrival.stride) {
                self.sort(cx, &arrival, datagram);
            }
        }
        self.inbound = Some(inbound);
        true
    }

    /// A datagram is ours, or another lane's.
    fn sort(&mut self, cx: &mut Context<'_>, arrival: &Arrival, datagram: &[u8]) {
        let lane = lane_of(datagram, self.lanes.len());
        let datagram = BytesMut::from(datagram);
        if lane == self.index {
            self.take(cx, arrival.from, arrival.to, arrival.ce, datagram);
            return;
        }
        let stray = Stray {
            from: arrival.from,
            to: arrival.to,
            ce: arrival.ce,
            datagram,
        };
        if !self.lanes[lane].push_stray(stray) {
            self.lane().residents().dropped(Reason::Overload);
        }
    }

    fn take(
        &mut self,
        cx: &mut Context<'_>,
        from: SocketAddr,
        to: Option<IpAddr>,
        ce: bool,
        datagram: BytesMut,
    ) {
        let lane = Arc::clone(self.lane());
        let Ok(packet) = Packet::parse(datagram) else {
            lane.residents().dropped(Reason::Malformed);
            return;
        };
        let (verdict, known) = {
            let mut residents = lane.residents();
            let verdict = residents.table.handle(lane.now(), from, &packet);
            let known = match &verdict {
                Verdict::Connection(handle) => residents.get(*handle).cloned(),
                Verdict::New(_) | Verdict::Respond(_) | Verdict::Drop(_) => None,
            };
            (verdict, known)
        };
        let connection = match verdict {
            Verdict::Connection(_) => known,
            Verdict::New(incoming) => self.welcome(incoming),
            Verdict::Respond(answer) => {
                self.respond(cx, from, to, &answer);
                None
            }
            Verdict::Drop(_) => None,
        };
        let Some(connection) = connection else {
            return;
        };
        {
            let mut state = connection.lock();
            let now = lane.now();
            match packet {
                Packet::Sealed(sealed) => {
                    let before = state.machine.packets_received();
                    state.machine.handle(now, from, ce, sealed);
                    let is_peers = state.machine.packets_received() != before;
                    state.came_to(connection.role, to, is_peers);
                }
                Packet::Reset { token, .. } => state.machine.handle_reset(now, token),
            }
        }
        self.touch(connection);
    }

    /// Begins a connection as the server.
    fn welcome(&mut self, incoming: Incoming) -> Option<Arc<Shared>> {
        let lane = Arc::clone(self.lane());
        let mut residents = lane.residents();
        let server = Arc::clone(residents.table.server()?);
        let chance = match endpoint::chance() {
            Ok(chance) => chance,
            Err(error) => {
                tracing::warn!(%error, "no connection is let in");
                return None;
            }
        };
        let setup = Setup {
            guuid: incoming.guuid,
            remote: incoming.remote,
            config: self.common.config(),
            start: 0,
            reset_token: Some(residents.table.reset_token(incoming.guuid)),
            chance,
        };
        let mut options = Vec::new();
        setup.options().encode(&mut options);
        let handshake = match server.start(incoming.guuid, &options) {
            Ok(handshake) => handshake,
            Err(error) => {
                tracing::warn!(%error, "no handshake is possible");
                return None;
            }
        };
        let handle = residents.table.insert(incoming.guuid, true).ok()?;
        let machine = Machine::server(
            lane.now(),
            &setup,
            handshake,
            incoming.initial,
            incoming.validated,
        );
        let shared = Shared::new(Arc::clone(&lane), handle, Role::Server, machine);
        let shared = Arc::new(shared);
        residents.settle(handle, Arc::clone(&shared));
        self.common.log.began(lane.now(), &shared, incoming.remote);
        Some(shared)
    }

    /// Answers a datagram of no connection; if the kernel has no room the answer is dropped.
    fn respond(
        &mut self,
        cx: &mut Context<'_>,
        to: SocketAddr,
        from: Option<IpAddr>,
        answer: &[u8],
    ) {
        let outgoing = Outgoing {
            to,
            from,
            segment: None,
            ecn: false,
        };
        let _ = self.socket.poll_send(cx, &outgoing, answer);
    }

    /// Notes that a connection has something to say, without waking ourselves.
    fn touch(&mut self, connection: Arc<Shared>) {
        if connection.set_dirty() {
            self.dirty.push_back(connection);
        }
    }

    fn take_inbox(&mut self, cx: &mut Context<'_>) {
        let lane = Arc::clone(self.lane());
        let strays = {
            let mut inbox = lane.inbox();
            self.dirty.extend(inbox.dirty.drain(..));
            std::mem::take(&mut inbox.strays)
        };
        for stray in strays {
            self.take(cx, stray.from, stray.to, stray.ce, stray.datagram);
        }
    }

    fn act_on_deadlines(&mut self) {
        let lane = Arc::clone(self.lane());
        let now = lane.now();
        while let Some((at, handle)) = self.deadlines.first().copied() {
            if at > now {
                break;
            }
            self.deadlines.pop_first();
            self.resident(handle).armed = Time::NEVER;
            let Some(connection) = lane.residents().get(handle).cloned() else {
                continue;
            };
            {
                let mut state = connection.lock();
                let now = lane.now();
                if state.machine.timeout().is_some_and(|at| at <= now) {
                    state.machine.handle_timeout(now);
                }
            }
            self.touch(connection);
        }
    }

    fn attend_all(&mut self, cx: &mut Context<'_>) {
        for _ in 0..self.dirty.len() {
            if !self.flush_blocked(cx) {
                return;
            }
            if let Some(connection) = self.dirty.pop_front() {
                connection.clear_dirty();
                // Whoever still holds a part of one that is gone may have touched it.
                if !connection.is_gone() {
                    self.attend(cx, connection);
                }
            }
        }
    }

    /// Takes from a connection all that it has to say.
    fn attend(&mut self, cx: &mut Context<'_>, connection: Arc<Shared>) {
        let lane = Arc::clone(self.lane());
        for _ in 0..BATCHES {
            self.buffer.clear();
            let transmit = {
                let mut state = connection.lock();
                let most = BATCH_BYTES / self.common.largest_datagram();
                let most = most.clamp(1, self.socket.max_segments().max(1));
                let now = lane.now();
                let transmit = state
                    .machine
                    .poll_transmit(now, most, &mut self.buffer)
                    .map(|transmit| (transmit, state.local()));
                if transmit.is_none() {
                    drop(state);
                    self.settle(&connection);
                    return;
                }
                transmit
            };
            if let Some((transmit, local)) = transmit {
                let outgoing = Outgoing {
                    to: transmit.to,
                    from: local,
                    segment: transmit.segment,
                    ecn: transmit.ecn,
                };
                if !self.send(cx, outgoing) {
                    break;
                }
            }
        }
        // There may be more to say; the others come first.
        self.settle(&connection);
        self.touch(connection);
    }

    /// Sends what stands in the buffer; `false` if the kernel has no room.
    fn send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> bool {
        match self.socket.poll_send(cx, &outgoing, &self.buffer) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                // Lost like any other packet: a probe that was too large, a route that is gone.
                tracing::debug!(%error, to = %outgoing.to, "sending failed");
                self.common.send_failed();
                true
            }
            Poll::Pending => {
                let contents =
                    std::mem::replace(&mut self.buffer, BytesMut::with_capacity(BATCH_BYTES));
                self.blocked = Some((outgoing, contents));
                false
            }
        }
    }

    /// Sends what the kernel had no room for; `false` if it still has none.
    fn flush_blocked(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((outgoing, contents)) = self.blocked.take() else {
            return true;
        };
        self.buffer = contents;
        self.send(cx, outgoing)
    }

    /// After a connection has said all: events, its deadline, its figures, its end.
    fn settle(&mut self, connection: &Arc<Shared>) {
        let lane = Arc::clone(self.lane());
        let handle = connection.handle;
        let role = connection.role;
        let mut state = connection.lock();
        let mut turning = connection.take_events(&mut state);
        let now = lane.now();
        let timeout = state.machine.timeout();
        let is_over = state.machine.is_drained();
        let sample = is_over
            || turning.connected
            || now.since(self.resident(handle).sampled) >= SAMPLE_EVERY;
        let samples = sample.then(|| state.machine.take_samples());
        let stats = (is_over || turning.connected || self.common.log.is_on() && sample)
            .then(|| state.machine.stats());
        drop(state);
        turning.wake();

        if let Some(samples) = samples {
            self.resident(handle).sampled = now;
            self.common.measured(role, &samples);
        }
        if let Some(stats) = &stats {
            self.common.log.figures(now, connection, stats);
        }
        if turning.connected {
            let took = stats.as_ref().and_then(|stats| stats.handshake);
            self.common.log.connected(now, connection, took);
            self.common.connected(role, took.unwrap_or_default());
            lane.residents().table.established(handle);
            if role == Role::Server {
                self.admit(connection);
            }
        }
        if let Some(remote) = turning.moved {
            self.common.log.moved(now, connection, remote);
        }
        if let Some(closed) = &turning.closed {
            self.common.log.closed(now, connection, closed);
            tracing::debug!(guuid = %connection.guuid, reason = %closed, "connection closed");
        }
        if is_over {
            self.arm(handle, None);
            *self.resident(handle) = NOBODY;
            let mut residents = lane.residents();
            residents.remove(handle, &stats.unwrap_or_default());
            if residents.table.is_empty() {
                lane.emptied.notify_waiters();
            }
        } else {
            self.arm(handle, timeout);
        }
    }

    /// Offers a connection to whoever accepts; without room it is refused.
    fn admit(&mut self, connection: &Arc<Shared>) {
        let owned = Connection(Arc::new(Owner(Arc::clone(connection))));
        if let Err(refused) = self.common.offer(owned) {
            refused.close(close::REFUSED, "too many connections wait to be accepted");
        }
    }

    fn arm(&mut self, handle: Handle, at: Option<Time>) {
        let armed = self.resident(handle).armed;
        let at = at.unwrap_or(Time::NEVER);
        // An entry that comes too early costs one look; so a later deadline changes nothing.
        if at < armed || at == Time::NEVER {
            if armed != Time::NEVER {
                self.deadlines.remove(&(armed, handle));
            }
            if at != Time::NEVER {
                self.deadlines.insert((at, handle));
            }
            self.resident(handle).armed = at;
        }
    }

    /// Sets the timer; `true` if the deadline has come already.
    fn wait_for_deadline(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            let Some((at, _)) = self.deadlines.first().copied() else {
                return false;
            };
            let now = self.lane().now();
            if at <= now {
                return true;
            }
            if at < self.timer_at {
                self.timer.set(at.since(now));
                self.timer_at = at;
            }
            match self.timer.poll(cx) {
                Poll::Pending => return false,
                Poll::Ready(()) => self.timer_at = Time::NEVER,
            }
        }
    }

    fn resident(&mut self, handle: Handle) -> &mut Resident {
        let index = handle.0 as usize;
        if self.residents.len() <= index {
            self.residents.resize(index + 1, NOBODY);
        }
        &mut self.residents[index]
    }

    /// All is said and nobody can come any more.
    fn is_done(&self) -> bool {
        let lane = self.lane();
        lane.inbox().is_closing && lane.residents().table.is_empty() && self.blocked.is_none()
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if !this.is_stopping && this.stopping.as_mut().poll(cx).is_ready() {
            this.is_stopping = true;
            this.common.stop_offering();
            let lane = Arc::clone(this.lane());
            lane.begin_close();
            let all: Vec<_> = lane.residents().all().cloned().collect();
            for connection in all {
                connection.close(close::DONE, "endpoint stops");
            }
        }
        for _ in 0..TURNS {
            this.lane().waker().register(cx.waker());
            let more = this.turn(cx);
            if this.is_done() {
                return Poll::Ready(());
            }
            let waits = this.blocked.is_some() || this.dirty.is_empty();
            if !more && waits && this.lane().inbox().dirty.is_empty() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Driver {
    /// Nobody waits for a task that has ended, or was cut off.
    fn drop(&mut self) {
        self.common.stop_offering();
        let lane = Arc::clone(self.lane());
        lane.begin_close();
        let all: Vec<_> = lane.residents().all().cloned().collect();
        for connection in all {
            connection.close(close::DONE, "endpoint is gone");
            let mut state = connection.lock();
            let mut turning = connection.take_events(&mut state);
            let stats = state.machine.stats();
            drop(state);
            turning.wake();
            lane.residents().remove(connection.handle, &stats);
        }
        lane.emptied.notify_waiters();
    }
}
