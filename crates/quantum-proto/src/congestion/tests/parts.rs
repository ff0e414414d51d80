//! The parts by themselves, and numbers beyond reason.

use std::time::Duration;

use super::link::{MSS, ms};
use crate::Time;
use crate::congestion::filter::{MaxBandwidth, MaxOverRounds};
use crate::congestion::loss::{Losses, Sign};
use crate::congestion::rate::Sampler;
use crate::congestion::{Bbr, Delivered, Pacer, Round, Settings, State};

fn at(micros: u64) -> Time {
    Time::after(Duration::from_micros(micros))
}

const SETTINGS: Settings = Settings {
    startup_gain: 2.77,
    max_cwnd: 78_000_000,
    mss: MSS,
};

// --- Pacer ---

#[test]
fn the_first_ten_packets_leave_at_once() {
    let mut pacer = Pacer::new(at(0), 1_000_000, MSS);
    for _ in 0..10 {
        assert_eq!(pacer.ready_at(at(0), MSS), at(0));
        pacer.on_send(at(0), MSS);
    }
    assert!(pacer.ready_at(at(0), MSS) > at(0));
}

#[test]
fn the_long_term_rate_is_the_pacing_rate() {
    for rate in [8_000, 125_000, 12_500_000, 1_250_000_000_u64] {
        let mut pacer = Pacer::new(at(0), rate, MSS);
        let (mut now, mut sent) = (at(0), 0);
        let end = at(20_000_000);
        while now < end && sent < rate * 20 {
            let ready = pacer.ready_at(now, MSS);
            if ready > now {
                now = ready;
            } else {
                pacer.on_send(now, MSS);
                sent += MSS;
            }
            if sent > 20_000_000 {
                break;
            }
        }
        let possible = rate as f64 * now.elapsed().as_secs_f64();
        let burst = 65_536.0 + 12_000.0;
        assert!(
            sent as f64 <= possible + burst,
            "{rate}: {sent} of {possible}"
        );
        assert!(
            sent as f64 >= possible * 0.99 - burst,
            "{rate}: {sent} of {possible}"
        );
    }
}

#[test]
fn a_sender_that_wakes_late_loses_no_throughput() {
    let rate = 12_500_000;
    let mut pacer = Pacer::new(at(0), rate, MSS);
    let (mut now, mut sent) = (at(0), 0_u64);
    while now < at(1_000_000) {
        let ready = pacer.ready_at(now, MSS);
        if ready > now {
            // A timer that fires 1.2 ms late.
            now = ready + Duration::from_micros(1_200);
        } else {
            pacer.on_send(now, MSS);
            sent += MSS;
        }
    }
    assert!(sent as f64 > rate as f64 * 0.98, "{sent}");
    assert!((sent as f64) < rate as f64 * 1.02 + 12_000.0, "{sent}");
}

#[test]
fn asking_often_does_not_postpone_the_answer() {
    let mut pacer = Pacer::new(at(0), 1_200_000, MSS);
    for _ in 0..10 {
        pacer.on_send(at(0), MSS);
    }
    let told = pacer.ready_at(at(0), MSS);
    assert!(told > at(0));
    for now in 1..500 {
        assert!(pacer.ready_at(at(now), MSS) <= told);
    }
    assert_eq!(pacer.ready_at(told, MSS), told);
}

#[test]
fn a_faster_rate_shortens_the_wait() {
    let mut pacer = Pacer::new(at(0), 10_000, MSS);
    for _ in 0..12 {
        pacer.on_send(at(0), MSS);
    }
    let slow = pacer.ready_at(at(0), MSS);
    pacer.set_rate(at(0), 10_000_000);
    let fast = pacer.ready_at(at(0), MSS);
    assert!(fast < slow);
}

#[test]
fn a_pacer_saves_ten_packets_up_only_for_who_had_nothing_to_send() {
    let rate = 1_200_000;
    let mut pacer = Pacer::new(at(0), rate, MSS);
    while pacer.ready_at(at(0), MSS) == at(0) {
        pacer.on_send(at(0), MSS);
    }
    let burst = |pacer: &mut Pacer, now: Time| {
        let mut packets = 0;
        while pacer.ready_at(now, MSS) == now {
            pacer.on_send(now, MSS);
            packets += 1;
        }
        packets
    };
    // Two packets are a quantum; two milliseconds of lateness are two more.
    assert!(burst(&mut pacer, at(1_000_000)) <= 4);
    pacer.on_app_limited();
    assert_eq!(burst(&mut pacer, at(2_000_000)), 10);
}

#[test]
fn a_pacer_survives_nonsense() {
    for (rate, mss) in [(0, 0), (u64::MAX, u64::MAX), (1, u64::MAX), (u64::MAX, 0)] {
        let mut pacer = Pacer::new(Time::NEVER, rate, mss);
        pacer.on_send(Time::ZERO, u64::MAX);
        let ready = pacer.ready_at(at(5), u64::MAX);
        assert!(ready <= at(5) + Duration::from_secs(2));
        pacer.set_rate(at(4), 0);
        pacer.set_mss(0);
        pacer.on_app_limited();
        assert!(pacer.ready_at(at(6), 0) >= at(6));
    }
}

