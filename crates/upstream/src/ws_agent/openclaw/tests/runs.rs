//! Runs: their answers, and what is done when some were missed.

use super::*;

pub(super) fn started(talk: &mut Talk, tag: u64, client: &str, message_id: &str) {
    let sent = talk.sends(tag, delivery(client, message_id, "x")).frame();
    let id = sent["id"].as_str().unwrap().to_owned();
    talk.hears(&ok(&id, &json!({"status": "started"})));
}

pub(super) fn final_of(client: &str, run: &str, text: &str) -> [Answer; 1] {
    [answer(client, run, AnswerKind::Final, text)]
}

pub(super) fn user(run: &str) -> Value {
    json!({"role": "user", "content": "x", "__openclaw": {"idempotencyKey": format!("{run}:user")}})
}

pub(super) fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": text}]})
}

pub(super) fn history(messages: &[Value], active: Option<&[&str]>) -> Value {
    let mut history = json!({"messages": messages, "hasMore": false});
    if let Some(active) = active {
        history["sessionInfo"] = json!({"activeRunIds": active});
    }
    history
}

/// The number of the only request.
pub(super) fn asked(said: &Said, method: &str) -> String {
    let frame = said.frame();
    assert_eq!(frame["method"], method, "{frame}");
    frame["id"].as_str().unwrap().to_owned()
}

#[test]
fn answer_goes_to_the_client_of_the_run_whatever_the_session_key() {
    let mut talk = Talk::open("boot");
    started(&mut talk, 1, "ann", "m1");
    let said = talk.hears(&chat(1, "ann:m1", "agent:main:else", "final", "hi"));
    assert_eq!(said.answers(), final_of("ann", "ann:m1", "hi"));
}

#[test]
fn answer_of_another_run_goes_to_the_client_of_the_session() {
    let mut talk = Talk::open("boot");
    started(&mut talk, 1, "ann", "m1");
    let said = talk.hears(&chat(1, "cron-1", "agent:main:Ann", "final", "news"));
    assert_eq!(said.answers(), final_of("ann", "cron-1", "news"));
    let said = talk.hears(&chat(2, "x", "agent:main:bob", "final", "not ours"));
    assert!(said.is_silent());
    let said = talk.hears(&chat(3, "y", "agent:other:ann", "final", "not ours"));
    assert!(said.is_silent());
}

#[test]
fn endless_run_id_of_the_gateway_is_not_remembered() {
    let mut talk = Talk::open("boot");
    started(&mut talk, 1, "ann", "m1");
    let long = "r".repeat(513);
    let said = talk.hears(&chat(1, &long, "agent:main:ann", "final", "x"));
    assert!(said.is_silent());
}

#[test]
fn clients_that_differ_only_in_case_have_sessions_of_their_own() {
    let mut talk = Talk::open("boot");
    started(&mut talk, 1, "Ann", "m1");
    started(&mut talk, 2, "ann", "m1");
    let said = talk.hears(&chat(1, "cron", "agent:main:ann", "final", "small"));
    assert_eq!(&*said.answers()[0].client, "ann");
    let said = talk.hears(&chat(2, "cron-2", "agent:main:%41nn", "final", "large"));
    assert_eq!(&*said.answers()[0].client, "Ann");
    let said = talk.hears(&chat(3, "%41nn:m1", "agent:main:%41nn", "final", "hi"));
    let told = &said.answers()[0];
    assert_eq!((&*told.client, &*told.in_reply_to), ("Ann", "m1"));
}

#[test]
fn end_of_a_run_is_told_once() {
    let mut talk = Talk::open("boot");
    started(&mut talk, 1, "ann", "m1");
    let end = chat(1, "ann:m1", "agent:main:ann", "final", "hi");
    assert_eq!(talk.hears(&end).answers().len(), 1);
    let again = chat(2, "ann:m1", "agent:main:ann", "final", "hi");
    assert!(talk.hears(&again).is_silent());
    let late = chat(3, "ann:m1", "agent:main:ann", "aborted", "");
    assert!(talk.hears(&late).is_silent());
}

