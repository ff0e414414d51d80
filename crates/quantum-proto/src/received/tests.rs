//! What arrives, in what order, and what is said of it when.

use super::*;
use crate::chance::Random;
use crate::frame::{AckExt, Frame, Frames};

const MS: Duration = Duration::from_millis(1);

fn at(ms: u64) -> Time {
    Time::after(MS * u32::try_from(ms).unwrap())
}

/// An ordinary packet; sequence numbers run with the counters.
fn packet(counter: u64) -> Arrival {
    Arrival {
        counter,
        eliciting: true,
        sequence: None,
        push: false,
        ce: false,
    }
}

fn source(counter: u64, sequence: u64) -> Arrival {
    Arrival {
        sequence: Some(sequence),
        ..packet(counter)
    }
}

fn received() -> Received {
    let mut received = Received::new(256);
    received.set_rtt(20 * MS);
    received
}

/// What the next acknowledgement tells.
fn told(received: &mut Received, now: Time, room: usize) -> (Option<AckExt>, Option<u32>) {
    let mut out = BytesMut::new();
    let largest = received.write_ack(now, room, &Numbering::default(), &mut out);
    assert!(out.len() <= room);
    let (mut ack, mut ecn) = (None, None);
    for frame in Frames::new(out.freeze()) {
        match frame.unwrap() {
            Frame::AckExt(told) => ack = Some(told),
            Frame::Ecn(count) => ecn = Some(count),
            other => panic!("{other:?} in an acknowledgement"),
        }
    }
    assert_eq!(ack.as_ref().map(|ack| ack.largest), largest);
    received.on_ack_sent();
    (ack, ecn)
}

fn ranges(received: &mut Received, now: Time) -> Vec<(u64, u64)> {
    let (ack, _) = told(received, now, 1_000);
    ack.map_or(Vec::new(), |ack| ack.ranges().collect())
}

#[test]
fn counter_is_taken_once() {
    let mut received = received();
    for counter in [5, 3, 9, 0] {
        assert!(!received.is_replay(counter));
        assert_eq!(received.on_packet(at(0), packet(counter)), Fresh::New);
        assert!(received.is_replay(counter));
        assert_eq!(received.on_packet(at(0), packet(counter)), Fresh::Refused);
    }
    assert!(!received.is_replay(4));
    assert!(received.is_newest(9) && !received.is_newest(5));
}

#[test]
fn counter_too_old_to_be_remembered_counts_as_replayed() {
    let mut received = received();
    received.on_packet(at(0), packet(10_000));
    assert!(!received.is_replay(10_000 - 2_047));
    assert!(received.is_replay(10_000 - 2_048));
    assert!(received.is_replay(0));
}

#[test]
fn replays_are_found_after_every_jump() {
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let mut received = Received::new(u64::MAX);
        let (mut seen, mut top) = (std::collections::HashSet::new(), 0);
        for _ in 0..2_000 {
            let counter: u64 = match random.below(20) {
                0 => top + random.below(5_000),
                1..=9 => top + random.below(3),
                _ => u64::saturating_sub(top, random.below(2_500)),
            };
            let old = !seen.is_empty() && top.saturating_sub(counter) >= replay::SIZE;
            let expected = old || seen.contains(&counter);
            assert_eq!(
                received.is_replay(counter),
                expected,
                "seed {seed}: {counter}"
            );
            received.on_packet(at(0), packet(counter));
            if !old {
                seen.insert(counter);
                top = top.max(counter);
            }
        }
    }
}

#[test]
fn acknowledgement_follows_the_picture_of_the_contract() {
    let mut received = received();
    let numbering = Numbering::new(99);
    received.on_packet(at(0), source(0, 1));
    assert_eq!(numbering.to_wire(received.cumulative()), 100);
    assert!(received.sacks(&numbering).is_empty());
    received.on_packet(at(0), source(2, 3));
    assert_eq!(numbering.to_wire(received.cumulative()), 100);
    assert_eq!(received.sacks(&numbering).as_slice(), [(102, 102)]);
    // The same number again, in another transmission.
    received.on_packet(at(0), source(3, 2));
    assert_eq!(numbering.to_wire(received.cumulative()), 102);
    assert!(received.sacks(&numbering).is_empty());
}

