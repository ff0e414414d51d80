//! Methods of the native protocol that a gRPC service answers.

use std::collections::HashSet;

use e2e::desk::{Desk, Options, Way, orders};
use serde_json::{Value, json};
use testkit::{Client, Gateway, Handshake, PATIENCE, token};

use super::{anna, before, config, refusal, say, service, settings};

/// A service for all ways to it; the link loses 5 % each way.
fn desk() -> anyhow::Result<Desk> {
    Desk::start_with(Options { loss: Some(0.05) })
}

const WAYS: [Way; 3] = [Way::Tcp, Way::Quantum, Way::Link];

#[test]
fn a_call_is_answered_whatever_carries_it_and_has_one_id_in_both_logs() -> anyhow::Result<()> {
    let desk = desk()?;
    for way in WAYS {
        let gateway = before(&desk, way, &json!({}))?;
        let mut anna = anna(&gateway)?;
        let mut ids = HashSet::new();
        for number in 0..20 {
            let mark = desk.log().mark();
            let text = format!("{way:?} {number} ü");
            let answer = say(&mut anna, &json!({ "text": text }))?;
            assert_eq!(answer["text"], text);
            assert_eq!(answer["user"], "anna");
            let guuid = answer["guuid"].as_str().unwrap_or_default().to_owned();
            assert_eq!(guuid.len(), 36, "{answer}");
            let received = desk.wait_action(mark, "request_received")?;
            assert_eq!(received["guuid"], guuid, "{received}");
            let trace = received["traceparent"].as_str().unwrap_or_default();
            assert!(trace.contains(&guuid.replace('-', "")), "{received}");
            for action in ["request_received", "response_sent"] {
                let line = gateway.log().wait_for(0, PATIENCE, |line| {
                    line["guuid"] == *guuid && line["action"] == action
                })?;
                assert_eq!(line["component"], "api-gateway", "{line}");
                assert_eq!(line["method"], "desk.say", "{line}");
            }
            assert!(ids.insert(guuid), "an id was used twice");
        }
    }
    Ok(())
}

#[test]
fn calls_under_way_together_get_each_its_own_answer() -> anyhow::Result<()> {
    const CLIENTS: usize = 20;
    const CALLS: usize = 15;
    let desk = desk()?;
    for way in WAYS {
        let gateway = before(&desk, way, &json!({}))?;
        let mut crowd = Vec::new();
        for number in 0..CLIENTS {
            let user = format!("user-{number}");
            crowd.push(Client::connect(gateway.main_addr(), &token::user(&user)?)?);
        }
        let text = |client: usize, call: u64| format!("{client} {call} {}", "x".repeat(1_000));
        for (number, client) in crowd.iter_mut().enumerate() {
            for call in 0..CALLS as u64 {
                let data = json!({ "text": text(number, call) });
                client.send_command("rpc", json!({ "method": "desk.say", "data": data }))?;
            }
        }
        for (number, client) in crowd.iter_mut().enumerate() {
            for call in 0..CALLS as u64 {
                let reply = client.next_reply(PATIENCE)?;
                let data = &reply["rpc"]["data"];
                assert_eq!(data["text"], text(number, call), "{way:?}: {reply}");
                assert_eq!(data["user"], format!("user-{number}"));
            }
        }
    }
    Ok(())
}

#[test]
fn data_that_does_not_fit_is_refused_by_the_name_of_the_field() -> anyhow::Result<()> {
    let desk = Desk::start()?;
    let gateway = before(&desk, Way::Tcp, &json!({}))?;
    let mut anna = anna(&gateway)?;
    say(&mut anna, &json!({}))?;
    let mark = desk.log().mark();
    for (data, named) in [
        (json!({ "txet": "a" }), "txet"),
        (json!({ "text": 5 }), "text"),
        (json!({ "urgency": "URGENCY_LOW" }), "urgency"),
        (
            json!({ "lines": [ { "number": 1 }, { "number": "one" } ] }),
            "lines[1].number",
        ),
        (
            json!({ "lines": [ { "number": 3_000_000_000_u64 } ] }),
            "lines[0].number",
        ),
        (json!([1]), "expected a map"),
    ] {
        let (code, message) = refusal(say(&mut anna, &data))?;
        assert_eq!(code, 107, "{data}: {message}");
        assert!(message.contains(named), "{data}: {message}");
    }
    let fits = json!({ "urgency": "URGENCY_HIGH", "lines": [ { "number": -1 } ], "text": null });
    say(&mut anna, &fits)?;
    let heard = desk.log().text().lines().skip(mark).count();
    assert_eq!(heard, 1, "{}", desk.log().text());
    Ok(())
}

