//! How certificates of services are checked: by the system's roots, or by a route's.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

use super::DialError;
use crate::http_service::{Origin, Versions};

pub(super) const ALPN_HTTP2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// What the settings of TLS of all origins are made of.
#[derive(Debug)]
pub(crate) struct TlsClients {
    provider: Arc<CryptoProvider>,
    /// Made when it is needed first, as it reads the system's roots. Sessions that can be
    /// resumed are shared by all that use it.
    system: Mutex<Option<ClientConfig>>,
}

/// The settings of one origin, made when it is first connected to.
#[derive(Debug)]
pub(super) struct TlsConfig {
    clients: Arc<TlsClients>,
    made: OnceLock<Arc<ClientConfig>>,
}

impl TlsClients {
    pub(crate) fn new() -> Self {
        Self {
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            system: Mutex::new(None),
        }
    }

    fn system(&self) -> Result<ClientConfig, rustls::Error> {
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = system.as_ref() {
            return Ok(config.clone());
        }
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_platform_verifier()?
            .with_no_client_auth();
        *system = Some(config.clone());
        Ok(config)
    }

    fn trusting(&self, pem: &str) -> Result<ClientConfig, DialError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate
                .map_err(|error| DialError::TlsSetup(format!("roots: {error}").into()))?;
            roots.add(certificate).map_err(setup)?;
        }
        if roots.is_empty() {
            return Err(DialError::TlsSetup("roots hold no certificate".into()));
        }
        Ok(
            ClientConfig::builder_with_provider(Arc::clone(&self.provider))
                .with_safe_default_protocol_versions()
                .map_err(setup)?
                .with_root_certificates(roots)
                .with_no_client_auth(),
        )
    }
}

impl TlsConfig {
    pub(super) fn new(clients: Arc<TlsClients>) -> Self {
        Self {
            clients,
            made: OnceLock::new(),
        }
    }

    pub(super) fn get(&self, origin: &Origin) -> Result<Arc<ClientConfig>, DialError> {
        if let Some(config) = self.made.get() {
            return Ok(Arc::clone(config));
        }
        let mut config = match &origin.tls.roots {
            Some(pem) => self.clients.trusting(pem)?,
            None => self.clients.system().map_err(setup)?,
        };
        let protocols: &[&[u8]] = match origin.versions {
            Versions::Negotiated => &[ALPN_HTTP2, ALPN_HTTP1],
            Versions::Http1 => &[ALPN_HTTP1],
            Versions::Http2 => &[ALPN_HTTP2],
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::clone(self.made.get_or_init(|| Arc::new(config))))
    }
}

fn setup(error: rustls::Error) -> DialError {
    DialError::TlsSetup(error.to_string().into())
}