#[test]
fn ranges_in_the_header_survive_the_wrap() {
    let mut received = received();
    let numbering = Numbering::new(u32::MAX - 2);
    for sequence in [1, 3, 4, 6] {
        received.on_packet(at(0), source(sequence, sequence));
    }
    assert_eq!(numbering.to_wire(received.cumulative()), u32::MAX - 1);
    assert_eq!(received.sacks(&numbering).as_slice(), [(1, 2), (4, 4)]);
}

#[test]
fn header_tells_the_highest_eight_ranges() {
    let mut received = received();
    for gap in 1..=20 {
        received.on_packet(at(0), source(gap, 2 * gap));
    }
    let sacks = received.sacks(&Numbering::default());
    let expected: Vec<_> = (13..=20).map(|gap| (2 * gap, 2 * gap)).collect();
    assert_eq!(sacks.as_slice(), expected);
    assert_eq!(received.highest(), 40);
}

#[test]
fn copy_of_a_source_part_is_known_as_such() {
    let mut received = received();
    assert_eq!(received.on_packet(at(0), source(0, 1)), Fresh::New);
    assert_eq!(received.on_packet(at(0), source(1, 1)), Fresh::Duplicate);
    assert_eq!(received.on_packet(at(0), source(2, 3)), Fresh::New);
    assert_eq!(received.on_packet(at(0), source(3, 3)), Fresh::Duplicate);
    // Both transmissions arrived, and the peer learns of both.
    assert_eq!(ranges(&mut received, at(0)), [(0, 3)]);
}

#[test]
fn packet_beyond_the_window_is_not_acknowledged() {
    let mut received = received();
    assert_eq!(received.on_packet(at(0), source(0, 257)), Fresh::Refused);
    assert_eq!(received.ack_at(), None);
    assert_eq!(ranges(&mut received, at(0)), []);
    assert_eq!(received.on_packet(at(0), source(1, 256)), Fresh::New);
    assert_eq!(ranges(&mut received, at(0)), [(1, 1)]);
}

#[test]
fn gap_too_many_is_refused_and_gaps_can_still_close() {
    let mut received = Received::new(1 << 20);
    let gaps = SEQUENCE_RANGES as u64;
    for gap in 1..=gaps {
        assert_eq!(received.on_packet(at(0), source(gap, 2 * gap)), Fresh::New);
    }
    let next = source(gaps + 1, 2 * gaps + 2);
    assert_eq!(received.on_packet(at(0), next), Fresh::Refused);
    assert_eq!(received.on_packet(at(0), source(gaps + 2, 3)), Fresh::New);
    assert_eq!(received.on_packet(at(0), source(gaps + 3, 1)), Fresh::New);
    assert_eq!(received.cumulative(), 4);
    let next = source(gaps + 4, 2 * gaps + 2);
    assert_eq!(received.on_packet(at(0), next), Fresh::New);
}

#[test]
fn rebuilt_source_part_counts_by_sequence_and_never_by_counter() {
    let mut received = received();
    received.on_packet(at(0), source(0, 1));
    received.on_packet(at(0), source(2, 3));
    assert!(received.on_recovered(2));
    assert!(!received.on_recovered(2));
    assert_eq!(received.cumulative(), 3);
    assert!(received.has(2));
    let (ack, _) = told(&mut received, at(0), 1_000);
    let ack = ack.unwrap();
    assert_eq!(ack.ranges().collect::<Vec<_>>(), [(2, 2), (0, 0)]);
    assert_eq!(ack.recovered().collect::<Vec<_>>(), [(2, 2)]);
    assert_eq!(received.on_packet(at(0), source(3, 2)), Fresh::Duplicate);
}

#[test]
fn rebuilt_source_parts_are_told_until_that_is_known() {
    let mut received = received();
    let recovered = |received: &mut Received| {
        let (ack, _) = told(received, at(0), 1_000);
        ack.unwrap().recovered().collect::<Vec<_>>()
    };
    received.on_packet(at(0), source(0, 5));
    received.on_recovered(2);
    assert_eq!(recovered(&mut received), [(2, 2)]);
    assert_eq!(recovered(&mut received), [(2, 2)]);
    received.on_recovered(3);
    received.on_packet(at(0), packet(1));
    assert_eq!(recovered(&mut received), [(2, 3)]);
    received.on_ack_acknowledged(0);
    assert_eq!(recovered(&mut received), [(3, 3)]);
    received.on_ack_acknowledged(1);
    received.on_packet(at(0), packet(2));
    assert_eq!(recovered(&mut received), []);
    for sequence in 1..100 {
        received.on_recovered(2 * sequence + 4);
    }
    assert_eq!(recovered(&mut received).len(), 32);
}

