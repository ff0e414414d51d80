//! Live-data clients at a worker: what they are told, and what the slow ones get.

use protocol::subjects::Subjects;

use super::*;
use crate::live::{BusHealth, LiveDialect};
use crate::worker::live_dialect::LiveClient;

const TEXT: u8 = 1;
const BINARY: u8 = 2;

fn bench(change: impl FnOnce(&mut LiveDialect)) -> Bench {
    let bench = Bench::start();
    let mut dialect = LiveDialect {
        verifier: None,
        optional_token: false,
        envelope: false,
        websocket: Limits::default(),
        subjects_per_message_max: 10,
        queue: 1_000,
        slow_bytes: 1 << 20,
        slow_patience: Duration::from_secs(5),
        metrics_networks: Vec::new(),
        bus: Arc::new(|| BusHealth {
            is_up: true,
            reconnects: 0,
            storms: 0,
        }),
    };
    change(&mut dialect);
    let settings = Live {
        live_data: Some(dialect),
        ..live()
    };
    bench.current.store(Arc::new(settings));
    bench
}

fn connect(bench: &Bench, envelope: bool, subjects: Option<&[&str]>) -> Client {
    let claims = ConnectionClaims {
        subjects: subjects.map(|subjects| Subjects::new(subjects).unwrap()),
        ..claims("ann")
    };
    let own = Own::Live(LiveClient::new(envelope));
    bench.arrive_as(Dialect::Live { envelope }, claims, Some(Box::new(own)))
}

/// Waits until the worker has seen all that the client has sent: a refusal comes in its
/// turn, and names what it is about.
#[track_caller]
fn settled(client: &mut Client) {
    client.send(r#"{"type":"subscribe","subjects":["refused"]}"#);
    client.sees("refused");
}

#[test]
fn subjects_add_up_until_they_are_replaced() {
    let bench = bench(|_| ());
    let mut client = connect(&bench, false, None);
    client.send(r#"{"type":"subscribe","subjects":["xy.a","xy.b","xy.a"]}"#);
    client.send(r#"{"type":"subscribe","subjects":["xy.c.*"]}"#);
    settled(&mut client);
    for subject in ["xy.a", "xy.b", "xy.c.d", "xy.e"] {
        bench.publish(subject, subject);
    }
    for subject in ["xy.a", "xy.b", "xy.c.d"] {
        assert_eq!(client.frame(), Some((BINARY, subject.into())));
    }
    client.send(r#"{"type":"subscribe","subjects":["xy.b","xy.e"],"replace":true}"#);
    settled(&mut client);
    client.send(r#"{"type":"unsubscribe","subjects":["xy.e"]}"#);
    settled(&mut client);
    for subject in ["xy.a", "xy.c.d", "xy.e", "xy.b"] {
        bench.publish(subject, subject);
    }
    assert_eq!(client.frame(), Some((BINARY, b"xy.b".to_vec())));
}

#[test]
fn a_subject_stands_before_its_payload_if_that_was_asked_for() {
    let bench = bench(|_| ());
    let mut client = connect(&bench, true, None);
    client.send(r#"{"type":"subscribe","subjects":["xy.>"]}"#);
    settled(&mut client);
    bench.publish("xy.md.a", "payload");
    let frame = client.frame();
    assert_eq!(frame, Some((BINARY, b"\x00\x07xy.md.apayload".to_vec())));
}

#[test]
fn refusals_are_told_and_all_else_is_ignored() {
    let bench = bench(|_| ());
    let mut client = connect(&bench, false, Some(&["xy.a", "other"]));
    client.send(r#"{"type":"subscribe","subjects":["xy.a","xy.b","other"]}"#);
    client.send("no json");
    client.send_frame(OpCode::Binary, b"bytes");
    client.send(r#"{"type":"hello"}"#);
    let many: Vec<String> = (0..11).map(|number| format!("xy.{number}")).collect();
    client.send(&format!(
        r#"{{"type":"subscribe","subjects":{}}}"#,
        serde_json::json!(many)
    ));
    // The list leaves "xy.>" only, and the token one of its subjects.
    for wanted in [
        r#"{"code":"XYW002","subject":"xy.b","type":"error"}"#,
        r#"{"code":"XYW002","subject":"other","type":"error"}"#,
        r#"{"code":"XYW002","message":"message has 11 subjects, but may have 10","subject":"","type":"error"}"#,
    ] {
        assert_eq!(client.frame(), Some((TEXT, wanted.into())));
    }
    bench.publish("xy.a", "1");
    assert_eq!(client.frame(), Some((BINARY, b"1".to_vec())));
    assert!(
        bench
            .exposition()
            .contains("tidegate_live_messages_ignored_total 4")
    );
}

#[test]
fn a_client_that_reads_slowly_gets_the_latest_of_each_subject() {
    let bench = bench(|dialect| dialect.queue = 4);
    let mut client = connect(&bench, false, None);
    client.send(r#"{"type":"subscribe","subjects":["xy.a","xy.b"]}"#);
    settled(&mut client);
    // More than the system holds for a client that does not read.
    let filler = "x".repeat(60_000);
    for number in 0..600 {
        for subject in ["xy.a", "xy.b"] {
            bench.publish(subject, &format!("{subject} {number} {filler}"));
        }
        bench.on_worker(|_| ());
    }
    bench.publish("xy.a", "last");
    let mut seen = Vec::new();
    loop {
        let (_, payload) = client.frame().expect("the connection is open");
        let text = String::from_utf8(payload).unwrap();
        if text == "last" {
            break;
        }
        let (head, _) = text.split_at(text.len() - filler.len());
        seen.push(head.to_owned());
    }
    assert!(seen.len() < 1_200, "nothing was dropped");
    // What came last of the other subject is there as well.
    assert!(seen.contains(&"xy.b 599 ".to_owned()));
    let exposition = bench.exposition();
    let dropped = r#"xy_ws_messages_dropped_total{reason="queue_full"} "#;
    let dropped = exposition.split(dropped).nth(1).unwrap();
    let dropped: usize = dropped.lines().next().unwrap().parse().unwrap();
    assert_eq!(dropped + seen.len(), 1_200);
    assert!(exposition.contains("\nws_active 1\n"), "{exposition}");
    let forwarded = exposition.split("\nws_msgs ").nth(1).unwrap();
    assert!(forwarded.starts_with("1201"), "{forwarded}");
}

#[test]
fn a_client_that_is_too_slow_for_too_long_is_closed() {
    let bench = bench(|dialect| {
        dialect.slow_bytes = 1_000;
        dialect.slow_patience = Duration::ZERO;
    });
    let mut client = connect(&bench, false, None);
    client.send(r#"{"type":"subscribe","subjects":["xy.a"]}"#);
    settled(&mut client);
    let filler = "x".repeat(60_000);
    while bench.on_worker(|worker| {
        let mut connections = worker.connections.iter();
        connections.any(|(_, one)| one.session.is_connected())
    }) {
        bench.publish("xy.a", &filler);
    }
    let mut last = None;
    while let Some(frame) = client.frame() {
        last = Some(frame);
    }
    let (opcode, payload) = last.expect("a close frame");
    assert_eq!(
        (opcode, &payload[..2]),
        (CLOSE, &3008_u16.to_be_bytes()[..])
    );
}
