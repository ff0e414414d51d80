//! Self-signed certificates.

use std::path::Path;

use anyhow::Context;

/// A certificate and its key, both PEM.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate, its own issuer.
    pub certificate: String,
    /// The private key (PKCS #8).
    pub key: String,
}

impl Certificate {
    /// Makes one for `localhost` and `127.0.0.1`.
    pub fn for_localhost() -> anyhow::Result<Self> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made =
            rcgen::generate_simple_self_signed(names).context("certificate could not be made")?;
        Ok(Self {
            certificate: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        })
    }

    /// Writes `certificate.pem` and `key.pem` into a folder.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::write(folder.join("certificate.pem"), &self.certificate)?;
        std::fs::write(folder.join("key.pem"), &self.key)?;
        Ok(())
    }
}