#[test]
fn every_second_packet_is_acknowledged_at_once() {
    let mut received = received();
    received.on_packet(at(0), packet(0));
    assert_eq!(received.ack_at(), Some(at(5)));
    assert!(received.has_news());
    received.on_packet(at(1), packet(1));
    assert_eq!(received.ack_at(), Some(at(1)));
    received.on_ack_sent();
    assert_eq!(received.ack_at(), None);
    assert!(!received.has_news());
}

#[test]
fn single_packet_waits_for_a_quarter_of_the_round_trip_within_limits() {
    for (rtt, wait) in [(1, 1), (4, 1), (8, 2), (16, 4), (20, 5), (400, 5)] {
        let mut received = received();
        received.set_rtt(rtt * MS);
        received.on_packet(at(7), packet(0));
        assert_eq!(received.ack_at(), Some(at(7) + wait * MS), "RTT {rtt} ms");
    }
    assert_eq!(Received::ack_delay_max(), 5 * MS);
}

#[test]
fn end_of_a_message_is_acknowledged_soon_but_leaves_time_for_an_answer() {
    for (rtt_us, wait_us) in [(800, 100), (4_000, 500), (8_000, 1_000), (200_000, 1_000)] {
        let mut received = received();
        received.set_rtt(Duration::from_micros(rtt_us));
        let push = Arrival {
            push: true,
            ..packet(0)
        };
        received.on_packet(at(7), push);
        let due = at(7) + Duration::from_micros(wait_us);
        assert_eq!(received.ack_at(), Some(due), "RTT {rtt_us} us");
    }
}

#[test]
fn gap_late_packet_and_mark_are_told_at_once() {
    let mut gap = received();
    gap.on_packet(at(0), packet(0));
    gap.on_ack_sent();
    gap.on_packet(at(1), packet(2));
    assert_eq!(gap.ack_at(), Some(at(1)));
    gap.on_ack_sent();
    // The two packets that make the third one after the gap.
    gap.on_packet(at(2), packet(3));
    assert_eq!(gap.ack_at(), Some(at(2)));
    gap.on_ack_sent();
    gap.on_packet(at(3), packet(4));
    assert_eq!(gap.ack_at(), Some(at(3)));
    gap.on_ack_sent();
    gap.on_packet(at(4), packet(5));
    assert_eq!(gap.ack_at(), Some(at(9)));
    gap.on_ack_sent();
    gap.on_packet(at(10), packet(1));
    assert_eq!(gap.ack_at(), Some(at(10)));

    let mut marked = received();
    let ce = Arrival {
        ce: true,
        ..packet(0)
    };
    marked.on_packet(at(1), ce);
    assert_eq!(marked.ack_at(), Some(at(1)));
}

#[test]
fn first_packet_leaves_no_gap_whatever_its_counter() {
    let mut received = received();
    received.on_packet(at(0), packet(7));
    assert_eq!(received.ack_at(), Some(at(5)));
}

#[test]
fn packet_that_asks_for_nothing_makes_nothing_due() {
    let mut received = received();
    for counter in [0, 1, 5, 3] {
        let silent = Arrival {
            eliciting: false,
            ..packet(counter)
        };
        received.on_packet(at(0), silent);
        assert_eq!(received.ack_at(), None);
        assert!(!received.has_news());
    }
    assert_eq!(ranges(&mut received, at(0)), [(5, 5), (3, 3), (0, 1)]);
}

#[test]
fn dense_packets_are_acknowledged_ten_by_ten() {
    let mut received = received();
    let (mut acks, mut late_acks) = (0, 0);
    for counter in 0..4_000 {
        // 40,000 packets per second.
        let now = Time::after(Duration::from_micros(25 * counter));
        received.on_packet(now, packet(counter));
        if received.ack_at() == Some(now) {
            received.on_ack_sent();
            acks += 1;
            late_acks += usize::from(counter >= 2_000);
        }
    }
    assert_eq!(late_acks, 200);
    assert!(acks < 1_000);
}

