//! What befalls a connection besides data.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Pair, chance};
use crate::codes::close;
use crate::config::Config;
use crate::connection::{Closed, Event};
use crate::packet::Packet;
use crate::streams::{End, Priority};

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
fn keys_are_not_renewed_before_the_peer_has_followed() {
    let mut pair = Pair::connected(Config::default());
    pair.call(&Bytes::from_static(b"before"));
    for _ in 0..3 {
        pair.client.renew_keys();
    }
    pair.call(&Bytes::from(vec![2; 3_000]));
    assert_eq!(pair.server().stats().decrypt_failures, 0);
}

#[test]
fn who_has_followed_does_not_renew_before_that_is_known() {
    let mut pair = Pair::connected(Config::default());
    pair.call(&Bytes::from_static(b"before"));
    pair.server().renew_keys();
    // The client hears of it, the server not of what the client says then.
    pair.loses = Box::new(|_, to_server, _| to_server);
    pair.server().ping();
    pair.run(Duration::from_millis(100));
    pair.client.renew_keys();
    pair.loses = Box::new(|_, _, _| false);
    pair.call(&Bytes::from(vec![2; 3_000]));
    assert_eq!(pair.server().stats().decrypt_failures, 0);
}

#[test]
fn keep_alive_in_a_full_window_is_said_once() {
    let mut pair = Pair::connected(Config {
        keep_alive: Duration::from_secs(1),
        ..Config::default()
    });
    let id = pair
        .client
        .streams_mut()
        .open(Priority::Bulk)
        .expect("room");
    let block = Bytes::from(vec![0; 64 << 10]);
    let _ = pair.client.streams_mut().write(id, block, End::More);
    pair.loses = Box::new(|_, _, _| true);
    pair.run(Duration::from_secs(30));
    let sent = pair.client.stats().packets_sent;
    assert!(sent < 200, "{sent} packets into the dark");
}

#[test]
fn peer_that_never_acknowledges_costs_no_memory() {
    let mut pair = Pair::connected(Config::default());
    let mut buffer = BytesMut::new();
    for token in 0..100_000_u64 {
        pair.client.wishes.path_response = Some(token.to_be_bytes());
        buffer.clear();
        while pair
            .client
            .poll_transmit(pair.now, 1, &mut buffer)
            .is_some()
        {}
    }
    let kept = pair.client.recovery.in_flight().count();
    assert!(kept < 1_000, "{kept} packets are waited for");
}

#[test]
fn silence_shorter_than_the_keep_alive_kills_no_idle_connection() {
    let mut pair = Pair::connected(Config {
        idle_timeout: Duration::from_secs(4),
        ..Config::default()
    });
    pair.run(Duration::from_secs(60));
    assert!(pair.client.is_open() && pair.server().is_open());
}
