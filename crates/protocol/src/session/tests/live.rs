//! Clients whose subjects stand in a list of their own.

use super::super::{
    ClientId, Context, Now, Output, Request, Response, Session, Subscribed, Transport,
};
use super::play::settings;
use crate::claims::ConnectionClaims;
use crate::codec::Encoding;
use crate::dialect::Dialect;
use crate::subjects::Subjects;

/// What subscribing came to: nothing, or the error's code.
fn subscribe(subjects: Option<&[&str]>, channels: &[&str]) -> Vec<Option<u32>> {
    let settings = settings();
    let cx = Context {
        now: Now {
            mono_ms: 1_000,
            unix_ms: 1_700_000_000_000,
        },
        settings: &settings,
    };
    let claims = ConnectionClaims {
        user: "alice".to_owned(),
        subjects: subjects.map(|subjects| Subjects::new(subjects).unwrap()),
        ..ConnectionClaims::default()
    };
    let mut session = Session::of_dialect(
        cx,
        Dialect::Live { envelope: false },
        ClientId(7),
        Transport::WebSocket,
        Encoding::Json,
        Some(claims),
    );
    let mut out = Vec::new();
    session.begin(cx, &mut out);
    let mut outcomes = Vec::new();
    let lines: Vec<String> = (1..)
        .zip(channels)
        .map(|(id, channel)| {
            serde_json::json!({"id": id, "subscribe": {"channel": channel}}).to_string()
        })
        .collect();
    let mut begun = false;
    while !out.is_empty() {
        for output in std::mem::take(&mut out) {
            match output {
                Output::Request(Request::Register { .. }) => {
                    session.resume(cx, Response::Registered(true), &mut out);
                }
                Output::Request(Request::Subscribe(_)) => {
                    let found = Response::Subscribed(Ok(Subscribed::default()));
                    session.resume(cx, found, &mut out);
                }
                Output::Begun => begun = true,
                Output::Reply(reply) => outcomes.push(reply.error.map(|error| error.code)),
                other => panic!("{other:?} was not expected"),
            }
        }
        if std::mem::take(&mut begun) {
            session.frame(cx, lines.join("\n").as_bytes(), &mut out);
        }
    }
    outcomes
}

#[test]
fn the_list_decides_and_namespaces_do_not() {
    let outcomes = subscribe(
        None,
        &[
            "xy.md.tick.a",
            "xy.md.*.a",
            "xy.md.>",
            "news.a",
            "ticks.a.last",
            "a",
            ">",
            "open:a",
            "users:#alice",
        ],
    );
    let refused = Some(103);
    assert_eq!(
        outcomes,
        [
            None, None, None, None, refused, refused, refused, refused, refused
        ]
    );
}

#[test]
fn list_and_token_must_both_allow_a_subject() {
    let outcomes = subscribe(
        Some(&["xy.md.tick.*", "other.>"]),
        &[
            "xy.md.tick.a",
            "xy.md.tick.*",
            "xy.md.>",
            "other.a",
            "news.a",
        ],
    );
    let refused = Some(103);
    assert_eq!(outcomes, [None, None, refused, refused, refused]);
}

#[test]
fn a_mistyped_pattern_is_no_name() {
    let outcomes = subscribe(None, &["xy.md.tick.*", "xy.md.>.x", "xy.md.a*"]);
    assert_eq!(outcomes, [None, Some(107), Some(107)]);
}
