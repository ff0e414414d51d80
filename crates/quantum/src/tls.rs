//! TLS 1.3 for the transport: who the peer is, and the keys of packets.
//!
//! TLS messages travel in CRYPTO frames and packets are sealed with the keys that come of them,
//! as in QUIC (RFC 9001), with the header and its SACK blocks as associated data. Both sides show
//! certificates unless the server explicitly lets clients be anonymous. There are no tickets and
//! no early data, so nothing can be replayed and each connection proves its peer anew.
//!
//! *Initial* keys are those of QUIC version 1 with the GUUID in place of the connection id
//! (RFC 9001 section 5.2), always AES-128-GCM. After that the client's preference counts:
//! AES-128-GCM where the processor knows AES, else ChaCha20-Poly1305.
//!
//! To take up new files, build the settings anew; connections live on with what they agreed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quantum_proto::Guuid;
use quantum_proto::codes::close;
use quantum_proto::crypto::{ClientCrypto, Handshake, HandshakeError, Keys, Macs, ServerCrypto};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::quic::{self, Version};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{AlertDescription, CipherSuite, ClientConfig, RootCertStore, ServerConfig, Side};

mod keys;
mod macs;
mod session;

pub use macs::HmacMacs;
use session::Session;

/// What both sides must speak inside the transport, as TLS negotiates it (ALPN).
pub const ALPN: &[u8] = b"quantum/1";

/// A certificate chain and its key, two PEM files; may be the same file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate, then those that lead to the authority.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Which clients a server lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clients {
    /// Those with a certificate that leads to an authority of this PEM file.
    Certified {
        /// Certificates of authorities.
        authorities: PathBuf,
    },
    /// All: no client is asked who it is.
    Anonymous,
}

/// The client's side of TLS; see the module.
#[derive(Debug, Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
}

/// The server's side of TLS; see the module. Printing it shows no secret.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    /// From the private key, so that reset tokens survive a restart.
    secret: [u8; 32],
}

impl ClientTls {
    /// Trusts servers whose certificate leads to an authority of the PEM file `authorities`, and
    /// shows them `identity`. Without one, only servers that allow anonymous clients answer.
    ///
    /// # Errors
    /// A file is unreadable, has no certificate, or certificate and key are no pair.
    pub fn load(authorities: &Path, identity: Option<&IdentityFiles>) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Setup)?
            .with_root_certificates(roots(authorities)?);
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(
                certified(identity)?.0,
            ))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self {
            config: Arc::new(config),
        })
    }
}

impl ServerTls {
    /// Shows `identity` to clients and lets in those that `clients` says.
    ///
    /// # Errors
    /// A file is unreadable, has no certificate, or certificate and key are no pair.
    pub fn load(identity: &IdentityFiles, clients: &Clients) -> Result<Self, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Setup)?;
        let builder = match clients {
            Clients::Certified { authorities } => {
                let roots = Arc::new(roots(authorities)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                    .build()
                    .map_err(|source| TlsError::Authorities {
                        path: authorities.clone(),
                        source,
                    })?;
                builder.with_client_cert_verifier(verifier)
            }
            Clients::Anonymous => builder.with_no_client_auth(),
        };
        let (certified, secret) = certified(identity)?;
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Self {
            config: Arc::new(config),
            secret,
        })
    }

    /// Keyed hashes for an endpoint, from the private key: whoever starts again with it knows
    /// the reset tokens that were given before. `scope` is the address that it is bound to, so
    /// that no endpoint can be asked for the tokens of another with the same key.
    pub fn macs(&self, scope: &[u8]) -> HmacMacs {
        HmacMacs::new(&HmacMacs::new(&self.secret).mac(SCOPE, &[scope]))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

impl ClientCrypto for ClientTls {
    fn start(
        &self,
        _guuid: Guuid,
        server_name: &str,
        options: &[u8],
    ) -> Result<Box<dyn Handshake>, HandshakeError> {
        let name = ServerName::try_from(server_name).map_err(|_| HandshakeError {
            code: close::INTERNAL,
            text: format!("`{server_name}` is neither a DNS name nor an address"),
        })?;
        let config = Arc::clone(&self.config);
        quic::ClientConnection::new(config, Version::V1, name.to_owned(), options.to_vec())
            .map(|session| Session::boxed(session.into()))
            .map_err(|error| not_started(&error))
    }

    fn initial(&self, guuid: Guuid) -> Keys {
        keys::initial(guuid, Side::Client)
    }
}

impl ServerCrypto for ServerTls {
    fn start(&self, _guuid: Guuid, options: &[u8]) -> Result<Box<dyn Handshake>, HandshakeError> {
        let config = Arc::clone(&self.config);
        quic::ServerConnection::new(config, Version::V1, options.to_vec())
            .map(|session| Session::boxed(session.into()))
            .map_err(|error| not_started(&error))
    }

    fn initial(&self, guuid: Guuid) -> Keys {
        keys::initial(guuid, Side::Server)
    }
}

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is unreadable, or not PEM.
    #[error("file {} could not be read", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What happened.
        #[source]
        source: pem::Error,
    },
    /// A file has no certificate.
    #[error("file {} has no certificate", path.display())]
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// A certificate of an authority is unusable.
    #[error("file {} has a certificate that is unusable as an authority", path.display())]
    Authority {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// The authorities cannot judge clients.
    #[error("certificates of file {} cannot be used to judge clients", path.display())]
    Authorities {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: VerifierBuilderError,
    },
    /// Certificate and key do not belong together, or cannot be used.
    #[error("certificate of file {} cannot be used with the key of file {}", chain.display(), key.display())]
    Pair {
        /// The certificate's file.
        chain: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// rustls refused the configuration.
    #[error("TLS could not be set up")]
    Setup(#[source] rustls::Error),
}

/// Purposes of keyed hashes here; those of `quantum_proto::endpoint` are below 0x80.
const IDENTITY: u8 = 0x80;
const SCOPE: u8 = 0x81;

/// aws-lc-rs with the cipher suites that we speak, the fastest on this processor first.
fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![
        TLS13_AES_128_GCM_SHA256,
        TLS13_AES_256_GCM_SHA384,
        TLS13_CHACHA20_POLY1305_SHA256,
    ];
    if !has_aes() {
        let slow = |suite: &rustls::SupportedCipherSuite| {
            suite.suite() != CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
        };
        provider.cipher_suites.sort_by_key(slow);
    }
    Arc::new(provider)
}

fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has = false;
    has
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(path)? {
        roots.add(authority).map_err(|source| TlsError::Authority {
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(roots)
}

/// Chain and key, and a secret that follows from the key.
fn certified(files: &IdentityFiles) -> Result<(CertifiedKey, [u8; 32]), TlsError> {
    let chain = certificates(&files.chain)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| unreadable(&files.key, source))?;
    let secret = HmacMacs::new(key.secret_der()).mac(IDENTITY, &[]);
    let certified =
        CertifiedKey::from_der(chain, key, &provider()).map_err(|source| TlsError::Pair {
            chain: files.chain.clone(),
            key: files.key.clone(),
            source,
        })?;
    Ok((certified, secret))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| unreadable(path, source))?;
    if found.is_empty() {
        return Err(TlsError::NoCertificate {
            path: path.to_owned(),
        });
    }
    Ok(found)
}

fn unreadable(path: &Path, source: pem::Error) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        source,
    }
}

fn not_started(error: &rustls::Error) -> HandshakeError {
    HandshakeError {
        code: close::TLS + u32::from(u8::from(AlertDescription::InternalError)),
        text: format!("TLS could not begin: {error}"),
    }
}

#[cfg(test)]
mod tests;
