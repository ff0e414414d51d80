//! Tokens that operators have taken back.
//!
//! A revocation names a user, and then all tokens issued before a moment, or one
//! token by its id. It lasts until the tokens it is about have expired anyway;
//! its maker says when that is.
//!
//! With a data folder, `revocations.jsonl` there keeps them: one JSON object per
//! line, replaced as a whole at each change, so that it is always complete.
//!
//! ```json
//! {"user":"42","issued_before":1767225600,"expires_at":1767312000,"reason":"laptop stolen"}
//! {"token_id":"c0ffee","expires_at":1767312000}
//! ```

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::durable;

/// The most revocations in force at once.
pub const REVOCATIONS_MAX: usize = 100_000;

/// The longest user or token id that can be revoked, in bytes.
pub const NAME_BYTES_MAX: usize = 1_024;

/// Which tokens are refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Revoked {
    /// A user's tokens issued before that moment, and those that don't say when.
    User {
        /// The user's id.
        user: String,
        /// Unix seconds.
        issued_before: u64,
    },
    /// One token.
    Token {
        /// Its `jti`.
        token_id: String,
    },
}

/// A revocation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Revocation {
    /// Which tokens are refused.
    #[serde(flatten)]
    pub revoked: Revoked,
    /// When it ends by itself, in Unix seconds: not before the tokens expire.
    pub expires_at: u64,
    /// Why, for whoever reads the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The revocations in force; by default none, and kept in memory only.
#[derive(Default)]
pub struct Revocations {
    table: RwLock<Table>,
    /// Held while changing, so that changes reach the file one after the other.
    writer: Mutex<()>,
    file: Option<PathBuf>,
    generation: watch::Sender<u64>,
}

/// Why revocations could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// The file could not be read or written; nothing was changed.
    #[error("file {} could not be used", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// A line of the file is not a revocation.
    #[error("file {} line {line} is not a revocation", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// [`REVOCATIONS_MAX`] is reached.
    #[error("there are {REVOCATIONS_MAX} revocations already")]
    Full,
    /// It names nobody, or with more than [`NAME_BYTES_MAX`] bytes.
    #[error("a user or token id of 1 to {NAME_BYTES_MAX} bytes is needed")]
    Name,
}

#[derive(Default, Clone)]
struct Table {
    users: HashMap<String, Entry>,
    /// By token id.
    tokens: HashMap<String, Entry>,
}

/// What is known of one user or token.
#[derive(Default, Clone)]
struct Entry {
    /// Unix seconds; without meaning for a token.
    issued_before: u64,
    expires_at: u64,
    reason: Option<String>,
}

impl Revocations {
    /// Reads the revocations of a data folder, or starts without any and keeps them in
    /// memory only. A damaged file is an error: the gateway must not start and
    /// accept what was revoked.
    pub fn open(data_dir: Option<&Path>) -> Result<Self, RevocationError> {
        let file = data_dir.map(|folder| folder.join("revocations.jsonl"));
        let table = match &file {
            Some(path) => read(path)?,
            None => Table::default(),
        };
        Ok(Self {
            table: RwLock::new(table),
            file,
            ..Self::default()
        })
    }

    /// Adds a revocation, or extends the one there is for the same user or token; of two
    /// reasons the newer one is kept.
    /// Live connections are to be checked again after it (see [`Self::subscribe`]).
    /// It waits for the disk: not for an event loop.
    pub fn add(&self, revocation: Revocation, now_unix: u64) -> Result<(), RevocationError> {
        self.add_all(vec![revocation], now_unix)
    }

    /// Adds several, which are saved at once, or none of them.
    pub fn add_all(
        &self,
        revocations: Vec<Revocation>,
        now_unix: u64,
    ) -> Result<(), RevocationError> {
        self.change(|table| {
            table.sweep(now_unix);
            for revocation in revocations {
                table.insert(revocation)?;
            }
            if table.len() > REVOCATIONS_MAX {
                Err(RevocationError::Full)
            } else {
                Ok(true)
            }
        })?;
        self.generation.send_modify(|generation| *generation += 1);
        Ok(())
    }

    /// Takes a revocation back; false if there is none for that user or token.
    pub fn remove(&self, revoked: &Revoked) -> Result<bool, RevocationError> {
        self.change(|table| {
            Ok(match revoked {
                Revoked::User { user, .. } => table.users.remove(user).is_some(),
                Revoked::Token { token_id } => table.tokens.remove(token_id).is_some(),
            })
        })
    }

    /// Drops what has ended by that time; returns how many. For a timer, every minute or so.
    pub fn sweep(&self, now_unix: u64) -> Result<usize, RevocationError> {
        let before = self.len();
        self.change(|table| Ok(table.sweep(now_unix)))?;
        Ok(before.saturating_sub(self.len()))
    }