// --- Filters ---

#[test]
fn the_bandwidth_of_two_cycles_ago_is_forgotten() {
    let mut max = MaxBandwidth::default();
    max.update(10.0);
    max.advance();
    max.update(5.0);
    assert_eq!(max.get(), 10.0);
    max.advance();
    assert_eq!(max.get(), 5.0);
    // A cycle without samples does not count.
    max.advance();
    max.advance();
    assert_eq!(max.get(), 5.0);
}

#[test]
fn a_maximum_lives_for_its_window() {
    let mut max = MaxOverRounds::default();
    max.update(1, 100, 10);
    for round in 2..=11 {
        max.update(round, 50, 10);
        assert_eq!(max.get(), 100, "round {round}");
    }
    max.update(12, 50, 10);
    assert_eq!(max.get(), 50);
    max.update(13, 70, 10);
    assert_eq!(max.get(), 70);
}

// --- Samples ---

#[test]
fn acknowledgements_that_come_together_do_not_look_like_a_fast_path() {
    let mut sampler = Sampler::new(at(0));
    sampler.on_rtt(ms(20));
    let mut inflight = 0;
    let mut packets = Vec::new();
    for n in 0..20 {
        let now = at(n * 1_000);
        packets.push(Delivered {
            stamp: sampler.on_send(now, 1_000, inflight),
            sent: now,
            bytes: 1_000,
        });
        inflight += 1_000;
    }
    // Sent over 19 ms, acknowledged all at once after 40 ms.
    let sample = sampler.on_acked(at(40_000), &packets);
    assert_eq!(sample.delivered, 20_000);
    assert!((sample.rate - 500_000.0).abs() < 1.0, "{}", sample.rate);
}

#[test]
fn an_interval_shorter_than_the_least_rtt_gives_no_sample() {
    let mut sampler = Sampler::new(at(0));
    sampler.on_rtt(ms(20));
    let stamp = sampler.on_send(at(0), 1_000, 0);
    let packet = Delivered {
        stamp,
        sent: at(0),
        bytes: 1_000,
    };
    assert_eq!(sampler.on_acked(at(5_000), &[packet]).rate, 0.0);
}

#[test]
fn samples_are_app_limited_until_what_was_in_flight_is_delivered() {
    let mut sampler = Sampler::new(at(0));
    let first = sampler.on_send(at(0), 1_000, 0);
    sampler.on_app_limited(1_000);
    let second = sampler.on_send(at(1), 1_000, 1_000);
    let packet = |stamp, sent| Delivered {
        stamp,
        sent,
        bytes: 1_000,
    };
    assert!(
        !sampler
            .on_acked(at(20_000), &[packet(first, at(0))])
            .is_app_limited()
    );
    assert!(sampler.is_app_limited());
    assert!(
        sampler
            .on_acked(at(20_001), &[packet(second, at(1))])
            .is_app_limited()
    );
    assert!(!sampler.is_app_limited());
}

// --- Losses ---

fn round(losses: &mut Losses, acked: u64, lost: u32, rtt: Duration) {
    losses.on_acked(acked * MSS, false);
    losses.on_rtt(rtt);
    for n in 0..lost {
        losses.on_lost(MSS as u32, n * 2);
    }
}

#[test]
fn loss_is_congestion_only_with_another_sign_or_above_ten_percent() {
    let congested = |lost, sign| {
        let mut losses = Losses::default();
        round(&mut losses, 200 - u64::from(lost), lost, ms(20));
        losses.round_is_congested(sign, MSS)
    };
    assert!(!congested(3, Sign::Congestion));
    assert!(congested(5, Sign::Congestion));
    assert!(!congested(20, Sign::None));
    assert!(congested(40, Sign::None));
}

#[test]
fn what_was_lost_without_a_queue_is_expected_with_one() {
    let mut losses = Losses::default();
    for _ in 0..10 {
        round(&mut losses, 190, 10, ms(20));
        losses.end_round(true);
    }
    assert!((losses.background() - 0.05).abs() < 0.001);
    round(&mut losses, 188, 12, ms(40));
    assert!(losses.saw_queue(Some(ms(20))));
    assert!(!losses.round_is_congested(Sign::Congestion, MSS));
    losses.reset_round();
    round(&mut losses, 170, 30, ms(40));
    assert!(losses.round_is_congested(Sign::Congestion, MSS));
}

#[test]
fn a_mark_is_congestion_by_itself() {
    let mut losses = Losses::default();
    losses.on_marked();
    assert!(losses.round_is_congested(Sign::None, MSS));
}

// --- The whole, with numbers beyond reason ---

