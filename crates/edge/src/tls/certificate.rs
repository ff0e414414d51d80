//! The certificate of a listener, replaceable while it serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::TlsError;
use super::expiry::not_after;

/// A certificate chain and its key, from two PEM files (which may be the same one).
#[derive(Debug)]
pub struct CertificateStore {
    certificate_path: PathBuf,
    key_path: PathBuf,
    current: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    certified: Arc<CertifiedKey>,
    expires_at: Option<u64>,
}

impl CertificateStore {
    /// Reads certificate and key and checks that they belong together.
    pub fn load(certificate_path: &Path, key_path: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            certificate_path: certificate_path.to_owned(),
            key_path: key_path.to_owned(),
            current: ArcSwap::from_pointee(read(certificate_path, key_path)?),
        })
    }

    /// Reads the files again. New handshakes see the new certificate, connections live
    /// on with what they agreed; after an error the old one stays. Says whether the
    /// certificate is another one.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let fresh = read(&self.certificate_path, &self.key_path)?;
        let changed = fresh.certified.cert != self.current.load().certified.cert;
        self.current.store(Arc::new(fresh));
        Ok(changed)
    }

    /// When the certificate expires, in Unix seconds; `None` if it does not tell.
    pub fn expires_at(&self) -> Option<u64> {
        self.current.load().expires_at
    }
}

impl ResolvesServerCert for CertificateStore {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().certified))
    }
}

fn read(certificate_path: &Path, key_path: &Path) -> Result<Loaded, TlsError> {
    let chain = CertificateDer::pem_file_iter(certificate_path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| unreadable(certificate_path, source))?;
    let Some(leaf) = chain.first() else {
        return Err(TlsError::NoCertificate {
            path: certificate_path.to_owned(),
        });
    };
    let expires_at = not_after(leaf);
    let key =
        PrivateKeyDer::from_pem_file(key_path).map_err(|source| unreadable(key_path, source))?;
    let certified =
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|source| {
            TlsError::Pair {
                path: certificate_path.to_owned(),
                source,
            }
        })?;
    Ok(Loaded {
        certified: Arc::new(certified),
        expires_at,
    })
}

fn unreadable(path: &Path, source: pem::Error) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        source,
    }
}
