//! The draft's example cases, by their names, and what we added to its state machine.
//!
//! Of the draft's cases only "Handling Spurious RTO Recovery" has no counterpart: there is no
//! timeout here that cuts the window. A probe timeout sends probes; what it declares lost goes
//! the way of all losses, and back if it was spurious.

use super::*;
use crate::congestion::tests::link::{App, Flow, Link, MSS, Net, mbit, ms};

const UP: State = State::ProbeBw(Phase::Up);
const DOWN: State = State::ProbeBw(Phase::Down);
const CRUISE: State = State::ProbeBw(Phase::Cruise);
const REFILL: State = State::ProbeBw(Phase::Refill);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A bulk flow over 100 Mbit/s and 20 ms.
fn bulk(buffer_bdp: f64) -> Net {
    Net::single(Link::new(mbit(100.0), ms(20), buffer_bdp), App::Bulk)
}

#[track_caller]
fn run_until_state(net: &mut Net, state: State) {
    run_until(net, |net| net.bbr().state == state);
}

#[track_caller]
fn run_until(net: &mut Net, done: impl FnMut(&Net) -> bool) {
    let limit = net.now + seconds(60);
    let state = net.bbr().state;
    assert!(
        net.run_until(limit, done),
        "still waiting, from {state:?}, in {:?}",
        net.bbr().state
    );
}

#[track_caller]
fn run_out_of(net: &mut Net, state: State) {
    run_until(net, |net| net.bbr().state != state);
}

fn periodic(net: &mut Net, bytes: u64, every: Duration) {
    let now = net.now;
    let flow: &mut Flow = &mut net.flows[0];
    flow.app = App::Periodic { bytes, every };
    flow.written_until = now;
}

fn goodput(net: &mut Net, time: Duration) -> f64 {
    let before = net.flows[0].delivered;
    net.run_for(time);
    (net.flows[0].delivered - before) as f64 / time.as_secs_f64() / mbit(1.0)
}

#[test]
fn bbr_exits_startup_on_bandwidth_plateau() {
    let mut net = bulk(4.0);
    run_out_of(&mut net, State::Startup);
    let bbr = net.bbr();
    assert_eq!(bbr.state, State::Drain);
    assert!(bbr.full_bw_now && bbr.full_bw_reached);
    assert_eq!(bbr.full_bw_count, 3);
    let found = bbr.max_bw.get() / mbit(100.0);
    assert!((0.98..=1.02).contains(&found), "{found}");
    assert!(net.now < Time::after(ms(400)), "took {:?}", net.now);
}

#[test]
fn bbr_exits_startup_on_loss_when_application_limited() {
    let link = Link::new(mbit(1_000.0), ms(100), 1.0);
    let mut net = Net::single(
        link,
        App::Periodic {
            bytes: 3_600,
            every: ms(5),
        },
    );
    net.run_for(seconds(2));
    assert_eq!(net.bbr().state, State::Startup);
    net.link.loss = 0.2;
    net.link.rtt = ms(150);
    run_out_of(&mut net, State::Startup);
    assert!(net.bbr().full_bw_now && net.bbr().full_bw_reached);
    // So little is in flight that DRAIN and DOWN are over at once.
    assert_eq!(net.bbr().state, CRUISE);
}

#[test]
fn bbr_stays_in_startup_when_application_limited_with_random_loss() {
    let link = Link::new(mbit(1_000.0), ms(100), 1.0);
    let mut net = Net::single(
        link,
        App::Periodic {
            bytes: 3_600,
            every: ms(5),
        },
    );
    net.run_for(seconds(2));
    net.link.loss = 0.2;
    net.run_for(seconds(20));
    assert_eq!(net.bbr().state, State::Startup);
}

