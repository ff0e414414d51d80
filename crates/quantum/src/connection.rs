//! One connection, as the application holds it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use quantum_proto::Guuid;
use quantum_proto::Time;
use quantum_proto::codes::close;
use quantum_proto::connection::Connection as Machine;
use quantum_proto::connection::{Closed, Event, Stats};
use quantum_proto::crypto::Peer;
use quantum_proto::endpoint::Handle;
use quantum_proto::streams::{self, Priority, Role, StreamEvent, StreamId};
use tokio::sync::Notify;

use crate::error::OpenError;
use crate::lane::Lane;
use crate::stream::{RecvStream, SendStream};

/// An established connection. Clones share it; when the last of them and all its streams are
/// dropped, it is closed. Closing does not wait for what is under way: whoever has written
/// something and wants to leave waits for [`Connection::settled`] first.
#[derive(Debug, Clone)]
pub struct Connection(pub(crate) Arc<Owner>);

/// Whoever holds one uses the connection.
#[derive(Debug)]
pub(crate) struct Owner(pub(crate) Arc<Shared>);

/// What the application and the task of the socket share of a connection.
pub(crate) struct Shared {
    pub(crate) guuid: Guuid,
    pub(crate) role: Role,
    pub(crate) handle: Handle,
    pub(crate) lane: Arc<Lane>,
    state: Mutex<State>,
    /// It stands in the lane's list of those that have something to say.
    dirty: AtomicBool,
    /// The lane has forgotten it; its handle may be another's by now.
    gone: AtomicBool,
    connected: Notify,
    opened: Notify,
    room: Notify,
    over: Notify,
}

/// Under the lock, which is never held over an await nor over a system call.
pub(crate) struct State {
    pub(crate) machine: Machine,
    wakers: HashMap<StreamId, Wakers>,
    is_connected: bool,
    closed: Option<Closed>,
    /// The address of ours that the peer sends to, if we answer from there.
    local: Option<IpAddr>,
}

/// Who waits for something on a stream.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    pub(crate) read: Option<Waker>,
    pub(crate) write: Option<Waker>,
    pub(crate) stopped: Option<Waker>,
    /// The peer reads no more.
    pub(crate) stop: Option<u32>,
    /// Halves that are not dropped yet.
    halves: u8,
}

impl Connection {
    /// Opens a stream; waits while the peer allows no more at once.
    ///
    /// # Errors
    /// The connection is over, or has no ids left.
    pub async fn open(&self, priority: Priority) -> Result<(SendStream, RecvStream), OpenError> {
        let shared = &self.0.0;
        loop {
            let room = shared.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            {
                let mut state = shared.lock();
                if let Some(closed) = &state.closed {
                    return Err(OpenError::Closed(closed.clone()));
                }
                match state.machine.streams_mut().open(priority) {
                    Ok(id) => return Ok(self.halves(&mut state, id)),
                    Err(streams::OpenError::Exhausted) => return Err(OpenError::Exhausted),
                    // The event that says why it is closed is about to come.
                    Err(streams::OpenError::Blocked | streams::OpenError::Closed) => {}
                }
            }
            tokio::select! {
                () = room => {}
                closed = self.closed() => return Err(OpenError::Closed(closed)),
            }
        }
    }

