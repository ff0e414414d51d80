use std::time::Duration;

use bytes::Bytes;

use super::super::{Encoder, Situation};
use super::{at, config, quiet, repairs, teach};
use crate::config::{Config, FecMode};

/// One in twenty.
const LOSSY: u64 = 20;

#[test]
fn off_means_nothing_at_all() {
    for off in [
        Config {
            fec_ratio: 0.0,
            ..config()
        },
        Config {
            fec_mode: FecMode::Off,
            ..config()
        },
    ] {
        let mut encoder = Encoder::new(&off);
        teach(&mut encoder, LOSSY);
        assert!(!encoder.is_active());
        for seq in 1..50 {
            encoder.on_source(at(seq), seq, &part(), true);
            assert_eq!(encoder.timeout(), None);
            assert_eq!(repairs(&mut encoder, at(9_000), &quiet()), []);
        }
        encoder.configure(&config());
        assert!(encoder.is_active());
        encoder.on_source(at(0), 50, &part(), true);
        assert_eq!(repairs(&mut encoder, at(0), &quiet())[0].mask, 1);
        encoder.configure(&off);
        assert_eq!(encoder.timeout(), None);
    }
}

#[test]
fn the_peers_schemes_decide() {
    let mut encoder = Encoder::new(&config());
    teach(&mut encoder, LOSSY);
    for (peer, scheme) in [
        (0b110, Some(2)),
        (0b010, Some(1)),
        (0, None),
        (0b100, Some(2)),
    ] {
        encoder.set_peer_schemes(peer);
        let seq = 1 + u64::from(peer) + encoder.stats().repairs * 10;
        encoder.on_source(at(seq * 100_000), seq, &part(), true);
        let sent = repairs(&mut encoder, at(seq * 100_000), &quiet());
        assert_eq!(sent.first().map(|it| it.scheme), scheme);
    }
}

#[test]
fn a_flight_earns_repairs_by_the_ratio() {
    let mut encoder = Encoder::new(&config());
    teach(&mut encoder, LOSSY);
    let mut after = Vec::new();
    for seq in 1..=12 {
        encoder.on_source(at(0), seq, &part(), false);
        for repair in repairs(&mut encoder, at(0), &busy()) {
            after.push((seq, repair.mask.count_ones()));
        }
    }
    assert_eq!(after, [(4, 4), (8, 8), (12, 12)]);
    assert_eq!(encoder.stats().tail_repairs, 0);
}

#[test]
fn rare_losses_earn_fewer_and_very_rare_ones_none() {
    for (one_in, wanted) in [(100, 20), (500, 8), (5_000, 0)] {
        let mut encoder = Encoder::new(&config());
        teach(&mut encoder, one_in);
        let mut count = 0;
        for seq in 1..=100 {
            encoder.on_source(at(0), seq, &part(), false);
            count += repairs(&mut encoder, at(0), &busy()).len();
        }
        assert!(count.abs_diff(wanted) <= 5, "one in {one_in}: {count}");
        assert_eq!(count == 0, wanted == 0);
    }
}

#[test]
fn a_tail_is_repaired_after_two_and_six_milliseconds() {
    let mut encoder = Encoder::new(&config());
    teach(&mut encoder, LOSSY);
    encoder.on_source(at(0), 1, &part(), false);
    encoder.on_source(at(100), 2, &part(), true);
    assert_eq!(repairs(&mut encoder, at(100), &quiet()), []);
    assert_eq!(encoder.timeout(), Some(at(2_100)));
    let first = repairs(&mut encoder, at(2_100), &quiet());
    assert_eq!(first.len(), 1);
    assert_eq!(encoder.timeout(), Some(at(6_100)));
    let second = repairs(&mut encoder, at(6_100), &quiet());
    assert_eq!((first[0].mask, second[0].mask), (0b11, 0b11));
    assert_ne!(first[0].row, second[0].row);
    assert_eq!(encoder.timeout(), None);
    assert_eq!(encoder.stats().tail_repairs, 2);
}

#[test]
fn a_short_round_trip_makes_tails_shorter() {
    let mut encoder = Encoder::new(&config());
    let near = Situation {
        srtt: Duration::from_millis(4),
        ..quiet()
    };
    assert_eq!(repairs(&mut encoder, at(0), &near), []);
    encoder.on_source(at(0), 1, &part(), true);
    assert_eq!(encoder.timeout(), Some(at(500)));
}

#[test]
fn one_repair_is_enough_for_a_tail_while_little_is_lost() {
    let mut encoder = Encoder::new(&config());
    teach(&mut encoder, 2_000);
    encoder.on_source(at(0), 1, &part(), true);
    assert_eq!(encoder.timeout(), Some(at(2_000)), "not at once");
    assert_eq!(repairs(&mut encoder, at(2_000), &quiet()).len(), 1);
    assert_eq!(encoder.timeout(), None);
}

#[test]
fn a_lone_packet_is_repaired_at_once_and_rarely_again() {
    let mut encoder = Encoder::new(&config());
    teach(&mut encoder, LOSSY);
    let start = 10_000_000;
    for seq in 1..=100 {
        let now = start + seq * 20_000;
        encoder.on_source(at(now), seq, &part(), true);
        assert_eq!(repairs(&mut encoder, at(now), &quiet()).len(), 1);
        encoder.on_received(seq.saturating_sub(1));
        repairs(&mut encoder, at(now + 2_000), &quiet());
        assert_eq!(encoder.timeout(), None);
    }
    // Eight at first and eight in each of the two seconds.
    let second = encoder.stats().tail_repairs - 100;
    assert!((16..=25).contains(&second), "{second}");
}

