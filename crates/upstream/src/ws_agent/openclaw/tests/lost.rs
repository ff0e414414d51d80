//! Messages that a gateway acknowledged, and lost when it was killed.

use super::runs::{asked, assistant, final_of, history, started, user};
use super::*;

#[test]
fn message_that_a_killed_gateway_lost_is_sent_again_before_later_ones() {
    let mut talk = Talk::open("boot-1");
    started(&mut talk, 1, "ann", "m1");
    started(&mut talk, 2, "ann", "m2");
    talk.lost();
    let catching_up = asked(&talk.reopen("boot-2"), "chat.history");
    let check = asked(&talk.sends(3, delivery("ann", "m3", "x")), "chat.history");
    let said = talk.hears(&ok(&check, &history(&[user("ann:m1")], Some(&[]))));
    let keys: Vec<Value> = said
        .frames()
        .iter()
        .filter(|frame| frame["method"] == "chat.send")
        .map(|frame| frame["params"]["idempotencyKey"].clone())
        .collect();
    assert_eq!(keys, ["ann:m2", "ann:m3"]);
    let again = said.frames()[0]["id"].as_str().unwrap().to_owned();
    assert!(
        talk.hears(&ok(&again, &json!({"status": "started"})))
            .is_silent()
    );
    let active = history(&[user("ann:m1")], Some(&["ann:m2", "ann:m3"]));
    let said = talk.hears(&ok(&catching_up, &active));
    assert!(!said.methods().contains(&"chat.send".to_owned()));
    // The one that it had is worked on under another id.
    let said = talk.hears(&chat(1, "u-1", "agent:main:ann", "final", "one"));
    assert_eq!(said.answers(), final_of("ann", "ann:m1", "one"));
    let said = talk.hears(&chat(2, "ann:m2", "agent:main:ann", "final", "two"));
    assert_eq!(said.answers(), final_of("ann", "ann:m2", "two"));
}

#[test]
fn message_sent_again_is_tried_until_the_gateway_takes_it() {
    let mut talk = Talk::open("boot-1");
    started(&mut talk, 1, "ann", "m1");
    talk.lost();
    let id = asked(&talk.reopen("boot-2"), "chat.history");
    let id = asked(&talk.hears(&ok(&id, &history(&[], Some(&[])))), "chat.send");
    let busy = refused(&id, &json!({"code": "UNAVAILABLE", "retryable": true}));
    assert!(talk.hears(&busy).is_silent());
    let said = talk.hears(&json!({"type": "event", "event": "tick", "seq": 1}));
    let id = asked(&said, "chat.history");
    let id = asked(&talk.hears(&ok(&id, &history(&[], Some(&[])))), "chat.send");
    // The connection breaks before the answer.
    assert!(talk.lost().outcomes().is_empty(), "{id}");
    let id = asked(&talk.reopen("boot-2"), "chat.history");
    let id = asked(&talk.hears(&ok(&id, &history(&[], Some(&[])))), "chat.send");
    let never = refused(
        &id,
        &json!({"code": "INVALID_REQUEST", "message": "no agent"}),
    );
    let text = "the agent restarted and lost the message: INVALID_REQUEST: no agent";
    let failed = answer("ann", "ann:m1", AnswerKind::Failed, text);
    assert_eq!(talk.hears(&never).answers(), [failed]);
}

#[test]
fn lost_message_that_was_too_much_to_keep_is_told() {
    let mut talk = Talk::open("boot-1");
    let large = "x ".repeat(4 * 1024 * 1024);
    let id = asked(&talk.sends(1, delivery("ann", "m1", &large)), "chat.send");
    talk.hears(&ok(&id, &json!({"status": "started"})));
    talk.lost();
    let id = asked(&talk.reopen("boot-2"), "chat.history");
    let said = talk.hears(&ok(&id, &history(&[], Some(&[]))));
    let text = "the agent restarted and lost the message";
    let failed = answer("ann", "ann:m1", AnswerKind::Failed, text);
    assert_eq!(said.answers(), [failed]);
}

