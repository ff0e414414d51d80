//! Two connections and a link between them, in virtual time.

use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Closed, Connection, Event, Setup};
use crate::codes::close;
use crate::config::{Config, FecMode};
use crate::crypto::null::{NullClient, NullServer};
use crate::crypto::{ClientCrypto, ServerCrypto};
use crate::packet::{Packet, Sealed};
use crate::streams::{End, Priority, StreamId};
use crate::{Guuid, Time};

/// A datagram under way; the heap gives the earliest.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    at: std::cmp::Reverse<(Time, u64)>,
    to_server: bool,
    bytes: Vec<u8>,
}

struct Pair {
    now: Time,
    client: Connection,
    server: Option<Connection>,
    server_setup: Setup,
    /// Where the client's datagrams seem to come from.
    client_address: SocketAddr,
    flying: BinaryHeap<Flying>,
    number: u64,
    delay: Duration,
    /// Whether the n-th datagram is lost; `true` is to the server.
    loses: Box<dyn FnMut(u64, bool, usize) -> bool>,
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
    let mut chance = super::Chance(seed);
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
            chance,
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
            client_address: address(1),
            flying: BinaryHeap::new(),
            number: 0,
            delay: Duration::from_millis(10),
            loses: Box::new(|_, _, _| false),
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
                    if !(self.loses)(self.number, to_server, datagram.len()) {
                        self.flying.push(Flying {
                            at: std::cmp::Reverse((leaves + self.delay, self.number)),
                            to_server,
                            bytes: datagram.to_vec(),
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
        let sealed = Sealed::parse(BytesMut::from(&flying.bytes[..])).expect("whole");
        if !flying.to_server {
            self.client.handle(self.now, address(2), false, sealed);
            return;
        }
        let now = self.now;
        let server = self.server.get_or_insert_with(|| {
            let mut options = Vec::new();
            self.server_setup.options().encode(&mut options);
            let crypto = NullServer { certificate: 900 };
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

#[test]
fn handshake_takes_one_round_trip_and_tells_both() {
    let mut pair = Pair::new(Config::default());
    let connected =
        |pair: &Pair, side| pair.events.iter().any(|it| *it == (side, Event::Connected));
    assert!(
        pair.run_until(Time::after(Duration::from_millis(20)), |pair| connected(
            pair, true
        ))
    );
    assert!(
        pair.run_until(Time::after(Duration::from_millis(30)), |pair| connected(
            pair, false
        ))
    );
}

#[test]
fn handshake_survives_the_loss_of_any_of_its_datagrams() {
    for lost in 1..=8 {
        let mut pair = Pair::new(Config::default());
        pair.loses = Box::new(move |number, _, _| number == lost);
        pair.run(Duration::from_secs(3));
        assert!(pair.client.is_open(), "client, datagram {lost} lost");
        assert!(pair.server().is_open(), "server, datagram {lost} lost");
    }
}

#[test]
fn server_does_not_amplify_before_the_address_is_proved() {
    let mut pair = Pair::new(Config::default());
    // The client hears nothing, so it never proves its address.
    pair.loses = Box::new(|_, to_server, _| !to_server);
    pair.run(Duration::from_secs(4));
    let stats = pair.server().stats();
    assert!(stats.bytes_sent > 0);
    assert!(stats.bytes_sent <= 3 * stats.bytes_received);
}

#[test]
fn call_takes_one_round_trip() {
    let mut pair = Pair::connected(Config::default());
    let took = pair.call(&Bytes::from(vec![5; 1_000]));
    assert!(took <= Duration::from_millis(21), "{took:?}");
}

#[test]
fn large_call_arrives_whole_over_a_path_that_loses() {
    let mut pair = Pair::connected(Config {
        send_buffer: 1 << 20,
        ..Config::default()
    });
    let mut chance = chance(3);
    pair.loses = Box::new(move |_, _, _| chance() < 0.05);
    pair.call(&Bytes::from(
        (0..600_000_u32).map(|it| it as u8).collect::<Vec<_>>(),
    ));
    assert!(pair.client.stats().retransmissions > 0);
}

#[test]
fn repairs_hide_the_loss_of_single_packets() {
    let mut slow = [0; 2];
    for (index, mode) in [FecMode::Sliding, FecMode::Off].into_iter().enumerate() {
        let mut pair = Pair::connected(Config {
            fec_mode: mode,
            ..Config::default()
        });
        let mut chance = chance(11);
        pair.loses = Box::new(move |_, _, _| chance() < 0.05);
        for _ in 0..400 {
            let took = pair.call(&Bytes::from(vec![1; 1_000]));
            slow[index] += u32::from(took > Duration::from_millis(25));
            pair.run(Duration::from_millis(5));
        }
        if mode == FecMode::Sliding {
            assert!(pair.server().stats().fec_recoveries > 0);
            let stats = pair.client.stats();
            assert!(
                stats.packets_lost > 0,
                "what is repaired is lost all the same"
            );
        }
    }
    assert!(
        slow[0] * 4 < slow[1],
        "{slow:?} slow calls with and without repairs"
    );
}

#[test]
fn idle_connection_is_kept_alive_and_a_dead_one_is_noticed() {
    let mut pair = Pair::connected(Config::default());
    pair.run(Duration::from_secs(300));
    assert!(pair.client.is_open() && pair.server().is_open());
    pair.loses = Box::new(|_, _, _| true);
    pair.run(Duration::from_secs(61));
    assert!(matches!(pair.closed(true), Some(Closed::Silent { .. })));
    assert!(matches!(pair.closed(false), Some(Closed::Silent { .. })));
    assert!(pair.client.is_drained());
}

#[test]
fn close_reaches_the_peer_with_code_and_text() {
    let mut pair = Pair::connected(Config::default());
    pair.client
        .close(pair.now, close::APPLICATION + 3, "enough");
    pair.run(Duration::from_secs(2));
    let expected = Closed::There {
        code: close::APPLICATION + 3,
        text: "enough".into(),
    };
    assert_eq!(pair.closed(false), Some(expected));
    assert!(pair.client.is_drained() && pair.server().is_drained());
}

#[test]
fn reset_ends_the_connection_only_with_the_right_token() {
    let mut pair = Pair::connected(Config::default());
    pair.client.handle_reset(pair.now, [1; 16]);
    assert!(pair.client.is_open());
    pair.client.handle_reset(pair.now, [9; 16]);
    pair.run(Duration::from_millis(1));
    assert_eq!(pair.closed(true), Some(Closed::Reset));
}

#[test]
fn datagrams_grow_to_what_the_path_carries() {
    let mut pair = Pair::new(Config::default());
    pair.loses = Box::new(|_, _, size| size > 1_452);
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.client.stats().datagram, 1_452);
}

#[test]
fn narrower_path_gets_what_is_under_way_in_pieces() {
    let mut pair = Pair::connected(Config::default());
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.client.stats().datagram, 1_472);
    pair.loses = Box::new(|_, _, size| size > 1_250);
    pair.call(&Bytes::from(vec![3; 100_000]));
    assert!(pair.client.stats().datagram <= 1_250);
}

#[test]
fn client_that_moves_is_followed() {
    let mut pair = Pair::connected(Config::default());
    pair.call(&Bytes::from_static(b"before"));
    pair.client_address = address(77);
    pair.call(&Bytes::from_static(b"after"));
    assert_eq!(pair.server().remote(), address(77));
    assert!(pair.events.contains(&(false, Event::Moved(address(77)))));
    pair.run(Duration::from_secs(1));
    pair.call(&Bytes::from_static(b"still"));
}

#[test]
fn keys_are_renewed_by_either_side_while_calls_run() {
    let mut pair = Pair::connected(Config::default());
    for round in 0..6 {
        if round % 2 == 0 {
            pair.client.renew_keys();
        } else {
            pair.server().renew_keys();
        }
        for _ in 0..3 {
            pair.call(&Bytes::from(vec![2; 3_000]));
        }
        pair.run(Duration::from_millis(500));
    }
    assert_eq!(pair.client.stats().decrypt_failures, 0);
    assert_eq!(pair.server().stats().decrypt_failures, 0);
}

#[test]
fn replayed_packet_is_dropped() {
    let mut pair = Pair::connected(Config::default());
    let mut buffer = BytesMut::new();
    pair.client.ping();
    pair.client
        .poll_transmit(pair.now, 1, &mut buffer)
        .expect("a ping");
    for _ in 0..2 {
        let Packet::Sealed(sealed) = Packet::parse(buffer.clone()).expect("whole") else {
            panic!("no reset");
        };
        let (now, from) = (pair.now, pair.client_address);
        pair.server().handle(now, from, false, sealed);
    }
    assert_eq!(pair.server().stats().dropped_replayed, 1);
}

#[test]
fn clean_link_pays_almost_nothing_for_repairs() {
    let mut pair = Pair::connected(Config::default());
    // A new connection is protected until the link has proved clean, for half a minute beyond doubt.
    for _ in 0..6_000 {
        pair.call(&Bytes::from(vec![1; 1_000]));
    }
    let before = pair.client.stats();
    for _ in 0..2_000 {
        pair.call(&Bytes::from(vec![1; 1_000]));
    }
    let after = pair.client.stats();
    let repairs = after.fec_repairs_sent - before.fec_repairs_sent;
    assert!(repairs < 100, "{repairs} repairs for 2,000 calls");
}

#[test]
fn settings_change_while_the_connection_lives() {
    let mut pair = Pair::connected(Config {
        fec_ratio: 0.0,
        ..Config::default()
    });
    let mut chance = chance(5);
    pair.loses = Box::new(move |_, _, _| chance() < 0.05);
    for _ in 0..50 {
        pair.call(&Bytes::from(vec![1; 1_000]));
    }
    assert_eq!(pair.client.stats().fec_repairs_sent, 0);
    pair.client.configure(pair.now, &Config::default());
    for _ in 0..50 {
        pair.call(&Bytes::from(vec![1; 1_000]));
    }
    assert!(pair.client.stats().fec_repairs_sent > 0);
}

#[test]
fn reader_that_stops_holds_the_writer_and_memory_stays() {
    let mut pair = Pair::connected(Config::default());
    let id = pair
        .client
        .streams_mut()
        .open(Priority::Bulk)
        .expect("room");
    let block = Bytes::from(vec![0; 64 << 10]);
    let mut wrote = 0;
    let until = pair.now + Duration::from_secs(10);
    pair.run_until(until, |pair| {
        while let Ok(taken @ 1..) = pair
            .client
            .streams_mut()
            .write(id, block.clone(), End::More)
        {
            wrote += taken;
        }
        false
    });
    assert!(
        wrote <= (1 << 20) + (256 << 10) + (64 << 10),
        "{wrote} bytes"
    );
    assert!(pair.server().stats().memory <= (1 << 20) + (256 << 10));
    assert!(
        !pair
            .events
            .iter()
            .any(|it| matches!(it.1, Event::Closed(_)))
    );
}

#[test]
fn bulk_fills_a_path_that_loses() {
    // 100 Mbit/s, 20 ms, a queue of two bandwidth-delay products.
    for (loss, least) in [(0.0, 0.92), (0.01, 0.90), (0.05, 0.85)] {
        let mut pair = Pair::new(Config::default());
        let mut chance = chance(17);
        pair.rate = Some((12.5e6, 500e3));
        pair.loses = Box::new(move |_, _, _| chance() < loss);
        pair.run(Duration::from_secs(1));
        let id = pair.client.streams_mut().open(Priority::Bulk).expect("room");
        let block = Bytes::from(vec![0; 64 << 10]);
        let mut read = 0;
        let mut transfer = |pair: &mut Pair, length: Duration| {
            let until = pair.now + length;
            let before = read;
            pair.run_until(until, |pair| {
                let streams = pair.client.streams_mut();
                while let Ok(1..) = streams.write(id, block.clone(), End::More) {}
                let now = pair.now;
                let streams = pair.server().streams_mut();
                while let Some(id) = streams.accept() {
                    assert_eq!(id.get(), 1);
                }
                while let Ok(Some(chunk)) = streams.read(now, id) {
                    read += chunk.data.len();
                }
                pair.flush();
                false
            });
            (read - before) as f64 / length.as_secs_f64() / 12.5e6
        };
        transfer(&mut pair, Duration::from_secs(2));
        let share = transfer(&mut pair, Duration::from_secs(10));
        let stats = pair.client.stats();
        assert!(share >= least, "{share} of the rate at {loss}");
    }
}
