use super::*;
use crate::quantum::netlab::link::Loss;
use crate::quantum::ours::{BareStreams, Grpc, Quantum};
use crate::quantum::rivals::{Kcp, Quinn, Tcp};

const SHAPE: Shape = Shape {
    rtt: Duration::from_millis(10),
    rate: 100_000_000,
    queue_bdp: 2.0,
    loss: Loss::Independent(0.01),
};

const PLAN: Plan = Plan {
    rate: 100,
    size: 1000,
    warm_up: Duration::from_millis(100),
    duration: Duration::from_millis(300),
    drain: Duration::from_secs(20),
};

#[track_caller]
fn check(transport: &impl Transport) {
    let cell = measure(transport, &SHAPE, 5, &PLAN).unwrap();
    assert_eq!((cell.calls.offered, cell.calls.latency.len()), (30, 30));
    let failure = cell.calls.failure.as_ref();
    assert_eq!((cell.calls.unanswered, failure), (0, None));
    assert!(cell.calls.ms(0.0) >= 10.0, "{}", cell.calls.ms(0.0));
    assert!(cell.overhead > 1.0, "{}", cell.overhead);
}

#[test]
fn tcp_carries_calls_where_there_are_namespaces() {
    let lab = Lab::new(&SHAPE, 5).unwrap();
    if lab.only_datagrams().is_none() {
        check(&Tcp("cubic"));
    }
}

#[test]
fn quinn_carries_calls() {
    check(&Quinn::new(true).unwrap());
}

#[test]
fn kcp_carries_calls() {
    check(&Kcp);
}

#[test]
fn echo_over_loopback_has_a_cost() {
    let echo = echo(&Tcp("cubic"), 100, 4, Duration::from_millis(200)).unwrap();
    assert!(echo.per_second > 0.0 && echo.cpu_us > 0.0, "{echo:?}");
    assert!(echo.per_server_second >= echo.per_second, "{echo:?}");
}

#[test]
fn quantum_carries_calls_of_tonic() {
    let quantum = Quantum::new().unwrap();
    check(&Grpc(&quantum));
    let seen = quantum.seen();
    assert!(seen.sent > 80, "{seen:?}");
}

#[test]
fn quantum_carries_calls_on_bare_streams() {
    let quantum = Quantum::new().unwrap();
    check(&BareStreams(&quantum));
    let seen = quantum.seen();
    assert!(seen.sent > 80, "{seen:?}");
}
