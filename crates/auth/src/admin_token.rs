//! Administrator tokens, made by `tidegate admin-token` and kept as hashes.
//!
//! A token is `tga_` and 32 random bytes in Base64 for URLs. It is shown once; the
//! file holds its SHA-256, which is enough for a value that can't be guessed.
//!
//! `admin-tokens.json` in the data folder, readable by its owner only:
//!
//! ```json
//! {"tokens": [{"name": "alice", "sha256": "<64 hex digits>", "created_at": 1767225600}]}
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::durable;

/// What every administrator token begins with.
pub const PREFIX: &str = "tga_";

/// The most tokens a file may hold.
pub const TOKENS_MAX: usize = 1_000;

/// The administrator tokens of a data folder.
pub struct AdminTokens {
    path: PathBuf,
    loaded: Mutex<Loaded>,
}

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminToken {
    /// Whose it is, for the log.
    pub name: String,
    /// SHA-256 of the token, in hex.
    pub sha256: String,
    /// Unix seconds.
    pub created_at: u64,
}

/// Why administrator tokens could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum AdminTokenError {
    /// The file could not be read or written.
    #[error("file {} could not be used", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The file does not hold what it should.
    #[error("file {} line {} does not hold administrator tokens", path.display(), source.line())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// There is a token of that name already.
    #[error("there is an administrator token named {0:?} already")]
    Exists(String),
    /// The name is empty or longer than 64 characters, or [`TOKENS_MAX`] is reached.
    #[error("administrator token is refused: {0}")]
    Refused(&'static str),
}

#[derive(Default)]
struct Loaded {
    tokens: Vec<AdminToken>,
    changed_at: Option<SystemTime>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    tokens: Vec<AdminToken>,
}

impl AdminTokens {
    /// Reads the tokens of a data folder; a missing file means none.
    pub fn open(data_dir: &Path) -> Result<Self, AdminTokenError> {
        let path = data_dir.join("admin-tokens.json");
        let loaded = load(&path)?;
        Ok(Self {
            path,
            loaded: Mutex::new(loaded),
        })
    }

    /// Makes a token, stores its hash, and returns it: the only time it can be seen.
    pub fn create(&self, name: &str, now_unix: u64) -> Result<String, AdminTokenError> {
        if name.is_empty() || name.chars().count() > 64 {
            return Err(AdminTokenError::Refused("a name has 1 to 64 characters"));
        }
        let mut secret = [0; 32];
        rand::fill(&mut secret)
            .map_err(|_| AdminTokenError::Refused("the system has no random numbers"))?;
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
        self.change(|tokens| {
            if tokens.iter().any(|known| known.name == name) {
                return Err(AdminTokenError::Exists(name.to_owned()));
            }
            if tokens.len() >= TOKENS_MAX {
                return Err(AdminTokenError::Refused("there are 1000 already"));
            }
            tokens.push(AdminToken {
                name: name.to_owned(),
                sha256: hex(digest(&SHA256, token.as_bytes()).as_ref()),
                created_at: now_unix,
            });
            Ok(())
        })?;
        Ok(token)
    }

    /// Removes the token of that name; false if there is none.
    pub fn remove(&self, name: &str) -> Result<bool, AdminTokenError> {
        let mut removed = false;
        self.change(|tokens| {
            let before = tokens.len();
            tokens.retain(|known| known.name != name);
            removed = tokens.len() < before;
            Ok(())
        })?;
        Ok(removed)
    }

    /// The name of a token that is presented, if it is one. A file that another
    /// process has changed is read again; one that can't be read lets nobody in.
    pub fn check(&self, presented: &str) -> Option<String> {
        // Saves a look at the file for what can't be a token; says nothing about any.
        if !presented.starts_with(PREFIX) || presented.len() != PREFIX.len() + 43 {
            return None;
        }
        let hash = hex(digest(&SHA256, presented.as_bytes()).as_ref());
        let mut loaded = self.lock();
        if changed_at(&self.path) != loaded.changed_at {
            match load(&self.path) {
                Ok(fresh) => *loaded = fresh,
                Err(error) => {
                    tracing::error!(%error, "administrator tokens could not be read");
                    return None;
                }
            }
        }
        // All are compared, so that the time taken does not tell which one was near.
        let mut found = None;
        for known in &loaded.tokens {
            if verify_slices_are_equal(known.sha256.as_bytes(), hash.as_bytes()).is_ok() {
                found = Some(known.name.clone());
            }
        }
        found
    }

