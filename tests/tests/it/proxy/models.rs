//! Routes to models: what is counted, what it may cost, and how streams end.

use std::time::{Duration, Instant};

use e2e::proxy::model::{self, INPUT, OUTPUT, WORDS};
use e2e::proxy::origin::Origin;
use e2e::proxy::wire::Wire;
use e2e::proxy::{gateway, route};
use serde_json::{Value, json};
use testkit::{Gateway, PATIENCE, http, token};

use super::{before, post};

const STREAM: &[u8] = br#"{"model":"m","stream":true,"max_tokens":50,"messages":[{"role":"user","content":"hello"}]}"#;
const WHOLE: &[u8] =
    br#"{"model":"m","max_tokens":50,"messages":[{"role":"user","content":"hello"}]}"#;

const OPENAI: &str = "/-/a/v1/chat/completions";
const ANTHROPIC: &str = "/-/a/v1/messages";

fn ask(gateway: &Gateway, path: &str, user: &str) -> anyhow::Result<Wire> {
    let bearer = format!("Bearer {}", token::user(user)?);
    let mut wire = Wire::connect(gateway.main_addr())?;
    wire.ask("POST", path, &[("Authorization", &bearer)], STREAM)?;
    Ok(wire)
}

fn events(wire: &mut Wire) -> anyhow::Result<Vec<String>> {
    let mut events = Vec::new();
    while let Some(event) = wire.event()? {
        events.push(event);
    }
    Ok(events)
}

/// The JSON of an event.
fn data(event: &str) -> anyhow::Result<Value> {
    let data = event.lines().find_map(|line| line.strip_prefix("data: "));
    Ok(serde_json::from_str(data.unwrap_or_default())?)
}

#[test]
fn tokens_are_counted_in_both_dialects_streamed_or_not() -> anyhow::Result<()> {
    for (dialect, path) in [("openai", OPENAI), ("anthropic", ANTHROPIC)] {
        let model = model::start()?;
        let prices = json!({ "dialect": dialect, "input_price": 2.0, "output_price": 10.0 });
        let log = json!({ "access_log": { "enabled": true } });
        let routes = json!([route("/-/a", &model.url(), &json!({ "ai": prices }))]);
        let gateway = gateway(&routes, &log)?;
        let mut wire = ask(&gateway, path, "anna")?;
        assert_eq!(wire.head()?.status(), 200);
        let streamed = events(&mut wire)?.join("\n");
        for word in WORDS {
            assert!(streamed.contains(word), "{streamed}");
        }
        let whole = post(&gateway, path, &[], WHOLE)?;
        assert!(whole.text().contains(&WORDS.concat()), "{}", whole.text());
        gateway.wait_metric("tidegate_proxy_output_tokens_total", |it| {
            it == 2.0 * OUTPUT as f64
        })?;
        let input = gateway.metric("tidegate_proxy_input_tokens_total")?;
        assert!((input - 2.0 * INPUT as f64).abs() < f64::EPSILON, "{input}");
        let line = gateway
            .log()
            .wait_for(0, PATIENCE, |line| line["caller"] == "anna")?;
        assert_eq!(line["model"], "m");
        assert_eq!(line["input_tokens"], INPUT);
        assert_eq!(line["output_tokens"], OUTPUT);
        assert_eq!(line["tokens_estimated"], false);
        assert_eq!(line["cost_micro"], INPUT * 2 + OUTPUT * 10);
    }
    Ok(())
}

