//! Two sides over a network that loses, delays and reorders both ways.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::super::*;
use super::{MS, sent};
use crate::chance::Random;
use crate::frame::{Frame, Frames};
use crate::packet::Numbering;
use crate::received::{Arrival, Received};

/// What is under way, by time of arrival and then by the order in which it was sent.
type Wire<T> = BTreeMap<(Time, u64), T>;

#[derive(Default)]
struct Tally {
    acked: u64,
    lost: u64,
    spurious: u64,
    arrived: u64,
}

/// Sends `count` packets, one each 200 µs, and lets `loss` percent of everything vanish; what
/// arrives takes 10 ms and up to `jitter` ms more.
fn exchange(seed: u64, count: u64, loss: u64, jitter: u64) -> Tally {
    let mut random = Random::new(seed);
    let (mut recovery, mut received) = (Recovery::new(), Received::new(u64::MAX));
    recovery.set_peer_ack_delay(5 * MS);
    let (mut there, mut back): (Wire<u64>, Wire<BytesMut>) = Default::default();
    let (mut tally, mut outcome) = (Tally::default(), Outcome::default());
    let (mut next, mut acks, mut told) = (0, 0, 0);
    let mut send_at = Time::ZERO;
    loop {
        let events = [
            (next < count).then_some(send_at),
            there.first_key_value().map(|(key, _)| key.0),
            back.first_key_value().map(|(key, _)| key.0),
            received.ack_at(),
            recovery.timeout(),
        ];
        let Some(now) = events.into_iter().flatten().min() else {
            break;
        };
        let mut delay = || 10 * MS + Duration::from_micros(random.below(jitter * 1_000 + 1));
        let (to, from) = (delay(), delay());
        let mut vanishes = || random.below(100) < loss;
        outcome.clear();
        let mut probe = false;
        if let Some(entry) = there.first_entry().filter(|it| it.key().0 == now) {
            let counter = entry.remove();
            let arrival = Arrival {
                counter,
                eliciting: true,
                sequence: None,
                push: false,
                ce: false,
            };
            assert!(!received.is_replay(counter));
            received.on_packet(now, arrival);
            tally.arrived += 1;
        } else if let Some(entry) = back.first_entry().filter(|it| it.key().0 == now) {
            let frame = Frames::new(entry.remove().freeze()).next();
            let Some(Ok(Frame::AckExt(ack))) = frame else {
                panic!("seed {seed}: {frame:?}");
            };
            let delay = Duration::from_micros(u64::from(ack.delay));
            recovery
                .on_ack(now, ack.largest, delay, ack.ranges(), &mut outcome)
                .unwrap();
            // The other side learns, over a network without loss, what is known here.
            told = told.max(ack.largest);
        } else if received.ack_at().is_some_and(|at| at <= now) {
            let mut out = BytesMut::new();
            let numbering = Numbering::default();
            assert!(received.write_ack(now, 600, &numbering, &mut out).is_some());
            received.on_ack_sent();
            if !vanishes() {
                back.insert((now + from, acks), out);
            }
            acks += 1;
            if acks % 8 == 0 {
                received.on_ack_acknowledged(told);
            }
        } else if recovery.timeout().is_some_and(|at| at <= now) {
            probe = recovery.on_timeout(now, &mut outcome);
            let lets_go = recovery.timeout().is_none_or(|at| at > now);
            assert!(lets_go || !outcome.lost.is_empty(), "seed {seed}");
        } else {
            send_at = now + Duration::from_micros(200);
            probe = true;
        }
        if probe {
            recovery.on_sent(sent(next, now));
            if !vanishes() {
                there.insert((now + to, next), next);
            }
            next += 1;
        }
        tally.acked += outcome.acked.len() as u64;
        tally.lost += outcome.lost.len() as u64;
        tally.spurious += outcome.spurious.len() as u64;
        let in_flight = next - tally.acked - tally.lost;
        assert_eq!(recovery.inflight(), in_flight * 1_000, "seed {seed}");
    }
    assert_eq!(recovery.inflight(), 0, "seed {seed}");
    assert_eq!(tally.acked + tally.lost, next, "seed {seed}");
    tally
}

#[test]
fn every_packet_meets_one_fate() {
    for seed in 0..60 {
        let (loss, jitter) = ([0, 1, 5, 20, 40][seed as usize % 5], seed / 5 % 4 * 3);
        let tally = exchange(seed, 3_000, loss, jitter);
        assert!(tally.acked + tally.spurious <= tally.arrived, "seed {seed}");
        if loss == 0 && jitter == 0 {
            assert_eq!(tally.lost, 0, "seed {seed}");
        }
    }
}

#[test]
fn losses_are_real_on_a_network_that_keeps_the_order() {
    for seed in 100..110 {
        let tally = exchange(seed, 5_000, 5, 0);
        assert_eq!(tally.spurious, 0, "seed {seed}");
        assert!(
            (150..450).contains(&tally.lost),
            "seed {seed}: {}",
            tally.lost
        );
    }
}

#[test]
fn reordering_network_costs_few_mistakes() {
    for seed in 200..210 {
        let tally = exchange(seed, 20_000, 0, 5);
        assert!(tally.lost < 1_000, "seed {seed}: {}", tally.lost);
        assert_eq!(tally.lost, tally.spurious, "seed {seed}");
    }
}
