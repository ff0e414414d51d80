//! A peer that has the keys and breaks the rules.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Pair, guuid};
use crate::codes::close;
use crate::config::Config;
use crate::connection::Closed;
use crate::frame::{self, Repair};
use crate::packet::Numbering;
use crate::packet::{self, Flags, Header, Sacks, Sealed};

/// What a packet of the liar says.
struct Lie {
    flags: Flags,
    sequence: u32,
    ack: u32,
    sacks: Sacks,
    payload: BytesMut,
}

impl Lie {
    fn new(write: impl FnOnce(&mut BytesMut)) -> Self {
        let mut payload = BytesMut::new();
        write(&mut payload);
        Self {
            flags: Flags::NONE,
            sequence: 0,
            ack: 0,
            sacks: Sacks::default(),
            payload,
        }
    }

    fn acknowledging(ack: u32, sacks: &[(u32, u32)]) -> Self {
        let mut lie = Self::new(frame::write_ping);
        lie.flags = Flags::ACK;
        lie.ack = ack;
        for (start, end) in sacks {
            lie.sacks.push(*start, *end);
        }
        lie
    }

    fn named(mut self, sequence: u32) -> Self {
        self.sequence = sequence;
        self
    }
}

impl Pair {
    /// The client sends that, sealed as it should be.
    fn lies(&mut self, lie: &Lie) {
        let header = Header {
            flags: lie.flags,
            guuid: guuid(),
            sequence: lie.sequence,
            ack: lie.ack,
            sacks: lie.sacks,
        };
        let mut out = BytesMut::new();
        header.write(0, &mut out);
        out.extend_from_slice(&lie.payload);
        let counter = self.client.counter;
        self.client.counter += 1;
        let keyring = self.client.keyring.as_mut().expect("established");
        let (key, _) = keyring.seal_with(counter);
        packet::seal(&mut out, 0, header.len(), counter, key);
        let sealed = Sealed::parse(out).expect("whole");
        let (now, from) = (self.now, self.client_address);
        self.server().handle(now, from, false, sealed);
    }
}

/// The wire number of our `number`-th source part.
fn wire(number: u64) -> u32 {
    Numbering::new(u32::MAX - 20).to_wire(number)
}

#[test]
fn lies_end_the_connection_with_the_right_code() {
    let stream = |out: &mut BytesMut| frame::write_stream(out, 1_001, 0, 0, &[b"x"]);
    let recovered = |ranges: &[(u32, u32)]| {
        Lie::new(|out| {
            let ranges = ranges.iter().copied();
            frame::write_ack_ext(out, 0, std::iter::once((0, 0)), ranges, 1_000);
        })
    };
    let w = wire;
    let lies = [
        (Lie::acknowledging(w(900), &[]), close::VIOLATION),
        (
            Lie::acknowledging(w(1), &[(w(2), w(900))]),
            close::VIOLATION,
        ),
        (Lie::acknowledging(w(1), &[(w(2), w(1))]), close::VIOLATION),
        (
            Lie::new(|out| {
                let counters = std::iter::once((70_000, 70_000));
                frame::write_ack_ext(out, 0, counters, std::iter::empty(), 1_000);
            }),
            close::VIOLATION,
        ),
        (recovered(&[(w(1), w(1)), (w(1), w(1))]), close::VIOLATION),
        (recovered(&[(w(2), w(1))]), close::VIOLATION),
        (recovered(&[(w(1), w(900))]), close::VIOLATION),
        (Lie::new(stream), close::VIOLATION),
        (Lie::new(frame::write_ping).named(w(5)), close::VIOLATION),
        (
            Lie::new(|out| frame::write_piece(out, w(9), 0, 40_000, b"piece")),
            close::VIOLATION,
        ),
        (
            Lie::new(|out| frame::write_crypto(out, 0, b"hello")),
            close::VIOLATION,
        ),
        (
            Lie::new(|out| out.extend_from_slice(&[99, 0, 0])),
            close::FRAME,
        ),
        (
            Lie::new(|out| {
                stream(out);
                frame::write_ping(out);
            })
            .named(w(9)),
            close::FRAME,
        ),
    ];
    for (index, (lie, code)) in lies.iter().enumerate() {
        let mut pair = Pair::connected(Config::default());
        pair.call(&Bytes::from(vec![1; 5_000]));
        pair.lies(lie);
        pair.run(Duration::from_secs(1));
        match pair.closed(false) {
            Some(Closed::Here { code: got, .. }) => assert_eq!(got, *code, "lie {index}"),
            other => panic!("lie {index} was believed: {other:?}"),
        }
    }
}

#[test]
fn floods_of_a_peer_that_keeps_the_rules_cost_no_memory() {
    let mut pair = Pair::connected(Config::default());
    pair.call(&Bytes::from(vec![1; 5_000]));
    let before = pair.server().stats().memory;
    for number in 0..30_000_u64 {
        let bytes = number.to_be_bytes();
        let far = wire(100 + number % 60_000);
        pair.lies(&Lie::new(|out| match number % 4 {
            0 => frame::write_path_challenge(out, bytes),
            1 => frame::write_piece(out, far, 0, 1_400, &bytes),
            2 => frame::write_ping(out),
            _ => frame::write_repair(
                out,
                &Repair {
                    scheme: 2,
                    row: number as u8,
                    first: far,
                    mask: u32::MAX,
                    symbol: Bytes::from(vec![number as u8; 1_000]),
                },
            ),
        }));
        let now = pair.now;
        let mut out = BytesMut::new();
        while pair.server().poll_transmit(now, 1, &mut out).is_some() {
            out.clear();
        }
    }
    let server = pair.server();
    assert!(server.is_open());
    assert!(server.pieces.len() <= 16);
    assert!(server.repairs.len() < 100);
    assert!(server.recovery.in_flight().count() < 1_000);
    let memory = server.stats().memory;
    assert!(memory <= before + (160 << 10), "{memory} bytes");
}

#[test]
fn source_parts_far_ahead_are_neither_kept_nor_acknowledged() {
    let mut pair = Pair::connected(Config::default());
    pair.call(&Bytes::from(vec![1; 5_000]));
    for number in 0..5_000 {
        let lie = Lie::new(|out| frame::write_max_streams(out, 5_000));
        pair.lies(&lie.named(wire(100 + 2 * number)));
    }
    let server = pair.server();
    assert!(server.is_open());
    assert!(server.stats().dropped_beyond_window > 3_000);
}