    /// Waits for the next stream that the peer opens.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn accept(&self) -> Result<(SendStream, RecvStream), Closed> {
        let shared = &self.0.0;
        loop {
            let opened = shared.opened.notified();
            tokio::pin!(opened);
            opened.as_mut().enable();
            {
                let mut state = shared.lock();
                if let Some(id) = state.machine.streams_mut().accept() {
                    return Ok(self.halves(&mut state, id));
                }
                if let Some(closed) = &state.closed {
                    return Err(closed.clone());
                }
            }
            opened.await;
        }
    }

    /// Ends it at once: streams are gone, the peer is told `code` and `text`.
    ///
    /// Codes from [`close::APPLICATION`] on are the application's.
    pub fn close(&self, code: u32, text: &str) {
        self.0.0.close(code, text);
    }

    /// Waits for the end and says how it came.
    pub async fn closed(&self) -> Closed {
        let shared = &self.0.0;
        loop {
            let over = shared.over.notified();
            tokio::pin!(over);
            over.as_mut().enable();
            if let Some(closed) = self.close_reason() {
                return closed;
            }
            over.await;
        }
    }

    /// How it ended, if it has.
    pub fn close_reason(&self) -> Option<Closed> {
        self.0.0.lock().closed.clone()
    }

    /// The time by which its events are measured.
    pub(crate) fn now(&self) -> Time {
        self.0.0.lane.now()
    }

    /// Waits until everything written has been acknowledged, or the connection is over.
    pub async fn settled(&self) {
        let shared = &self.0.0;
        loop {
            let over = shared.over.notified();
            tokio::pin!(over);
            over.as_mut().enable();
            {
                let mut state = shared.lock();
                let streams = state.machine.streams_mut();
                let waiting = streams.has_data() || streams.blocked();
                if state.closed.is_some() || (!waiting && state.machine.stats().inflight == 0) {
                    return;
                }
            }
            tokio::select! {
                () = over => return,
                () = tokio::time::sleep(SETTLE_POLL) => {}
            }
        }
    }

    /// Asks the peer for a sign of life; the answer shows in the round-trip time.
    pub fn ping(&self) {
        let shared = &self.0.0;
        shared.lock().machine.ping();
        shared.wake();
    }

    /// Figures since the beginning, and those of this moment.
    pub fn stats(&self) -> Stats {
        self.0.0.lock().machine.stats()
    }

    /// Its name.
    pub fn guuid(&self) -> Guuid {
        self.0.0.guuid
    }

    /// Which side we are.
    pub fn role(&self) -> Role {
        self.0.0.role
    }

    /// Where the peer is now; changes when it moves.
    pub fn remote(&self) -> SocketAddr {
        self.0.0.lock().machine.remote()
    }

    /// Who the peer has proved to be; `None` for anonymous clients.
    pub fn peer(&self) -> Option<Peer> {
        self.0.0.lock().machine.peer()
    }

    fn halves(&self, state: &mut State, id: StreamId) -> (SendStream, RecvStream) {
        state.wakers.entry(id).or_default().halves = 2;
        (
            SendStream::new(Arc::clone(&self.0), id),
            RecvStream::new(Arc::clone(&self.0), id),
        )
    }
}

/// How often [`Connection::settled`] looks; it is used when a server ends.
const SETTLE_POLL: std::time::Duration = std::time::Duration::from_millis(5);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close(close::DONE, "");
    }
}