#[test]
fn a_refusal_keeps_its_kind_and_its_words_only_if_they_may_be_passed() -> anyhow::Result<()> {
    let desk = Desk::start()?;
    let method = |name: &str, more: &Value| {
        let mut method = json!({ "method": name, "service": "desk", "call": super::SAY });
        super::merge(&mut method, more);
        method
    };
    for way in [Way::Tcp, Way::Quantum] {
        let methods = json!({ "rpc": { "grpc": [
            method("desk.say", &json!({})),
            method("desk.open", &json!({ "pass_messages": true })),
        ] } });
        let policy = json!({ "policy": { "retries": { "attempts": 0 } } });
        let text = config(&settings(&[service(&desk, way, &policy)], &methods));
        let gateway = Gateway::start(&text)?;
        let mut anna = anna(&gateway)?;
        for (order, expected) in [
            (orders::REFUSE, 1_009),
            (orders::AWAY, 1_014),
            (orders::BREAK, 1_013),
        ] {
            let data = json!({ "text": order });
            let (code, message) = refusal(say(&mut anna, &data))?;
            assert_eq!(code, expected, "{way:?}: {message}");
            assert!(!message.contains(orders::INSIDE), "{message}");
            let open = json!({ "method": "desk.open", "data": data });
            let (code, message) = refusal(anna.request("rpc", open))?;
            assert_eq!(code, expected);
            assert!(message.contains(orders::INSIDE), "{message}");
        }
    }
    Ok(())
}

#[test]
fn a_call_that_takes_too_long_is_given_up_on_both_sides() -> anyhow::Result<()> {
    let desk = desk()?;
    for way in WAYS {
        let service = service(&desk, way, &json!({ "policy": { "timeout": "400ms" } }));
        let gateway = Gateway::start(&config(&settings(&[service], &json!({}))))?;
        let mut anna = anna(&gateway)?;
        let mark = desk.log().mark();
        let (code, message) = refusal(say(&mut anna, &json!({ "text": orders::HOLD })))?;
        assert_eq!(code, 1_004, "{way:?}: {message}");
        desk.wait_action(mark, orders::LET_GO)?;
    }
    Ok(())
}

#[test]
fn a_client_that_leaves_takes_its_call_along() -> anyhow::Result<()> {
    let desk = desk()?;
    for way in WAYS {
        let gateway = before(&desk, way, &json!({}))?;
        let mark = desk.log().mark();
        let mut anna = anna(&gateway)?;
        let hold = json!({ "method": "desk.say", "data": { "text": orders::HOLD } });
        anna.send_command("rpc", hold)?;
        desk.wait_action(mark, "request_received")?;
        drop(anna);
        desk.wait_action(mark, orders::LET_GO)?;
    }
    Ok(())
}

#[test]
fn messages_pass_untranslated_where_that_is_asked_for() -> anyhow::Result<()> {
    let desk = Desk::start()?;
    let raw = json!({ "rpc": { "grpc": [ {
        "method": "desk.say", "service": "desk", "call": super::SAY, "form": "protobuf",
    } ] } });
    let text = config(&settings(&[service(&desk, Way::Quantum, &json!({}))], &raw));
    let gateway = Gateway::start(&text)?;
    let mut anna = anna(&gateway)?;
    // Field 1, two bytes: "hi".
    let answer = say(&mut anna, &json!({ "base64": "CgJoaQ==" }))?;
    let answer = answer["base64"].as_str().unwrap_or_default();
    assert!(answer.starts_with("CgJoaRIEYW5uY"), "{answer}");
    let (code, _) = refusal(say(&mut anna, &json!({ "text": "hi" })))?;
    assert_eq!(code, 107);
    Ok(())
}

#[test]
fn callers_without_a_user_are_let_through_only_if_that_is_said() -> anyhow::Result<()> {
    let desk = Desk::start()?;
    for (anonymous, expected) in [(false, false), (true, true)] {
        let method = json!({
            "method": "desk.say", "service": "desk", "call": super::SAY, "anonymous": anonymous,
        });
        let more = json!({ "rpc": { "grpc": [method] } });
        let text = e2e::config::with_client_keys(
            "  allow_anonymous_connect_without_token: true",
            &settings(&[service(&desk, Way::Quantum, &json!({}))], &more),
        );
        let gateway = Gateway::start(&text)?;
        let mut nobody = Client::open(gateway.main_addr(), &Handshake::default())?;
        nobody.request("connect", json!({}))?;
        let answer = say(&mut nobody, &json!({ "text": "hello" }));
        assert_eq!(answer.is_ok(), expected, "{answer:?}");
        let mut anna = Client::connect(gateway.main_addr(), &token::user("anna")?)?;
        say(&mut anna, &json!({ "text": "hello" }))?;
    }
    Ok(())
}
