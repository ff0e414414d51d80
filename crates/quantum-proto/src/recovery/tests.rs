//! Losses, round trips and probes, by packet counter.

use super::*;

mod exchange;

const MS: Duration = Duration::from_millis(1);

fn at(ms: u64) -> Time {
    Time::after(MS * u32::try_from(ms).unwrap())
}

fn sent(counter: u64, at: Time) -> Sent {
    Sent {
        counter,
        at,
        bytes: 1_000,
        content: Content::Source { seq: counter + 1 },
        stamp: Stamp::default(),
        ack_told: None,
    }
}

/// Recovery, and what it said last.
struct Side {
    recovery: Recovery,
    outcome: Outcome,
}

impl Side {
    fn new() -> Self {
        let mut recovery = Recovery::new();
        recovery.set_peer_ack_delay(5 * MS);
        Self {
            recovery,
            outcome: Outcome::default(),
        }
    }

    /// A side that has measured this RTT with packet 0, at that time.
    fn with_rtt(ms: u64) -> Self {
        let mut side = Self::new();
        side.send(0, 0);
        side.ack(ms, &[(0, 0)]);
        side
    }

    fn send(&mut self, counter: u64, ms: u64) {
        self.recovery.on_sent(sent(counter, at(ms)));
    }

    fn ack(&mut self, ms: u64, ranges: &[(u64, u64)]) {
        self.ack_after(ms, 0, ranges);
    }

    fn ack_after(&mut self, ms: u64, delay: u32, ranges: &[(u64, u64)]) {
        self.outcome.clear();
        let (largest, ranges) = (ranges[0].1, ranges.iter().copied());
        self.recovery
            .on_ack(at(ms), largest, delay * MS, ranges, &mut self.outcome)
            .unwrap();
    }

    fn expire(&mut self) -> (Time, bool) {
        self.outcome.clear();
        let now = self.recovery.timeout().unwrap();
        (now, self.recovery.on_timeout(now, &mut self.outcome))
    }

    fn acked(&self) -> Vec<u64> {
        self.outcome.acked.iter().map(|it| it.counter).collect()
    }

    fn lost(&self) -> Vec<u64> {
        self.outcome.lost.iter().map(|it| it.counter).collect()
    }

    fn spurious(&self) -> Vec<u64> {
        self.outcome.spurious.iter().map(|it| it.counter).collect()
    }
}

#[test]
fn third_packet_after_it_shows_a_loss() {
    let mut side = Side::with_rtt(20);
    for counter in 1..=4 {
        side.send(counter, 20);
    }
    side.ack(40, &[(2, 2), (0, 0)]);
    assert_eq!((side.acked(), side.lost()), (vec![2], vec![]));
    side.ack(40, &[(2, 3), (0, 0)]);
    assert_eq!((side.acked(), side.lost()), (vec![3], vec![]));
    side.ack(40, &[(2, 4), (0, 0)]);
    assert_eq!((side.acked(), side.lost()), (vec![4], vec![1]));
    assert_eq!(side.recovery.inflight(), 0);
    assert_eq!(side.recovery.timeout(), None);
}

#[test]
fn older_packet_is_lost_an_eighth_of_the_round_trip_later() {
    let mut side = Side::with_rtt(80);
    side.send(1, 80);
    side.send(2, 80);
    side.ack(160, &[(2, 2)]);
    assert_eq!(side.lost(), []);
    assert_eq!(side.recovery.timeout(), Some(at(170)));
    // Too early a call changes nothing.
    side.outcome.clear();
    assert!(!side.recovery.on_timeout(at(169), &mut side.outcome));
    assert_eq!(side.lost(), []);
    assert_eq!(side.recovery.timeout(), Some(at(170)));
    assert_eq!(side.expire(), (at(170), false));
    assert_eq!(side.lost(), [1]);
    assert_eq!(side.recovery.timeout(), None);
}