    /// Until when tokens of that user, or that token, are revoked, in Unix seconds.
    pub fn expiry(&self, revoked: &Revoked) -> Option<u64> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.entry(revoked).map(|entry| entry.expires_at)
    }

    /// Whether adding it would change nothing.
    pub fn covers(&self, revocation: &Revocation) -> bool {
        let issued_before = match revocation.revoked {
            Revoked::User { issued_before, .. } => issued_before,
            Revoked::Token { .. } => 0,
        };
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.entry(&revocation.revoked).is_some_and(|entry| {
            entry.issued_before >= issued_before
                && entry.expires_at >= revocation.expires_at
                && (revocation.reason.is_none() || revocation.reason == entry.reason)
        })
    }

    /// Whether a token with these claims is revoked. One that does not say when it
    /// was issued counts as issued before any revocation of its user.
    pub fn check(&self, user: &str, token_id: Option<&str>, issued_at: Option<u64>) -> bool {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let by_id = token_id.is_some_and(|id| table.tokens.contains_key(id));
        by_id
            || table
                .users
                .get(user)
                .is_some_and(|entry| issued_at.is_none_or(|at| at < entry.issued_before))
    }

    /// All revocations, those of users first, by name.
    pub fn list(&self) -> Vec<Revocation> {
        self.table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .list()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts the additions; for loops that look now and then.
    pub fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Wakes at each addition; for tasks that check live connections again.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Changes a copy, saves it, then puts it in force: what fails changes nothing.
    fn change(
        &self,
        change: impl FnOnce(&mut Table) -> Result<bool, RevocationError>,
    ) -> Result<bool, RevocationError> {
        let _turn = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = self
            .table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if !change(&mut table)? {
            return Ok(false);
        }
        if let Some(path) = &self.file {
            write(path, &table)?;
        }
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(true)
    }
}

impl Table {
    fn insert(&mut self, revocation: Revocation) -> Result<(), RevocationError> {
        let (entries, name, issued_before) = match revocation.revoked {
            Revoked::User {
                user,
                issued_before,
            } => (&mut self.users, user, issued_before),
            Revoked::Token { token_id } => (&mut self.tokens, token_id, 0),
        };
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(RevocationError::Name);
        }
        let entry = entries.entry(name).or_default();
        entry.issued_before = entry.issued_before.max(issued_before);
        entry.expires_at = entry.expires_at.max(revocation.expires_at);
        entry.reason = revocation.reason.or_else(|| entry.reason.take());
        Ok(())
    }

    fn entry(&self, revoked: &Revoked) -> Option<&Entry> {
        match revoked {
            Revoked::User { user, .. } => self.users.get(user),
            Revoked::Token { token_id } => self.tokens.get(token_id),
        }
    }

    /// Whether anything was dropped.
    fn sweep(&mut self, now_unix: u64) -> bool {
        let before = self.len();
        for entries in [&mut self.users, &mut self.tokens] {
            entries.retain(|_, entry| entry.expires_at > now_unix);
        }
        self.len() < before
    }

    fn len(&self) -> usize {
        self.users.len() + self.tokens.len()
    }

    fn list(&self) -> Vec<Revocation> {
        let by_user = |user: &String, entry: &Entry| Revoked::User {
            user: user.clone(),
            issued_before: entry.issued_before,
        };
        let by_id = |token_id: &String, _: &Entry| Revoked::Token {
            token_id: token_id.clone(),
        };
        let mut all = by_name(&self.users, by_user);
        all.extend(by_name(&self.tokens, by_id));
        all
    }
}

fn by_name(
    entries: &HashMap<String, Entry>,
    revoked: impl Fn(&String, &Entry) -> Revoked,
) -> Vec<Revocation> {
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_unstable_by_key(|(name, _)| *name);
    let listed = entries.into_iter().map(|(name, entry)| Revocation {
        revoked: revoked(name, entry),
        expires_at: entry.expires_at,
        reason: entry.reason.clone(),
    });
    listed.collect()
}

fn read(path: &Path) -> Result<Table, RevocationError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Table::default()),
        Err(source) => {
            return Err(RevocationError::File {
                path: path.to_owned(),
                source,
            });
        }
    };
    let mut table = Table::default();
    for (index, line) in text.lines().enumerate() {
        let revocation = serde_json::from_str(line).map_err(|source| RevocationError::Corrupt {
            path: path.to_owned(),
            line: index + 1,
            source,
        })?;
        table.insert(revocation)?;
    }
    Ok(table)
}

fn write(path: &Path, table: &Table) -> Result<(), RevocationError> {
    let failed = |source| RevocationError::File {
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    for revocation in table.list() {
        serde_json::to_writer(&mut text, &revocation)
            .map_err(|error| failed(io::Error::other(error)))?;
        text.push(b'\n');
    }
    durable::replace(path, &text).map_err(failed)
}

#[cfg(test)]
mod tests;
