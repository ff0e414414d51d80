//! What a process writes, line by line, kept for assertions.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

/// Lines from one or more streams, in the order they came.
#[derive(Debug, Default)]
pub struct Log {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    open_streams: usize,
}

impl Log {
    /// Reads a stream to its end on a thread of its own.
    pub fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static) -> anyhow::Result<()> {
        self.lock().open_streams += 1;
        let log = Arc::clone(self);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    log.lock().lines.push(line);
                    log.changed.notify_all();
                }
                log.lock().open_streams -= 1;
                log.changed.notify_all();
            })
            .context("thread for the log could not be started")?;
        Ok(())
    }

    /// How many lines there are; give it to [`Log::wait_for`] to look at later ones only.
    pub fn mark(&self) -> usize {
        self.lock().lines.len()
    }

    /// Everything so far.
    pub fn text(&self) -> String {
        self.lock().lines.join("\n")
    }

    /// Waits for a JSON line after `mark` that `wanted` accepts.
    pub fn wait_for(
        &self,
        mark: usize,
        timeout: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let mut next = mark;
        let mut found = None;
        let state = self.lock();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, timeout, |state| {
                while found.is_none() && next < state.lines.len() {
                    found = serde_json::from_str(&state.lines[next])
                        .ok()
                        .filter(&wanted);
                    next += 1;
                }
                found.is_none() && state.open_streams > 0
            })
            .unwrap_or_else(PoisonError::into_inner);
        found.with_context(|| format!("no such line in the log:\n{}", state.lines.join("\n")))
    }

    /// Waits for a line whose `message` is `message`.
    pub fn wait_for_message(
        &self,
        mark: usize,
        timeout: Duration,
        message: &str,
    ) -> anyhow::Result<Value> {
        self.wait_for(mark, timeout, |line| line["message"] == message)
            .with_context(|| format!("waited for {message:?}"))
    }

    /// Waits until every stream has ended, as they do with the process that writes them.
    pub fn wait_for_end(&self, timeout: Duration) -> anyhow::Result<()> {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), timeout, |state| state.open_streams > 0)
            .unwrap_or_else(PoisonError::into_inner);
        anyhow::ensure!(
            state.open_streams == 0,
            "process still runs after {timeout:?}; its log:\n{}",
            state.lines.join("\n")
        );
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
