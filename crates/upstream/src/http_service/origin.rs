//! Where an HTTP service is and how it is reached.

use std::hash::{Hash, Hasher};
use std::time::Duration;

/// One upstream of a route. Two that are equal share connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// What lies below HTTP.
    pub scheme: Scheme,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What `Host` says: the host, and the port unless it is the scheme's own.
    pub authority: String,
    /// Which versions of HTTP are spoken.
    pub versions: Versions,
    /// Loopback, private and other special addresses may be connected to. Those of
    /// cloud metadata services never are.
    pub allow_private: bool,
    /// How its certificate is checked.
    pub tls: TlsTerms,
    /// How long name, TCP and each of its addresses may take together.
    pub dial_timeout: Duration,
    /// How long a connection may rest between two requests.
    pub idle_timeout: Duration,
}

/// The place alone: terms rarely differ for one place, and its hash is taken for every
/// request.
impl Hash for Origin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.scheme.hash(state);
        self.host.hash(state);
        self.port.hash(state);
    }
}

/// What lies below HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain TCP.
    Http,
    /// TLS.
    Https,
    /// Quantum, for gRPC only: a stream per call, over UDP.
    Quantum,
}

/// Which versions of HTTP are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Versions {
    /// HTTP/1.1 without TLS, what the server chooses (ALPN) with it.
    #[default]
    Negotiated,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only; without TLS by prior knowledge.
    Http2,
}

/// How a certificate is checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TlsTerms {
    /// Certificates (PEM) that are trusted instead of the system's.
    pub roots: Option<String>,
    /// The name to ask for and to check, if it is not the host.
    pub server_name: Option<String>,
}