#[test]
fn a_spent_budget_is_429_in_the_callers_dialect_and_only_for_him() -> anyhow::Result<()> {
    for (dialect, path) in [("openai", OPENAI), ("anthropic", ANTHROPIC)] {
        let model = model::start()?;
        // Room for one request, whose reservation is larger than what it comes to.
        let ai = json!({ "dialect": dialect, "budget": { "tokens_per_day": 65 } });
        let gateway = before(&model, &json!({ "ai": ai }))?;
        let mut wire = ask(&gateway, path, "anna")?;
        assert_eq!(wire.head()?.status(), 200);
        events(&mut wire)?;
        let refused = ask(&gateway, path, "anna")?.answer()?;
        assert_eq!(refused.status, 429, "{}", refused.text());
        assert!(refused.header("retry-after").is_some());
        let told = refused.json()?;
        match dialect {
            "openai" => {
                assert_eq!(told["error"]["type"], "rate_limit_error", "{told}");
                assert_eq!(told["error"]["code"], "budget");
            }
            _ => {
                assert_eq!(told["type"], "error", "{told}");
                assert_eq!(told["error"]["type"], "rate_limit_error");
            }
        }
        assert_eq!(model.seen().requests.len(), 1);
        let mut other = ask(&gateway, path, "ben")?;
        assert_eq!(other.head()?.status(), 200);
    }
    Ok(())
}

#[test]
fn what_was_reserved_comes_back_when_the_client_leaves() -> anyhow::Result<()> {
    let model = model::start()?;
    // Two reservations of about 52 tokens do not fit, one and the use of another do.
    let ai = json!({ "budget": { "tokens_per_day": 90 } });
    let gateway = before(&model, &json!({ "ai": ai }))?;
    model.hold();
    let mut first = ask(&gateway, OPENAI, "anna")?;
    assert_eq!(first.head()?.status(), 200);
    first.event()?;
    assert_eq!(ask(&gateway, OPENAI, "anna")?.answer()?.status, 429);
    first.leave();
    model.wait(Duration::from_secs(1), |seen| seen.left == 1)?;
    model.release();
    let is_served = |it: &http::Response| it.status == 200;
    e2e::proxy::wire::eventually(|| ask(&gateway, OPENAI, "anna")?.answer(), is_served)?;
    Ok(())
}

#[test]
fn a_model_that_does_not_begin_is_replaced_by_the_next() -> anyhow::Result<()> {
    let silent = Origin::answering(|asked| {
        asked.body()?;
        asked.begin_events()?;
        asked.wait(PATIENCE)?;
        Ok(())
    })?;
    silent.hold();
    let model = model::start()?;
    let more = json!({
        "ai": true,
        "upstreams": [{ "url": silent.url(), "weight": 1000 }, { "url": model.url(), "weight": 1 }],
        "retry": { "attempts": 1, "unsafe_methods": true },
        "timeoutConfig": { "first_byte": 0.3 },
    });
    let gateway = gateway(&json!([route("/-/a", "", &more)]), &json!({}))?;
    for _ in 0..6 {
        let mut wire = ask(&gateway, OPENAI, "anna")?;
        assert_eq!(wire.head()?.status(), 200);
        let all = events(&mut wire)?;
        assert_eq!(all.last().map(String::as_str), Some("data: [DONE]"));
    }
    let asked = silent.seen().requests.len();
    assert!(asked > 0, "the silent one was never asked");
    silent.wait(PATIENCE, |seen| seen.left == asked)?;
    assert_eq!(model.seen().requests.len(), 6);
    Ok(())
}

#[test]
fn a_stream_that_falls_silent_ends_with_an_error_its_caller_understands() -> anyhow::Result<()> {
    for (dialect, path) in [("openai", OPENAI), ("anthropic", ANTHROPIC)] {
        let model = model::start()?;
        model.hold();
        let more = json!({ "ai": { "dialect": dialect }, "timeoutConfig": { "gap": 0.4 } });
        let gateway = before(&model, &more)?;
        let mut wire = ask(&gateway, path, "anna")?;
        assert_eq!(wire.head()?.status(), 200);
        let all = events(&mut wire)?;
        let last = all.last().map(String::as_str).unwrap_or_default();
        let told = data(last)?;
        match dialect {
            "openai" => assert_eq!(told["error"]["code"], "timeout:gap", "{last}"),
            _ => {
                assert!(last.starts_with("event: error\n"), "{last}");
                assert_eq!(told["error"]["type"], "timeout_error");
            }
        }
        // The two words before it came through, and the connection is as good as before.
        let before = all[..all.len() - 1].join("\n");
        assert!(
            before.contains(WORDS[0]) && before.contains(WORDS[1]),
            "{before}"
        );
        wire.ask("GET", "/-/nothing", &[], b"")?;
        assert_eq!(wire.answer()?.status, 404);
        model.wait(Duration::from_secs(1), |seen| seen.left == 1)?;
    }
    Ok(())
}