#[test]
fn bbr_exits_drain_based_on_inflight() {
    let mut net = bulk(4.0);
    run_until_state(&mut net, State::Drain);
    assert_eq!(net.bbr().pacing_gain(), 0.5);
    let started = net.bbr().round;
    run_out_of(&mut net, State::Drain);
    let bbr = net.bbr();
    assert!(matches!(bbr.state, State::ProbeBw(_)));
    assert!(bbr.round <= started + DRAIN_ROUNDS);
    assert!(net.flows[0].inflight <= bbr.inflight_for(bbr.bw, 1.0) + 2 * MSS);
}

#[test]
fn bbr_exits_drain_based_on_time() {
    let mut net = bulk(8.0);
    run_until_state(&mut net, State::Drain);
    let started = net.bbr().round;
    // Less than half of the estimate: half of it, as DRAIN sends, does not drain the queue.
    let now = net.now;
    net.link.set_rate(now, mbit(30.0));
    run_out_of(&mut net, State::Drain);
    let bbr = net.bbr();
    assert!(matches!(bbr.state, State::ProbeBw(_)));
    assert_eq!(bbr.round, started + DRAIN_ROUNDS + 1);
    assert!(net.flows[0].inflight > bbr.inflight_for(bbr.bw, 1.0));
}

#[test]
fn bbr_exits_probe_up_on_bandwidth_plateau() {
    let mut net = bulk(4.0);
    run_until_state(&mut net, UP);
    let started = net.bbr().round;
    run_out_of(&mut net, UP);
    let bbr = net.bbr();
    assert_eq!(bbr.state, DOWN);
    assert!(bbr.full_bw_now);
    assert_eq!(bbr.full_bw_count, 3);
    assert!(bbr.round >= started + 3);
    assert!(!bbr.previous_too_high);
    assert_eq!(net.flows[0].lost, 0);
}

#[test]
fn bbr_exits_probe_up_on_loss_when_application_limited() {
    let mut net = bulk(4.0);
    run_until_state(&mut net, UP);
    periodic(&mut net, 24_000, ms(5));
    net.link.loss = 0.3;
    net.link.rtt = ms(30);
    run_out_of(&mut net, UP);
    // So little is in flight that DOWN may be over at once.
    assert!(matches!(net.bbr().state, DOWN | CRUISE));
    assert!(net.bbr().previous_too_high);
    assert!(
        net.bbr()
            .episode
            .is_some_and(|episode| episode.left == Some(UP))
    );
}

#[test]
fn bbr_never_exits_probe_up_or_startup_when_application_limited_without_loss() {
    let mut net = bulk(4.0);
    run_until_state(&mut net, UP);
    periodic(&mut net, 6_000, ms(5));
    net.run_for(seconds(20));
    assert_eq!(net.bbr().state, UP);

    let link = Link::new(mbit(100.0), ms(20), 1.0);
    let mut net = Net::single(
        link,
        App::Periodic {
            bytes: 6_000,
            every: ms(5),
        },
    );
    net.run_for(seconds(20));
    assert_eq!(net.bbr().state, State::Startup);
}

#[test]
fn bbr_exits_probe_down_on_inflight() {
    let mut net = bulk(4.0);
    run_until_state(&mut net, UP);
    run_until_state(&mut net, DOWN);
    assert_eq!(net.bbr().pacing_gain(), 0.9);
    run_out_of(&mut net, DOWN);
    let bbr = net.bbr();
    assert_eq!(bbr.state, CRUISE);
    let inflight = net.flows[0].inflight;
    assert!(inflight <= bbr.inflight_with_headroom());
    assert!(inflight <= bbr.inflight_for(bbr.max_bw.get(), 1.0) + 2 * MSS);
}

#[test]
fn bbr_exits_probe_down_after_max_time() {
    let mut net = bulk(8.0);
    run_until_state(&mut net, UP);
    run_until_state(&mut net, DOWN);
    let (entered, wait) = (net.now, net.bbr().probe_wait);
    let now = net.now;
    net.link.set_rate(now, mbit(60.0));
    run_out_of(&mut net, DOWN);
    assert_eq!(net.bbr().state, REFILL);
    assert!(net.now.since(entered) > wait);
    assert!(net.now.since(entered) < wait + ms(200));
}

