//! The first datagrams: lost, many, forged.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Connection, Pair};
use crate::Time;
use crate::config::Config;
use crate::connection::Event;
use crate::crypto::null::{NullClient, NullServer};
use crate::crypto::{ClientCrypto, ServerCrypto};
use crate::frame::{Frame, Frames, Options, write_options};
use crate::packet::{self, Flags, Header, Sacks, Sealed};

#[test]
fn handshake_takes_one_round_trip_and_tells_both() {
    let mut pair = Pair::new(Config::default());
    let connected = |pair: &Pair, side| pair.events.contains(&(side, Event::Connected));
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
fn long_certificates_get_through_the_limit_on_unproved_addresses() {
    for lost in 0..=20 {
        let mut pair = Pair::new(Config::default());
        pair.certificate = 9_000;
        pair.loses = Box::new(move |number, _, _| number == lost);
        pair.run(Duration::from_secs(4));
        assert!(pair.client.is_open(), "client, datagram {lost} lost");
        assert!(pair.server().is_open(), "server, datagram {lost} lost");
    }
}

#[test]
fn long_certificates_cost_one_round_trip_more() {
    let mut pair = Pair::new(Config::default());
    pair.certificate = 4_000;
    let until = Time::after(Duration::from_millis(61));
    assert!(pair.run_until(until, |pair| {
        pair.server.as_ref().is_some_and(Connection::is_open)
    }));
}

#[test]
fn handshake_of_which_most_is_lost_ends_one_way_or_the_other() {
    for seed in 0..40 {
        let mut pair = Pair::new(Config::default());
        let mut chance = super::chance(seed);
        pair.certificate = 5_000;
        pair.loses = Box::new(move |_, _, _| chance() < 0.4);
        pair.run(Duration::from_secs(6));
        let ended = pair.closed(true).is_some();
        assert!(pair.client.is_open() || ended, "seed {seed}");
    }
}

#[test]
fn close_right_after_the_handshake_reaches_a_server_that_missed_its_end() {
    let mut pair = Pair::new(Config::default());
    let mut lost = false;
    // The client's Finished is the first datagram to the server that is not full.
    pair.loses = Box::new(move |_, to_server, size| {
        let finished = to_server && size < 1_200 && !lost;
        lost |= finished;
        finished
    });
    pair.run_until(Time::after(Duration::from_secs(1)), |pair| {
        pair.client.is_open()
    });
    let now = pair.now;
    pair.client.close(now, 7, "changed my mind");
    pair.run(Duration::from_millis(900));
    assert!(pair.closed(false).is_some(), "the server waits on");
}

#[test]
fn first_datagram_is_full_however_long_the_hello_is() {
    for length in 0..=250 {
        let setup = Pair::new(Config::default()).server_setup;
        let mut options = Vec::new();
        setup.options().encode(&mut options);
        for _ in 0..4 {
            // Options that nobody knows.
            options.extend_from_slice(&[200, length]);
            options.resize(options.len() + usize::from(length), 0);
        }
        let guuid = super::guuid();
        let session = NullClient.start(guuid, "test", &options).expect("starts");
        let initial = NullClient.initial(guuid);
        let mut client = Connection::client(Time::ZERO, &setup, session, initial);
        let mut out = BytesMut::new();
        let first = client.poll_transmit(Time::ZERO, 1, &mut out);
        assert_eq!(first.map(|it| it.size), Some(1_200), "{length}");
    }
}

#[test]
fn cookie_is_repeated_in_front_of_the_hello() {
    let mut pair = Pair::new(Config::default());
    let cookie = Bytes::from(vec![7; 200]);
    let server = NullServer { certificate: 0 }.initial(super::guuid());
    let options = Options {
        cookie: Some(cookie.clone()),
        ..Options::default()
    };
    let mut tlvs = Vec::new();
    options.encode(&mut tlvs);
    let header = Header {
        flags: Flags::SYN.with(Flags::ACK),
        guuid: super::guuid(),
        sequence: 0,
        ack: 0,
        sacks: Sacks::default(),
    };
    let mut out = BytesMut::new();
    header.write(0, &mut out);
    write_options(&mut out, &tlvs);
    packet::seal(&mut out, 0, header.len(), u64::MAX, server.local.as_ref());
    let mut first = BytesMut::new();
    while pair
        .client
        .poll_transmit(Time::ZERO, 1, &mut first)
        .is_some()
    {}
    for copy in 0..3 {
        let sealed = Sealed::parse(out.clone()).expect("whole");
        let remote = super::address(2);
        pair.client.handle(Time::ZERO, remote, false, sealed);
        let mut again = BytesMut::new();
        let sent = pair.client.poll_transmit(Time::ZERO, 1, &mut again);
        // Copies of the same cookie make nobody repeat anything.
        assert_eq!(sent.is_some(), copy == 0);
        if sent.is_none() {
            continue;
        }
        assert_eq!(again.len(), 1_200);
        let sealed = Sealed::parse(again).expect("whole");
        let payload = sealed.open(server.remote.as_ref()).expect("opens");
        let frames: Vec<_> = Frames::new(payload).collect();
        assert!(matches!(&frames[0], Ok(Frame::Options(it)) if it[..] == tlvs[..]));
        assert!(matches!(frames[1], Ok(Frame::Crypto { offset: 0, .. })));
    }
}
