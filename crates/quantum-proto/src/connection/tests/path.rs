//! Paths that change: their width, the client's address.

use std::time::Duration;

use bytes::Bytes;

use super::{Pair, address, chance};
use crate::config::Config;
use crate::connection::Event;
use crate::streams::{End, Priority};

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
fn pieces_that_are_lost_are_sent_again() {
    for seed in 0..10 {
        let mut pair = Pair::connected(Config {
            fec_ratio: 0.0,
            ..Config::default()
        });
        pair.run(Duration::from_secs(1));
        assert_eq!(pair.client.stats().datagram, 1_472);
        let mut chance = chance(seed);
        pair.loses = Box::new(move |_, _, size| size > 1_250 || chance() < 0.3);
        pair.call(&Bytes::from(vec![3; 60_000]));
    }
}

#[test]
fn each_piece_may_be_lost() {
    for lost in 1..=4 {
        let mut pair = Pair::connected(Config {
            fec_ratio: 0.0,
            ..Config::default()
        });
        pair.run(Duration::from_secs(1));
        let mut pieces = 0;
        pair.loses = Box::new(move |_, to_server, size| {
            let piece = to_server && (200..=1_250).contains(&size);
            pieces += usize::from(piece);
            size > 1_250 || (piece && pieces == lost)
        });
        let took = pair.call(&Bytes::from(vec![3; 1_360]));
        assert!(took < Duration::from_secs(3), "{took:?}, piece {lost} lost");
    }
}

#[test]
fn narrower_path_is_noticed_among_small_packets() {
    let mut pair = Pair::connected(Config::default());
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.client.stats().datagram, 1_472);
    pair.loses = Box::new(|_, _, size| size > 1_250);
    let large = pair
        .client
        .streams_mut()
        .open(Priority::Unary)
        .expect("room");
    super::write_all(&mut pair.client, large, &Bytes::from(vec![1; 20_000]));
    let small = pair
        .client
        .streams_mut()
        .open(Priority::Control)
        .expect("room");
    let mut got = Vec::new();
    let until = pair.now + Duration::from_secs(3);
    let mut next = pair.now;
    let here = pair.run_until(until, |pair| {
        let now = pair.now;
        if now >= next {
            next = now + Duration::from_millis(5);
            let streams = pair.client.streams_mut();
            let _ = streams.write(small, Bytes::from_static(b"small"), End::Message);
            pair.flush();
        }
        let streams = pair.server().streams_mut();
        while streams.accept().is_some() {}
        while let Ok(Some(_)) = streams.read(now, small) {}
        super::read_some(pair.server(), now, large, &mut got)
    });
    assert!(here, "{} of 20,000 bytes after three seconds", got.len());
}

#[test]
fn client_that_moves_and_only_listens_is_followed() {
    let mut pair = Pair::connected(Config::default());
    pair.run(Duration::from_secs(1));
    let id = pair
        .server()
        .streams_mut()
        .open(Priority::Bulk)
        .expect("room");
    let block = Bytes::from(vec![0; 1_000]);
    let mut read = 0;
    for round in 0..400 {
        if round == 100 {
            // Datagrams to the address before do not arrive any more.
            pair.client_address = address(77);
            read = 0;
        }
        let moved = round >= 100;
        let there = pair.server().remote() == address(77);
        pair.loses = Box::new(move |_, to_server, _| moved && !to_server && !there);
        let _ = pair
            .server()
            .streams_mut()
            .write(id, block.clone(), End::More);
        let until = pair.now + Duration::from_millis(10);
        pair.run_until(until, |pair| {
            let there = !moved || pair.server().remote() == address(77);
            pair.loses = Box::new(move |_, to_server, _| !to_server && !there);
            let now = pair.now;
            while let Ok(Some(chunk)) = pair.client.streams_mut().read(now, id) {
                read += chunk.data.len();
            }
            false
        });
        if round == 110 {
            // What a keep-alive would be after some seconds.
            pair.client.ping();
        }
    }
    assert!(read >= 200_000, "{read} bytes after the client had moved");
}

#[test]
fn full_queue_is_no_narrow_path() {
    let mut pair = Pair::connected(Config::default());
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.client.stats().datagram, 1_472);
    // The queue takes a few packets only, so that many in a row are lost as the rate grows.
    pair.rate = Some((2e6, 15e3));
    for _ in 0..8 {
        pair.call(&Bytes::from(vec![3; 250_000]));
    }
    assert!(pair.client.stats().packets_lost > 12);
    assert_eq!(pair.client.stats().datagram, 1_472);
}