#[test]
fn bbr_enters_and_exits_probe_rtt() {
    let mut net = bulk(4.0);
    net.run_for(seconds(2));
    // A longer path, so that no RTT is as short as before.
    net.link.rtt = ms(22);
    run_until_state(&mut net, State::ProbeRtt);
    assert!(net.now > Time::after(seconds(6)));
    assert_eq!(net.bbr().cwnd_gain(), 0.5);
    assert!(net.bbr().is_probing_rtt());
    let (entered, prior) = (net.now, net.bbr().prior_cwnd);
    run_until(&mut net, |net| net.bbr().probe_rtt_done_at.is_some());
    assert!(net.flows[0].inflight <= net.bbr().probe_rtt_cwnd());
    run_out_of(&mut net, State::ProbeRtt);
    assert_eq!(net.bbr().state, CRUISE);
    assert!(net.now.since(entered) >= ms(200));
    assert!(net.now.since(entered) < ms(350));
    assert!(net.bbr().cwnd() > prior / 2);
    net.run_for(ms(100));
    assert!(goodput(&mut net, seconds(1)) > 95.0);
    net.run_for(seconds(10));
    assert!(
        net.bbr().min_rtt() > Some(ms(22)),
        "the longer path is accepted"
    );
}

#[test]
fn bbr_skips_probe_rtt_when_the_queue_was_empty_anyway() {
    let mut net = bulk(4.0);
    let limit = Time::after(seconds(30));
    let probed = net.run_until(limit, |net| net.bbr().state == State::ProbeRtt);
    assert!(!probed);
}

#[test]
fn bbr_skips_probe_rtt_due_to_application_limited_sending() {
    let mut net = bulk(4.0);
    net.run_for(seconds(2));
    let back = net.now + seconds(8);
    net.flows[0].silent = Some((net.now, back));
    run_until(&mut net, |net| net.bbr().idle_restart);
    assert!(net.now >= back);
    assert!(matches!(net.bbr().state, State::ProbeBw(_)));
    let rate = net.bbr().pacing_rate() as f64 / (net.bbr().bw * PACING_MARGIN);
    assert!((0.999..=1.001).contains(&rate), "{rate}");
    let probed = net.run_until(back + seconds(4), |net| net.bbr().state == State::ProbeRtt);
    assert!(!probed);
}

#[test]
fn bbr_achieves_expected_startup_bandwidth_on_a_link_with_aggregation() {
    let mut link = Link::new(mbit(100.0), ms(20), 4.0);
    link.ack_every = ms(10);
    let mut net = Net::single(link, App::Bulk);
    run_out_of(&mut net, State::Startup);
    let bbr = net.bbr();
    assert!(bbr.aggregation.extra() > 0);
    assert!(bbr.cwnd() > 2 * net.link.bdp());
    let found = bbr.max_bw.get() / mbit(100.0);
    assert!((0.95..=1.15).contains(&found), "{found}");
}

#[test]
fn bbr_achieves_expected_cruise_bandwidth_on_a_link_with_aggregation() {
    let mut net = bulk(4.0);
    run_until_state(&mut net, CRUISE);
    net.link.ack_every = ms(15);
    net.run_for(seconds(1));
    let extra = net.bbr().aggregation.extra() as f64;
    assert!(extra > mbit(100.0) * 0.010, "{extra}");
    assert!(goodput(&mut net, seconds(5)) > 95.0);
}

#[test]
fn bbr_correctly_manages_sub_packet_bdps() {
    let mut link = Link::new(mbit(0.1), ms(20), 1.0);
    link.buffer = 20 * MSS;
    let mut net = Net::single(link, App::Bulk);
    run_until_state(&mut net, CRUISE);
    assert!(net.bbr().cwnd() >= 4 * MSS);
    let rate = net.bbr().pacing_rate() as f64 / mbit(0.1);
    assert!((0.9..=1.05).contains(&rate), "{rate}");
    let rate = goodput(&mut net, seconds(20));
    assert!((0.095..=0.101).contains(&rate), "{rate}");
}

