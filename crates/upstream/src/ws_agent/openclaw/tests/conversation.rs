//! Messages out, and what becomes of them.

use bytes::Bytes;

use super::*;

fn reason(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Delivered => "",
        Outcome::Retryable { reason, .. }
        | Outcome::Final { reason }
        | Outcome::Unknown { reason }
        | Outcome::NotSent { reason } => reason,
    }
}

#[test]
fn message_becomes_a_run_of_its_clients_session() {
    let mut talk = Talk::open("boot");
    let mut message = delivery("client-7", "m1", "hello");
    message.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    let sent = talk.sends(1, message);
    assert_eq!(
        sent.frame(),
        json!({"type": "req", "id": "2", "method": "chat.send",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "params": {"sessionKey": "agent:main:client-7", "message": "hello",
                "idempotencyKey": "client-7:m1", "queueMode": "followup"}})
    );
    assert!(sent.outcomes().is_empty());
    let said = talk.hears(&ok(
        "2",
        &json!({"runId": "client-7:m1", "status": "started"}),
    ));
    assert_eq!(said.outcomes(), [(1, Outcome::Delivered)]);
}

#[test]
fn binary_message_becomes_an_attachment() {
    let mut talk = Talk::open("boot");
    let message = Delivery {
        body: DeliveryBody::Binary(Bytes::from_static(&[0, 159, 255])),
        content_type: "image/png".into(),
        ..delivery("ann", "pic", "")
    };
    let params = &talk.sends(1, message).frame()["params"];
    let attachment = json!([{"mimeType": "image/png", "fileName": "pic", "content": "AJ//"}]);
    assert_eq!(params["attachments"], attachment);
    assert_eq!(params["message"], "");
}

#[test]
fn text_is_read_as_the_route_says() {
    use DataEncoding::{Auto, Base64, Plain};
    let cases = [
        (Auto, "aGVsbG8=", Some("hello")),
        (Auto, "hello!", Some("hello!")),
        // Not padded, and not UTF-8.
        (Auto, "aGVsbG8", Some("aGVsbG8")),
        (Auto, "/////w==", Some("/////w==")),
        (Auto, "", Some("")),
        (Plain, "aGVsbG8=", Some("aGVsbG8=")),
        (Base64, "aGVsbG8=", Some("hello")),
        (Base64, "hello!", None),
        (Base64, "/////w==", None),
    ];
    for (data_encoding, data, expected) in cases {
        let mut talk = Talk::new(Target {
            data_encoding,
            ..target()
        });
        talk.reopen("boot");
        let said = talk.sends(1, delivery("ann", "m1", data));
        match expected {
            Some(text) => assert_eq!(said.frame()["params"]["message"], text),
            None => assert!(matches!(said.outcomes()[..], [(1, Outcome::Final { .. })])),
        }
    }
}

#[test]
fn colon_in_a_client_id_makes_no_other_clients_key() {
    let mut talk = Talk::open("boot");
    let one = talk.sends(1, delivery("a:b", "c", "x")).frame();
    let other = talk.sends(2, delivery("a", "b:c", "x")).frame();
    assert_eq!(one["params"]["idempotencyKey"], "a%3ab:c");
    assert_eq!(one["params"]["sessionKey"], "agent:main:a%3ab");
    assert_eq!(other["params"]["idempotencyKey"], "a:b:c");
    assert_eq!(other["params"]["sessionKey"], "agent:main:a");
}

#[test]
fn repetition_of_a_running_message_is_delivered() {
    let mut talk = Talk::open("boot");
    talk.sends(1, delivery("ann", "m1", "x"));
    let said = talk.hears(&ok("2", &json!({"runId": "ann:m1", "status": "in_flight"})));
    assert_eq!(said.outcomes(), [(1, Outcome::Delivered)]);
}

#[test]
fn repetition_of_a_failed_message_is_delivered_and_tells_the_failure() {
    let mut talk = Talk::open("boot");
    talk.sends(1, delivery("ann", "m1", "x"));
    let said = talk.hears(&json!({"type": "res", "id": "2", "ok": false,
        "payload": {"runId": "ann:m1", "status": "error", "summary": "model is gone"},
        "error": {"code": "UNAVAILABLE", "message": "model is gone", "retryable": true}}));
    assert_eq!(said.outcomes(), [(1, Outcome::Delivered)]);
    let failed = answer("ann", "ann:m1", AnswerKind::Failed, "model is gone");
    assert_eq!(said.answers(), [failed]);
}

