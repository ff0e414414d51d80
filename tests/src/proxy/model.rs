//! A stub of a model's API: it streams what it was asked, in either dialect.

use std::io;

use serde_json::{Value, json};

use super::origin::{Asked, Origin};

/// A model that answers `POST …/chat/completions` (OpenAI) and `POST …/messages` (Anthropic):
/// [`WORDS`], one event each, [`INPUT`] tokens of input and [`OUTPUT`] of output. While the
/// upstream is held, a stream waits after its second word.
pub fn start() -> anyhow::Result<Origin> {
    Origin::answering(answer)
}

/// Answers as a model.
pub fn answer(asked: &mut Asked<'_>) -> io::Result<()> {
    let body: Value = serde_json::from_slice(&asked.body()?).unwrap_or_default();
    let is_stream = body["stream"] == true;
    match (asked.path().ends_with("/messages"), is_stream) {
        (true, true) => anthropic(asked),
        (true, false) => asked.json(&json!({
            "type": "message",
            "content": [{ "type": "text", "text": WORDS.concat() }],
            "stop_reason": "end_turn",
            "usage": { "input_tokens": INPUT, "output_tokens": OUTPUT },
        })),
        (false, true) => openai(asked),
        (false, false) => asked.json(&json!({
            "object": "chat.completion",
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": WORDS.concat() },
                "finish_reason": "stop",
            }],
            "usage": {
                "prompt_tokens": INPUT,
                "completion_tokens": OUTPUT,
                "total_tokens": INPUT + OUTPUT,
            },
        })),
    }
}

fn openai(asked: &mut Asked<'_>) -> io::Result<()> {
    asked.begin_events()?;
    let event = |asked: &mut Asked<'_>, delta: Value, reason: Value, usage: Value| {
        let choices = match usage.is_null() {
            true => json!([{ "index": 0, "delta": delta, "finish_reason": reason }]),
            false => json!([]),
        };
        let data = json!({
            "object": "chat.completion.chunk",
            "choices": choices,
            "usage": usage,
        });
        asked.chunk(format!("data: {data}\n\n").as_bytes())
    };
    for (index, word) in WORDS.iter().enumerate() {
        event(asked, json!({ "content": word }), Value::Null, Value::Null)?;
        wait_after(asked, index)?;
    }
    event(asked, json!({}), json!("stop"), Value::Null)?;
    let usage = json!({ "prompt_tokens": INPUT, "completion_tokens": OUTPUT });
    event(asked, Value::Null, Value::Null, usage)?;
    asked.chunk(b"data: [DONE]\n\n")?;
    asked.end(&[])
}

fn anthropic(asked: &mut Asked<'_>) -> io::Result<()> {
    asked.begin_events()?;
    let event = |asked: &mut Asked<'_>, name: &str, data: Value| {
        asked.chunk(format!("event: {name}\ndata: {data}\n\n").as_bytes())
    };
    event(
        asked,
        "message_start",
        json!({
            "type": "message_start",
            "message": { "usage": { "input_tokens": INPUT, "output_tokens": 1 } },
        }),
    )?;
    for (index, word) in WORDS.iter().enumerate() {
        event(
            asked,
            "content_block_delta",
            json!({
                "type": "content_block_delta",
                "index": 0,
                "delta": { "type": "text_delta", "text": word },
            }),
        )?;
        wait_after(asked, index)?;
    }
    event(
        asked,
        "message_delta",
        json!({
            "type": "message_delta",
            "delta": { "stop_reason": "end_turn" },
            "usage": { "output_tokens": OUTPUT },
        }),
    )?;
    event(asked, "message_stop", json!({ "type": "message_stop" }))?;
    asked.end(&[])
}

fn wait_after(asked: &mut Asked<'_>, index: usize) -> io::Result<()> {
    if index != 1 {
        return Ok(());
    }
    match asked.wait(testkit::PATIENCE)? {
        super::origin::Woken::CallerLeft => Err(io::ErrorKind::ConnectionAborted.into()),
        _ => Ok(()),
    }
}

/// What it says.
pub const WORDS: [&str; 4] = ["the ", "answer ", "to ", "that"];
/// Tokens of input, as it counts them.
pub const INPUT: u64 = 11;
/// Tokens of output, as it counts them.
pub const OUTPUT: u64 = 7;
