use super::super::ai::Usage;
use super::*;

fn complete(status: u16, us: u64) -> Outcome {
    let duration = Duration::from_micros(us);
    Outcome {
        connection: Some(Connection::Reused),
        upstream: Some(duration),
        ended: Ended::Complete,
        tries: 1,
        ..Outcome::refused(status, Decider::Upstream, duration)
    }
}

#[test]
fn a_value_falls_in_the_first_bucket_that_holds_it() {
    let figures = Figures::default();
    for us in [0, 50, 51, 250_000, 250_001, 10_000_000, u64::MAX] {
        figures.begin();
        figures.finish(&complete(200, us));
    }
    let snapshot = figures.snapshot();
    assert_eq!(
        snapshot.overhead.buckets,
        [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    );
    assert_eq!(snapshot.overhead.beyond, 3);
    assert_eq!(snapshot.duration.buckets, [3, 0, 0, 1, 1, 0, 0, 0, 1]);
    assert_eq!(snapshot.duration.count(), 7);
    assert_eq!(snapshot.requests, [0, 0, 7, 0, 0, 0]);
}

#[test]
fn threads_lose_nothing() {
    let figures = Figures::new(2);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..1000 {
                    figures.begin();
                    figures.finish(&complete(200 + round % 2 * 300, 100));
                }
            });
        }
    });
    let snapshot = figures.snapshot();
    assert_eq!(snapshot.requests, [0, 0, 2000, 0, 0, 2000]);
    assert_eq!(snapshot.errors, [2000, 0, 0, 0, 0, 0]);
    assert_eq!(snapshot.connections, [4000, 0, 0, 0, 0, 0, 0]);
    assert_eq!((snapshot.active, snapshot.upstream.sum_us), (0, 400_000));
    let mut twice = snapshot.clone();
    twice.add(&snapshot);
    assert_eq!(twice.duration.count(), 8000);
}

#[test]
fn each_end_has_its_place() {
    let refused = |status, decider| Outcome::refused(status, decider, Duration::ZERO);
    let ended = |ended| Outcome {
        ended,
        ..complete(200, 10)
    };
    for (outcome, error, refusal, timeout) in [
        (complete(502, 1), Some("5xx"), None, None),
        (complete(404, 1), None, None, None),
        (refused(502, Decider::Connect), Some("connect"), None, None),
        (
            refused(504, Decider::Phase(Phase::Headers)),
            Some("timeout"),
            None,
            Some("headers"),
        ),
        (
            ended(Ended::TimedOut(Phase::Gap)),
            Some("timeout"),
            None,
            Some("gap"),
        ),
        (ended(Ended::UpstreamBroke), Some("broken"), None, None),
        (ended(Ended::ClientLeft), None, None, None),
        (
            refused(503, Decider::Breaker),
            Some("circuit_open"),
            Some("breaker"),
            None,
        ),
        (
            refused(429, Decider::Queue),
            Some("capacity"),
            Some("queue"),
            None,
        ),
        (refused(429, Decider::Budget), None, Some("budget"), None),
        (refused(403, Decider::Access), None, Some("access"), None),
    ] {
        let figures = Figures::default();
        figures.begin();
        assert_eq!(figures.active(), 1);
        figures.finish(&outcome);
        let snapshot = figures.snapshot();
        assert_eq!(named(&ERROR_TYPES, &snapshot.errors), error, "{outcome:?}");
        assert_eq!(named(&REFUSALS, &snapshot.refused), refusal, "{outcome:?}");
        assert_eq!(named(&PHASES, &snapshot.timeouts), timeout, "{outcome:?}");
    }
}

#[test]
fn names_stand_in_the_order_of_their_places() {
    for decider in [
        Decider::Route,
        Decider::Access,
        Decider::Breaker,
        Decider::Limiter,
        Decider::Queue,
        Decider::Rate,
        Decider::Budget,
    ] {
        assert_eq!(REFUSALS[refusal(decider).unwrap()], decider.name());
    }
    for phase in [
        Phase::Dial,
        Phase::Write,
        Phase::Headers,
        Phase::FirstByte,
        Phase::Gap,
        Phase::Total,
    ] {
        assert_eq!(PHASES[phase as usize], phase.name());
    }
    for miss in [
        Miss::Cold,
        Miss::Ttl,
        Miss::ClosedByPeer,
        Miss::Cap,
        Miss::KeyChanged,
        Miss::Fresh,
    ] {
        let connection = Connection::Fresh(miss);
        assert_eq!(CONNECTIONS[connection_kind(connection)], connection.name());
    }
}

#[test]
fn tokens_and_tries_are_added_up() {
    let figures = Figures::default();
    let usage = Usage {
        input: 10,
        cached: 4,
        output: 5,
        is_estimated: true,
        ..Usage::default()
    };
    for _ in 0..2 {
        figures.begin();
        figures.finish(&Outcome {
            tries: 4,
            hedges: 1,
            usage: Some((usage, 7)),
            first_content: Some(Duration::from_millis(70)),
            ..complete(200, 1)
        });
    }
    let snapshot = figures.snapshot();
    assert_eq!((snapshot.retries, snapshot.hedges), (4, 2));
    assert_eq!((snapshot.input_tokens, snapshot.output_tokens), (20, 10));
    assert_eq!((snapshot.micro_cost, snapshot.estimated), (14, 2));
    assert_eq!(snapshot.first_content.buckets[1], 2);
}

/// The name of the one counter that is not zero.
fn named(names: &[&'static str], counters: &[u64]) -> Option<&'static str> {
    let place = counters.iter().position(|counter| *counter > 0)?;
    Some(names[place])
}