#[test]
fn numbers_beyond_reason_do_no_harm() {
    let mut seed = 1_u64;
    let mut next = move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    let odd = [
        0,
        1,
        2,
        1_200,
        65_507,
        1 << 31,
        u64::from(u32::MAX),
        u64::MAX,
    ];
    for gain in [f64::NAN, f64::INFINITY, -1.0, 0.0, 2.77, 1e300] {
        let mss = odd[(next() % 8) as usize];
        let settings = Settings {
            startup_gain: gain,
            max_cwnd: odd[(next() % 8) as usize],
            mss,
        };
        let mut bbr = Bbr::new(Time::ZERO, settings, next());
        let mut sent: Vec<Delivered> = Vec::new();
        let mut now = Time::ZERO;
        for _ in 0..4_000 {
            // Sometimes the clock stands, sometimes it leaps, and once it is at its end.
            now = match next() % 50 {
                0 => now + Duration::from_secs(next() % 100),
                1 => now + Duration::from_secs(next()),
                n => now + Duration::from_micros(n * 100),
            };
            let bytes = odd[(next() % 8) as usize] as u32;
            let inflight = odd[(next() % 8) as usize];
            match next() % 8 {
                0 => bbr.on_app_limited(inflight),
                1 => bbr.on_path_change(now),
                2 => bbr.set_mss(odd[(next() % 8) as usize]),
                3 => bbr.on_spurious(now, &sent[..sent.len().min(3)]),
                4 => {
                    let cut = (next() as usize % (sent.len() + 1)).min(20);
                    let lost = (next() as usize % (cut + 1)).min(cut);
                    let round = Round {
                        acked: &sent[lost..cut],
                        lost: &sent[..lost],
                        rtt: (next() % 2 == 0).then(|| Duration::from_nanos(inflight)),
                        smoothed: Duration::from_nanos(inflight),
                        inflight,
                        ce: next() % 3,
                    };
                    bbr.on_ack(now, &round);
                    sent.drain(..cut);
                }
                _ => {
                    let stamp = bbr.on_send(now, bytes, inflight);
                    sent.push(Delivered {
                        stamp,
                        sent: now,
                        bytes,
                    });
                }
            }
            assert!(bbr.cwnd() >= 4 * 64);
            assert!(bbr.pacing_rate() >= 128);
            assert!(bbr.send_quantum() >= 128);
        }
    }
}

#[test]
fn another_path_starts_anew() {
    let mut bbr = Bbr::new(Time::ZERO, SETTINGS, 1);
    let stamp = bbr.on_send(at(0), 1_200, 0);
    let old = Delivered {
        stamp,
        sent: at(0),
        bytes: 1_200,
    };
    let round = Round {
        acked: &[old],
        lost: &[],
        rtt: Some(ms(20)),
        smoothed: ms(20),
        inflight: 0,
        ce: 0,
    };
    let late = Delivered {
        stamp: bbr.on_send(at(1), 1_200, 1_200),
        ..old
    };
    bbr.on_ack(at(20_000), &round);
    assert_eq!(bbr.min_rtt(), Some(ms(20)));
    bbr.on_path_change(at(30_000));
    assert_eq!(bbr.min_rtt(), None);
    assert_eq!(bbr.bandwidth(), 0);
    assert_eq!(bbr.cwnd(), 10 * MSS);
    assert_eq!(bbr.state(), State::Startup);
    // What was sent on the old path says nothing of the new one.
    bbr.on_ack(
        at(40_000),
        &Round {
            acked: &[late],
            rtt: None,
            ..round
        },
    );
    assert_eq!(bbr.bandwidth(), 0);
}

#[test]
fn the_first_rtt_replaces_the_nominal_one() {
    let mut bbr = Bbr::new(Time::ZERO, SETTINGS, 1);
    assert_eq!(bbr.pacing_rate(), (2.77 * 12_000.0 * 1_000.0) as u64);
    let packets: Vec<Delivered> = (0..10)
        .map(|n| Delivered {
            stamp: bbr.on_send(at(0), 1_200, n * 1_200),
            sent: at(0),
            bytes: 1_200,
        })
        .collect();
    let round = Round {
        acked: &packets[..1],
        lost: &[],
        rtt: Some(ms(100)),
        smoothed: ms(100),
        inflight: 10_800,
        ce: 0,
    };
    bbr.on_ack(at(100_000), &round);
    assert_eq!(bbr.pacing_rate(), (2.77 * 12_000.0 * 10.0) as u64);
}

#[test]
fn settings_hold_at_once() {
    let mut bbr = Bbr::new(Time::ZERO, SETTINGS, 1);
    bbr.set(Settings {
        max_cwnd: 6_000,
        ..SETTINGS
    });
    assert_eq!(bbr.cwnd(), 6_000);
    bbr.set(Settings {
        max_cwnd: 0,
        ..SETTINGS
    });
    assert_eq!(bbr.cwnd(), 4 * MSS);
}