#[test]
fn errors_are_final_unless_they_may_pass() {
    let again = |ms: Option<u64>| Outcome::Retryable {
        reason: String::new(),
        after: ms.map(Duration::from_millis),
    };
    let never = || Outcome::Final {
        reason: String::new(),
    };
    let cases = [
        (json!({"code": "UNAVAILABLE"}), again(None)),
        (
            json!({"code": "UNAVAILABLE", "retryAfterMs": 250}),
            again(Some(250)),
        ),
        (json!({"code": "FORBIDDEN", "retryable": true}), again(None)),
        (json!({"code": "UNAVAILABLE", "retryable": false}), never()),
        (json!({"code": "INVALID_REQUEST"}), never()),
        (
            json!({"code": "FORBIDDEN", "details": {"code": "MISSING_SCOPE"}}),
            never(),
        ),
        (json!(null), never()),
    ];
    for (error, expected) in cases {
        let mut talk = Talk::open("boot");
        talk.sends(1, delivery("ann", "m1", "x"));
        let outcomes = talk.hears(&refused("2", &error)).outcomes();
        let [(1, outcome)] = &outcomes[..] else {
            panic!("{error}: {outcomes:?}");
        };
        let outcome = match outcome.clone() {
            Outcome::Retryable { after, .. } => Outcome::Retryable {
                reason: String::new(),
                after,
            },
            Outcome::Final { .. } => never(),
            other => other,
        };
        assert_eq!(outcome, expected, "{error}");
    }
}

#[test]
fn key_of_another_message_is_refused_for_good_and_says_so() {
    let mut talk = Talk::open("boot");
    talk.sends(1, delivery("ann", "m1", "x"));
    let said = talk.hears(&refused(
        "2",
        &json!({"code": "INVALID_REQUEST", "message": "already used",
            "details": {"reason": "chat-request-conflict"}}),
    ));
    let reason = "the gateway has another message under this id: INVALID_REQUEST: already used";
    let reason = reason.to_owned();
    assert_eq!(said.outcomes(), [(1, Outcome::Final { reason })]);
}

#[test]
fn conflict_leaves_the_run_that_has_the_key() {
    let mut talk = Talk::open("boot");
    talk.sends(1, delivery("ann", "m1", "x"));
    talk.hears(&ok("2", &json!({"status": "started"})));
    talk.sends(2, delivery("ann", "m1", "y"));
    talk.hears(&refused(
        "3",
        &json!({"code": "INVALID_REQUEST", "details": {"reason": "chat-request-conflict"}}),
    ));
    let said = talk.hears(&chat(1, "ann:m1", "agent:main:ann", "final", "hi"));
    let expected = answer("ann", "ann:m1", AnswerKind::Final, "hi");
    assert_eq!(said.answers(), [expected]);
}

#[test]
fn command_that_stops_runs_is_delivered_and_has_no_run() {
    let mut talk = Talk::open("boot");
    talk.sends(1, delivery("ann", "m1", "/stop"));
    let said = talk.hears(&ok(
        "2",
        &json!({"ok": true, "aborted": true, "runIds": []}),
    ));
    assert_eq!(said.outcomes(), [(1, Outcome::Delivered)]);
    assert!(!talk.peer.expects_answers());
}

#[test]
fn session_of_the_gateways_operator_is_not_a_clients() {
    let mut talk = Talk::new(target());
    talk.input(Input::Opened);
    talk.hears(&challenge());
    let mut greeting = hello("boot");
    greeting["payload"]["snapshot"] =
        json!({"sessionDefaults": {"mainSessionKey": "agent:main:desk"}});
    talk.hears(&greeting);
    for (tag, client, name) in [(1, "main", "%6dain"), (2, "desk", "%64esk")] {
        let sent = talk.sends(tag, delivery(client, "m1", "x")).frame();
        assert_eq!(sent["params"]["sessionKey"], format!("agent:main:{name}"));
        assert_eq!(sent["params"]["idempotencyKey"], format!("{client}:m1"));
    }
}

#[test]
fn what_the_gateway_can_not_take_is_refused_with_figures() {
    let mut talk = Talk::new(target());
    talk.input(Input::Opened);
    talk.hears(&challenge());
    talk.hears(&ok(
        "1",
        &json!({"policy": {"maxPayload": 1000,
        "attachments": {"maxBytes": 100}}}),
    ));
    let large = Delivery {
        body: DeliveryBody::Binary(Bytes::from(vec![0; 101])),
        ..delivery("ann", "m1", "")
    };
    let said = talk.sends(1, large);
    let text = reason(&said.outcomes()[0].1).to_owned();
    assert!(text.contains("101 bytes") && text.contains("100"), "{text}");

    let said = talk.sends(2, delivery("ann", "m2", &"x ".repeat(500)));
    let text = reason(&said.outcomes()[0].1).to_owned();
    assert!(
        text.contains("too large") && text.contains("1000"),
        "{text}"
    );
    assert!(matches!(said.outcomes()[..], [(2, Outcome::Final { .. })]));

    let mut talk = Talk::open("boot");
    let said = talk.sends(3, delivery(&"c".repeat(502), "m3", "x"));
    assert!(matches!(said.outcomes()[..], [(3, Outcome::Final { .. })]));
    let said = talk.sends(4, delivery(&"c".repeat(501), "m3", "x"));
    assert_eq!(said.methods(), ["chat.send"]);
}

