//! Data on good and bad paths.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Pair, chance};
use crate::config::{Config, FecMode};
use crate::packet::Sealed;
use crate::streams::{End, Priority};

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
fn clean_link_pays_almost_nothing_for_repairs() {
    let mut pair = Pair::connected(Config::default());
    // A new connection is protected until the link has proved clean, for 10 s and 1,000 packets.
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
fn bulk_fills_a_path_that_loses() {
    // 100 Mbit/s, 20 ms, a queue of two bandwidth-delay products.
    for (loss, least) in [(0.0, 0.92), (0.01, 0.90), (0.05, 0.86)] {
        let mut pair = Pair::new(Config::default());
        let mut chance = chance(17);
        pair.rate = Some((12.5e6, 500e3));
        pair.loses = Box::new(move |_, _, _| chance() < loss);
        pair.run(Duration::from_secs(1));
        let id = pair
            .client
            .streams_mut()
            .open(Priority::Bulk)
            .expect("room");
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
        assert!(share >= least, "{share} of the rate at {loss}");
    }
}

#[test]
fn tail_behind_a_paced_message_is_repaired() {
    let mut slow = 0;
    for lost in 0..10 {
        let mut pair = Pair::connected(Config::default());
        pair.run(Duration::from_secs(1));
        // More than may leave at once, so that the last packets are paced.
        let request = Bytes::from(vec![1; 24_000 + lost * 100]);
        let clean = pair.call(&request);
        pair.run(Duration::from_secs(1));
        let mut count = 0;
        let packets = request.len().div_ceil(1_330);
        pair.loses = Box::new(move |_, to_server, size| {
            count += usize::from(to_server && size > 200);
            to_server && size > 200 && count == packets
        });
        let took = pair.call(&request);
        slow += u32::from(took > clean + Duration::from_millis(12));
    }
    assert!(slow <= 2, "{slow} of 10 waited for a retransmission");
}

#[test]
fn small_call_overtakes_bulk_that_waits() {
    let mut pair = Pair::connected(Config::default());
    pair.rate = Some((1.25e6, 30e3));
    pair.run(Duration::from_secs(1));
    let id = pair
        .client
        .streams_mut()
        .open(Priority::Bulk)
        .expect("room");
    let block = Bytes::from(vec![0; 256 << 10]);
    let mut took = Vec::new();
    for _ in 0..20 {
        let _ = pair
            .client
            .streams_mut()
            .write(id, block.clone(), End::More);
        pair.run(Duration::from_millis(3));
        took.push(pair.call(&Bytes::from_static(b"quick")));
    }
    took.sort_unstable();
    // 20 ms of path, 24 ms of its queue; the bulk itself would take 200 ms.
    assert!(took[10] < Duration::from_millis(60), "{took:?}");
}

#[test]
fn streams_of_a_class_share_fairly() {
    let mut pair = Pair::connected(Config::default());
    pair.rate = Some((1.25e6, 60e3));
    let ids: Vec<_> = (0..20)
        .map(|_| {
            pair.client
                .streams_mut()
                .open(Priority::Bulk)
                .expect("room")
        })
        .collect();
    let mut read = vec![0; 20];
    let until = pair.now + Duration::from_secs(4);
    let block = Bytes::from(vec![0; 32 << 10]);
    pair.run_until(until, |pair| {
        for id in &ids {
            let _ = pair
                .client
                .streams_mut()
                .write(*id, block.clone(), End::More);
        }
        let now = pair.now;
        for (id, read) in ids.iter().zip(&mut read) {
            let streams = pair.server().streams_mut();
            while streams.accept().is_some() {}
            while let Ok(Some(chunk)) = streams.read(now, *id) {
                *read += chunk.data.len();
            }
        }
        pair.flush();
        false
    });
    let (least, most) = (read.iter().min().copied(), read.iter().max().copied());
    assert!(least.unwrap_or(0) * 5 > most.unwrap_or(0) * 4, "{read:?}");
}

#[test]
fn bulk_leaves_in_batches_of_equal_datagrams() {
    let mut pair = Pair::connected(Config::default());
    pair.run(Duration::from_secs(1));
    let id = pair
        .client
        .streams_mut()
        .open(Priority::Bulk)
        .expect("room");
    let block = Bytes::from(vec![0; 64 << 10]);
    pair.client
        .streams_mut()
        .write(id, block, End::More)
        .expect("open");
    let mut buffer = BytesMut::new();
    let transmit = pair.client.poll_transmit(pair.now, 10, &mut buffer);
    let transmit = transmit.expect("something to send");
    let segment = transmit.segment.expect("several datagrams");
    assert!(
        segment > 1_400 && transmit.size > 4 * segment,
        "{transmit:?}"
    );
    let mut datagrams = buffer.chunks(segment);
    assert!(datagrams.all(|it| Sealed::parse(BytesMut::from(it)).is_ok()));
}
