//! A scripted `OpenClaw` gateway, and what it has seen.
//!
//! It speaks as much of the gateway protocol as an operator's client needs: challenge, `connect`
//! with secret and device signature, pairing, `chat.send` with memory of idempotency keys,
//! `agent.wait`, `chat.history`, `chat` events to every connection, ticks, shutdown. Objects that
//! a client sends are closed, as with the real one: an unknown field is refused. A message for a
//! session that is busy waits, and is answered under a run id that the gateway makes up; so are
//! runs that a killed gateway resumes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::state::State;
use crate::PATIENCE;

mod connection;
mod methods;
mod state;

/// How the gateway behaves; may be changed while it runs.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// The shared token or password; `None` lets everybody in.
    pub secret: Option<String>,
    /// Devices have to be approved, as for connections from elsewhere.
    pub pairing: bool,
    /// Scopes that it grants at most.
    pub scopes: Vec<String>,
    /// Time between ticks.
    pub tick: Duration,
    /// Ticks are sent.
    pub ticks: bool,
    /// Most bytes of an attachment.
    pub attachment_max: u64,
    /// Runs end at once with their message as answer. Otherwise they go on until
    /// [`FakeGateway::finish`].
    pub echoes: bool,
    /// Time between a message and the response to it.
    pub delay: Duration,
    /// Session keys are told in lower case.
    pub lowers_keys: bool,
    /// What to do about the next messages, first to last; after that all are accepted.
    pub next: VecDeque<Next>,
}

impl Default for Behaviour {
    /// Accepts everything and echoes, with the secret `secret`.
    fn default() -> Self {
        Self {
            secret: Some("secret".to_owned()),
            pairing: false,
            scopes: vec!["operator.read".to_owned(), "operator.write".to_owned()],
            tick: Duration::from_secs(30),
            ticks: true,
            attachment_max: 19_464_192,
            echoes: true,
            delay: Duration::ZERO,
            lowers_keys: true,
            next: VecDeque::new(),
        }
    }
}

/// What to do about one `chat.send`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Accept it.
    Accept,
    /// Accept it and say `in_flight`, as for a repetition.
    InFlight,
    /// Refuse it with a retryable `UNAVAILABLE`.
    Busy {
        /// `retryAfterMs`.
        after_ms: Option<u64>,
    },
    /// Refuse it with `INVALID_REQUEST`.
    Invalid,
    /// Drop the connection; the message is not taken.
    DropBefore,
    /// Take it, and drop the connection instead of responding.
    DropUnanswered,
    /// Take it, respond, and drop the connection.
    DropAfter,
    /// Take it and never respond.
    Silent,
    /// Respond twice.
    Twice,
    /// Accept it, but do not write it down until the run ends: a kill loses it.
    Unwritten,
    /// The run fails: an `error` event, and the same for repetitions.
    Fail,
}

/// A run that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its idempotency key and id.
    pub key: String,
    /// Its session key, as it came.
    pub session: String,
    /// The message.
    pub text: String,
    /// MIME type and bytes (Base64) of the attachment.
    pub attachments: Vec<(String, String)>,
    /// `traceparent` of the request.
    pub traceparent: Option<String>,
    /// Lives of the gateway before this one.
    pub restarts: usize,
}

/// What the gateway has seen.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Runs in the order of their start. A key that is there twice was started twice.
    pub runs: Vec<Run>,
    /// `chat.send` requests, repetitions and refused ones included, by idempotency key.
    pub sends: Vec<String>,
    /// Methods of all requests.
    pub requests: Vec<String>,
    /// Parameters of every `connect`.
    pub connects: Vec<Value>,
    /// Connections that were greeted.
    pub greeted: usize,
    /// Connections that are open.
    pub open: usize,
    /// Close codes of clients.
    pub closes: Vec<Option<u16>>,
    /// Codes of errors answered, with their detail codes.
    pub refusals: Vec<String>,
    /// Devices that wait for approval: request id and device id.
    pub pending: Vec<(String, String)>,
}

/// The running gateway; it ends when this is dropped.
pub struct FakeGateway {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl FakeGateway {
    /// Starts one on a free port of 127.0.0.1.
    pub fn start(behaviour: Behaviour) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(behaviour)),
            changed: Condvar::new(),
        });
        let (stop, mut stopped) = watch::channel(false);
        let serving = serve(listener, Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("openclaw".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    tokio::select! {
                        () = serving => {}
                        _ = stopped.changed() => {}
                    }
                });
            })?;
        Ok(Self {
            address,
            shared,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, with a path.
    pub fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    /// What it has seen so far.
    pub fn ledger(&self) -> Ledger {
        self.shared.state().ledger.clone()
    }

    /// Waits until the ledger is as described.
    pub fn wait(
        &self,
        what: &str,
        mut is_so: impl FnMut(&Ledger) -> bool,
    ) -> anyhow::Result<Ledger> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.state();
        while !is_so(&state.ledger) {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "{what} did not happen: {:?}", state.ledger);
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(state.ledger.clone())
    }

    /// Changes the behaviour from now on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.state().behaviour);
    }

    /// Approves a device that waits.
    pub fn approve(&self, request_id: &str) -> anyhow::Result<()> {
        self.shared.change(|state| state.approve(request_id))
    }

    /// Ends the run of this message, which must work, with this answer.
    pub fn finish(&self, key: &str, text: &str) -> anyhow::Result<()> {
        self.shared.state().finish(key, text, true)
    }

    /// Ends a run with this answer, but the event gets lost: a gap in the numbers.
    pub fn finish_unheard(&self, key: &str, text: &str) -> anyhow::Result<()> {
        self.shared.state().finish(key, text, false)
    }

    /// Sends an event to every connection that was greeted.
    pub fn broadcast(&self, event: &str, payload: &Value) {
        self.shared.state().broadcast(event, payload);
    }

    /// Drops all connections without a close frame.
    pub fn drop_connections(&self) {
        self.shared.state().drop_connections();
    }

    /// Stops and starts again: connections are told and closed with 1012, the memory of
    /// idempotency keys is lost, transcripts stay, running runs are gone.
    pub fn restart(&self) {
        self.shared.state().restart();
    }

    /// Dies and starts again: connections break, the memory of idempotency keys and messages
    /// that were not written down are lost, running runs are resumed under other ids.
    pub fn kill(&self) {
        self.shared.state().kill();
    }

    /// Loses the transcripts as well as the memory, without a word to anybody.
    pub fn forget(&self) {
        self.shared.state().forget();
    }
}

impl Drop for FakeGateway {
    fn drop(&mut self) {
        // If nobody listens the thread has ended already.
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known and wakes who waits for it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_all();
        result
    }
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    while let Ok((tcp, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // What goes wrong on a connection shows in the ledger.
            let _ = connection::serve(tcp, &shared).await;
        });
    }
}
