//! Two connections and a link between them, in virtual time.

use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Closed, Connection, Event, Setup};
use crate::config::Config;
use crate::crypto::null::{NullClient, NullServer};
use crate::crypto::{ClientCrypto, ServerCrypto};
use crate::packet::Sealed;
use crate::streams::{End, Priority, StreamId};
use crate::{Guuid, Time};

mod chaos;
mod data;
mod handshake;
mod lies;
mod life;
mod path;

/// A datagram under way; the heap gives the earliest.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    at: std::cmp::Reverse<(Time, u64)>,
    to_server: bool,
    bytes: Vec<u8>,
}

type Breaks = Box<dyn FnMut(&mut [u8])>;

struct Pair {
    now: Time,
    client: Connection,
    server: Option<Connection>,
    server_setup: Setup,
    /// Bytes that the server says more in its handshake, in place of certificates.
    certificate: u16,
    /// Where the client's datagrams seem to come from.
    client_address: SocketAddr,
    flying: BinaryHeap<Flying>,
    number: u64,
    delay: Duration,
    /// Whether the n-th datagram is lost; `true` is to the server.
    loses: Box<dyn FnMut(u64, bool, usize) -> bool>,
    /// How many of the datagrams arrive a second time, and how much later they may come.
    repeats: f64,
    jitter: Duration,
    luck: Box<dyn FnMut() -> f64>,
    /// What becomes of the bytes on their way.
    breaks: Breaks,
    /// When nothing arrives.
    dark: Option<(Time, Time)>,
    events: Vec<(bool, Event)>,
    /// Datagrams handed to the link, by direction.
    sent: [u64; 2],
    /// Bytes per second and bytes of queue in each direction, if the link has limits.
    rate: Option<(f64, f64)>,
    /// When each direction's queue will be empty.
    busy: [Time; 2],
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn guuid() -> Guuid {
    Guuid::new([7; 16]).expect("not zero")
}

fn chance(seed: u64) -> impl FnMut() -> f64 {
    let mut chance = super::Chance::new([seed, 0]);
    move || (chance.next() >> 11) as f64 / (1_u64 << 53) as f64
}

impl Pair {
    fn new(config: Config) -> Self {
        let setup = |remote, chance| Setup {
            guuid: guuid(),
            remote,
            config,
            start: u32::MAX - 20,
            reset_token: Some([9; 16]),
            chance: [chance, 0],
        };
        let ours = setup(address(2), 1);
        let mut options = Vec::new();
        ours.options().encode(&mut options);
        let session = NullClient.start(guuid(), "test", &options).expect("starts");
        let client = Connection::client(Time::ZERO, &ours, session, NullClient.initial(guuid()));
        Self {
            now: Time::ZERO,
            client,
            server: None,
            server_setup: setup(address(1), 2),
            certificate: 900,
            client_address: address(1),
            flying: BinaryHeap::new(),
            number: 0,
            delay: Duration::from_millis(10),
            loses: Box::new(|_, _, _| false),
            repeats: 0.0,
            jitter: Duration::ZERO,
            luck: Box::new(chance(99)),
            breaks: Box::new(|_| {}),
            dark: None,
            events: Vec::new(),
            sent: [0, 0],
            rate: None,
            busy: [Time::ZERO; 2],
        }
    }

    fn connected(config: Config) -> Self {
        let mut pair = Self::new(config);
        pair.run(Duration::from_millis(100));
        assert!(pair.client.is_open() && pair.server().is_open());
        pair
    }

    fn server(&mut self) -> &mut Connection {
        self.server.as_mut().expect("the client has been heard")
    }

    fn flush(&mut self) {
        let mut buffer = BytesMut::new();
        for to_server in [true, false] {
            let side = if to_server {
                Some(&mut self.client)
            } else {
                self.server.as_mut()
            };
            let Some(side) = side else { continue };
            buffer.clear();
            while let Some(transmit) = side.poll_transmit(self.now, 10, &mut buffer) {
                let segment = transmit.segment.unwrap_or(transmit.size);
                for datagram in buffer.chunks(segment) {
                    self.number += 1;
                    self.sent[usize::from(to_server)] += 1;
                    let busy = &mut self.busy[usize::from(to_server)];
                    if let Some((rate, queue)) = self.rate {
                        let waiting = busy.since(self.now).as_secs_f64() * rate;
                        if waiting > queue {
                            continue;
                        }
                        let wire = (datagram.len() + 28) as f64;
                        *busy = (*busy).max(self.now) + Duration::from_secs_f64(wire / rate);
                    }
                    let leaves = (*busy).max(self.now);
                    let is_dark = self
                        .dark
                        .is_some_and(|(from, until)| (from..until).contains(&self.now));
                    if (self.loses)(self.number, to_server, datagram.len()) || is_dark {
                        continue;
                    }
                    for _ in 0..1 + u8::from((self.luck)() < self.repeats) {
                        let mut bytes = datagram.to_vec();
                        (self.breaks)(&mut bytes);
                        let late = self.jitter.mul_f64((self.luck)());
                        self.flying.push(Flying {
                            at: std::cmp::Reverse((leaves + self.delay + late, self.number)),
                            to_server,
                            bytes,
                        });
                    }
                }
                buffer.clear();
            }
            while let Some(event) = side.poll() {
                self.events.push((to_server, event));
            }
        }
    }

