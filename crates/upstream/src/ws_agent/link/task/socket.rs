//! Bytes to and from the agent.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use websocket::{Event, Inflater, OpCode, close, close_payload};

use super::super::super::peer::Input;
use super::super::super::pool::{Cause, End};
use super::super::{Phase, scratch};
use super::{Closing, Session, Wire};

impl Session<'_> {
    /// Gives the socket what it takes at once.
    pub(super) async fn write_once(&mut self, wire: &mut Wire) {
        poll_fn(|context| {
            // The connection is given up, whether this succeeds or not.
            drop(self.out.poll_write(context, &mut wire.stream));
            Poll::Ready(())
        })
        .await;
    }

    /// Moves bytes both ways; ready when something has moved.
    pub(super) fn poll_socket(
        &mut self,
        wire: &mut Wire,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut moved = false;
        if let Poll::Ready(count) = self.out.poll_write(context, &mut wire.stream) {
            let count = count?;
            if count > 0 {
                self.wrote_ms = self.agents.now().mono_ms;
                let counts = &self.link.counts;
                counts.sent_bytes.fetch_add(count as u64, Relaxed);
            }
            moved = true;
        }
        let read = scratch::with(|room| {
            let mut buffer = ReadBuf::new(&mut room.input);
            match Pin::new(&mut wire.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) => {
                    let count = buffer.filled().len();
                    let input = &mut room.input[..count];
                    self.received(wire, &mut room.inflater, input);
                    Poll::Ready(Ok(()))
                }
                other => other,
            }
        });
        match read {
            Poll::Pending if moved => Poll::Ready(Ok(())),
            other => other,
        }
    }

    /// Takes bytes of the agent; none means that it sends no more.
    pub(super) fn received(
        &mut self,
        wire: &mut Wire,
        inflater: &mut Inflater,
        mut input: &mut [u8],
    ) {
        if input.is_empty() {
            self.end("connection was closed by the agent".to_owned());
            return;
        }
        let counts = &self.link.counts;
        counts.received_bytes.fetch_add(input.len() as u64, Relaxed);
        self.heard_ms = self.agents.now().mono_ms;
        self.pinged_ms = None;
        while !input.is_empty() {
            match wire.decoder.decode(&wire.limits, inflater, input) {
                Ok((used, event)) => {
                    if let Some(event) = event {
                        self.event(event);
                    }
                    input = &mut input[used..];
                }
                Err(error) => {
                    let text = error.to_string();
                    self.close(error.close_code(), &text, Cause::Lost);
                    return;
                }
            }
        }
    }

    pub(super) fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Message { payload, .. } if self.closing.is_none() => {
                self.feed(Input::Frame(payload));
            }
            // A pong that would wait behind megabytes tells nobody anything.
            Event::Ping(payload) if self.closing.is_none() => {
                if self.out.backlog() < PONG_BACKLOG_MAX {
                    self.push(OpCode::Pong, payload);
                }
            }
            Event::Message { .. } | Event::Ping(_) | Event::Pong(_) => {}
            Event::Close { code, reason } => {
                if self.closing.is_none() {
                    let shown = code.map_or_else(|| "no code".to_owned(), |code| code.to_string());
                    let text = format!("agent closed the connection with {shown}: {reason}");
                    self.close(code.unwrap_or(close::NORMAL), "", Cause::Lost);
                    if let Some(closing) = &mut self.closing {
                        closing.end.code = code;
                        closing.end.reason = text;
                    }
                }
                if let Some(closing) = &mut self.closing {
                    closing.heard = true;
                }
            }
        }
    }

    /// Queues a frame; after the close frame there are none.
    pub(super) fn push(&mut self, opcode: OpCode, payload: &[u8]) {
        if self.closing.is_some() {
            return;
        }
        self.waits_from_now();
        if let Err(error) = self.out.push(opcode, payload) {
            self.end(format!("no random numbers: {error}"));
        }
    }

    /// What is queued next finds the socket at rest, however long that was, not stalled.
    pub(super) fn waits_from_now(&mut self) {
        if self.out.backlog() == 0 {
            self.wrote_ms = self.agents.now().mono_ms;
        }
    }

    /// Begins the closing handshake.
    pub(super) fn close(&mut self, code: u16, reason: &str, cause: Cause) {
        if self.closing.is_some() {
            return;
        }
        self.push(OpCode::Close, &close_payload(code, reason));
        self.link.state().phase = Phase::Closing;
        self.closing = Some(Closing {
            due_ms: self.agents.now().mono_ms + CLOSE_WAIT_MS,
            heard: false,
            end: End::new(cause, reason),
        });
    }

    /// The connection is gone. If it was being closed, that is why.
    pub(super) fn end(&mut self, reason: String) {
        if self.end.is_none() {
            let closing = self.closing.take().map(|closing| closing.end);
            self.end = Some(closing.unwrap_or_else(|| End::new(Cause::Lost, reason)));
        }
    }
}

/// How long the other side may take for its close frame.
const CLOSE_WAIT_MS: u64 = 1_000;

/// Bytes that may wait before a pong.
const PONG_BACKLOG_MAX: usize = 1024 * 1024;
