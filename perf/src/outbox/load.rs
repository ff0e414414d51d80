//! Clients of a server that answers in order, each with so many requests in flight.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::histogram;

/// What one client says and understands.
pub(super) trait Wire {
    /// Appends what is sent first.
    fn greet(&mut self, out: &mut Vec<u8>);
    /// Appends the next request.
    fn request(&mut self, out: &mut Vec<u8>);
    /// Reads the first whole message of the server; `None` means more bytes are needed. May
    /// append what must be said to it.
    fn take(&mut self, received: &[u8], out: &mut Vec<u8>) -> anyhow::Result<Option<Taken>>;
}

/// A message that was read.
pub(super) struct Taken {
    /// Its bytes.
    pub(super) length: usize,
    pub(super) what: What,
}

/// What a message of the server means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Requests may be sent from now on.
    Ready,
    /// The oldest request is done.
    Done,
    /// The oldest request is refused.
    Refused,
    /// Nothing of interest.
    Other,
}

/// All clients of a server.
pub(super) struct Load<W> {
    poll: Poll,
    clients: Vec<Client<W>>,
    depth: usize,
    buffer: Vec<u8>,
}

/// What a while of load came to.
pub(super) struct Outcome {
    pub(super) done: u64,
    pub(super) refused: u64,
    pub(super) elapsed: Duration,
    pub(super) latency: Histogram<u64>,
}

struct Client<W> {
    wire: W,
    stream: TcpStream,
    ready: bool,
    /// When the requests in flight were sent, oldest first.
    sent: VecDeque<Instant>,
    received: Vec<u8>,
    out: Vec<u8>,
}

impl<W: Wire> Load<W> {
    /// Connects clients with `depth` requests in flight each, and waits until all are ready.
    pub(super) fn connect(
        address: SocketAddr,
        depth: usize,
        wires: impl IntoIterator<Item = W>,
    ) -> anyhow::Result<Self> {
        let poll = Poll::new().context("readiness queue was not made")?;
        let mut clients = Vec::new();
        for wire in wires {
            // Connected before it is watched: a flood of connections may be refused.
            let stream = std::net::TcpStream::connect(address).context("client was refused")?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut client = Client {
                wire,
                stream: TcpStream::from_std(stream),
                ready: false,
                sent: VecDeque::new(),
                received: Vec::new(),
                out: Vec::new(),
            };
            let (interest, token) = (
                Interest::READABLE | Interest::WRITABLE,
                Token(clients.len()),
            );
            poll.registry()
                .register(&mut client.stream, token, interest)?;
            client.wire.greet(&mut client.out);
            client.write()?;
            clients.push(client);
        }
        let mut load = Self {
            poll,
            clients,
            depth,
            buffer: vec![0; 256 * 1024],
        };
        let deadline = Instant::now() + READY_WITHIN;
        while !load.clients.iter().all(|client| client.ready) {
            ensure!(Instant::now() < deadline, "clients did not become ready");
            load.turn(&mut None)?;
        }
        Ok(load)
    }

    /// Keeps every client busy for a while, after a warm-up, and waits for the last answers.
    pub(super) fn run(&mut self, duration: Duration) -> anyhow::Result<Outcome> {
        let fresh = || -> anyhow::Result<Outcome> {
            Ok(Outcome {
                done: 0,
                refused: 0,
                elapsed: Duration::ZERO,
                latency: histogram()?,
            })
        };
        for client in &mut self.clients {
            for _ in 0..self.depth {
                client.ask();
            }
            client.write()?;
        }
        let mut outcome = Some(fresh()?);
        let warm = Instant::now() + WARM_UP;
        while Instant::now() < warm {
            self.turn(&mut outcome)?;
        }
        outcome = Some(fresh()?);
        let started = Instant::now();
        while started.elapsed() < duration {
            self.turn(&mut outcome)?;
        }
        let mut outcome = outcome.context("an outcome is kept")?;
        outcome.elapsed = started.elapsed();
        // What is still in flight must not fall into the next turn.
        let deadline = Instant::now() + READY_WITHIN;
        while self.clients.iter().any(|client| !client.sent.is_empty()) {
            ensure!(Instant::now() < deadline, "the last answers did not come");
            self.turn(&mut None)?;
        }
        Ok(outcome)
    }

    /// Handles what is ready. With an outcome, answers are counted and followed by the next
    /// request; without, nothing more is asked.
    fn turn(&mut self, outcome: &mut Option<Outcome>) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(1024);
        match self.poll.poll(&mut events, Some(Duration::from_millis(10))) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        for event in &events {
            let client = &mut self.clients[event.token().0];
            client.read(&mut self.buffer, outcome)?;
            client.write()?;
        }
        Ok(())
    }
}

impl<W: Wire> Client<W> {
    fn ask(&mut self) {
        self.wire.request(&mut self.out);
        self.sent.push_back(Instant::now());
    }

    fn read(&mut self, buffer: &mut [u8], outcome: &mut Option<Outcome>) -> anyhow::Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(read) => self.received.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("connection failed"),
            }
        }
        let mut at = 0;
        while let Some(taken) = self.wire.take(&self.received[at..], &mut self.out)? {
            at += taken.length;
            match taken.what {
                What::Ready => self.ready = true,
                What::Other => {}
                What::Done | What::Refused => {
                    let sent = self
                        .sent
                        .pop_front()
                        .context("an answer nobody asked for")?;
                    let Some(outcome) = outcome else { continue };
                    match taken.what == What::Done {
                        true => outcome.done += 1,
                        false => outcome.refused += 1,
                    }
                    let micros = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
                    outcome.latency.saturating_record(micros);
                    self.wire.request(&mut self.out);
                    self.sent.push_back(Instant::now());
                }
            }
        }
        self.received.drain(..at);
        Ok(())
    }

    fn write(&mut self) -> anyhow::Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(written) => drop(self.out.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("connection failed"),
            }
        }
        Ok(())
    }
}

/// For all clients to be ready, or all answers to come.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Not measured at the start of a turn.
const WARM_UP: Duration = Duration::from_millis(500);