    fn deliver(&mut self, flying: Flying) {
        let Ok(sealed) = Sealed::parse(BytesMut::from(&flying.bytes[..])) else {
            return;
        };
        if !flying.to_server {
            self.client.handle(self.now, address(2), false, sealed);
            return;
        }
        let (now, certificate) = (self.now, self.certificate);
        let server = self.server.get_or_insert_with(|| {
            let mut options = Vec::new();
            self.server_setup.options().encode(&mut options);
            let crypto = NullServer { certificate };
            let session = crypto.start(guuid(), &options).expect("starts");
            let initial = crypto.initial(guuid());
            Connection::server(now, &self.server_setup, session, initial, false)
        });
        server.handle(now, self.client_address, false, sealed);
    }

    fn run(&mut self, length: Duration) {
        let until = self.now + length;
        self.run_until(until, |_| false);
    }

    /// Runs until the condition holds or the time has come; tells whether it holds.
    fn run_until(&mut self, until: Time, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let mut rounds = 0;
        loop {
            self.flush();
            if done(self) {
                return true;
            }
            let arrival = self.flying.peek().map(|it| it.at.0.0);
            let timers = [
                self.client.timeout(),
                self.server.as_ref().and_then(Connection::timeout),
            ];
            let next = arrival
                .into_iter()
                .chain(timers.into_iter().flatten())
                .min();
            let Some(next) = next.filter(|it| *it <= until) else {
                self.now = until;
                return false;
            };
            rounds += 1;
            assert!(rounds < 2_000_000, "time stands still at {:?}", self.now);
            self.now = self.now.max(next);
            while self.flying.peek().is_some_and(|it| it.at.0.0 <= self.now) {
                let flying = self.flying.pop().expect("peeked");
                self.deliver(flying);
            }
            if self.client.timeout().is_some_and(|at| at <= self.now) {
                self.client.handle_timeout(self.now);
            }
            if let Some(server) = &mut self.server
                && server.timeout().is_some_and(|at| at <= self.now)
            {
                server.handle_timeout(self.now);
            }
        }
    }

    /// One call from the client that the server answers with what it got; its duration.
    fn call(&mut self, request: &Bytes) -> Duration {
        let started = self.now;
        let id = self
            .client
            .streams_mut()
            .open(Priority::Unary)
            .expect("room");
        write_all(&mut self.client, id, request);
        let mut got = Vec::new();
        let mut echoed: Vec<(StreamId, Vec<u8>)> = Vec::new();
        let done = self.run_until(self.now + Duration::from_secs(20), |pair| {
            let now = pair.now;
            let server = pair.server();
            while let Some(id) = server.streams_mut().accept() {
                echoed.push((id, Vec::new()));
            }
            for (id, bytes) in &mut echoed {
                if read_some(server, now, *id, bytes) {
                    write_all(server, *id, &Bytes::from(std::mem::take(bytes)));
                }
            }
            let done = read_some(&mut pair.client, now, id, &mut got);
            pair.flush();
            done
        });
        assert!(done, "no answer");
        assert_eq!(got, &request[..]);
        self.now.since(started)
    }

    fn closed(&self, client: bool) -> Option<Closed> {
        self.events.iter().find_map(|(side, event)| match event {
            Event::Closed(closed) if *side == client => Some(closed.clone()),
            _ => None,
        })
    }
}

fn write_all(connection: &mut Connection, id: StreamId, bytes: &Bytes) {
    let wrote = connection
        .streams_mut()
        .write(id, bytes.clone(), End::Stream)
        .expect("open");
    assert_eq!(wrote, bytes.len());
}

/// Reads what is there; true at the end of the stream.
fn read_some(connection: &mut Connection, now: Time, id: StreamId, into: &mut Vec<u8>) -> bool {
    loop {
        match connection.streams_mut().read(now, id) {
            Ok(Some(chunk)) => {
                into.extend_from_slice(&chunk.data);
                if chunk.end == End::Stream {
                    return true;
                }
            }
            Ok(None) | Err(_) => return false,
        }
    }
}