#[test]
fn nothing_is_sent_before_the_greeting_or_after_the_stop_was_announced() {
    let mut talk = Talk::new(target());
    let not_sent = |said: &Said| matches!(said.outcomes()[..], [(1, Outcome::NotSent { .. })]);
    assert!(not_sent(&talk.sends(1, delivery("ann", "m1", "x"))));
    talk.input(Input::Opened);
    assert!(not_sent(&talk.sends(1, delivery("ann", "m1", "x"))));
    talk.hears(&challenge());
    talk.hears(&hello("boot"));
    let shutdown = json!({"type": "event", "event": "shutdown",
        "payload": {"reason": "gateway stopping", "restartExpectedMs": 1500}, "seq": 1});
    let (wait, ..) = talk.hears(&shutdown).hold().map(|it| (it.0, it.1)).unwrap();
    assert_eq!(wait, Duration::from_millis(1500));
    assert!(not_sent(&talk.sends(1, delivery("ann", "m1", "x"))));
}

#[test]
fn lost_connection_leaves_sent_messages_unknown_and_unsent_ones_unsent() {
    let mut talk = Talk::open("boot");
    talk.sends(1, delivery("ann", "m1", "x"));
    let mut unsure = delivery("ann", "m2", "x");
    unsure.check_first = true;
    assert_eq!(talk.sends(2, unsure).methods(), ["chat.history"]);
    let outcomes = talk.lost().outcomes();
    assert!(matches!(
        outcomes[..],
        [(1, Outcome::Unknown { .. }), (2, Outcome::NotSent { .. })]
    ));
}

#[test]
fn request_without_an_answer_is_forgotten_in_time() {
    let mut talk = Talk::open("boot");
    talk.sends(1, delivery("ann", "m1", "x"));
    talk.waits(50_000);
    talk.hears(&json!({"type": "event", "event": "tick", "seq": 1}));
    assert!(talk.waits(9_999).is_silent());
    let said = talk.waits(1);
    assert!(matches!(
        said.outcomes()[..],
        [(1, Outcome::Unknown { .. })]
    ));
    assert!(talk.peer.calls.is_empty());
}

#[test]
fn forgotten_message_has_no_outcome_but_may_be_answered() {
    let mut talk = Talk::open("boot");
    talk.sends(1, delivery("ann", "m1", "x"));
    talk.input(Input::Forget { tag: 1 });
    let said = talk.hears(&ok("2", &json!({"status": "started"})));
    assert!(said.is_silent());
    let said = talk.hears(&chat(1, "ann:m1", "agent:main:ann", "final", "hi"));
    let expected = answer("ann", "ann:m1", AnswerKind::Final, "hi");
    assert_eq!(said.answers(), [expected]);
    assert!(talk.lost().outcomes().is_empty());
}

#[test]
fn question_about_a_forgotten_message_leads_to_no_message() {
    let mut talk = Talk::open("boot");
    let mut unsure = delivery("ann", "m1", "x");
    unsure.check_first = true;
    talk.sends(1, unsure);
    talk.input(Input::Forget { tag: 1 });
    assert!(talk.hears(&ok("2", &json!({"messages": []}))).is_silent());
}

#[test]
fn frame_that_is_not_json_ends_the_connection() {
    for bytes in [&b"{"[..], b"\xff", b"", b"nonsense", b"{}{}"] {
        let mut talk = Talk::open("boot");
        assert_eq!(talk.input(Input::Frame(bytes)).close(), Some(1008));
        assert!(talk.hears(&hello("boot")).is_silent());
    }
}

#[test]
fn unknown_frames_are_skipped() {
    let mut talk = Talk::open("boot");
    let strange = [
        json!({}),
        json!([]),
        json!(1),
        json!({"type": "event"}),
        json!({"type": 7}),
        json!({"type": "event", "event": "chat", "payload": [1]}),
        json!({"type": "event", "event": "chat", "payload": {"runId": 1, "state": "final"}}),
        json!({"type": "event", "event": "new.thing", "payload": {}, "seq": 1}),
        json!({"type": "res", "id": "77", "ok": true}),
        json!({"type": "res", "id": "x", "ok": true}),
        json!({"type": "res"}),
    ];
    for frame in strange {
        assert!(talk.hears(&frame).is_silent(), "{frame}");
    }
}

#[test]
fn responses_may_come_out_of_order_and_twice() {
    let mut talk = Talk::open("boot");
    talk.sends(1, delivery("ann", "m1", "x"));
    talk.sends(2, delivery("bob", "m1", "x"));
    let later = talk.hears(&ok("3", &json!({"status": "started"})));
    assert_eq!(later.outcomes(), [(2, Outcome::Delivered)]);
    let first = talk.hears(&ok("2", &json!({"status": "started"})));
    assert_eq!(first.outcomes(), [(1, Outcome::Delivered)]);
    assert!(talk.hears(&ok("2", &json!({"status": "ok"}))).is_silent());
}
