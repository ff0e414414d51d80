//! Which agent, and how it is spoken to.

use std::sync::Arc;
use std::time::Duration;

/// An agent as the route table names it. Two equal targets share one connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// `ws://` or `wss://`, with host, port and path.
    pub url: Arc<str>,
    /// What it speaks.
    pub peer: Peer,
    /// What it is shown.
    pub auth: AgentAuth,
    /// If set, the SHA-256 of the only leaf certificate that is accepted; otherwise the
    /// system's roots decide.
    pub tls_fingerprint: Option<[u8; 32]>,
    /// Name of the agent behind an `OpenClaw` gateway, for session keys.
    pub agent_id: Arc<str>,
    /// Partial answers are wanted, too.
    pub deltas: bool,
    /// A Stratix agent acknowledges every message. Otherwise this holds from its first
    /// acknowledgement on, and until then a message counts as delivered when it is written.
    pub acks: bool,
    /// How text in `data` is read.
    pub data_encoding: DataEncoding,
    /// Time to connect, handshakes included.
    pub dial_timeout: Duration,
    /// Time for one try of one message.
    pub try_timeout: Duration,
    /// Most messages sent and not answered yet.
    pub in_flight: usize,
    /// A connection that carried nothing for so long is closed; zero means never.
    pub idle_timeout: Duration,
}

impl Target {
    /// The URL without its query, which may hold secrets.
    pub fn shown_url(&self) -> &str {
        self.url
            .split_once('?')
            .map_or(&self.url, |(shown, _)| shown)
    }
}

/// What an agent speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// The `OpenClaw` gateway protocol, as an operator.
    OpenClaw,
    /// The Stratix message JSON, both ways.
    Stratix,
}

/// What an `OpenClaw` gateway is shown; Stratix agents get it as a Bearer token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AgentAuth {
    /// Nothing.
    None,
    /// The shared token.
    Token(Secret),
    /// The password.
    Password(Secret),
}

/// How text in `data` is read where its bytes are needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum DataEncoding {
    /// Base64 if it is strictly padded Base64 of valid UTF-8, else plain.
    #[default]
    Auto,
    /// Always Base64.
    Base64,
    /// Always plain.
    Plain,
}

/// A secret that is not printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<Arc<str>>) -> Self {
        Self(secret.into())
    }

    /// The secret, for the wire.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(…)")
    }
}