#[test]
fn delay_runs_from_the_arrival_of_the_largest() {
    let mut received = received();
    received.on_packet(at(10), packet(3));
    received.on_packet(at(12), packet(1));
    let (ack, _) = told(&mut received, at(14), 1_000);
    assert_eq!(ack.unwrap().delay, 4_000);
}

#[test]
fn what_the_peer_knows_is_not_told_again() {
    let mut received = received();
    for counter in [0, 2, 4] {
        received.on_packet(at(0), packet(counter));
    }
    let all = [(4, 4), (2, 2), (0, 0)];
    assert_eq!(ranges(&mut received, at(0)), all);
    assert_eq!(ranges(&mut received, at(0)), all);
    received.on_ack_acknowledged(4);
    assert_eq!(ranges(&mut received, at(0)), [(4, 4)]);
    received.on_packet(at(0), packet(6));
    assert_eq!(ranges(&mut received, at(0)), [(6, 6), (4, 4)]);
    // Not an acknowledgement of ours.
    received.on_ack_acknowledged(5);
    assert_eq!(ranges(&mut received, at(0)), [(6, 6), (4, 4)]);
}

#[test]
fn packet_later_than_the_acknowledgement_under_way_is_still_told() {
    let mut received = received();
    received.on_packet(at(0), packet(0));
    received.on_packet(at(0), packet(5));
    assert_eq!(ranges(&mut received, at(0)), [(5, 5), (0, 0)]);
    received.on_packet(at(1), packet(2));
    received.on_ack_acknowledged(5);
    assert_eq!(ranges(&mut received, at(1)), [(5, 5), (2, 2)]);
}

#[test]
fn acknowledgement_without_room_for_all_forgets_nothing() {
    let mut received = received();
    for counter in [0, 2, 4] {
        received.on_packet(at(0), packet(counter));
    }
    let (ack, _) = told(&mut received, at(0), frame::ACK_EXT_HEAD + 15);
    assert_eq!(ack.unwrap().ranges().collect::<Vec<_>>(), [(4, 4), (2, 2)]);
    received.on_ack_acknowledged(4);
    assert_eq!(ranges(&mut received, at(0)), [(4, 4), (2, 2), (0, 0)]);

    let (ack, _) = told(&mut received, at(0), frame::ACK_EXT_HEAD - 1);
    assert_eq!(ack, None);
}

#[test]
fn ranges_stay_few_when_nothing_is_confirmed() {
    let mut received = Received::new(u64::MAX);
    for counter in 0..10_000 {
        received.on_packet(at(0), packet(2 * counter));
        assert!(ranges(&mut received, at(0)).len() <= COUNTER_RANGES);
    }
    let told = ranges(&mut received, at(0));
    assert_eq!(told.len(), COUNTER_RANGES);
    assert_eq!(told[0], (19_998, 19_998));
    // A late one far below is not worth a newer one's place, one among them is.
    received.on_packet(at(0), packet(19_001));
    received.on_packet(at(0), packet(19_995));
    assert_eq!(ranges(&mut received, at(0))[1], (19_994, 19_996));
}

#[test]
fn confirmation_is_asked_for_now_and_then() {
    let mut received = received();
    received.on_packet(at(0), packet(0));
    received.on_packet(at(0), packet(2));
    let mut wanted = 0;
    for _ in 0..160 {
        wanted += usize::from(received.wants_ping());
        ranges(&mut received, at(0));
    }
    assert_eq!(wanted, 10);
    received.on_ack_acknowledged(2);
    assert!(!received.wants_ping());
}

#[test]
fn marks_are_told_until_they_are_known() {
    let mut received = received();
    let marked = |counter| Arrival {
        ce: true,
        ..packet(counter)
    };
    received.on_packet(at(0), packet(0));
    assert!(!received.ecn_changed());
    assert_eq!(told(&mut received, at(0), 1_000).1, None);
    received.on_packet(at(0), marked(1));
    received.on_packet(at(0), marked(2));
    assert!(received.ecn_changed());
    assert_eq!(told(&mut received, at(0), 1_000).1, Some(2));
    received.on_packet(at(0), marked(3));
    assert_eq!(told(&mut received, at(0), 1_000).1, Some(3));
    received.on_ack_acknowledged(2);
    assert!(received.ecn_changed());
    received.on_ack_acknowledged(3);
    assert!(!received.ecn_changed());
    received.on_packet(at(0), packet(4));
    assert_eq!(told(&mut received, at(0), 1_000).1, None);
}
