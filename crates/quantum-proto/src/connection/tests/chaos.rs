//! Links that lose, repeat, delay and break datagrams, for many seeds.

use std::time::Duration;

use bytes::Bytes;

use super::{Pair, chance};
use crate::config::{Config, FecMode};

#[test]
fn calls_survive_links_that_lose_repeat_and_reorder() {
    for seed in 0..60 {
        let mut pair = Pair::new(Config {
            fec_mode: [FecMode::Sliding, FecMode::Block, FecMode::Off][seed as usize % 3],
            ..Config::default()
        });
        pair.certificate = 3_000;
        let mut chance = chance(seed);
        let loss = chance() * 0.2;
        pair.repeats = chance() * 0.2;
        pair.jitter = Duration::from_millis(seed % 4 * 7);
        pair.loses = Box::new(move |_, _, _| chance() < loss);
        pair.run(Duration::from_secs(5));
        assert!(pair.client.is_open(), "seed {seed}");
        for length in [1, 1_000, 30_000, 2, 200_000, 5_000] {
            pair.call(&Bytes::from(vec![length as u8; length]));
        }
    }
}

#[test]
fn forged_and_broken_datagrams_cost_nothing_but_themselves() {
    let mut pair = Pair::connected(Config::default());
    let mut chance = chance(3);
    // Whatever arrives is broken in one byte once in five times.
    pair.breaks = Box::new(move |bytes| {
        if chance() < 0.2 {
            let at = (chance() * bytes.len() as f64) as usize;
            bytes[at] ^= 1 + (chance() * 254.0) as u8;
        }
    });
    for _ in 0..100 {
        pair.call(&Bytes::from(vec![4; 3_000]));
    }
    assert!(pair.server().stats().decrypt_failures > 0);
}

#[test]
fn connection_lives_through_blackouts() {
    for blackout in [50, 300, 2_000, 8_000] {
        let mut pair = Pair::connected(Config::default());
        pair.run(Duration::from_secs(1));
        let (from, until) = (pair.now + Duration::from_millis(13), blackout);
        let until = from + Duration::from_millis(until);
        pair.dark = Some((from, until));
        let took = pair.call(&Bytes::from(vec![1; 250_000]));
        assert!(
            took < Duration::from_millis(blackout + 3_200),
            "{took:?} at {blackout}"
        );
    }
}

#[test]
fn narrow_settings_slow_down_and_stop_nothing() {
    let narrow: [fn(&mut Config); 7] = [
        |it| it.packet_window = 1,
        |it| it.packet_window = 5,
        |it| it.max_cwnd = 4,
        |it| it.stream_window = 1,
        |it| it.connection_window = 700,
        |it| it.max_datagram = 1_200,
        |it| it.max_datagram = 9_000,
    ];
    for (index, set) in narrow.into_iter().enumerate() {
        for seed in 0..4 {
            let mut config = Config::default();
            set(&mut config);
            let mut pair = Pair::connected(config);
            let mut chance = chance(seed);
            pair.jitter = Duration::from_millis(seed);
            pair.loses = Box::new(move |_, _, _| chance() < 0.1);
            let length = if index == 3 { 40 } else { 20_000 };
            for _ in 0..3 {
                pair.call(&Bytes::from(vec![3; length]));
            }
        }
    }
}

#[test]
fn keys_are_renewed_on_bad_paths() {
    for seed in 0..20 {
        let mut pair = Pair::connected(Config::default());
        let mut chance = chance(seed);
        pair.jitter = Duration::from_millis(15);
        pair.repeats = 0.1;
        pair.loses = Box::new(move |_, _, _| chance() < 0.15);
        for round in 0..20 {
            if round % 3 != 0 {
                pair.client.renew_keys();
            }
            if round % 4 == 0 {
                pair.server().renew_keys();
            }
            pair.call(&Bytes::from(vec![2; 10_000]));
        }
    }
}

#[test]
fn client_moves_again_and_again_on_bad_paths() {
    for seed in 0..20 {
        let mut pair = Pair::connected(Config::default());
        let mut chance = chance(seed);
        pair.jitter = Duration::from_millis(15);
        pair.loses = Box::new(move |_, _, _| chance() < 0.15);
        for round in 0..10 {
            pair.client_address = super::address(100 + round);
            let took = pair.call(&Bytes::from(vec![2; 20_000]));
            assert!(
                took < Duration::from_secs(5),
                "{took:?}, seed {seed}, move {round}"
            );
        }
    }
}

#[test]
fn nothing_is_said_and_no_timer_spins_while_nothing_happens() {
    let mut pair = Pair::connected(Config::default());
    let mut chance = chance(8);
    pair.loses = Box::new(move |_, _, _| chance() < 0.1);
    for _ in 0..20 {
        pair.call(&Bytes::from(vec![2; 10_000]));
    }
    pair.run(Duration::from_secs(5));
    let before = pair.number;
    pair.run(Duration::from_secs(60));
    // Keep-alives of both sides, and what answers and repeats them.
    let sent = pair.number - before;
    assert!(sent <= 40, "{sent} datagrams in a quiet minute");
}
