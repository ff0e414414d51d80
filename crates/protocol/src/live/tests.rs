use super::*;
use crate::code::{ErrorCode, UnsubscribeCode};
use crate::message::{Publication, Push, Reply, SubscribeResult};

#[track_caller]
fn parsed(text: &str) -> Result<Inbound, InboundError> {
    Inbound::parse(false, text.as_bytes(), 3)
}

#[test]
fn messages_are_read_and_all_else_is_named() {
    for (text, verb) in [
        (
            r#"{"type":"subscribe","subjects":["a","b"]}"#,
            Verb::Subscribe,
        ),
        (
            r#"{"subjects":["a","b"],"replace":true,"type":"subscribe","x":[{}]}"#,
            Verb::Replace,
        ),
        (
            r#"{"type":"unsubscribe","subjects":["a","b"]}"#,
            Verb::Unsubscribe,
        ),
    ] {
        let inbound = parsed(text).unwrap();
        assert_eq!((inbound.verb, inbound.subjects.len()), (verb, 2), "{text}");
    }
    for text in [
        "",
        "x",
        "[]",
        "1",
        "{}",
        r#"{"type":"subscribe"}"#,
        r#"{"type":"subscribe","subjects":"a"}"#,
        r#"{"type":"subscribe","subjects":[1]}"#,
        r#"{"type":"subscribe","subjects":["a"],"replace":1}"#,
        r#"{"type":"subscribe","subjects":["a"]} {}"#,
    ] {
        assert!(
            matches!(parsed(text), Err(InboundError::Unknown { .. })),
            "{text}"
        );
    }
    let other = parsed(r#"{"type":"ping","subjects":[]}"#);
    assert_eq!(other, Err(InboundError::Type));
    let many = parsed(r#"{"type":"subscribe","subjects":["a","b","c","d"]}"#);
    assert_eq!(many, Err(InboundError::TooMany { count: 4, max: 3 }));
    assert_eq!(Inbound::parse(true, b"{}", 3), Err(InboundError::Binary));
}

#[track_caller]
fn commands(desk: &mut Desk, verb: Verb, subjects: &[&str]) -> String {
    let mut out = Vec::new();
    let subjects = subjects.iter().map(|&subject| subject.to_owned()).collect();
    desk.commands(Inbound { verb, subjects }, &mut out);
    String::from_utf8(out).unwrap()
}

fn subscribed(id: u32) -> Reply {
    Reply {
        id,
        subscribe: Some(Box::default()),
        ..Reply::default()
    }
}

fn refused(id: u32, code: ErrorCode) -> Reply {
    Reply {
        id,
        error: Some(code.to_error()),
        ..Reply::default()
    }
}

#[test]
fn subscribe_adds_and_replace_drops_the_others() {
    let mut desk = Desk::default();
    assert_eq!(
        commands(&mut desk, Verb::Subscribe, &["a", "b", "a", ""]),
        "{\"id\":1,\"subscribe\":{\"channel\":\"a\"}}\n{\"id\":2,\"subscribe\":{\"channel\":\"b\"}}"
    );
    assert_eq!(commands(&mut desk, Verb::Subscribe, &["b", "a"]), "");
    // Before any answer: what is wanted counts, not what was granted so far.
    assert_eq!(
        commands(&mut desk, Verb::Replace, &["b", "c"]),
        "{\"id\":3,\"unsubscribe\":{\"channel\":\"a\"}}\n{\"id\":4,\"subscribe\":{\"channel\":\"c\"}}"
    );
    for id in 1..=4 {
        assert_eq!(desk.told(&subscribed(id)), None);
    }
    assert_eq!(
        commands(&mut desk, Verb::Unsubscribe, &["c"]),
        r#"{"id":5,"unsubscribe":{"channel":"c"}}"#
    );
    assert_eq!(desk.wanted(), 1);
}

#[test]
fn refusals_name_the_subject_and_it_may_be_asked_for_again() {
    let mut desk = Desk::default();
    commands(&mut desk, Verb::Subscribe, &["a", "b"]);
    assert_eq!(
        desk.told(&refused(1, ErrorCode::PermissionDenied)),
        Some(Told::Refused(
            r#"{"code":"XYW002","subject":"a","type":"error"}"#.to_owned()
        ))
    );
    assert_eq!(
        desk.told(&refused(2, ErrorCode::LimitExceeded)),
        Some(Told::Refused(
            r#"{"code":"XYW002","message":"limit exceeded","subject":"b","type":"error"}"#
                .to_owned()
        ))
    );
    assert_eq!(
        commands(&mut desk, Verb::Subscribe, &["a"]),
        r#"{"id":3,"subscribe":{"channel":"a"}}"#
    );
    // Subscribed by the server is subscribed.
    assert_eq!(desk.told(&refused(3, ErrorCode::AlreadySubscribed)), None);
    assert_eq!(desk.wanted(), 1);
}

#[test]
fn an_old_refusal_does_not_undo_a_newer_wish() {
    let mut desk = Desk::default();
    commands(&mut desk, Verb::Subscribe, &["a"]);
    commands(&mut desk, Verb::Unsubscribe, &["a"]);
    commands(&mut desk, Verb::Subscribe, &["a"]);
    assert!(desk.told(&refused(1, ErrorCode::Internal)).is_some());
    assert_eq!(desk.wanted(), 1);
    assert_eq!(desk.told(&subscribed(3)), None);
}

#[test]
fn what_the_server_ends_or_sends_at_once_is_told() {
    let mut desk = Desk::default();
    commands(&mut desk, Verb::Subscribe, &["a"]);
    let latest = SubscribeResult {
        publications: vec![Publication {
            data: "x".into(),
            ..Publication::default()
        }],
        ..SubscribeResult::default()
    };
    let reply = Reply {
        subscribe: Some(Box::new(latest)),
        ..subscribed(1)
    };
    assert_eq!(
        desk.told(&reply),
        Some(Told::Payloads("a".into(), vec!["x".into()]))
    );
    let ended = Reply {
        push: Some(UnsubscribeCode::SERVER_UNSUBSCRIBE.to_push("a").into()),
        ..Reply::default()
    };
    assert_eq!(
        desk.told(&ended),
        Some(Told::Refused(
            r#"{"code":"XYW002","message":"server unsubscribe","subject":"a","type":"error"}"#
                .to_owned()
        ))
    );
    assert_eq!(desk.wanted(), 0);
    let nothing = Reply {
        push: Some(Push::default().into()),
        ..Reply::default()
    };
    assert_eq!(desk.told(&nothing), None);
}

#[test]
fn an_envelope_is_read_as_it_was_written() {
    let mut out = Vec::new();
    envelope("xy.md.tick.a", &mut out);
    out.extend_from_slice(b"payload");
    assert_eq!(out[..2], [0, 12]);
    assert_eq!(enveloped(&out), Some(("xy.md.tick.a", &b"payload"[..])));
    assert_eq!(enveloped(&out[..13]), None);
    assert_eq!(enveloped(b"\0"), None);
    assert_eq!(enveloped(b"\0\x01\xff"), None);
}