#[test]
fn bbr_increases_bandwidth_10x_and_reaches_full_bandwidth() {
    let mut net = Net::single(Link::new(mbit(10.0), ms(20), 2.0), App::Bulk);
    run_until_state(&mut net, CRUISE);
    let now = net.now;
    net.link.set_rate(now, mbit(100.0));
    net.link.buffer *= 10;
    // As if an earlier probe had met a full queue.
    let bound = 2 * net.bbr().bdp(net.bbr().bw, 1.0);
    net.flows[0].bbr_mut().inflight_longterm = bound;
    run_until_state(&mut net, UP);
    let started = net.now;
    let mut steps = Vec::new();
    run_until(&mut net, |net| {
        let bbr = net.bbr();
        if steps.last() != Some(&bbr.up_rounds) {
            steps.push(bbr.up_rounds);
        }
        bbr.max_bw.get() > mbit(95.0)
    });
    assert!(
        net.now.since(started) < ms(20 * 25),
        "{:?}",
        net.now.since(started)
    );
    assert!(net.bbr().inflight_longterm > bound);
    assert!(
        steps.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{steps:?}"
    );
}

#[test]
fn bbr_decreases_bandwidth_10x_and_max_bandwidth_adapts_down() {
    let mut net = bulk(1.0);
    run_until_state(&mut net, CRUISE);
    let now = net.now;
    net.link.set_rate(now, mbit(10.0));
    run_until(&mut net, |net| net.bbr().bw_shortterm < mbit(50.0));
    assert!(net.now.since(now) < seconds(1), "{:?}", net.now.since(now));
    net.run_for(seconds(9));
    let found = net.bbr().max_bw.get() / mbit(1.0);
    assert!((9.5..=11.0).contains(&found), "{found}");
}

#[test]
fn bbr_handles_token_bucket_policers() {
    let mut link = Link::new(mbit(20.0), ms(20), 1.0);
    link.policer = Some(500_000);
    let mut net = Net::single(link, App::Bulk);
    run_until(&mut net, |net| net.bbr().bw_shortterm.is_finite());
    net.run_for(seconds(5));
    let (sent, lost) = (net.flows[0].sent, net.flows[0].lost);
    let rate = goodput(&mut net, seconds(20));
    let flow = &net.flows[0];
    let loss = (flow.lost - lost) as f64 / (flow.sent - sent) as f64;
    assert!((17.0..=20.5).contains(&rate), "{rate} Mbit/s");
    assert!(loss < 0.1, "{loss}");
}

/// Sends 60 packets, acknowledges the last and declares the others lost, with a visible queue.
fn lose_59(bbr: &mut Bbr, now: Time) -> Vec<Delivered> {
    let packets: Vec<Delivered> = (0..60)
        .map(|n| Delivered {
            stamp: bbr.on_send(now, MSS as u32, 200_000 + n * MSS),
            sent: now,
            bytes: MSS as u32,
        })
        .collect();
    let round = Round {
        acked: &packets[59..],
        lost: &packets[..59],
        rtt: Some(ms(60)),
        smoothed: ms(30),
        inflight: 200_000,
        ce: 0,
    };
    bbr.on_ack(now + ms(60), &round);
    packets[..59].to_vec()
}

#[test]
fn bbr_handles_spurious_fast_recovery() {
    let mut net = bulk(4.0);
    run_until_state(&mut net, UP);
    let now = net.now;
    let bbr = net.flows[0].bbr_mut();
    assert_eq!(bbr.inflight_longterm, u64::MAX);
    let lost = lose_59(bbr, now);
    assert_eq!(bbr.state, DOWN);
    assert!(bbr.previous_too_high);
    assert!(bbr.inflight_longterm < u64::MAX);
    // Part of them is not enough.
    bbr.on_spurious(now + ms(70), &lost[..30]);
    assert_eq!(bbr.state, DOWN);
    bbr.on_spurious(now + ms(71), &lost[30..]);
    assert_eq!(bbr.state, REFILL);
    assert_eq!(bbr.inflight_longterm, u64::MAX);
    assert!(!bbr.previous_too_high);
}