#[test]
fn window_for_late_packets_is_a_millisecond_at_least() {
    let mut side = Side::with_rtt(2);
    side.send(1, 10);
    side.send(2, 10);
    side.ack(12, &[(2, 2)]);
    assert_eq!(side.recovery.timeout(), Some(at(13)));
}

#[test]
fn same_acknowledgement_again_changes_nothing() {
    let mut side = Side::with_rtt(20);
    for counter in 1..=9 {
        side.send(counter, 20);
    }
    side.ack(40, &[(5, 9), (0, 0)]);
    assert_eq!(side.lost(), [1, 2, 3, 4]);
    for ms in 41..100 {
        side.ack(ms, &[(5, 9), (0, 0)]);
        assert_eq!((side.acked(), side.lost()), (vec![], vec![]));
        assert_eq!(side.outcome.rtt, None);
    }
}

#[test]
fn packet_that_was_never_sent_cannot_be_acknowledged() {
    let mut side = Side::new();
    let lie = side
        .recovery
        .on_ack(at(0), 0, MS, [(0, 0)].into_iter(), &mut side.outcome);
    assert_eq!(lie, Err(AckOfUnsent { counter: 0 }));
    side.send(7, 0);
    let lie = side
        .recovery
        .on_ack(at(1), 8, MS, [(0, 8)].into_iter(), &mut side.outcome);
    assert_eq!(lie, Err(AckOfUnsent { counter: 8 }));
    assert!(side.outcome.acked.is_empty());
    assert_eq!(side.recovery.inflight(), 1_000);
    side.recovery.on_silent(8);
    side.ack(1, &[(0, 8)]);
    assert_eq!(side.acked(), [7]);
}

#[test]
fn silent_packets_take_no_room_and_still_count_as_later_ones() {
    let mut side = Side::with_rtt(20);
    side.send(1, 20);
    for counter in 2..1_000_000 {
        side.recovery.on_silent(counter);
    }
    side.send(1_000_000, 20);
    assert_eq!(side.recovery.packets.len(), 2);
    side.ack(40, &[(1_000_000, 1_000_000)]);
    assert_eq!(side.lost(), [1]);
}

#[test]
fn round_trip_is_measured_at_the_largest_packet_only() {
    let mut side = Side::with_rtt(20);
    side.send(1, 30);
    side.send(2, 30);
    side.ack(50, &[(2, 2)]);
    assert_eq!(side.outcome.rtt, Some(20 * MS));
    // Late, and not the largest.
    side.ack(52, &[(1, 2)]);
    assert_eq!((side.acked(), side.outcome.rtt), (vec![1], None));
    // The largest is no packet of which the time is kept.
    side.send(3, 60);
    side.recovery.on_silent(4);
    side.ack(90, &[(1, 4)]);
    assert_eq!((side.acked(), side.outcome.rtt), (vec![3], None));
}

#[test]
fn round_trip_of_a_retransmission_is_its_own() {
    let mut side = Side::with_rtt(20);
    let again = Sent {
        content: Content::Source { seq: 2 },
        ..sent(5, at(60))
    };
    side.send(1, 20);
    side.recovery.on_sent(again);
    side.ack(80, &[(5, 5)]);
    assert_eq!(side.outcome.rtt, Some(20 * MS));
    assert_eq!(side.recovery.rtt().latest, 20 * MS);
}

#[test]
fn delay_of_the_peer_is_taken_off_but_never_below_the_shortest() {
    let mut side = Side::with_rtt(20);
    side.send(1, 100);
    side.ack_after(124, 3, &[(1, 1)]);
    assert_eq!(side.outcome.rtt, Some(21 * MS));
    side.send(2, 200);
    side.ack_after(221, 5, &[(2, 2)]);
    assert_eq!(side.outcome.rtt, Some(20 * MS));
    // More than the peer may wait is not believed.
    side.send(3, 300);
    side.ack_after(340, 30, &[(3, 3)]);
    assert_eq!(side.outcome.rtt, Some(35 * MS));
    assert_eq!(side.recovery.rtt().min, 20 * MS);
    assert_eq!(side.recovery.rtt().latest, 40 * MS);
}

