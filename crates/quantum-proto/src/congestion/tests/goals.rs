//! What is asked of the whole: utilisation, queues, shares, and no delay for those who send little.

use std::time::Duration;

use super::link::{App, Link, Net, mbit, ms};
use crate::Time;
use crate::congestion::{Phase, State};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Megabits per second that each flow brought across in `time` from now.
fn rates(net: &mut Net, time: Duration) -> Vec<f64> {
    let before: Vec<u64> = net.flows.iter().map(|flow| flow.delivered).collect();
    net.run_for(time);
    let rate = |(flow, before): (&super::link::Flow, u64)| {
        (flow.delivered - before) as f64 / time.as_secs_f64() / mbit(1.0)
    };
    net.flows.iter().zip(before).map(rate).collect()
}

#[track_caller]
fn assert_between(what: &str, value: f64, from: f64, to: f64) {
    assert!(
        (from..=to).contains(&value),
        "{what}: {value:.3} is not within {from} to {to}"
    );
}

/// Share of what the random loss leaves, over 10 s after the start.
fn utilisation(loss: f64) -> f64 {
    let link = Link::new(mbit(100.0), ms(20), 1.0).with_loss(loss);
    let mut net = Net::single(link, App::Bulk);
    net.run_for(seconds(2));
    rates(&mut net, seconds(10))[0] / (100.0 * (1.0 - loss))
}

#[test]
fn random_loss_hardly_costs_bandwidth() {
    for (loss, least) in [
        (0.0, 0.98),
        (0.001, 0.98),
        (0.01, 0.97),
        (0.05, 0.95),
        (0.1, 0.85),
    ] {
        assert_between(&format!("loss {loss}"), utilisation(loss), least, 1.001);
    }
}

#[test]
fn neither_reordering_nor_late_acknowledgements_look_like_congestion() {
    for (jitter, ack_every) in [(1, 0), (5, 0), (0, 5), (0, 20)] {
        for loss in [0.0, 0.05] {
            let link = Link::new(mbit(100.0), ms(20), 2.0).with_loss(loss);
            let mut net = Net::single(link, App::Bulk);
            net.link.jitter = ms(jitter);
            net.link.ack_every = ms(ack_every);
            net.run_for(seconds(2));
            let share = rates(&mut net, seconds(6))[0] / (100.0 * (1.0 - loss));
            let case = format!("jitter {jitter} ms, late by {ack_every} ms, loss {loss}");
            assert_between(&case, share, 0.93, 1.01);
        }
    }
}

#[test]
fn a_deep_buffer_is_not_filled() {
    let mut net = Net::single(Link::new(mbit(100.0), ms(20), 4.0), App::Bulk);
    net.run_for(seconds(15));
    let queue = net.link.longest_queue as f64 / net.link.bdp() as f64;
    assert_between("longest queue in BDP", queue, 0.0, 1.5);
    assert_eq!(net.flows[0].lost, 0);
}

#[test]
fn a_shallow_buffer_is_not_flooded() {
    let mut net = Net::single(Link::new(mbit(100.0), ms(20), 0.1), App::Bulk);
    net.run_for(seconds(3));
    let (sent, lost) = (net.flows[0].sent, net.flows[0].lost);
    let rate = rates(&mut net, seconds(15))[0];
    let flow = &net.flows[0];
    let loss = (flow.lost - lost) as f64 / (flow.sent - sent) as f64;
    assert_between("rate", rate, 95.0, 100.0);
    assert_between("loss", loss, 0.0, 0.02);
}

#[test]
fn two_flows_share() {
    for buffer in [0.2, 0.5, 1.0, 2.0, 4.0] {
        let mut net = Net::new(Link::new(mbit(100.0), ms(20), buffer));
        net.add_bbr(Time::ZERO, App::Bulk);
        net.add_bbr(Time::after(seconds(3)), App::Bulk);
        // Whoever comes late needs some probes to get its share.
        net.run_for(seconds(20));
        let rates = rates(&mut net, seconds(20));
        assert_between("ratio", rates[0] / rates[1], 0.5, 2.0);
        assert_between("sum", rates[0] + rates[1], 92.0, 100.0);
    }
}

#[test]
fn cubic_keeps_half_of_its_fair_share_and_so_do_we() {
    for buffer in [1.0, 2.0] {
        for cubic_first in [false, true] {
            let later = Time::after(seconds(3));
            let mut net = Net::new(Link::new(mbit(100.0), ms(20), buffer));
            net.add_bbr(if cubic_first { later } else { Time::ZERO }, App::Bulk);
            net.add_cubic(if cubic_first { Time::ZERO } else { later });
            net.run_for(seconds(15));
            let rates = rates(&mut net, seconds(40));
            assert_between("BBR", rates[0], 25.0, 75.0);
            assert_between("CUBIC", rates[1], 25.0, 75.0);
        }
    }
}

#[test]
fn small_requests_never_wait_for_window_or_pacer() {
    for rtt in [1, 20, 80, 200] {
        for loss in [0.0, 0.1] {
            let link = Link::new(mbit(100.0), ms(rtt), 1.0).with_loss(loss);
            let app = App::Periodic {
                bytes: 1_000,
                every: ms(5),
            };
            let mut net = Net::single(link, app);
            // Ten packets are allowed before the path is known.
            net.run_for(seconds(1));
            net.flows[0].longest_wait = Duration::ZERO;
            net.run_for(seconds(30));
            let waited = net.flows[0].longest_wait;
            assert_eq!(waited, Duration::ZERO, "rtt {rtt} ms, loss {loss}");
        }
    }
}

