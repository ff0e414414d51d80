//! Messages that come while their session is busy.

use super::runs::{asked, final_of, history, started, user};
use super::*;

/// A `final` without a message.
fn mute(seq: u64, run: &str) -> Value {
    json!({"type": "event", "event": "chat", "seq": seq, "payload": {
        "runId": run, "sessionKey": "agent:main:ann", "seq": 1, "state": "final"}})
}

fn progress(seq: u64, run: &str) -> Value {
    json!({"type": "event", "event": "chat", "seq": seq, "payload": {
        "runId": run, "sessionKey": "agent:main:ann", "state": "status",
        "phase": "starting_model"}})
}

#[test]
fn queued_messages_are_answered_under_their_own_ids_in_order() {
    let mut talk = Talk::open("boot");
    for (tag, name) in [(1, "m1"), (2, "m2"), (3, "m3")] {
        started(&mut talk, tag, "ann", name);
    }
    assert!(talk.hears(&progress(1, "ann:m1")).is_silent());
    assert!(talk.hears(&mute(2, "ann:m2")).is_silent());
    assert!(talk.hears(&mute(3, "ann:m3")).is_silent());
    let key = "agent:main:ann";
    for (seq, run, name) in [(4, "ann:m1", "m1"), (5, "u-1", "m2"), (6, "u-2", "m3")] {
        let said = talk.hears(&chat(seq, run, key, "final", "hi"));
        assert_eq!(
            said.answers(),
            final_of("ann", &format!("ann:{name}"), "hi")
        );
    }
    assert!(!talk.peer.expects_answers());
    // Told again, under whatever id, it is not told again.
    assert!(talk.hears(&chat(7, "u-1", key, "final", "hi")).is_silent());
    assert!(
        talk.hears(&chat(8, "ann:m2", key, "final", "hi"))
            .is_silent()
    );
    let said = talk.hears(&chat(9, "cron", key, "final", "news"));
    assert_eq!(said.answers(), final_of("ann", "cron", "news"));
}

#[test]
fn queued_run_may_fail_and_may_say_nothing() {
    let mut talk = Talk::open("boot");
    for (tag, name) in [(1, "m1"), (2, "m2"), (3, "m3"), (4, "m4")] {
        started(&mut talk, tag, "ann", name);
    }
    for (seq, name) in [(1, "m2"), (2, "m3"), (3, "m4")] {
        talk.hears(&mute(seq, &format!("ann:{name}")));
    }
    let said = talk.hears(
        &json!({"type": "event", "event": "chat", "seq": 4, "payload": {
        "runId": "u-1", "sessionKey": "agent:main:ann", "state": "error", "errorMessage": "boom"}}),
    );
    let failed = answer("ann", "ann:m2", AnswerKind::Failed, "boom");
    assert_eq!(said.answers(), [failed]);
    assert!(talk.hears(&mute(5, "u-2")).is_silent());
    let said = talk.hears(&chat(6, "u-3", "agent:main:ann", "final", "hi"));
    assert_eq!(said.answers(), final_of("ann", "ann:m4", "hi"));
}

#[test]
fn run_that_ends_without_a_message_is_no_answer() {
    let mut talk = Talk::open("boot");
    started(&mut talk, 1, "ann", "m1");
    talk.hears(&progress(1, "ann:m1"));
    assert!(talk.hears(&mute(2, "ann:m1")).is_silent());
    assert!(!talk.peer.expects_answers());
}

#[test]
fn gateway_is_asked_whether_a_lone_message_waits() {
    for (status, waits) in [("pending", true), ("ok", false)] {
        let mut talk = Talk::open("boot");
        started(&mut talk, 1, "ann", "m1");
        let id = asked(&talk.hears(&mute(1, "ann:m1")), "agent.wait");
        let said = talk.hears(&ok(&id, &json!({"runId": "ann:m1", "status": status})));
        assert!(said.is_silent());
        assert_eq!(talk.peer.expects_answers(), waits, "{status}");
    }
}

#[test]
fn repetition_of_a_queued_message_is_no_answer() {
    let mut talk = Talk::open("boot");
    started(&mut talk, 1, "ann", "m1");
    talk.sends(2, delivery("ann", "m2", "x"));
    let said = talk.hears(&ok("3", &json!({"runId": "ann:m2", "status": "ok"})));
    assert_eq!(said.outcomes(), [(2, Outcome::Delivered)]);
    let id = asked(&said, "chat.history");
    let mut busy = history(&[user("ann:m1")], None);
    busy["sessionInfo"] = json!({"hasActiveRun": true});
    let id = asked(&talk.hears(&ok(&id, &busy)), "agent.wait");
    assert!(talk.hears(&ok(&id, &json!({"status": "ok"}))).is_silent());
    let said = talk.hears(&chat(1, "u-1", "agent:main:ann", "final", "hi"));
    assert_eq!(said.answers(), final_of("ann", "ann:m2", "hi"));
}