#[test]
fn smoothed_round_trip_follows_the_samples() {
    let mut side = Side::with_rtt(20);
    assert!(side.recovery.rtt().is_sampled());
    assert_eq!(side.recovery.rtt().variation, 10 * MS);
    side.send(1, 100);
    side.ack(128, &[(1, 1)]);
    assert_eq!(side.recovery.rtt().smoothed, 21 * MS);
    assert_eq!(side.recovery.rtt().variation, Duration::from_micros(9_500));
}

#[test]
fn packet_given_up_too_early_is_told_and_widens_the_window() {
    let mut side = Side::with_rtt(80);
    for counter in 1..=4 {
        side.send(counter, 80);
    }
    side.ack(160, &[(2, 4)]);
    assert_eq!(side.lost(), [1]);
    side.ack(161, &[(1, 4)]);
    assert_eq!((side.acked(), side.spurious()), (vec![], vec![1]));
    // The count of three is suspended; a quarter of the round trip is waited for.
    for counter in 5..=9 {
        side.send(counter, 200);
    }
    side.ack(280, &[(6, 9), (0, 4)]);
    assert_eq!(side.lost(), []);
    assert_eq!(side.recovery.timeout(), Some(at(300)));
    // It is told once.
    side.ack(281, &[(6, 9), (0, 4)]);
    assert_eq!(side.spurious(), []);
}

#[test]
fn window_grows_to_one_round_trip_and_shrinks_after_sixteen_real_losses() {
    let mut side = Side::with_rtt(80);
    let (mut counter, mut ms) = (1, 100);
    let mut mistake = |side: &mut Side| {
        side.send(counter, ms);
        side.send(counter + 1, ms);
        side.ack(ms + 80, &[(counter + 1, counter + 1)]);
        let lost_at = side.recovery.timeout().unwrap();
        side.expire();
        assert_eq!(side.lost(), [counter]);
        side.ack(ms + 200, &[(counter, counter + 1)]);
        assert_eq!(side.spurious(), [counter]);
        let waited = lost_at.since(at(ms));
        (counter, ms) = (counter + 2, ms + 1_000);
        waited
    };
    let waits: Vec<_> = (0..5).map(|_| mistake(&mut side)).collect();
    assert_eq!(waits, [90 * MS, 100 * MS, 120 * MS, 160 * MS, 160 * MS]);

    for round in 0..16 {
        assert_eq!(side.recovery.reorder.packets(), u64::MAX, "round {round}");
        side.send(counter, ms);
        side.send(counter + 1, ms);
        side.ack(ms + 80, &[(counter + 1, counter + 1)]);
        side.expire();
        assert_eq!(side.lost(), [counter]);
        (counter, ms) = (counter + 2, ms + 1_000);
    }
    assert_eq!(side.recovery.reorder.packets(), 3);
}

#[test]
fn mistakes_of_one_round_trip_widen_the_window_once() {
    let mut side = Side::with_rtt(80);
    for counter in 1..=20 {
        side.send(counter, 100);
    }
    side.ack(180, &[(10, 20)]);
    assert_eq!(side.lost(), (1..10).collect::<Vec<_>>());
    for counter in (1..10).rev() {
        side.ack(181, &[(counter, 20)]);
        assert_eq!(side.spurious(), [counter]);
    }
    let wait = side.recovery.reorder.wait(side.recovery.rtt());
    assert_eq!(wait, 100 * MS);
}

#[test]
fn silence_before_the_first_sample_lasts_300_ms() {
    let mut recovery = Recovery::new();
    assert_eq!(recovery.pto(), 300 * MS);
    assert_eq!(recovery.timeout(), None);
    recovery.on_sent(sent(0, at(7)));
    assert_eq!(recovery.timeout(), Some(at(307)));
}

#[test]
fn probe_has_no_floor_of_200_ms() {
    let mut side = Side::with_rtt(2);
    for counter in 1..40 {
        side.send(counter, counter * 10);
        side.ack(counter * 10 + 2, &[(counter, counter)]);
    }
    side.send(40, 1_000);
    let (probe_at, due) = side.expire();
    assert!(due);
    // RTT, the least margin, and the delay of the peer.
    assert_eq!(probe_at.since(at(1_000)).as_millis(), 8);
    assert_eq!(side.lost(), []);
}

