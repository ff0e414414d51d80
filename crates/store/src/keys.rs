//! The keys that secrets are sealed with, and the file they live in.
//!
//! A key is 32 bytes, written as base64 or hex. The first one given seals; the others, the
//! older ones, only open what they once sealed. To change the key: put a new one first,
//! call [`Store::reseal`](crate::Store::reseal), then take the old one out.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::StoreError;

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;

/// Keys at most, the current one included.
const KEYS_MAX: usize = 16;

/// Bytes of a key file at most.
const FILE_MAX: u64 = 16 << 10;

/// The current key and older ones. Printing them shows their ids only.
pub struct Keys {
    current: Key,
    older: Vec<Key>,
}

/// One key and the id that sealed rows name it by.
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl Keys {
    /// Reads keys parted by white space or commas, the current one first. Lines that begin
    /// with `#` say nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sealing`], which quotes nothing of the text.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'));
        let words = lines
            .flat_map(|line| line.split(|c: char| c == ',' || c.is_whitespace()))
            .filter(|word| !word.is_empty());
        let mut keys = Vec::new();
        for (at, word) in words.enumerate() {
            if at == KEYS_MAX {
                return Err(StoreError::Sealing(format!(
                    "more than {KEYS_MAX} keys are given"
                )));
            }
            keys.push(Key::parse(word).ok_or_else(|| {
                StoreError::Sealing(format!(
                    "key {} is not {KEY_BYTES} bytes in base64 or hex; `openssl rand -base64 {KEY_BYTES}` makes one",
                    at + 1
                ))
            })?);
        }
        let mut keys = keys.into_iter();
        let current = keys
            .next()
            .ok_or_else(|| StoreError::Sealing("no key is given".to_owned()))?;
        Ok(Self {
            current,
            older: keys.collect(),
        })
    }

    /// Reads a key file.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sealing`] if it is not there or holds something else.
    pub fn load(path: &Path) -> Result<Self, StoreError> {
        Self::read(path).map_err(|error| in_file(path, &error))?
    }

    /// Reads a key file, or makes one with a new key, readable by its owner only. Processes
    /// that start at the same time get the same key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sealing`] if it can't be read or made, or holds something else.
    pub fn load_or_create(path: &Path) -> Result<Self, StoreError> {
        match Self::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                create(path).map_err(|error| in_file(path, &error))?;
                tracing::info!(path = %path.display(), "a new key for secrets was made; keep a copy of it");
                Self::load(path)
            }
            read => read.map_err(|error| in_file(path, &error))?,
        }
    }

    /// The key that seals.
    pub(crate) fn current(&self) -> &Key {
        &self.current
    }

    /// The key of this id.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sealing`] if it is not among them.
    pub(crate) fn of(&self, id: &str) -> Result<&Key, StoreError> {
        let mut all = std::iter::once(&self.current).chain(&self.older);
        all.find(|key| key.id == id).ok_or_else(|| {
            StoreError::Sealing(format!(
                "it was sealed with key {id}, which is not given; add that key below the current one, or put the secret again"
            ))
        })
    }

    fn read(path: &Path) -> std::io::Result<Result<Self, StoreError>> {
        let file = fs::metadata(path)?;
        if file.len() > FILE_MAX {
            return Err(std::io::Error::other("is too large for a key file"));
        }
        #[cfg(unix)]
        if std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o004 != 0 {
            tracing::warn!(path = %path.display(), "key file can be read by everybody");
        }
        let text = Zeroizing::new(fs::read_to_string(path)?);
        Ok(Self::parse(&text).map_err(|error| match error {
            StoreError::Sealing(problem) => {
                StoreError::Sealing(format!("{}: {problem}", path.display()))
            }
            other => other,
        }))
    }
}

impl Key {
    fn parse(word: &str) -> Option<Self> {
        let decoded = if word.len() == 2 * KEY_BYTES {
            hex(word)?
        } else {
            let engines = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD];
            let mut decoded = engines.iter().map(|engine| engine.decode(word));
            decoded.find_map(Result::ok)?
        };
        let decoded = Zeroizing::new(decoded);
        let bytes = Zeroizing::new(<[u8; KEY_BYTES]>::try_from(decoded.as_slice()).ok()?);
        Some(Self {
            id: id(&bytes),
            bytes,
        })
    }
}

/// Tells keys apart and says nothing about them.
fn id(bytes: &[u8; KEY_BYTES]) -> String {
    let mut digest = Context::new(&SHA256);
    digest.update(b"id of a key of the store\0");
    digest.update(bytes);
    let digest = digest.finish();
    digest
        .as_ref()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn hex(word: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    word.as_bytes()
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}

/// Writes the key beside its place first, and links it there if nobody else was faster:
/// the file is never there half.
fn create(path: &Path) -> std::io::Result<()> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(&mut *bytes).map_err(std::io::Error::other)?;
    let text = Zeroizing::new(format!("{}\n", STANDARD.encode(*bytes)));
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.new", std::process::id()));
    let linked =
        write_private(Path::new(&draft), &text).and_then(|()| match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    // Left over it would be in nobody's way.
    drop(fs::remove_file(&draft));
    linked?;
    File::open(folder)?.sync_all()
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn in_file(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Sealing(format!("key file {}: {error}", path.display()))
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("current", &self.current)
            .field("older", &self.older)
            .finish()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

#[cfg(test)]
mod tests;
