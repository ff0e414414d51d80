//! Everything arrives once and in order, whatever the carrier does to packets.

use std::collections::HashMap;

use super::*;

/// Writes streams of its own and reads those of the other side.
struct Side {
    streams: Streams,
    writes: Vec<Writing>,
    reads: HashMap<StreamId, Reading>,
    to_open: usize,
    length: u64,
}

struct Writing {
    id: StreamId,
    at: u64,
    length: u64,
    ended: bool,
}

#[derive(Default)]
struct Reading {
    at: u64,
    marked: u64,
    ended: bool,
}

/// A message ends behind each byte whose place is a multiple of this.
const MESSAGE: u64 = 23;

impl Side {
    fn new(role: Role, limits: Limits, to_open: usize, length: u64) -> Self {
        let mut streams = Streams::new(role, limits);
        streams.set_peer(grants(limits));
        Self {
            streams,
            writes: Vec::new(),
            reads: HashMap::new(),
            to_open,
            length,
        }
    }

    fn act(&mut self, now: Time, chance: &mut Random) {
        if self.to_open > 0
            && let Ok(id) = self.streams.open(Priority::default())
        {
            self.to_open -= 1;
            let length = chance.below(self.length);
            self.begin(id, length);
        }
        while let Some(id) = self.streams.accept() {
            let length = chance.below(self.length);
            self.begin(id, length);
        }
        for writing in &mut self.writes {
            writing.write(&mut self.streams, chance);
        }
        for (id, reading) in &mut self.reads {
            if !reading.ended && chance.below(3) > 0 {
                reading.read(&mut self.streams, *id, now);
            }
        }
    }

    fn begin(&mut self, id: StreamId, length: u64) {
        self.writes.push(Writing {
            id,
            at: 0,
            length,
            ended: false,
        });
        self.reads.insert(id, Reading::default());
    }

    fn is_done(&self) -> bool {
        self.to_open == 0
            && self.writes.iter().all(|writing| writing.ended)
            && self.reads.values().all(|reading| reading.ended)
            && self.streams.is_empty()
    }
}

impl Writing {
    fn write(&mut self, streams: &mut Streams, chance: &mut Random) {
        if self.ended {
            return;
        }
        // Up to the next end of a message, sometimes less, sometimes the end comes later.
        let message = (self.at / MESSAGE + 1) * MESSAGE;
        let until = message.min(self.length);
        let len = (until - self.at).min(1 + chance.below(MESSAGE + 10));
        let whole = self.at + len == until;
        let late = chance.below(4) == 0;
        let end = match whole && !late {
            true if until == self.length => End::Stream,
            true => End::Message,
            false => End::More,
        };
        let data = bytes(self.id.get(), self.at, len as usize);
        let taken = streams.write(self.id, data, end).expect("open") as u64;
        self.at += taken;
        if taken < len {
            return;
        }
        if whole && late && until < self.length {
            let marked = streams.write(self.id, Bytes::new(), End::Message);
            assert_eq!(marked, Ok(0));
        }
        if whole && until == self.length {
            if late {
                assert_eq!(streams.write(self.id, Bytes::new(), End::Stream), Ok(0));
            }
            self.ended = true;
        }
    }
}

impl Reading {
    fn read(&mut self, streams: &mut Streams, id: StreamId, now: Time) {
        while let Some(chunk) = streams.read(now, id).expect("open") {
            for found in &chunk.data {
                assert_eq!(
                    *found,
                    byte(id.get(), self.at),
                    "stream {id} at {}",
                    self.at
                );
                self.at += 1;
            }
            match chunk.end {
                End::More => {}
                End::Message => {
                    assert_eq!(self.at, self.marked + MESSAGE, "stream {id}");
                    self.marked = self.at;
                }
                End::Stream => {
                    assert!(self.at <= self.marked + MESSAGE, "stream {id}");
                    self.ended = true;
                    return;
                }
            }
            assert!(
                self.at <= self.marked + MESSAGE,
                "a mark was lost on stream {id}"
            );
        }
    }
}

/// Two sides, and packets on their way in any order; each arrives in the end.
fn run(seed: u64, limits: Limits, room: u64, streams: usize, length: u64) {
    let mut chance = Random::new(seed);
    let mut sides = [
        Side::new(Role::Client, limits, streams, length),
        Side::new(Role::Server, limits, streams, length),
    ];
    let mut flying: Vec<(usize, Bytes)> = Vec::new();
    let mut idle = 0;
    for step in 0_u64.. {
        let now = Time::after(Duration::from_millis(step));
        for (side, other) in [(0, 1), (1, 0)] {
            sides[side].act(now, &mut chance);
            sides[side].streams.set_rtt(Duration::from_millis(5));
            let most = FILL_ROOM_MIN as u64 + chance.below(room);
            if let Some(part) = part(&mut sides[side].streams, most as usize) {
                flying.push((other, part));
            } else {
                assert!(!sides[side].streams.has_data());
            }
            events(&mut sides[side].streams);
        }
        idle += 1;
        while !flying.is_empty() && (flying.len() > 12 || chance.below(3) > 0) {
            let (to, part) = flying.swap_remove(chance.below(flying.len() as u64) as usize);
            deliver(&part, &mut sides[to].streams).expect("no violation");
            idle = 0;
        }
        if flying.is_empty() && sides.iter().all(Side::is_done) {
            break;
        }
        assert!(idle < 200, "seed {seed} with {limits:?} stands still");
    }
    for side in &sides {
        assert_eq!(side.streams.buffered(), 0);
        assert_eq!(side.streams.held.islands, 0);
        assert_eq!(side.streams.held.marks, 0);
    }
}

#[test]
fn everything_arrives_once_and_in_order_with_windows_of_any_size() {
    for (index, window) in [1, 2, 3, 7, 64, 1_000, 65_536].into_iter().enumerate() {
        for (other, connection) in [1, 5, 100, 1 << 20].into_iter().enumerate() {
            let limits = Limits {
                stream_window: window,
                connection_window: connection,
                send_buffer: 1 + window,
                max_streams: 3,
            };
            let length = u64::from(window.min(connection)) * 20 + 100;
            let seed = (index * 10 + other) as u64;
            run(seed, limits, 600, 8, length.min(20_000));
        }
    }
}

#[test]
fn everything_arrives_once_and_in_order_with_many_seeds() {
    for seed in 100..300 {
        run(seed, LIMITS, 1_200, 10, 3_000);
    }
}

#[test]
fn everything_arrives_once_and_in_order_in_tiny_packets() {
    for seed in 300..350 {
        run(seed, LIMITS, 8, 4, 500);
    }
}