#[test]
fn probes_in_silence_come_at_doubling_distances_up_to_two_seconds() {
    let mut side = Side::with_rtt(20);
    side.send(1, 100);
    let pto = side.recovery.pto();
    assert_eq!(pto, 65 * MS);
    let mut before = at(100);
    let mut waits = Vec::new();
    for counter in 2..12 {
        let (now, due) = side.expire();
        assert!(due);
        waits.push(now.since(before).as_millis());
        before = now;
        side.recovery.on_sent(sent(counter, now));
    }
    assert_eq!(
        waits,
        [65, 130, 260, 520, 1_040, 2_000, 2_000, 2_000, 2_000, 2_000]
    );
    assert_eq!(side.lost(), []);
    // The first answer ends that.
    side.ack(20_000, &[(11, 11)]);
    assert_eq!(side.recovery.probes(), 0);
}

#[test]
fn timer_never_stands_still_though_no_probe_is_sent() {
    let mut side = Side::with_rtt(20);
    side.send(1, 100);
    let mut before = at(100);
    for _ in 0..100 {
        let (now, due) = side.expire();
        assert!(due && now > before);
        before = now;
    }
}

#[test]
fn slow_path_keeps_its_own_wait_for_probes() {
    let mut side = Side::with_rtt(3_000);
    side.send(1, 3_000);
    let (now, due) = side.expire();
    assert!(due);
    assert_eq!(now.since(at(3_000)), side.recovery.pto());
    assert!(side.recovery.pto() > 2_000 * MS);
}

#[test]
fn other_path_is_measured_anew() {
    let mut side = Side::with_rtt(2);
    side.send(1, 100);
    side.recovery.on_path_change();
    assert!(!side.recovery.rtt().is_sampled());
    assert_eq!(side.recovery.inflight(), 1_000);
    side.ack(180, &[(1, 1)]);
    assert_eq!(side.recovery.rtt().smoothed, 80 * MS);
}

#[test]
fn what_is_remembered_of_the_past_is_bounded() {
    let mut side = Side::with_rtt(20);
    let (mut counter, mut ms) = (1, 100);
    for _ in 0..5_000 {
        // Every second packet is lost.
        side.send(counter, ms);
        side.send(counter + 1, ms);
        side.ack(ms + 20, &[(counter + 1, counter + 1)]);
        (counter, ms) = (counter + 2, ms + 30);
    }
    assert!(side.recovery.packets.len() < 8);
    assert_eq!(side.recovery.given_up.len(), GIVEN_UP_MAX);
    assert!(side.recovery.acked.len() <= ACKED_RANGES);
    assert!(side.recovery.inflight() <= 2_000);
    // One that is forgotten stays lost; one that is remembered is known.
    side.ack(
        ms,
        &[
            (counter - 1, counter - 1),
            (counter - 1_000, counter - 1_000),
            (1, 1),
        ],
    );
    assert_eq!(side.spurious(), [counter - 1_000]);
}

#[test]
fn large_flights_cost_what_is_new() {
    let mut side = Side::with_rtt(20);
    let flight = 200_000;
    for counter in 1..=flight {
        side.send(counter, 20);
    }
    // Each acknowledgement tells the whole past again, the oldest packet excepted, which the
    // network delivers last; with an RTT of 20 ms everything happens at 39 ms.
    side.recovery.reorder.on_spurious(0, None);
    for counter in 2..=flight {
        side.ack(39, &[(2, counter)]);
        assert_eq!(side.outcome.acked.len(), 1);
        assert_eq!(side.lost(), []);
    }
    assert_eq!(side.recovery.inflight(), 1_000);
    side.ack(39, &[(1, flight)]);
    assert_eq!(side.recovery.inflight(), 0);
    assert!(side.recovery.packets.is_empty());
}
