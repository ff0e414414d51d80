//! The device that this gateway is to `OpenClaw`: a key made once, and the tokens it was given.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::peer::DeviceToken;

/// Most tokens that are kept; beyond it an arbitrary one makes room, and its gateway gives a
/// new one.
const TOKENS_MAX: usize = 10_000;

/// An Ed25519 key and the device tokens that gateways gave to it.
pub struct Identity {
    key: Ed25519KeyPair,
    device_id: String,
    public_key: String,
    /// Where the tokens are kept; `None` if nothing is kept.
    tokens_path: Option<PathBuf>,
    tokens: Mutex<HashMap<TokenKey, Token>>,
}

/// URL and role.
type TokenKey = (String, String);

#[derive(Clone)]
struct Token {
    token: String,
    scopes: Vec<String>,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is there but does not hold what it should.
    #[error("{path} holds no {what}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// No key could be made.
    #[error("no Ed25519 key could be made")]
    Key,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyFile {
    version: u32,
    device_id: String,
    /// The 32 bytes of the private key, Base64 for URLs.
    private_key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenEntry {
    url: String,
    device_id: String,
    role: String,
    token: String,
    scopes: Vec<String>,
}

impl Identity {
    /// Reads the key at `path`, or makes one and writes it there, readable by the owner only.
    /// Device tokens are kept in `device-tokens.json` beside it. Folders are made if missing.
    /// Blocks on the disk.
    ///
    /// # Errors
    ///
    /// If a file can't be read or written, or holds something else. A key file that is
    /// damaged is not replaced: every gateway would have to approve the new device.
    pub fn open(path: &Path) -> Result<Self, IdentityError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::Io { path, source }
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let key = match fs::read(path) {
            Ok(bytes) => read_key(&bytes).ok_or_else(|| IdentityError::Damaged {
                path: path.to_owned(),
                what: "private key of an OpenClaw device",
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Ed25519KeyPair::generate().map_err(|_| IdentityError::Key)?;
                let file = key_file(&key).ok_or(IdentityError::Key)?;
                write_private(path, &file).map_err(failed(path))?;
                key
            }
            Err(source) => return Err(failed(path)(source)),
        };
        let mut identity = Self::of(key);
        let tokens_path = folder.join("device-tokens.json");
        match fs::read(&tokens_path) {
            Ok(bytes) => identity.load_tokens(&bytes, &tokens_path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed(&tokens_path)(source)),
        }
        identity.tokens_path = Some(tokens_path);
        Ok(identity)
    }

    /// An identity that is not kept: every gateway that knows devices has to approve it anew.
    ///
    /// # Errors
    ///
    /// If no key can be made.
    pub fn ephemeral() -> Result<Self, IdentityError> {
        let key = Ed25519KeyPair::generate().map_err(|_| IdentityError::Key)?;
        Ok(Self::of(key))
    }

    /// The device's id: SHA-256 of the public key in lower-case hexadecimal digits.
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// The public key in Base64 for URLs, without padding.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// The signature of a text in Base64 for URLs, without padding.
    pub(crate) fn sign(&self, text: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.key.sign(text.as_bytes()))
    }

    /// The token that the gateway at `url` gave this device for `role`.
    pub(crate) fn device_token(&self, url: &str, role: &str) -> Option<String> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let token = tokens.get(&(url.to_owned(), role.to_owned()))?;
        Some(token.token.clone())
    }

    /// Keeps a token. Blocks on the disk if it is a new one.
    ///
    /// # Errors
    ///
    /// If the file can't be written; the token is known until the process ends.
    pub(crate) fn store(&self, device: &DeviceToken) -> Result<(), IdentityError> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (device.url.to_string(), device.role.to_owned());
        if let Some(known) = tokens.get(&key)
            && known.token == device.token
            && known.scopes == device.scopes
        {
            return Ok(());
        }
        if tokens.len() >= TOKENS_MAX
            && !tokens.contains_key(&key)
            && let Some(other) = tokens.keys().next().cloned()
        {
            tokens.remove(&other);
        }
        let token = Token {
            token: device.token.clone(),
            scopes: device.scopes.clone(),
        };
        tokens.insert(key, token);
        let Some(path) = &self.tokens_path else {
            return Ok(());
        };
        let mut entries: Vec<_> = tokens
            .iter()
            .map(|((url, role), token)| TokenEntry {
                url: url.clone(),
                device_id: self.device_id.clone(),
                role: role.clone(),
                token: token.token.clone(),
                scopes: token.scopes.clone(),
            })
            .collect();
        entries.sort_by(|a, b| (&a.url, &a.role).cmp(&(&b.url, &b.role)));
        // The lock is held over the write so that an older state can't overwrite a newer one.
        serde_json::to_vec_pretty(&entries)
            .map_err(io::Error::other)
            .and_then(|bytes| write_private(path, &bytes))
            .map_err(|source| IdentityError::Io {
                path: path.clone(),
                source,
            })
    }

    fn of(key: Ed25519KeyPair) -> Self {
        let public = key.public_key().as_ref();
        let device_id = hexadecimal(digest(&SHA256, public).as_ref());
        let public_key = URL_SAFE_NO_PAD.encode(public);
        Self {
            key,
            device_id,
            public_key,
            tokens_path: None,
            tokens: Mutex::default(),
        }
    }

    fn load_tokens(&mut self, bytes: &[u8], path: &Path) -> Result<(), IdentityError> {
        let entries: Vec<TokenEntry> =
            serde_json::from_slice(bytes).map_err(|_| IdentityError::Damaged {
                path: path.to_owned(),
                what: "list of device tokens",
            })?;
        let tokens = self
            .tokens
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for entry in entries.into_iter().take(TOKENS_MAX) {
            // Tokens of an older key are of no use.
            if entry.device_id == self.device_id {
                let token = Token {
                    token: entry.token,
                    scopes: entry.scopes,
                };
                tokens.insert((entry.url, entry.role), token);
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Identity({})", self.device_id)
    }
}

/// The device id of a public key.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_key(bytes: &[u8]) -> Option<Ed25519KeyPair> {
    let file: KeyFile = serde_json::from_slice(bytes).ok()?;
    let seed = URL_SAFE_NO_PAD.decode(file.private_key).ok()?;
    let key = Ed25519KeyPair::from_seed_unchecked(&seed).ok()?;
    let id = hexadecimal(digest(&SHA256, key.public_key().as_ref()).as_ref());
    (file.version == 1 && id == file.device_id).then_some(key)
}

fn key_file(key: &Ed25519KeyPair) -> Option<Vec<u8>> {
    let seed: aws_lc_rs::encoding::Curve25519SeedBin<'_> = key.seed().ok()?.as_be_bytes().ok()?;
    let file = KeyFile {
        version: 1,
        device_id: hexadecimal(digest(&SHA256, key.public_key().as_ref()).as_ref()),
        private_key: URL_SAFE_NO_PAD.encode(seed.as_ref()),
    };
    serde_json::to_vec_pretty(&file).ok()
}

/// Writes a file that only its owner can read, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let draft = PathBuf::from(name);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
