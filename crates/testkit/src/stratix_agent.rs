//! A scripted agent that speaks the Stratix message JSON, and what it has seen.
//!
//! One listener stands for as many agents as there are paths in URLs. Its connections are
//! tasks of one thread, so that ten thousand of them are no burden.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::PATIENCE;
use crate::certificate::Certificate;

mod connection;

/// How the agent behaves; may be changed while it runs.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Every text message is answered by one with the id `re-<id>` and the same data.
    pub echoes: bool,
    /// Every message is acknowledged.
    pub acks: bool,
    /// The connection is dropped, without a close frame, when it has received so many messages.
    pub close_after: Option<usize>,
    /// New connections are refused with this status and body.
    pub refusal: Option<(u16, String)>,
    /// Time between a message and what follows from it.
    pub delay: Duration,
    /// Bytes are taken from the socket.
    pub reads: bool,
    /// Pings and close frames are answered.
    pub answers_control: bool,
    /// A text of so many bytes is the first thing the agent says.
    pub greeting_len: Option<usize>,
}

impl Default for Behaviour {
    /// Takes everything and says nothing.
    fn default() -> Self {
        Self {
            echoes: false,
            acks: false,
            close_after: None,
            refusal: None,
            delay: Duration::ZERO,
            reads: true,
            answers_control: true,
            greeting_len: None,
        }
    }
}

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Path and query of the connection it came on.
    pub path: String,
    /// Its `clientId`.
    pub client: String,
    /// Its `messageId`.
    pub message_id: String,
    /// Its `type`.
    pub kind: u64,
    /// Its `data`.
    pub data: String,
}

/// An upgrade request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Path and query.
    pub path: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header, its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What the agent has seen.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Messages in the order of their arrival.
    pub received: Vec<Received>,
    /// Upgrade requests, those that were refused included.
    pub requests: Vec<Request>,
    /// Connections that are open.
    pub open: usize,
    /// The most that were open at once.
    pub most_open: usize,
    /// Pings of the other side.
    pub pings: usize,
    /// Paths and codes of close frames of the other side.
    pub closes: Vec<(String, Option<u16>)>,
    /// Connections that are over, however that came about.
    pub ended: usize,
}

#[derive(Default)]
struct Shared {
    ledger: Mutex<Ledger>,
    changed: Condvar,
    behaviour: Mutex<Behaviour>,
    /// What open connections are to say, by path.
    speakers: Mutex<HashMap<String, mpsc::Sender<Order>>>,
}

/// What a connection is told from outside.
enum Order {
    Say(String),
    Drop,
}

/// The running agent; it ends when this is dropped.
pub struct StratixAgent {
    address: SocketAddr,
    secure: bool,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl StratixAgent {
    /// Starts one that listens on a free port of 127.0.0.1.
    pub fn start(behaviour: Behaviour) -> anyhow::Result<Self> {
        Self::launch(behaviour, None)
    }

    /// The same with TLS.
    pub fn start_tls(behaviour: Behaviour, certificate: &Certificate) -> anyhow::Result<Self> {
        Self::launch(behaviour, Some(acceptor(certificate)?))
    }

    fn launch(behaviour: Behaviour, tls: Option<TlsAcceptor>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            ..Shared::default()
        });
        let (stop, mut stopped) = watch::channel(false);
        let secure = tls.is_some();
        let served = Arc::clone(&shared);
        let (bound, address) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("stratix-agent".to_owned())
            .spawn(move || {
                // The caller may be inside a runtime of its own, so this one works here only.
                runtime.block_on(async move {
                    let listener = TcpListener::bind(("127.0.0.1", 0)).await;
                    let address = listener.as_ref().map_err(ToString::to_string);
                    let address = address.and_then(|it| it.local_addr().map_err(|e| e.to_string()));
                    let _ = bound.send(address);
                    let Ok(listener) = listener else {
                        return;
                    };
                    tokio::select! {
                        () = serve(listener, tls, served) => {}
                        _ = stopped.changed() => {}
                    }
                });
            })?;
        let address = address.recv_timeout(PATIENCE)?;
        Ok(Self {
            address: address.map_err(anyhow::Error::msg)?,
            secure,
            shared,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of one of the agents.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.secure { "wss" } else { "ws" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// What it has seen so far.
    pub fn ledger(&self) -> Ledger {
        self.shared.ledger().clone()
    }

    /// Waits until the ledger is as described.
    pub fn wait(&self, what: &str, mut is_so: impl FnMut(&Ledger) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut ledger = self.shared.ledger();
        while !is_so(&ledger) {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "{what} did not happen: {ledger:?}");
            let waited = self.shared.changed.wait_timeout(ledger, left);
            ledger = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Changes the behaviour from now on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        let behaviour = &self.shared.behaviour;
        change(&mut behaviour.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Says something on the connection with this path.
    pub fn say(&self, path: &str, message: &Value) -> anyhow::Result<()> {
        self.order(path, Order::Say(message.to_string()))
    }

    /// Drops the connection with this path, without a close frame.
    pub fn drop_connection(&self, path: &str) -> anyhow::Result<()> {
        self.order(path, Order::Drop)
    }

    fn order(&self, path: &str, order: Order) -> anyhow::Result<()> {
        let speaker = self.shared.speakers().get(path).cloned();
        let speaker = speaker.with_context(|| format!("no connection has the path {path}"))?;
        speaker
            .try_send(order)
            .map_err(|_| anyhow::anyhow!("the connection of {path} takes no orders"))
    }
}

impl Drop for StratixAgent {
    fn drop(&mut self) {
        // If nobody listens the thread has ended already.
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Ledger)) {
        change(&mut self.ledger());
        self.changed.notify_all();
    }

    fn behaviour(&self) -> Behaviour {
        let behaviour = self.behaviour.lock();
        behaviour.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn speakers(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<Order>>> {
        self.speakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let tls = tls.clone();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // What goes wrong on a connection shows in the ledger.
            let _ = match tls {
                None => connection::serve(tcp, &shared).await,
                Some(tls) => match tls.accept(tcp).await {
                    Ok(stream) => connection::serve(stream, &shared).await,
                    Err(error) => Err(error.into()),
                },
            };
        });
    }
}

fn acceptor(certificate: &Certificate) -> anyhow::Result<TlsAcceptor> {
    let chain = CertificateDer::from_pem_slice(certificate.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![chain.context("certificate is not PEM")?],
            key.context("key is not PEM")?,
        )?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
