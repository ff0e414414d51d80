//! Thousands of clients in one thread.
//!
//! The engine holds non-blocking connections over one readiness queue and a
//! shared read buffer; a resting client holds no buffer at all. Each client
//! walks the same path as an SDK: connect, (TLS,) upgrade, `connect` and
//! `subscribe` in one frame, then counts what it is pushed and answers pings.
//!
//! The caller owns the loop: it opens connections, publishes, and calls
//! [`Engine::turn`] until the tally of a group says what it waits for. A turn
//! handles few events, so that a caller with a schedule is never late by much.

mod connection;
mod tls;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

pub(crate) use self::connection::Opening;
use self::connection::{Connection, Fate};

/// Where a group of clients connects to.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) socket: SocketAddr,
    /// Value of the Host header.
    pub(crate) host: String,
    /// Path of the WebSocket endpoint.
    pub(crate) path: String,
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

impl Address {
    /// An endpoint at the usual path. `secure` clients speak TLS and trust any certificate.
    pub(crate) fn new(socket: SocketAddr, secure: bool) -> anyhow::Result<Self> {
        Ok(Self {
            socket,
            host: socket.to_string(),
            path: "/connection/websocket".to_owned(),
            tls: if secure { Some(tls::trusting()?) } else { None },
        })
    }
}

/// What happened to the clients of a group so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// On their way to being ready.
    pub(crate) opening: usize,
    /// Became ready: connected and, if they asked for a channel, subscribed.
    pub(crate) ready: u64,
    /// Came to close and did.
    pub(crate) left: u64,
    /// Never became ready.
    pub(crate) failed: u64,
    /// Were ready and got closed against their will.
    pub(crate) lost: u64,
    /// Publications received by all clients together.
    pub(crate) pushes: u64,
    /// Publish commands answered.
    pub(crate) acknowledged: u64,
    /// Publish commands answered by an error.
    pub(crate) refused: u64,
    /// Pings received by all clients together.
    pub(crate) pings: u64,
    /// Close codes received from the server, with their counts.
    pub(crate) closes: BTreeMap<u16, u64>,
    /// The first few reasons why clients failed or were lost.
    pub(crate) complaints: Vec<String>,
    /// Microseconds from the time in a publication to its receipt, while kept.
    pub(crate) latency: Option<Histogram<u64>>,
    /// How far the slowest client is, while kept.
    pub(crate) progress: Option<Progress>,
}

/// How many publications have reached every subscriber, given that each gets
/// all of them in order.
#[derive(Debug)]
pub(crate) struct Progress {
    subscribers: u64,
    complete: u64,
    /// Receipts of each publication that some subscribers still miss.
    receipts: VecDeque<u64>,
}

impl Progress {
    /// Publications that every subscriber has received since progress is kept.
    pub(crate) fn complete(&self) -> u64 {
        self.complete
    }

    /// Notes that a subscriber received its publication `number`, counted from 0.
    fn receive(&mut self, number: u64) {
        let index = number.saturating_sub(self.complete) as usize;
        if index >= self.receipts.len() {
            self.receipts.resize(index + 1, 0);
        }
        self.receipts[index] += 1;
        while self.receipts.front() == Some(&self.subscribers) {
            self.receipts.pop_front();
            self.complete += 1;
        }
    }
}

impl Tally {
    fn complain(&mut self, reason: String) {
        if self.complaints.len() < 3 && !self.complaints.contains(&reason) {
            self.complaints.push(reason);
        }
    }
}

/// Names a group of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupId(usize);

/// Names a client until it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientId(usize);

/// All clients of one thread.
pub(crate) struct Engine {
    poll: Poll,
    events: Events,
    clients: Vec<Option<Box<Connection>>>,
    free: Vec<usize>,
    groups: Vec<Group>,
    buffers: Buffers,
    origin: Instant,
}

struct Group {
    address: Address,
    tally: Tally,
}

/// What connections share while they are handled.
struct Buffers {
    received: Vec<u8>,
    decrypted: Vec<u8>,
    timestamp: memchr::memmem::Finder<'static>,
}

