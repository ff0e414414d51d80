//! A private authority with certificates for a server and a client, for a first start and tests.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

use crate::tls::IdentityFiles;

/// Where the files of an authority and of the two sides are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The authority's certificate, which both sides trust: `authority.pem`.
    pub authority: PathBuf,
    /// The authority's key, `authority-key.pem`: needed to make more certificates, by nobody who
    /// serves.
    pub authority_key: PathBuf,
    /// The server's: `server.pem`, `server-key.pem`.
    pub server: IdentityFiles,
    /// The client's: `client.pem`, `client-key.pem`.
    pub client: IdentityFiles,
}

/// What is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// DNS names and addresses of the server; at least one.
    pub server_names: Vec<String>,
    /// The client's name, a URI such as a SPIFFE id.
    pub client_uri: String,
    /// The present wall time; certificates hold from an hour before.
    pub now: SystemTime,
    /// How long all certificates hold.
    pub lifetime: Duration,
}

impl Identity {
    /// The files in `folder`, whether there or not.
    pub fn in_folder(folder: &Path) -> Self {
        let pair = |name: &str| IdentityFiles {
            chain: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}-key.pem")),
        };
        Self {
            authority: folder.join("authority.pem"),
            authority_key: folder.join("authority-key.pem"),
            server: pair("server"),
            client: pair("client"),
        }
    }

    /// Makes keys and certificates and writes them into `folder`, which is made if it is not
    /// there. Keys can be read by their owner only. Existing files stay: then nothing is written.
    ///
    /// # Errors
    /// A name is no name, a file exists, or the folder cannot be written.
    pub fn generate(folder: &Path, wanted: &Wanted) -> Result<Self, IdentityError> {
        if wanted.server_names.is_empty() {
            return Err(IdentityError::NoName);
        }
        let files = Self::in_folder(folder);
        let key = KeyPair::generate()?;
        let key_pem = key.serialize_pem();
        let authority = CertifiedIssuer::self_signed(authority(wanted, &key)?, key)?;
        let (server, server_key) = signed(server(wanted)?, &authority)?;
        let (client, client_key) = signed(client(wanted)?, &authority)?;
        let all = [
            (&files.authority, authority.pem(), PUBLIC),
            (&files.authority_key, key_pem, PRIVATE),
            (&files.server.chain, server, PUBLIC),
            (&files.server.key, server_key, PRIVATE),
            (&files.client.chain, client, PUBLIC),
            (&files.client.key, client_key, PRIVATE),
        ];
        let failed = |path: &Path, source| IdentityError::Write {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
        if let Some((path, ..)) = all.iter().find(|(path, ..)| path.exists()) {
            return Err(failed(path, io::ErrorKind::AlreadyExists.into()));
        }
        for (path, text, mode) in &all {
            write(path, text, *mode).map_err(|source| failed(path, source))?;
        }
        Ok(files)
    }
}

/// Why no identity was made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A server needs a name.
    #[error("the server has no name")]
    NoName,
    /// A name or another part cannot stand in a certificate.
    #[error("certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// A file could not be written.
    #[error("{} could not be written", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
}

const PUBLIC: u32 = 0o644;
const PRIVATE: u32 = 0o600;
/// Clocks differ.
const EARLIER: Duration = Duration::from_secs(3_600);

/// Its name has part of its key's hash, so that two authorities are not taken for one.
fn authority(wanted: &Wanted, key: &KeyPair) -> Result<CertificateParams, rcgen::Error> {
    let hash = digest(&SHA256, key.public_key_raw());
    let part = u32::from_be_bytes(hash.as_ref().first_chunk().copied().unwrap_or_default());
    let name = format!("Quantum authority {part:08x}");
    let mut parameters = parameters(wanted, &name, Vec::new())?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(parameters)
}

fn server(wanted: &Wanted) -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = parameters(wanted, "Quantum server", wanted.server_names.clone())?;
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(parameters)
}

fn client(wanted: &Wanted) -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = parameters(wanted, "Quantum client", Vec::new())?;
    let uri = Ia5String::try_from(wanted.client_uri.as_str())?;
    parameters.subject_alt_names = vec![SanType::URI(uri)];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(parameters)
}

fn parameters(
    wanted: &Wanted,
    common_name: &str,
    names: Vec<String>,
) -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::new(names)?;
    parameters
        .distinguished_name
        .push(DnType::CommonName, common_name);
    parameters.not_before = (wanted.now - EARLIER).into();
    parameters.not_after = (wanted.now + wanted.lifetime).into();
    parameters.use_authority_key_identifier_extension = true;
    Ok(parameters)
}

fn signed(
    mut parameters: CertificateParams,
    authority: &CertifiedIssuer<'_, KeyPair>,
) -> Result<(String, String), rcgen::Error> {
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, authority)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