#[test]
fn answer_found_under_another_id_is_not_told_again() {
    let mut talk = Talk::open("boot-1");
    started(&mut talk, 1, "ann", "m1");
    talk.lost();
    let id = asked(&talk.reopen("boot-2"), "chat.history");
    let mut reply = assistant("resumed");
    reply["__openclaw"] = json!({"runId": "u-1"});
    let said = talk.hears(&ok(&id, &history(&[user("ann:m1"), reply], Some(&[]))));
    assert_eq!(said.answers(), final_of("ann", "ann:m1", "resumed"));
    let late = chat(1, "u-1", "agent:main:ann", "final", "resumed");
    assert!(talk.hears(&late).is_silent());
}

#[test]
fn what_waited_in_the_queue_of_a_killed_gateway_is_sent_under_another_name() {
    let mut talk = Talk::open("boot-1");
    started(&mut talk, 1, "ann", "m1");
    talk.hears(&chat(1, "ann:m1", "agent:main:ann", "final", "one"));
    started(&mut talk, 2, "ann", "m2");
    let interrupted = |names: &[&str]| {
        let mut history = history(&[user("ann:m1"), assistant("one")], Some(&[]));
        let items = names.iter();
        let items = items.map(|name| json!({"runId": name, "state": "interrupted"}));
        history["pendingInputs"] = json!({"items": items.collect::<Vec<_>>()});
        history
    };
    let mut names: Vec<&str> = vec!["ann:m2"];
    for (boot, name) in [("boot-2", "ann:m2~2"), ("boot-3", "ann:m2~3")] {
        talk.lost();
        let id = asked(&talk.reopen(boot), "chat.history");
        let said = talk.hears(&ok(&id, &interrupted(&names)));
        let id = asked(&said, "chat.send");
        assert_eq!(said.frame()["params"]["idempotencyKey"], name);
        assert!(
            talk.hears(&ok(&id, &json!({"status": "started"})))
                .is_silent()
        );
        names.push(name);
    }
    let said = talk.hears(&chat(1, "ann:m2~3", "agent:main:ann", "final", "two"));
    assert_eq!(said.answers(), final_of("ann", "ann:m2", "two"));
    let again = chat(2, "ann:m2~3", "agent:main:ann", "final", "two");
    assert!(talk.hears(&again).is_silent());
}

#[test]
fn queue_of_a_killed_gateway_is_looked_after_when_the_run_under_way_has_ended() {
    let mut talk = Talk::open("boot-1");
    started(&mut talk, 1, "ann", "m1");
    started(&mut talk, 2, "ann", "m2");
    talk.lost();
    let waiting = |messages: &[Value], state: &str| {
        let mut waiting = history(messages, Some(&[]));
        waiting["pendingInputs"] = json!({"items": [{"runId": "ann:m2", "state": state}]});
        waiting
    };
    let id = asked(&talk.reopen("boot-2"), "chat.history");
    let said = talk.hears(&ok(&id, &waiting(&[user("ann:m1")], "queued")));
    let id = asked(&said, "agent.wait");
    talk.hears(&ok(&id, &json!({"status": "timeout"})));
    let said = talk.hears(&chat(1, "u-1", "agent:main:ann", "final", "one"));
    assert_eq!(said.answers(), final_of("ann", "ann:m1", "one"));
    let transcript = [user("ann:m1"), assistant("one")];
    let id = asked(&said, "chat.history");
    let queued = waiting(&transcript, "queued");
    assert!(talk.hears(&ok(&id, &queued)).is_silent());
    let tick = json!({"type": "event", "event": "tick", "seq": 2});
    let id = asked(&talk.hears(&tick), "chat.history");
    let said = talk.hears(&ok(&id, &waiting(&transcript, "interrupted")));
    assert_eq!(said.frame()["params"]["idempotencyKey"], "ann:m2~2");
}
