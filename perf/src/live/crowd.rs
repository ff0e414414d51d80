//! Many clients of live data in one thread.
//!
//! As [`crate::client`], but with binary payloads and either of two protocols: connections
//! over one readiness queue with a shared buffer. The caller owns the loop and is told all
//! that is heard.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::wire::{self, Heard, Reader, Speech};

/// All clients of one thread.
pub(crate) struct Crowd {
    poll: Poll,
    events: Events,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
    origin: Instant,
    /// Microseconds of Unix time at `origin`.
    origin_unix_us: u64,
    /// Why clients were lost, one text each.
    losses: Vec<String>,
}

/// When something was received. All that came with one read came at the same time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Nanoseconds since the crowd was made.
    pub(crate) nanos: u64,
    /// Microseconds of Unix time.
    pub(crate) unix_us: u64,
}

struct Client {
    stream: TcpStream,
    reader: Reader,
    /// Not yet taken by the socket.
    unsent: Vec<u8>,
    /// What is sent once the WebSocket stands.
    join: Vec<u8>,
}

impl Crowd {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH)?;
        Ok(Self {
            poll: Poll::new().context("readiness queue was not made")?,
            events: Events::with_capacity(EVENTS_PER_TURN),
            clients: Vec::new(),
            free: Vec::new(),
            buffer: vec![0; 256 * 1024],
            origin: Instant::now(),
            origin_unix_us: unix.as_micros() as u64,
            losses: Vec::new(),
        })
    }

    pub(crate) fn now(&self) -> Moment {
        moment(self.origin, self.origin_unix_us)
    }

    /// The same nanoseconds for other threads.
    pub(crate) fn clock(&self) -> impl Fn() -> u64 + Send + 'static {
        let origin = self.origin;
        move || origin.elapsed().as_nanos() as u64
    }

    /// Clients that are open.
    pub(crate) fn len(&self) -> usize {
        self.clients.iter().flatten().count()
    }

    /// Why clients were lost so far.
    pub(crate) fn losses(&self) -> &[String] {
        &self.losses
    }

    /// Starts a client that sends `join` once its WebSocket stands. Returns its number, which
    /// another gets after its end.
    pub(crate) fn open(
        &mut self,
        address: SocketAddr,
        speech: Speech,
        join: Vec<u8>,
    ) -> anyhow::Result<usize> {
        let mut stream = TcpStream::connect(address).context("connection was not opened")?;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            self.clients.len() - 1
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        registry.register(&mut stream, Token(slot), interest)?;
        stream.set_nodelay(true)?;
        self.clients[slot] = Some(Client {
            stream,
            reader: Reader::new(speech),
            unsent: wire::upgrade(address, speech),
            join,
        });
        Ok(slot)
    }

    /// Ends a client at once.
    pub(crate) fn close(&mut self, client: usize) {
        if self
            .clients
            .get_mut(client)
            .and_then(Option::take)
            .is_some()
        {
            self.free.push(client);
        }
    }

    /// Ends all clients.
    pub(crate) fn close_all(&mut self) {
        self.clients.clear();
        self.free.clear();
    }

    /// Waits for events at most this long (in whole milliseconds; below one it does not wait)
    /// and tells what was heard: by which client, when, and where its answer goes.
    pub(crate) fn turn(
        &mut self,
        patience: Duration,
        mut each: impl FnMut(usize, Moment, Heard<'_>, &mut Vec<u8>),
    ) -> anyhow::Result<()> {
        let patience = Duration::from_millis(patience.as_millis() as u64);
        match self.poll.poll(&mut self.events, Some(patience)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error).context("readiness queue failed"),
        }
        for event in &self.events {
            let slot = event.token().0;
            let Some(client) = self.clients.get_mut(slot).and_then(Option::as_mut) else {
                continue;
            };
            let (origin, unix) = (self.origin, self.origin_unix_us);
            let now = || moment(origin, unix);
            let told = client.ready(&mut self.buffer, now, |now, heard, out| {
                each(slot, now, heard, out);
            });
            if let Err(error) = told {
                self.clients[slot] = None;
                self.free.push(slot);
                self.losses.push(format!("{error:#}"));
            }
        }
        Ok(())
    }

    /// Opens clients and returns their numbers once each has heard what `is_ready` says
    /// makes it ready; what else is heard meanwhile is dropped. `opening` gives address,
    /// protocol and what is sent first.
    pub(crate) fn open_all(
        &mut self,
        count: usize,
        mut opening: impl FnMut(usize) -> anyhow::Result<(SocketAddr, Speech, Vec<u8>)>,
        mut is_ready: impl FnMut(&Heard<'_>) -> bool,
    ) -> anyhow::Result<Vec<usize>> {
        let lost = self.losses.len();
        let mut numbers = Vec::with_capacity(count);
        let mut ready = 0;
        let mut moved = Instant::now();
        while ready < count {
            while numbers.len() < count && numbers.len() - ready < AT_ONCE {
                let (address, speech, join) = opening(numbers.len())?;
                numbers.push(self.open(address, speech, join)?);
            }
            let before = ready;
            self.turn(Duration::from_millis(50), |_, _, heard, _| {
                ready += usize::from(is_ready(&heard));
            })?;
            if let Some(loss) = self.losses.get(lost) {
                bail!("client failed to connect: {loss}");
            }
            if ready > before {
                moved = Instant::now();
            }
            ensure!(
                moved.elapsed() < STUCK_AFTER,
                "{ready} of {count} clients connected, then none for {STUCK_AFTER:?}"
            );
        }
        Ok(numbers)
    }
}

impl Client {
    fn ready(
        &mut self,
        buffer: &mut [u8],
        now: impl Fn() -> Moment,
        mut each: impl FnMut(Moment, Heard<'_>, &mut Vec<u8>),
    ) -> anyhow::Result<()> {
        if !self.unsent.is_empty() {
            self.flush()?;
        }
        loop {
            let length = match self.stream.read(buffer) {
                Ok(0) => bail!("server ended the connection"),
                Ok(length) => length,
                Err(error) if would_wait(&error) => return Ok(()),
                Err(error) => return Err(error).context("connection failed"),
            };
            let now = now();
            let (join, unsent) = (&mut self.join, &mut self.unsent);
            self.reader
                .take(&buffer[..length], unsent, &mut |heard, out| {
                    if matches!(heard, Heard::Upgraded) {
                        out.append(join);
                    }
                    each(now, heard, out);
                    Ok(())
                })?;
            if !self.unsent.is_empty() {
                self.flush()?;
            }
            // A read that did not fill the buffer has emptied the socket; what comes after
            // it is a new event.
            if length < buffer.len() {
                return Ok(());
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(taken) => drop(self.unsent.drain(..taken)),
                Err(error) if would_wait(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn moment(origin: Instant, origin_unix_us: u64) -> Moment {
    let elapsed = origin.elapsed();
    Moment {
        nanos: elapsed.as_nanos() as u64,
        unix_us: origin_unix_us + elapsed.as_micros() as u64,
    }
}

fn would_wait(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected
    )
}

/// Events handled per turn: at a few microseconds each, a turn stays well below a
/// millisecond.
const EVENTS_PER_TURN: usize = 128;

/// Clients under way to being ready at any time.
const AT_ONCE: usize = 200;

/// Opening is given up when nothing has moved for this long.
const STUCK_AFTER: Duration = Duration::from_secs(15);