#[test]
fn nothing_is_sent_while_it_would_be_in_the_way() {
    let limited = Situation {
        cwnd_limited: true,
        ..busy()
    };
    let probing = Situation {
        probe_rtt: true,
        ..quiet()
    };
    for hindered in [limited, probing] {
        let mut encoder = Encoder::new(&config());
        teach(&mut encoder, LOSSY);
        for seq in 1..=100 {
            encoder.on_source(at(seq), seq, &part(), false);
            assert_eq!(repairs(&mut encoder, at(9_000), &hindered), []);
            assert_eq!(encoder.timeout(), None, "no timer runs in vain");
        }
        // The end of it is a tail like any other.
        encoder.on_source(at(10_000), 101, &part(), true);
        assert_eq!(repairs(&mut encoder, at(12_000), &quiet()).len(), 1);
    }
}

#[test]
fn a_tail_that_has_arrived_needs_no_repair() {
    let mut encoder = Encoder::new(&config());
    teach(&mut encoder, LOSSY);
    for seq in 1..=3 {
        encoder.on_source(at(0), seq, &part(), false);
    }
    encoder.on_received(1);
    encoder.on_received(3);
    let sent = repairs(&mut encoder, at(2_000), &quiet());
    assert_eq!((sent[0].first, sent[0].mask), (2, 1));
    encoder.on_received(2);
    assert_eq!(encoder.timeout(), None);
    assert_eq!(repairs(&mut encoder, at(6_000), &quiet()), []);
}

#[test]
fn tails_spend_no_more_than_their_rate() {
    let mut encoder = Encoder::new(&Config {
        fec_tail_rate: 80_000,
        fec_ratio: 0.001,
        ..config()
    });
    teach(&mut encoder, LOSSY);
    let large = Bytes::from(vec![1; 1_000]);
    let mut bytes = 0;
    for seq in 1..=1_000 {
        encoder.on_source(at(seq * 10_000), seq, &large, true);
        for later in [0, 2_000, 6_000] {
            let sent = repairs(&mut encoder, at(seq * 10_000 + later), &quiet());
            bytes += sent.len() * (1_000 + 17 + 56);
        }
    }
    // Ten seconds at 10,000 bytes, two packets in advance, and one by the ratio.
    assert!((95_000..=104_000).contains(&bytes), "{bytes}");
}

#[test]
fn a_clean_path_is_probed_once_a_second() {
    let mut encoder = Encoder::new(&config());
    for packet in 0..20_000 {
        encoder.on_fate(at(packet * 100), false);
    }
    let mut sent = 0;
    for seq in 1..=1_000 {
        let now = 40_000_000 + seq * 10_000;
        encoder.on_source(at(now), seq, &part(), true);
        sent += repairs(&mut encoder, at(now), &quiet()).len();
        sent += repairs(&mut encoder, at(now + 2_000), &quiet()).len();
    }
    assert_eq!(sent, 10);
    encoder.on_fate(at(51_000_000), true);
    encoder.on_source(at(51_000_000), 1_001, &part(), true);
    assert_eq!(repairs(&mut encoder, at(51_002_000), &quiet()).len(), 1);
}

#[test]
fn a_full_block_has_three_rows() {
    let mut encoder = block();
    let mut sent = Vec::new();
    for seq in 1..=20 {
        encoder.on_source(at(0), seq, &part(), false);
        for repair in repairs(&mut encoder, at(0), &busy()) {
            sent.push((seq, repair.row, repair.first, repair.mask));
        }
    }
    let full = 0b11_1111_1111;
    assert_eq!(
        sent[..3],
        [(10, 0, 1, full), (10, 1, 1, full), (10, 2, 1, full)]
    );
    assert_eq!(sent[3..].len(), 3);
    assert_eq!(sent[3], (20, 0, 11, full));
}

#[test]
fn a_block_closes_early_at_a_tail() {
    let mut encoder = block();
    for seq in 1..=3 {
        encoder.on_source(at(0), seq, &part(), false);
    }
    let first = repairs(&mut encoder, at(2_000), &quiet());
    let second = repairs(&mut encoder, at(6_000), &quiet());
    assert_eq!(
        (first[0].scheme, first[0].row, first[0].mask),
        (1, 0, 0b111)
    );
    assert_eq!((second[0].row, second[0].mask), (1, 0b111));
    // What follows is another block, and earns its rows when it is full.
    let mut sent = Vec::new();
    for seq in 4..=13 {
        encoder.on_source(at(7_000), seq, &part(), false);
        sent.extend(repairs(&mut encoder, at(7_000), &busy()));
    }
    assert_eq!(sent.len(), 3);
    assert_eq!((sent[0].first, sent[0].row), (4, 0));
}

#[test]
fn a_source_sent_again_is_covered_again() {
    let mut encoder = Encoder::new(&config());
    teach(&mut encoder, LOSSY);
    for seq in [1, 2, 1] {
        let now = at(encoder.stats().repairs * 30_000);
        encoder.on_source(now, seq, &part(), true);
        assert!(!repairs(&mut encoder, now, &quiet()).is_empty());
    }
    let mut encoder = block();
    encoder.on_source(at(0), 1, &part(), true);
    assert_eq!(repairs(&mut encoder, at(0), &quiet()).len(), 1);
    encoder.on_source(at(1), 1, &part(), true);
    assert_eq!(
        repairs(&mut encoder, at(1), &quiet()),
        [],
        "blocks stay closed"
    );
}

fn block() -> Encoder {
    let mut encoder = Encoder::new(&Config {
        fec_mode: FecMode::Block,
        ..config()
    });
    teach(&mut encoder, LOSSY);
    encoder
}

fn part() -> Bytes {
    Bytes::from_static(b"part")
}

/// More is queued.
fn busy() -> Situation {
    Situation {
        more_queued: true,
        ..quiet()
    }
}
