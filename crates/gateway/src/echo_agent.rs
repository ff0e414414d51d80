//! An agent for the demo: it says back what it hears.
//!
//! A real one as far as the gateway can tell: a WebSocket server on a loopback port that
//! speaks the Stratix message JSON, acknowledges every message and answers each once. It
//! stands outside of everything else, so that the demo shows the way a message takes.
//!
//! Anything on this machine may connect to its port, so it has limits of its own, and web
//! pages, which always name their origin, are turned away.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lifecycle::{Clock, Tasks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use websocket::{Decoder, Event, Inflater, Limits, OpCode, Role, close, encode_frame};

use answer::Seen;

mod answer;
mod greeting;

/// Starts the agent on a free port of the loopback interface and returns its address. Its
/// URL is `ws://<address>/`. It runs until `tasks` stop; to be called within the runtime.
///
/// # Errors
///
/// The port could not be had.
pub fn start(tasks: &Tasks, clock: Clock) -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    let agent = Arc::new(Agent {
        clock,
        seen: Mutex::default(),
        places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
    });
    tasks.spawn("echo agent", accept(tasks.clone(), listener, agent));
    Ok(address)
}

struct Agent {
    clock: Clock,
    seen: Mutex<Seen>,
    places: Arc<Semaphore>,
}

async fn accept(tasks: Tasks, listener: TcpListener, agent: Arc<Agent>) {
    let stopping = tasks.stopping();
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Most likely no descriptor is free; asking again at once would not help.
                tracing::debug!(%error, "echo agent could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Above the limit the connection is closed at once.
        let Ok(place) = Arc::clone(&agent.places).try_acquire_owned() else {
            continue;
        };
        let (agent, stopping) = (Arc::clone(&agent), stopping.clone());
        tasks.spawn("echo agent's connection", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                ended = agent.converse(stream) => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "connection of the echo agent was lost");
                    }
                }
            }
            drop(place);
        });
    }
}

impl Agent {
    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let greeted = timeout(GREETING_TIMEOUT, greeting::exchange(&mut stream)).await??;
        let Some(mut input) = greeted else {
            return Ok(());
        };
        let mut decoder = Decoder::new(Role::Server, None);
        let mut inflater = Inflater::new();
        loop {
            let mut output = Vec::new();
            let goes_on = self.hear(&mut decoder, &mut inflater, &mut input, &mut output);
            if !output.is_empty() {
                timeout(WRITE_TIMEOUT, stream.write_all(&output)).await??;
            }
            if !goes_on {
                return stream.shutdown().await;
            }
            input.resize(READ_BYTES, 0);
            let read = timeout(IDLE_TIMEOUT, stream.read(&mut input)).await??;
            if read == 0 {
                return Ok(());
            }
            input.truncate(read);
        }
    }

    /// Answers what `input` completes; `false` if that was the end of the conversation.
    fn hear(
        &self,
        decoder: &mut Decoder,
        inflater: &mut Inflater,
        mut input: &mut [u8],
        output: &mut Vec<u8>,
    ) -> bool {
        let mut send = |opcode, payload: &[u8]| {
            encode_frame(output, opcode, true, false, None, payload);
        };
        while !input.is_empty() {
            let used = match decoder.decode(&LIMITS, inflater, input) {
                Ok((used, None)) => used,
                Ok((used, Some(event))) => {
                    match event {
                        Event::Message { payload, .. } => self.answer(payload, &mut send),
                        Event::Ping(payload) => send(OpCode::Pong, payload),
                        Event::Pong(_) => {}
                        Event::Close { .. } => {
                            send(OpCode::Close, &close::close_payload(close::NORMAL, ""));
                            return false;
                        }
                    }
                    used
                }
                Err(error) => {
                    let reason = error.to_string();
                    send(
                        OpCode::Close,
                        &close::close_payload(error.close_code(), &reason),
                    );
                    return false;
                }
            };
            input = &mut input[used..];
        }
        true
    }

    fn answer(&self, payload: &[u8], send: &mut impl FnMut(OpCode, &[u8])) {
        let now_ms = self.clock.unix_ms();
        // Nothing that runs under this lock can leave it half done.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for text in answer::answers(&mut seen, payload, now_ms)
            .into_iter()
            .flatten()
        {
            send(OpCode::Text, text.as_bytes());
        }
    }
}

/// Most connections at a time; the gateway needs one.
const CONNECTIONS_MAX: usize = 8;

/// A message may hold what the relay takes by default, 50 MiB, in Base64.
const LIMITS: Limits = Limits {
    message_max: 72 * 1024 * 1024,
    frame_max: 72 * 1024 * 1024,
    inflated_max: 0,
    inflate_ratio_max: 1,
};

const READ_BYTES: usize = 64 * 1024;
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longer than the gateway keeps a link that carries nothing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