#[test]
fn small_requests_do_not_wait_after_bulk_either() {
    let link = Link::new(mbit(100.0), ms(20), 1.0).with_loss(0.1);
    let mut net = Net::single(link, App::Bulk);
    net.run_for(seconds(5));
    net.flows[0].app = App::Periodic {
        bytes: 1_000,
        every: ms(5),
    };
    net.flows[0].written_until = net.now;
    net.run_for(seconds(1));
    net.flows[0].longest_wait = Duration::ZERO;
    net.run_for(seconds(30));
    assert_eq!(net.flows[0].longest_wait, Duration::ZERO);
}

#[test]
fn after_a_minute_of_silence_the_full_rate_is_back_within_three_rounds() {
    let mut net = Net::single(Link::new(mbit(100.0), ms(20), 1.0), App::Bulk);
    let (from, to) = (Time::after(seconds(5)), Time::after(seconds(65)));
    net.flows[0].silent = Some((from, to));
    net.run_for(seconds(65));
    let first_rounds = rates(&mut net, ms(60))[0];
    let next_rounds = rates(&mut net, ms(200))[0];
    // The first of the three rounds brings nothing: its packets are on their way.
    assert_between("first rounds", first_rounds, 60.0, 100.0);
    assert_between("next rounds", next_rounds, 95.0, 100.1);
}

#[test]
fn a_rate_that_drops_to_a_quarter_is_followed() {
    for buffer in [0.5, 1.0, 4.0] {
        let mut net = Net::single(Link::new(mbit(100.0), ms(20), buffer), App::Bulk);
        net.run_for(seconds(5));
        let now = net.now;
        net.link.set_rate(now, mbit(25.0));
        net.run_for(seconds(6));
        let (sent, lost) = (net.flows[0].sent, net.flows[0].lost);
        let rate = rates(&mut net, seconds(5))[0];
        let flow = &net.flows[0];
        let loss = (flow.lost - lost) as f64 / (flow.sent - sent) as f64;
        assert_between("rate", rate, 23.5, 25.1);
        assert_between("loss", loss, 0.0, 0.02);
        let estimate = flow.bbr().bandwidth() as f64 / mbit(1.0);
        assert_between("estimate", estimate, 23.0, 27.0);
    }
}

#[test]
fn a_rate_that_quadruples_is_found() {
    let mut net = Net::single(Link::new(mbit(25.0), ms(20), 4.0), App::Bulk);
    net.run_for(seconds(5));
    let now = net.now;
    net.link.set_rate(now, mbit(100.0));
    net.run_for(seconds(5));
    assert_between("rate", rates(&mut net, seconds(5))[0], 95.0, 100.0);
}

#[test]
fn a_blackout_is_survived() {
    let mut net = Net::single(Link::new(mbit(100.0), ms(20), 1.0), App::Bulk);
    net.run_for(seconds(3));
    net.link.loss = 1.0;
    net.run_for(seconds(3));
    net.link.loss = 0.0;
    net.run_for(seconds(2));
    assert_between("rate", rates(&mut net, seconds(3))[0], 90.0, 100.0);
}

#[test]
fn paths_from_64_kbit_to_1_gbit_are_filled() {
    for (rate, rtt, time) in [
        (0.064, 200, 60),
        (1.0, 1_000, 60),
        (10.0, 1, 3),
        (1_000.0, 2, 1),
    ] {
        let mut net = Net::single(Link::new(mbit(rate), ms(rtt), 2.0), App::Bulk);
        net.link.buffer = net.link.buffer.max(6_000);
        net.run_for(ms(500 * time));
        let share = rates(&mut net, ms(500 * time))[0] / rate;
        assert_between(&format!("{rate} Mbit/s, {rtt} ms"), share, 0.85, 1.02);
    }
}

#[test]
fn marks_hold_the_queue_down() {
    let mut link = Link::new(mbit(100.0), ms(20), 4.0);
    link.mark_above = Some(link.bdp() / 4);
    let mut net = Net::single(link, App::Bulk);
    net.run_for(seconds(3));
    net.link.longest_queue = 0;
    let rate = rates(&mut net, seconds(10))[0];
    let queue = net.link.longest_queue as f64 / net.link.bdp() as f64;
    assert_between("rate", rate, 85.0, 100.0);
    assert_between("queue in BDP", queue, 0.0, 0.6);
    assert_eq!(net.flows[0].lost, 0);
}

#[test]
fn the_window_is_kept_at_all_times() {
    let link = Link::new(mbit(100.0), ms(20), 1.0).with_loss(0.02);
    let mut net = Net::single(link, App::Bulk);
    let mut seen = Vec::new();
    net.run_until(Time::after(seconds(12)), |net| {
        let state = net.bbr().state();
        if seen.last() != Some(&state) {
            seen.push(state);
        }
        assert!(net.bbr().cwnd() >= 4 * super::link::MSS);
        assert!(net.bbr().pacing_rate() > 0);
        false
    });
    for phase in [Phase::Down, Phase::Cruise, Phase::Refill, Phase::Up] {
        assert!(
            seen.contains(&State::ProbeBw(phase)),
            "{phase:?} was never entered"
        );
    }
}
