//! A stub of the chat-completions API: it answers with what it was asked.
//!
//! One thread per request, one request per connection. Requests can be held back, so that a
//! test can do something while an agent waits for its model.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

/// A running stub; it ends with this value.
#[derive(Debug)]
pub(super) struct Model {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    held: bool,
    stopped: bool,
    prompts: Vec<String>,
}

impl Model {
    /// Starts on a free port of the loopback interface.
    pub(super) fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread("model", move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.lock().stopped {
                    return;
                }
                let shared = Arc::clone(&shared);
                // A caller that gives up or sends nonsense has its own error.
                let served = thread("model request", move || drop(shared.serve(stream)));
                if served.is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { address, state })
    }

    /// Where its API begins.
    pub(super) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Makes requests wait until [`Model::release`], at most [`HELD_MAX`].
    pub(super) fn hold(&self) {
        self.state.lock().held = true;
    }

    /// Lets requests go on.
    pub(super) fn release(&self) {
        self.state.lock().held = false;
        self.state.changed.notify_all();
    }

    /// Waits until a prompt that contains `part` has come.
    pub(super) fn wait_asked(&self, part: &str, patience: Duration) -> anyhow::Result<()> {
        let asked = |inner: &mut Inner| !inner.prompts.iter().any(|prompt| prompt.contains(part));
        let (inner, _) = self
            .state
            .changed
            .wait_timeout_while(self.state.lock(), patience, asked)
            .unwrap_or_else(PoisonError::into_inner);
        ensure!(
            inner.prompts.iter().any(|prompt| prompt.contains(part)),
            "model was not asked {part:?} within {patience:?}; it was asked {:?}",
            inner.prompts
        );
        Ok(())
    }

    /// How many prompts contained `part`.
    pub(super) fn times_asked(&self, part: &str) -> usize {
        let inner = self.state.lock();
        inner
            .prompts
            .iter()
            .filter(|all| all.contains(part))
            .count()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        {
            let mut inner = self.state.lock();
            inner.stopped = true;
            inner.held = false;
        }
        self.state.changed.notify_all();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

impl State {
    fn serve(&self, mut stream: TcpStream) -> anyhow::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        let body: Value = serde_json::from_slice(&read_body(&mut stream)?)?;
        let prompt = prompt(&body);
        let mut inner = self.lock();
        ensure!(inner.prompts.len() < PROMPTS_MAX, "too many prompts");
        inner.prompts.push(prompt.clone());
        self.changed.notify_all();
        drop(
            self.changed
                .wait_timeout_while(inner, HELD_MAX, |inner| inner.held)
                .unwrap_or_else(PoisonError::into_inner),
        );
        let answer = completion(&answer(&prompt), body["stream"] == true);
        stream.write_all(&answer)?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the model says to a prompt.
pub(super) fn answer(prompt: &str) -> String {
    format!("The model was asked: {prompt}")
}

/// What the user has asked since the model last spoke, without what the agent adds: the time
/// in front, and notes of its own.
fn prompt(body: &Value) -> String {
    let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let unanswered = messages
        .iter()
        .rposition(|message| message["role"] == "assistant")
        .map_or(messages, |last| &messages[last + 1..]);
    let texts: Vec<String> = unanswered
        .iter()
        .filter(|message| message["role"] == "user")
        .map(|message| text(&message["content"]))
        .filter(|text| !text.starts_with(AGENT_CONTEXT))
        .collect();
    let asked: Vec<&str> = texts
        .iter()
        .flat_map(|text| text.lines())
        .map(|line| {
            let stamped = line
                .strip_prefix('[')
                .and_then(|line| line.split_once(" UTC] "));
            stamped.map_or(line, |(_, rest)| rest)
        })
        .filter(|line| !line.is_empty() && !AGENT_LINES.iter().any(|mark| line.starts_with(mark)))
        .collect();
    asked.join(" | ")
}

fn text(content: &Value) -> String {
    match content {
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part["text"].as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

fn completion(text: &str, streamed: bool) -> Vec<u8> {
    let usage = json!({ "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 });
    let whole = |object: &str, choice: Value| json!({ "id": "stub", "object": object, "created": 1, "model": "m1", "choices": [choice], "usage": usage });
    let (kind, body) = if streamed {
        let chunk = |delta: Value, finish: Option<&str>| {
            let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
            format!("data: {}\n\n", whole("chat.completion.chunk", choice))
        };
        let events = [
            chunk(json!({ "role": "assistant", "content": "" }), None),
            chunk(json!({ "content": text }), None),
            chunk(json!({}), Some("stop")),
            "data: [DONE]\n\n".to_owned(),
        ];
        ("text/event-stream", events.concat())
    } else {
        let message = json!({ "role": "assistant", "content": text });
        let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
        (
            "application/json",
            whole("chat.completion", choice).to_string(),
        )
    };
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Reads one request and returns its body; only bodies with a length are understood.
fn read_body(stream: &mut impl Read) -> anyhow::Result<Vec<u8>> {
    let mut received = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        if let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&received[..end]).to_lowercase();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .context("request has no length")?
                .trim()
                .parse()?;
            ensure!(length <= BODY_MAX, "request has {length} bytes");
            if received.len() >= end + 4 + length {
                return Ok(received[end + 4..end + 4 + length].to_vec());
            }
        }
        let read = stream.read(&mut chunk)?;
        ensure!(read > 0, "request ended early");
        ensure!(received.len() <= BODY_MAX + HEAD_MAX, "request is too long");
        received.extend_from_slice(&chunk[..read]);
    }
}

pub(super) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .with_context(|| format!("thread {name:?} could not be started"))?;
    Ok(())
}

/// How long a request is held back at most.
const HELD_MAX: Duration = Duration::from_secs(120);
const PROMPTS_MAX: usize = 1000;
const HEAD_MAX: usize = 64 * 1024;
const BODY_MAX: usize = 16 << 20;

/// A message in the user's role that the agent writes begins like this.
const AGENT_CONTEXT: &str = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>";
/// Lines that the agent adds to a message begin like this.
const AGENT_LINES: [&str; 3] = ["[System] ", "[Queued user message", "Runtime: "];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::prompt;

    #[test]
    fn prompt_is_what_the_user_asked_since_the_last_answer() {
        let body = json!({ "messages": [
            { "role": "system", "content": "You are an agent." },
            { "role": "user", "content": "[Fri 2026-11-20 21:25 UTC] before\n\nRuntime: x" },
            { "role": "assistant", "content": "so" },
            { "role": "user", "content": "[Fri 2026-11-20 21:25 UTC] one\n\nRuntime: x" },
            { "role": "user", "content": [{ "type": "text", "text": "two" }] },
            { "role": "user", "content": "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nthree" },
        ]});
        assert_eq!(prompt(&body), "one | two");
    }

    #[test]
    fn prompt_of_a_resumed_turn_is_what_the_user_asked() {
        let text = "[Fri 2026-11-20 21:54 UTC] [Queued user message from a previous active turn.]\n\
                    four\n\n[System] Your previous turn was interrupted.\n\nRuntime: x";
        let body = json!({ "messages": [{ "role": "user", "content": text }] });
        assert_eq!(prompt(&body), "four");
    }
}
