//! TLS for tens of thousands of connections that mostly rest.
//!
//! rustls is used through its unbuffered interface: a connection at rest holds keys
//! and sequence numbers, but no record buffers. Whoever reads a socket brings the
//! buffer, usually one per worker, and only an incomplete record is kept
//! until the rest of it comes.
//!
//! - [`TlsState`] is the connection without I/O: bytes in, bytes out.
//! - [`TlsStream`] drives it over a tokio socket, for the handshake and HTTP;
//!   [`TlsStream::into_parts`] hands it on to a worker.
//! - [`CertificateStore`] has the certificate, which can change while connections live.
//! - [`server_config`] ties them together.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, pki_types};

pub use certificate::CertificateStore;
pub use state::{Reading, TlsState};
pub use stream::{AcceptError, Parts, TlsStream};

mod certificate;
mod expiry;
mod state;
mod stream;

/// Why TLS could not go on, or not begin.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key file could not be read.
    #[error("file {} could not be read", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What happened.
        #[source]
        source: pki_types::pem::Error,
    },
    /// The certificate file holds no certificate.
    #[error("file {} has no certificate", path.display())]
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// Certificate and key do not belong together, or can't be used.
    #[error("certificate of file {} can not be used with its key", path.display())]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// rustls refused the configuration.
    #[error("TLS could not be set up")]
    Setup(#[source] rustls::Error),
    /// The peer broke the protocol, or its bytes were tampered with. What is in the
    /// output then is the alert to send before closing.
    #[error("peer broke the TLS protocol")]
    Peer(#[source] rustls::Error),
    /// The peer sent a record or handshake message in more bytes than are kept.
    #[error(
        "peer sent more than {} bytes of an incomplete message",
        state::INCOMPLETE_BYTES_MAX
    )]
    IncompleteTooLong,
    /// There is nothing to send on: the handshake is not done, or the connection has failed.
    #[error("TLS connection is not open for sending")]
    NotOpen,
    /// The keys have sealed as much as they may (TLS 1.2 only).
    #[error("TLS keys are exhausted")]
    Exhausted,
}

/// HTTP/2 in ALPN.
pub(crate) const ALPN_HTTP2: &[u8] = b"h2";

/// The TLS settings of a listener: TLS 1.2 and 1.3 by aws-lc-rs, HTTP/1.1 by ALPN, and
/// before it HTTP/2 where that is spoken.
///
/// No session is stored here; those who come back bring their own ticket, sealed with
/// keys that change every six hours. It spares half of a reconnection's work when
/// everybody comes back at once. One ticket per connection.
pub fn server_config(
    certificates: Arc<CertificateStore>,
    with_http2: bool,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if with_http2 {
        config.alpn_protocols.insert(0, ALPN_HTTP2.to_vec());
    }
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Setup)?;
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;