    /// What is known of the tokens.
    pub fn list(&self) -> Vec<AdminToken> {
        self.lock().tokens.clone()
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Vec<AdminToken>) -> Result<(), AdminTokenError>,
    ) -> Result<(), AdminTokenError> {
        let mut loaded = self.lock();
        let mut tokens = load(&self.path)?.tokens;
        change(&mut tokens)?;
        let failed = |source| AdminTokenError::File {
            path: self.path.clone(),
            source,
        };
        let document = Document { tokens };
        let text = serde_json::to_vec_pretty(&document)
            .map_err(|error| failed(io::Error::other(error)))?;
        durable::replace(&self.path, &text).map_err(failed)?;
        *loaded = Loaded {
            tokens: document.tokens,
            changed_at: changed_at(&self.path),
        };
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compares secrets, such as API keys, without telling by the time taken how much
/// of them, or whether their length, is right.
pub fn same_secret(presented: &str, expected: &str) -> bool {
    let presented = digest(&SHA256, presented.as_bytes());
    let expected = digest(&SHA256, expected.as_bytes());
    verify_slices_are_equal(presented.as_ref(), expected.as_ref()).is_ok()
}

fn load(path: &Path) -> Result<Loaded, AdminTokenError> {
    // The time is taken first: a change in between is seen next time.
    let changed_at = changed_at(path);
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::default()),
        Err(source) => {
            return Err(AdminTokenError::File {
                path: path.to_owned(),
                source,
            });
        }
    };
    let document: Document =
        serde_json::from_slice(&text).map_err(|source| AdminTokenError::Corrupt {
            path: path.to_owned(),
            source,
        })?;
    Ok(Loaded {
        tokens: document.tokens,
        changed_at,
    })
}

fn changed_at(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path)
        .and_then(|facts| facts.modified())
        .ok()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{AdminTokenError, AdminTokens, same_secret};

    #[test]
    fn a_token_is_known_by_its_hash_only() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = AdminTokens::open(folder.path()).unwrap();
        let token = tokens.create("alice", 1_000).unwrap();
        assert!(token.starts_with("tga_") && token.len() == 47);
        assert_eq!(tokens.check(&token).as_deref(), Some("alice"));
        assert_eq!(tokens.check(&token.replace("tga_", "tgb_")), None);
        assert_eq!(tokens.check(&format!("tga_{}", "A".repeat(43))), None);
        let path = folder.path().join("admin-tokens.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&token) && text.contains("alice"));
        assert_eq!(
            std::fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(matches!(
            tokens.create("alice", 1),
            Err(AdminTokenError::Exists(_))
        ));
    }

    #[test]
    fn tokens_made_or_removed_elsewhere_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let server = AdminTokens::open(folder.path()).unwrap();
        let tool = AdminTokens::open(folder.path()).unwrap();
        let token = tool.create("bob", 1_000).unwrap();
        assert_eq!(server.check(&token).as_deref(), Some("bob"));
        assert!(server.remove("bob").unwrap());
        assert!(!server.remove("bob").unwrap());
        assert_eq!(server.check(&token), None);
    }

    #[test]
    fn a_damaged_file_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("admin-tokens.json"), "{\n\"tokens\": 3}").unwrap();
        let error = AdminTokens::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("admin-tokens.json line 2"), "{error}");
    }

    #[test]
    fn secrets_are_compared_whole() {
        assert!(same_secret("abc", "abc"));
        assert!(!same_secret("abc", "abcd") && !same_secret("", "a"));
    }
}