#[test]
fn failures_and_aborts_are_told() {
    let mut talk = Talk::open("boot");
    started(&mut talk, 1, "ann", "m1");
    started(&mut talk, 2, "ann", "m2");
    started(&mut talk, 3, "ann", "m3");
    let event = |seq: u64, run: &str, more: Value| {
        let mut payload = json!({"runId": run, "sessionKey": "agent:main:ann"});
        payload
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"type": "event", "event": "chat", "seq": seq, "payload": payload})
    };
    let said = talk.hears(&event(
        1,
        "ann:m1",
        json!({"state": "error", "errorMessage": "boom"}),
    ));
    let failed = answer("ann", "ann:m1", AnswerKind::Failed, "boom");
    assert_eq!(said.answers(), [failed]);
    let said = talk.hears(&event(
        2,
        "ann:m2",
        json!({"state": "error", "errorKind": "timeout"}),
    ));
    let failed = answer("ann", "ann:m2", AnswerKind::Failed, "timeout");
    assert_eq!(said.answers(), [failed]);
    let said = talk.hears(&event(3, "ann:m3", json!({"state": "aborted"})));
    let aborted = answer("ann", "ann:m3", AnswerKind::Aborted, "");
    assert_eq!(said.answers(), [aborted]);
}

#[test]
fn parts_are_told_only_if_the_route_asks_for_them() {
    let part = chat(1, "ann:m1", "agent:main:ann", "delta", "Tide");
    let mut quiet = Talk::open("boot");
    started(&mut quiet, 1, "ann", "m1");
    assert!(quiet.hears(&part).is_silent());

    let mut talk = Talk::new(Target {
        deltas: true,
        ..target()
    });
    talk.reopen("boot");
    started(&mut talk, 1, "ann", "m1");
    let said = talk.hears(&part);
    let expected = answer("ann", "ann:m1", AnswerKind::Delta, "Tide");
    assert_eq!(said.answers(), [expected]);
}

#[test]
fn parts_without_the_text_so_far_are_put_together() {
    let mut talk = Talk::new(Target {
        deltas: true,
        ..target()
    });
    talk.reopen("boot");
    started(&mut talk, 1, "ann", "m1");
    let mut seq = 0;
    let mut told = |talk: &mut Talk, part: &str, replace: bool| {
        seq += 1;
        let said = talk.hears(
            &json!({"type": "event", "event": "chat", "seq": seq, "payload": {
            "runId": "ann:m1", "sessionKey": "agent:main:ann", "state": "delta",
            "deltaText": part, "replace": replace}}),
        );
        said.answers()[0].data.to_string()
    };
    assert_eq!(told(&mut talk, "Tide", false), "Tide");
    assert_eq!(told(&mut talk, "gate", false), "Tidegate");
    assert_eq!(told(&mut talk, "New", true), "New");
}

#[test]
fn gap_in_the_events_is_filled_from_the_transcript() {
    let mut talk = Talk::open("boot");
    started(&mut talk, 1, "ann", "m1");
    started(&mut talk, 2, "ann", "m2");
    let tick = |seq: u64| json!({"type": "event", "event": "tick", "seq": seq});
    assert!(talk.hears(&tick(1)).is_silent());
    let said = talk.hears(&tick(3));
    let id = asked(&said, "chat.history");
    assert_eq!(said.frame()["params"]["sessionKey"], "agent:main:ann");
    let messages = [
        user("ann:m1"),
        assistant("one"),
        user("ann:m2"),
        assistant("tw"),
    ];
    let said = talk.hears(&ok(&id, &history(&messages, Some(&["ann:m2"]))));
    assert_eq!(said.answers(), final_of("ann", "ann:m1", "one"));
    assert!(said.frames().is_empty());
    let said = talk.hears(&chat(4, "ann:m2", "agent:main:ann", "final", "two"));
    assert_eq!(said.answers(), final_of("ann", "ann:m2", "two"));
}

#[test]
fn gap_without_open_runs_asks_nothing() {
    let mut talk = Talk::open("boot");
    let said = talk.hears(&json!({"type": "event", "event": "tick", "seq": 9}));
    assert!(said.is_silent());
}

#[test]
fn run_whose_end_is_not_in_the_transcript_is_asked_for() {
    let mut talk = Talk::open("boot");
    started(&mut talk, 1, "ann", "m1");
    let said = talk.hears(&json!({"type": "event", "event": "tick", "seq": 9}));
    let id = asked(&said, "chat.history");
    let said = talk.hears(&ok(&id, &history(&[user("ann:m1")], Some(&[]))));
    let id = asked(&said, "agent.wait");
    let wait = json!({"runId": "ann:m1", "status": "error", "endedAt": 5, "error": "boom"});
    let said = talk.hears(&ok(&id, &wait));
    let failed = answer("ann", "ann:m1", AnswerKind::Failed, "boom");
    assert_eq!(said.answers(), [failed]);
}