impl Engine {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            poll: Poll::new().context("readiness queue was not made")?,
            events: Events::with_capacity(EVENTS_PER_TURN),
            clients: Vec::new(),
            free: Vec::new(),
            groups: Vec::new(),
            buffers: Buffers {
                received: vec![0; 256 * 1024],
                decrypted: vec![0; 256 * 1024],
                timestamp: memchr::memmem::Finder::new(connection::TIMESTAMP_KEY),
            },
            origin: Instant::now(),
        })
    }

    /// Adds a group of clients that connect to the same address.
    pub(crate) fn group(&mut self, address: Address) -> GroupId {
        self.groups.push(Group {
            address,
            tally: Tally::default(),
        });
        GroupId(self.groups.len() - 1)
    }

    pub(crate) fn tally(&self, group: GroupId) -> &Tally {
        &self.groups[group.0].tally
    }

    /// Nanoseconds since the engine was made: the time that publications carry.
    pub(crate) fn nanos(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    /// Starts to record latencies of a group, or ends it and returns the records.
    pub(crate) fn record(
        &mut self,
        group: GroupId,
        on: bool,
    ) -> anyhow::Result<Option<Histogram<u64>>> {
        let fresh = match on {
            true => {
                let histogram = Histogram::new_with_bounds(1, 120_000_000, 3);
                Some(histogram.context("latency bounds are wrong")?)
            }
            false => None,
        };
        Ok(std::mem::replace(
            &mut self.groups[group.0].tally.latency,
            fresh,
        ))
    }

    /// Starts to keep the progress of a group afresh.
    pub(crate) fn keep_progress(&mut self, group: GroupId, subscribers: u64) {
        self.groups[group.0].tally.progress = Some(Progress {
            subscribers,
            complete: 0,
            receipts: VecDeque::new(),
        });
        for client in self
            .clients
            .iter_mut()
            .flatten()
            .filter(|client| client.group == group.0)
        {
            client.received = 0;
        }
    }

    /// Starts one client; it goes on by itself in later turns.
    pub(crate) fn open(&mut self, group: GroupId, opening: Opening) -> ClientId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            self.clients.len() - 1
        });
        let Group { address, tally } = &mut self.groups[group.0];
        tally.opening += 1;
        let started = Connection::start(address, group.0, opening).and_then(|mut connection| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(connection.source(), Token(slot), interest)?;
            Ok(connection)
        });
        match started {
            Ok(connection) => self.clients[slot] = Some(Box::new(connection)),
            Err(error) => {
                tally.opening -= 1;
                tally.failed += 1;
                tally.complain(format!("connection was not opened: {error}"));
                self.free.push(slot);
            }
        }
        ClientId(slot)
    }

    /// Opens `count` clients, at most `at_once` of them under way at any time,
    /// and returns when all are ready (or, if they came to leave, gone).
    pub(crate) fn open_all(
        &mut self,
        group: GroupId,
        count: usize,
        at_once: usize,
        mut opening: impl FnMut(usize) -> anyhow::Result<Opening>,
    ) -> anyhow::Result<Vec<ClientId>> {
        let failed_before = self.tally(group).failed;
        let mut clients = Vec::with_capacity(count);
        let mut progress = (0, Instant::now());
        loop {
            while clients.len() < count && self.tally(group).opening < at_once {
                clients.push(self.open(group, opening(clients.len())?));
            }
            let tally = self.tally(group);
            if tally.failed - failed_before > 0 {
                bail!("clients failed to connect: {}", tally.complaints.join("; "));
            }
            if clients.len() == count && tally.opening == 0 {
                return Ok(clients);
            }
            let done = clients.len() - tally.opening;
            if done > progress.0 {
                progress = (done, Instant::now());
            } else if progress.1.elapsed() > STUCK_AFTER {
                bail!("{done} of {count} clients connected, then none for {STUCK_AFTER:?}");
            }
            self.turn(Duration::from_millis(50))?;
        }
    }

    /// Sends text frames, already encoded by [`crate::frame::text`], on a ready client.
    /// What the socket does not take is kept and sent in later turns.
    pub(crate) fn send(&mut self, client: ClientId, frames: &[u8]) {
        self.with(client.0, |connection, _, _| connection.send(frames));
    }

    /// Makes a client stop reading. Its socket fills up, then its queue on the server.
    pub(crate) fn stall(&mut self, client: ClientId) -> anyhow::Result<()> {
        if let Some(connection) = &mut self.clients[client.0] {
            let source = connection.source();
            self.poll
                .registry()
                .deregister(source)
                .context("client was not stalled")?;
        }
        Ok(())
    }

    /// Makes a stalled client read again.
    pub(crate) fn resume(&mut self, client: ClientId) -> anyhow::Result<()> {
        if let Some(connection) = &mut self.clients[client.0] {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let source = connection.source();
            let registry = self.poll.registry();
            registry
                .register(source, Token(client.0), interest)
                .context("client was not resumed")?;
        }
        Ok(())
    }

    /// Waits for events at most this long (in whole milliseconds; below one it
    /// does not wait) and handles some of them.
    pub(crate) fn turn(&mut self, patience: Duration) -> anyhow::Result<()> {
        let patience = Duration::from_millis(patience.as_millis() as u64);
        match self.poll.poll(&mut self.events, Some(patience)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error).context("readiness queue failed"),
        }
        let origin = self.origin;
        let now = || origin.elapsed().as_nanos() as u64;
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let closed = event.is_read_closed() || event.is_error();
            self.with(event.token().0, |connection, group, buffers| {
                connection.ready(&group.address, &mut group.tally, buffers, closed, &now)
            });
        }
        self.events = events;
        Ok(())
    }

    /// Turns until `done` holds; whether it did before `patience` ended.
    pub(crate) fn turn_until(
        &mut self,
        patience: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> anyhow::Result<bool> {
        let started = Instant::now();
        while !done(self) {
            if started.elapsed() >= patience {
                return Ok(false);
            }
            self.turn(Duration::from_millis(20))?;
        }
        Ok(true)
    }

    /// Lets `act` have a client, and clears the client away if that was its end.
    fn with(
        &mut self,
        slot: usize,
        act: impl FnOnce(&mut Connection, &mut Group, &mut Buffers) -> io::Result<Fate>,
    ) {
        let Some(mut connection) = self.clients.get_mut(slot).and_then(Option::take) else {
            return;
        };
        let group = &mut self.groups[connection.group];
        let outcome = act(&mut connection, group, &mut self.buffers);
        if matches!(outcome, Ok(Fate::Open)) {
            self.clients[slot] = Some(connection);
        } else {
            connection.account(&mut group.tally, &outcome);
            connection.abandon();
            self.free.push(slot);
        }
    }
}

/// Events handled per turn: at a few microseconds each, a turn stays well below
/// a millisecond.
const EVENTS_PER_TURN: usize = 128;

/// Opening is given up when nothing has moved for this long.
const STUCK_AFTER: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publication_is_complete_when_the_slowest_has_it() {
        let mut progress = Progress {
            subscribers: 2,
            complete: 0,
            receipts: VecDeque::new(),
        };
        for number in [0, 1, 2] {
            progress.receive(number);
        }
        assert_eq!(progress.complete(), 0);
        progress.receive(0);
        progress.receive(1);
        assert_eq!(progress.complete(), 2);
        progress.receive(2);
        assert_eq!((progress.complete(), progress.receipts.len()), (3, 0));
    }
}