impl Shared {
    pub(crate) fn new(lane: Arc<Lane>, handle: Handle, role: Role, machine: Machine) -> Self {
        Self {
            guuid: machine.guuid(),
            role,
            handle,
            lane,
            state: Mutex::new(State {
                machine,
                wakers: HashMap::new(),
                is_connected: false,
                closed: None,
                local: None,
            }),
            dirty: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            connected: Notify::new(),
            opened: Notify::new(),
            room: Notify::new(),
            over: Notify::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Puts up the flag; `true` if it was down, so that the caller has to put it on the list.
    pub(crate) fn set_dirty(&self) -> bool {
        !self.dirty.swap(true, Ordering::AcqRel)
    }

    /// Has the task of the socket look after this connection soon.
    pub(crate) fn wake(self: &Arc<Self>) {
        if self.set_dirty() {
            self.lane.push_dirty(Arc::clone(self));
        }
    }

    /// It was taken from the list; what is written from now on puts it there again.
    pub(crate) fn clear_dirty(&self) {
        self.dirty.store(false, Ordering::Release);
    }

    pub(crate) fn close(self: &Arc<Self>, code: u32, text: &str) {
        {
            let mut state = self.lock();
            if state.closed.is_some() {
                return;
            }
            let now = self.lane.now();
            state.machine.close(now, code, text);
        }
        self.wake();
    }

    /// Waits for the end of the handshake.
    pub(crate) async fn connected(&self) -> Result<(), Closed> {
        loop {
            let connected = self.connected.notified();
            tokio::pin!(connected);
            connected.as_mut().enable();
            {
                let state = self.lock();
                if let Some(closed) = &state.closed {
                    return Err(closed.clone());
                }
                if state.is_connected {
                    return Ok(());
                }
            }
            connected.await;
        }
    }

    /// Passes on what the state machine has to tell. Gives what the task itself has to know.
    pub(crate) fn take_events(&self, state: &mut State) -> Turning {
        let mut turning = Turning::default();
        while let Some(event) = state.machine.poll() {
            match event {
                Event::Connected => {
                    state.is_connected = true;
                    turning.connected = true;
                    self.connected.notify_waiters();
                }
                Event::Moved(remote) => turning.moved = Some(remote),
                Event::Stream(event) => self.pass_on(state, event, &mut turning.wakers),
                Event::Closed(closed) => {
                    turning.closed = Some(closed.clone());
                    state.closed = Some(closed);
                    for wakers in state.wakers.values_mut() {
                        turning.wakers.extend(wakers.take_all());
                    }
                    self.connected.notify_waiters();
                    self.opened.notify_waiters();
                    self.over.notify_waiters();
                }
            }
        }
        turning
    }

    fn pass_on(&self, state: &mut State, event: StreamEvent, woken: &mut Vec<Waker>) {
        match event {
            StreamEvent::Opened(id) => {
                // What happens to it before it is accepted is kept here.
                state.wakers.entry(id).or_default();
                self.opened.notify_waiters();
            }
            StreamEvent::Room => self.room.notify_waiters(),
            StreamEvent::Readable(id) | StreamEvent::Reset(id, _) => {
                woken.extend(state.wakers.get_mut(&id).and_then(|it| it.read.take()));
            }
            StreamEvent::Writable(id) => {
                woken.extend(state.wakers.get_mut(&id).and_then(|it| it.write.take()));
            }
            StreamEvent::Stopped(id, code) => {
                if let Some(wakers) = state.wakers.get_mut(&id) {
                    wakers.stop = Some(code);
                    woken.extend(wakers.write.take());
                    woken.extend(wakers.stopped.take());
                }
            }
        }
    }
}

/// What a turn of events means to the task of the socket.
#[derive(Debug, Default)]
pub(crate) struct Turning {
    /// To be woken without the lock: whoever wakes wants it next.
    wakers: Vec<Waker>,
    pub(crate) connected: bool,
    pub(crate) moved: Option<SocketAddr>,
    pub(crate) closed: Option<Closed>,
}

impl Turning {
    /// Once the lock is given back.
    pub(crate) fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

impl State {
    /// A datagram came to this address of ours; `is_peers` if it was opened.
    ///
    /// A server answers from where its client looks for it. A client's own address may go away,
    /// so the system chooses the one it sends from. Once a connection stands, what anybody could
    /// have sent changes nothing.
    pub(crate) fn came_to(&mut self, role: Role, to: Option<IpAddr>, is_peers: bool) {
        if role == Role::Server && (is_peers || !self.is_connected) {
            self.local = to;
        }
    }

    /// Where datagrams leave from, if it matters.
    pub(crate) fn local(&self) -> Option<IpAddr> {
        self.local
    }

    /// How it ended, if it has.
    pub(crate) fn closed(&self) -> Option<&Closed> {
        self.closed.as_ref()
    }

    pub(crate) fn wakers(&mut self, id: StreamId) -> &mut Wakers {
        self.wakers.entry(id).or_default()
    }

    /// One half of a stream is dropped.
    pub(crate) fn forget_half(&mut self, id: StreamId) {
        if let Some(wakers) = self.wakers.get_mut(&id) {
            wakers.halves = wakers.halves.saturating_sub(1);
            if wakers.halves == 0 {
                self.wakers.remove(&id);
            }
        }
    }
}

impl Wakers {
    /// As if the peer had stopped the half that is written. Gives who is to be woken.
    pub(crate) fn abandon(&mut self, code: u32) -> [Option<Waker>; 2] {
        self.stop.get_or_insert(code);
        [self.write.take(), self.stopped.take()]
    }

    fn take_all(&mut self) -> impl Iterator<Item = Waker> + use<> {
        let all = [self.read.take(), self.write.take(), self.stopped.take()];
        all.into_iter().flatten()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("guuid", &self.guuid)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}