#[test]
fn transcript_of_a_gateway_that_lists_no_active_runs_is_not_trusted_alone() {
    let mut talk = Talk::open("boot");
    started(&mut talk, 1, "ann", "m1");
    let said = talk.hears(&json!({"type": "event", "event": "tick", "seq": 9}));
    let id = asked(&said, "chat.history");
    let messages = [user("ann:m1"), assistant("so far")];
    let said = talk.hears(&ok(&id, &history(&messages, None)));
    assert!(said.answers().is_empty());
    let id = asked(&said, "agent.wait");
    let said = talk.hears(&ok(&id, &json!({"status": "ok", "endedAt": 5})));
    assert_eq!(said.answers(), final_of("ann", "ann:m1", "so far"));
}

#[test]
fn runs_open_when_the_connection_broke_are_looked_after_on_the_next_one() {
    let mut talk = Talk::open("boot");
    started(&mut talk, 1, "ann", "m1");
    talk.lost();
    let said = talk.reopen("boot");
    let id = asked(&said, "chat.history");
    let messages = [user("ann:m1"), assistant("meanwhile")];
    let said = talk.hears(&ok(&id, &history(&messages, Some(&[]))));
    assert_eq!(said.answers(), final_of("ann", "ann:m1", "meanwhile"));
}

#[test]
fn few_transcripts_are_read_at_a_time() {
    let mut talk = Talk::open("boot");
    for number in 0..10 {
        started(&mut talk, number, &format!("c{number}"), "m1");
    }
    let gap = talk.hears(&json!({"type": "event", "event": "tick", "seq": 9}));
    assert_eq!(gap.methods(), ["chat.history"; 4]);
    let mut open: Vec<String> = gap
        .frames()
        .iter()
        .map(|frame| frame["id"].as_str().unwrap().to_owned())
        .collect();
    let mut asked = open.len();
    while let Some(id) = open.pop() {
        let empty = history(&[], Some(&["c0:m1"]));
        for frame in talk.hears(&ok(&id, &empty)).frames() {
            asked += usize::from(frame["method"] == "chat.history");
            open.push(frame["id"].as_str().unwrap().to_owned());
            assert!(open.len() <= 4);
        }
    }
    assert_eq!(asked, 10);
}

#[test]
fn busy_gateway_is_asked_for_the_transcript_again_at_the_next_tick() {
    let mut talk = Talk::open("boot");
    started(&mut talk, 1, "ann", "m1");
    let said = talk.hears(&json!({"type": "event", "event": "tick", "seq": 9}));
    let id = asked(&said, "chat.history");
    let busy = refused(&id, &json!({"code": "UNAVAILABLE", "retryable": true}));
    assert!(talk.hears(&busy).is_silent());
    let said = talk.hears(&json!({"type": "event", "event": "tick", "seq": 10}));
    asked(&said, "chat.history");
}

#[test]
fn message_that_may_have_been_taken_long_ago_is_checked_first() {
    let check = |history: Value| {
        let mut talk = Talk::open("boot");
        let mut old = delivery("ann", "m1", "x");
        old.check_first = true;
        let said = talk.sends(1, old);
        let id = asked(&said, "chat.history");
        assert_eq!(said.frame()["params"]["sessionKey"], "agent:main:ann");
        let said = talk.hears(&ok(&id, &history));
        (talk, said)
    };
    let (_, said) = check(history(&[user("ann:m1"), assistant("done")], Some(&[])));
    assert_eq!(said.outcomes(), [(1, Outcome::Delivered)]);
    assert_eq!(said.answers(), final_of("ann", "ann:m1", "done"));

    // It works.
    let (_, said) = check(history(&[], Some(&["ann:m1"])));
    assert_eq!(said.outcomes(), [(1, Outcome::Delivered)]);
    assert!(said.answers().is_empty() && said.frames().is_empty());

    // It waits, and will end under another id.
    let mut waiting = history(&[], None);
    waiting["pendingInputs"] = json!({"items": [{"state": "queued", "runId": "ann:m1"}]});
    let (mut talk, said) = check(waiting);
    assert_eq!(said.outcomes(), [(1, Outcome::Delivered)]);
    let said = talk.hears(&chat(1, "uuid", "agent:main:ann", "final", "later"));
    assert_eq!(said.answers(), final_of("ann", "ann:m1", "later"));

    let (_, said) = check(history(&[user("ann:m0"), assistant("x")], Some(&[])));
    assert_eq!(said.frame()["params"]["idempotencyKey"], "ann:m1");
    assert!(said.outcomes().is_empty());
}