#[test]
fn a_stream_that_is_cut_is_not_taken_for_a_whole_one() -> anyhow::Result<()> {
    for ending in ["cut", "clean"] {
        let model = Origin::answering(move |asked| {
            asked.body()?;
            asked.begin_events()?;
            asked.chunk(
                b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\"}}]}\n\n",
            )?;
            asked.chunk(b"data: {\"choi")?;
            match ending {
                "cut" => {
                    asked.closes();
                    Ok(())
                }
                _ => asked.end(&[]),
            }
        })?;
        let gateway = before(&model, &json!({ "ai": true }))?;
        let mut wire = ask(&gateway, OPENAI, "anna")?;
        assert_eq!(wire.head()?.status(), 200);
        let all = events(&mut wire)?;
        let last = all.last().map(String::as_str).unwrap_or_default();
        assert_eq!(data(last)?["error"]["type"], "server_error", "{all:?}");
        assert!(!all.iter().any(|event| event.contains("[DONE]")));
    }
    Ok(())
}

#[test]
fn heartbeats_come_between_events_and_nowhere_else() -> anyhow::Result<()> {
    let model = Origin::answering(|asked| {
        asked.body()?;
        asked.begin_events()?;
        asked.pause(Duration::from_millis(700));
        asked.chunk(b"data: {\"choices\":[{\"delta\":{\"content\":\"one\"}}]}\n\n")?;
        // Within an event nothing may be put in.
        asked.chunk(b"data: {\"choices\":[{\"delta\":")?;
        asked.pause(Duration::from_millis(700));
        asked.chunk(b"{\"content\":\"two\"}}]}\n\n")?;
        asked.chunk(b"data: [DONE]\n\n")?;
        asked.end(&[])
    })?;
    let gateway = before(&model, &json!({ "ai": { "heartbeat": 0.2 } }))?;
    let begun = Instant::now();
    let mut wire = ask(&gateway, OPENAI, "anna")?;
    assert_eq!(wire.head()?.status(), 200);
    let all = events(&mut wire)?;
    assert!(begun.elapsed() >= Duration::from_millis(1_300));
    let spoken: Vec<&str> = all
        .iter()
        .map(String::as_str)
        .skip_while(|event| event.starts_with(':'))
        .collect();
    let beats = all.len() - spoken.len();
    assert!((2..=4).contains(&beats), "{all:?}");
    assert_eq!(data(spoken[0])?["choices"][0]["delta"]["content"], "one");
    assert_eq!(data(spoken[1])?["choices"][0]["delta"]["content"], "two");
    assert_eq!(spoken[2], "data: [DONE]");
    Ok(())
}

#[test]
fn an_answer_in_parts_reaches_the_client_as_it_comes() -> anyhow::Result<()> {
    let model = model::start()?;
    model.hold();
    let gateway = before(&model, &json!({ "ai": true }))?;
    let mut wire = ask(&gateway, OPENAI, "anna")?;
    assert_eq!(wire.head()?.status(), 200);
    let begun = Instant::now();
    wire.event()?;
    wire.event()?;
    assert!(begun.elapsed() < Duration::from_secs(1));
    model.release();
    let rest = events(&mut wire)?;
    assert_eq!(rest.last().map(String::as_str), Some("data: [DONE]"));
    Ok(())
}

#[test]
fn what_was_spent_is_known_after_a_restart() -> anyhow::Result<()> {
    let model = model::start()?;
    let ai = json!({ "budget": { "tokens_per_day": 65 } });
    let mut gateway = before(&model, &json!({ "ai": ai }))?;
    events(&mut {
        let mut wire = ask(&gateway, OPENAI, "anna")?;
        wire.head()?;
        wire
    })?;
    gateway.restart()?;
    assert_eq!(ask(&gateway, OPENAI, "anna")?.answer()?.status, 429);
    assert_eq!(ask(&gateway, OPENAI, "ben")?.answer()?.status, 200);
    Ok(())
}
