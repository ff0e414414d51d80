//! How the certificates of agents are checked: by the system's roots, or by a fingerprint.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt;

/// The settings of TLS for all links.
#[derive(Debug)]
pub(super) struct TlsClients {
    provider: Arc<CryptoProvider>,
    /// Made when the first link needs it, as it reads the system's roots.
    system: Mutex<Option<Arc<ClientConfig>>>,
}

impl TlsClients {
    pub(super) fn new() -> Self {
        Self {
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            system: Mutex::new(None),
        }
    }

    /// The settings for a target: its fingerprint (SHA-256 of the leaf), or the system's roots.
    pub(super) fn config(
        &self,
        fingerprint: Option<[u8; 32]>,
    ) -> Result<Arc<ClientConfig>, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?;
        if let Some(wanted) = fingerprint {
            let provider = Arc::clone(&self.provider);
            let pin = Pin { wanted, provider };
            let config = builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(pin))
                .with_no_client_auth();
            return Ok(Arc::new(config));
        }
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = system.as_ref() {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(builder.with_platform_verifier()?.with_no_client_auth());
        *system = Some(Arc::clone(&config));
        Ok(config)
    }
}

/// An agent showed another certificate than its route names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "certificate of the agent is not the one that the route names; its sha-256 fingerprint is {}",
    hex(.shown)
)]
pub(super) struct Mismatch {
    shown: [u8; 32],
}

impl Mismatch {
    /// The mismatch that made a TLS handshake fail, if it was one.
    pub(super) fn within(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
                inner.downcast_ref::<Self>().copied()
            }
            _ => None,
        }
    }
}

/// Accepts one leaf certificate and no other, whoever has signed it and for whatever name.
#[derive(Debug)]
struct Pin {
    wanted: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut shown = [0; 32];
        shown.copy_from_slice(digest::digest(&digest::SHA256, leaf).as_ref());
        if shown == self.wanted {
            return Ok(ServerCertVerified::assertion());
        }
        let mismatch = OtherError(Arc::new(Mismatch { shown }));
        Err(CertificateError::Other(mismatch).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a string can not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
