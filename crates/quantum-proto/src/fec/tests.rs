//! Encoder against decoder; the parts have tests of their own.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Encoder, Situation};
use crate::config::Config;
use crate::frame::{Frame, Frames, Repair};
use crate::packet::Numbering;
use crate::time::Time;

mod code;
mod lies;
mod policy;
mod simulation;

/// A sequence of numbers that look random (xorshift64*), the same in each run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 32) % end
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn part(&mut self, longest: u64) -> Bytes {
        let len = 1 + self.below(longest);
        (0..len).map(|_| self.next() as u8).collect()
    }
}

fn at(micros: u64) -> Time {
    Time::after(Duration::from_micros(micros))
}

/// The queue is empty and nothing is in the way.
fn quiet() -> Situation {
    Situation {
        cwnd_limited: false,
        more_queued: false,
        srtt: Duration::from_millis(20),
        probe_rtt: false,
    }
}

/// Makes the encoder believe in about this loss.
fn teach(encoder: &mut Encoder, one_in: u64) {
    for packet in 0..20_000 {
        encoder.on_fate(Time::ZERO, packet % one_in == one_in / 2);
    }
}

/// The repairs that are due now, as the peer reads them.
fn repairs(encoder: &mut Encoder, now: Time, situation: &Situation) -> Vec<Repair> {
    let mut found = Vec::new();
    let mut out = BytesMut::new();
    while encoder
        .poll(now, situation, 1_400, &Numbering::default(), &mut out)
        .is_some()
    {
        found.push(read(out.split().freeze()));
    }
    found
}

fn read(frame: Bytes) -> Repair {
    match Frames::new(frame).next() {
        Some(Ok(Frame::Repair(repair))) => repair,
        other => panic!("a repair was expected, not {other:?}"),
    }
}

fn config() -> Config {
    Config::default()
}