#[test]
fn restarted_gateway_is_asked_before_a_message_of_unknown_fate_is_sent_again() {
    let mut talk = Talk::open("boot-1");
    talk.sends(1, delivery("ann", "m1", "x"));
    talk.lost();
    let said = talk.reopen("boot-2");
    assert_eq!(said.methods(), ["chat.history"]);
    let said = talk.sends(2, delivery("ann", "m1", "x"));
    assert_eq!(said.methods(), ["chat.history"]);
    let said = talk.sends(3, delivery("ann", "m2", "x"));
    assert_eq!(said.methods(), ["chat.send"]);
}

#[test]
fn answer_of_a_run_that_a_restart_made_forgotten_is_taken_from_the_transcript() {
    for (boot, told) in [("boot-1", 0), ("boot-2", 1)] {
        let mut talk = Talk::open("boot-1");
        started(&mut talk, 1, "ann", "m1");
        talk.lost();
        let id = asked(&talk.reopen(boot), "chat.history");
        let messages = [user("ann:m1"), assistant("before the end")];
        let said = talk.hears(&ok(&id, &history(&messages, None)));
        let id = asked(&said, "agent.wait");
        let said = talk.hears(&ok(&id, &json!({"status": "timeout"})));
        assert_eq!(said.answers().len(), told, "{boot}");
    }
}

#[test]
fn run_that_never_ends_is_not_waited_for_for_ever() {
    let mut talk = Talk::open("boot");
    started(&mut talk, 1, "ann", "m1");
    assert!(talk.peer.expects_answers());
    talk.now_ms += 3_600_000;
    talk.hears(&json!({"type": "event", "event": "tick", "seq": 1}));
    assert!(!talk.peer.expects_answers());
    let said = talk.hears(&chat(2, "ann:m1", "agent:main:ann", "final", "late"));
    assert_eq!(said.answers(), final_of("ann", "ann:m1", "late"));
}

#[test]
fn gateway_that_was_not_restarted_is_sent_the_message_again() {
    let mut talk = Talk::open("boot-1");
    talk.sends(1, delivery("ann", "m1", "x"));
    talk.lost();
    talk.reopen("boot-1");
    let said = talk.sends(2, delivery("ann", "m1", "x"));
    assert_eq!(said.methods(), ["chat.send"]);
}

#[test]
fn end_that_was_missed_is_looked_up_when_the_repetition_says_so() {
    let mut talk = Talk::open("boot");
    talk.sends(1, delivery("ann", "m1", "x"));
    let said = talk.hears(&ok("2", &json!({"runId": "ann:m1", "status": "ok"})));
    assert_eq!(said.outcomes(), [(1, Outcome::Delivered)]);
    let id = asked(&said, "chat.history");
    let messages = [user("ann:m1"), assistant("long ago")];
    let said = talk.hears(&ok(&id, &history(&messages, Some(&[]))));
    assert_eq!(said.answers(), final_of("ann", "ann:m1", "long ago"));
}

#[test]
fn memory_is_bounded_however_many_runs_there_are() {
    let mut talk = Talk::open("boot");
    for number in 0..20_000 {
        let client = format!("c{number}");
        let sent = talk.sends(number, delivery(&client, "m", "x"));
        let id = (number + 2).to_string();
        assert_eq!(sent.frames().len(), 1);
        talk.hears(&ok(&id, &json!({"status": "started"})));
    }
    assert_eq!(talk.peer.runs.len(), 16_384);
    // The oldest is forgotten as a run, but its session is known.
    let said = talk.hears(&chat(1, "c0:m", "agent:main:c0", "final", "late"));
    assert_eq!(said.answers(), final_of("c0", "c0:m", "late"));
}