#[test]
fn bbr_restores_the_short_term_model_after_spurious_losses_in_cruise() {
    let mut net = bulk(4.0);
    run_until_state(&mut net, CRUISE);
    let mut now = net.now;
    let bbr = net.flows[0].bbr_mut();
    let cwnd = bbr.cwnd;
    let mut lost = lose_59(bbr, now);
    now = now + ms(60);
    lost.extend(lose_59(bbr, now));
    assert!(bbr.bw_shortterm.is_finite() && bbr.inflight_shortterm < u64::MAX);
    bbr.on_spurious(now + ms(80), &lost);
    assert!(bbr.bw_shortterm.is_infinite());
    assert_eq!(bbr.inflight_shortterm, u64::MAX);
    assert!(bbr.cwnd >= cwnd);
}

#[test]
fn bbr_enters_and_exits_probe_rtt_during_startup() {
    let mut net = Net::single(Link::new(mbit(500.0), ms(1_000), 4.0), App::Bulk);
    net.run_for(ms(2_500));
    net.link.rtt = ms(1_100);
    run_until_state(&mut net, State::ProbeRtt);
    assert!(!net.bbr().full_bw_reached);
    run_out_of(&mut net, State::ProbeRtt);
    assert_eq!(net.bbr().state, State::Startup);
    run_out_of(&mut net, State::Startup);
    let found = net.bbr().max_bw.get() / mbit(500.0);
    assert!((0.9..=1.05).contains(&found), "{found}");
}

#[test]
fn bbr_handles_loss_during_probe_up_after_inflight_longterm_is_set() {
    let mut net = bulk(4.0);
    run_until_state(&mut net, REFILL);
    let bound = 3 * net.link.bdp();
    net.flows[0].bbr_mut().inflight_longterm = bound;
    run_until_state(&mut net, UP);
    let target = net.bbr().target_inflight();
    net.link.loss = 0.3;
    run_out_of(&mut net, UP);
    let bbr = net.bbr();
    assert_eq!(bbr.state, DOWN);
    assert!(bbr.previous_too_high && !bbr.is_probe_sample);
    assert!(bbr.inflight_longterm < bound);
    assert!(bbr.inflight_longterm >= scaled(target, BETA));
}

#[test]
fn bbr_probes_with_precaution_after_a_probe_that_went_too_high() {
    let mut net = bulk(0.5);
    run_until(&mut net, |net| net.bbr().previous_too_high);
    run_until_state(&mut net, REFILL);
    run_until_state(&mut net, UP);
    run_out_of(&mut net, UP);
    assert_eq!(net.bbr().state, DOWN);
    let cautious = net.bbr().previous_precautionary;
    let too_high = net.bbr().previous_too_high;
    assert!(
        cautious != too_high,
        "either it stopped in time, or it lost again"
    );
}

#[test]
fn bbr_handles_application_limited_sending_during_probe_refill() {
    let mut net = bulk(4.0);
    run_until_state(&mut net, REFILL);
    let bandwidth = net.bbr().max_bw.get();
    periodic(&mut net, 2_000, ms(5));
    run_out_of(&mut net, REFILL);
    assert_eq!(net.bbr().state, UP);
    assert!(net.bbr().max_bw.get() >= bandwidth * 0.999);
    net.run_for(seconds(5));
    assert!(net.bbr().max_bw.get() >= bandwidth * 0.999);
    net.flows[0].app = App::Bulk;
    net.run_for(ms(200));
    assert!(goodput(&mut net, seconds(3)) > 95.0);
}
