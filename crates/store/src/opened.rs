//! The store once it is open.

use std::sync::{Arc, PoisonError, RwLock};

use lifecycle::Tasks;
use tokio::sync::watch;

use crate::database::{Database, in_time};
use crate::watching::{self, Seen};
use crate::{Author, Health, IDENTITY_MAX, Keys, Location, StoreError};

/// An open database. Clones share its connections.
///
/// A call fails after at most ten seconds. One that changes something and fails with
/// [`StoreError::Database`] may have been done: read before trying again.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) database: Database,
    pub(crate) seen: Arc<Seen>,
    keys: RwLock<Option<Arc<Keys>>>,
}

impl Store {
    /// Connects, raises the schema if need be, and starts a task of `tasks` that looks for
    /// changes of others. Without `keys` secrets can be listed and deleted only.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooNew`] of a newer release's database, else [`StoreError::Database`].
    pub async fn open(
        location: &Location,
        keys: Option<Keys>,
        tasks: &Tasks,
    ) -> Result<Self, StoreError> {
        let database = Database::open(location).await?;
        let revision = in_time(database.revision()).await?;
        let seen = Arc::new(Seen::new(revision));
        let watcher = watching::watch(database.clone(), seen.clone(), tasks.stopping());
        tasks.spawn("store-watch", watcher);
        tracing::info!(%location, revision, "store is open");
        Ok(Self {
            inner: Arc::new(Inner {
                database,
                seen,
                keys: RwLock::new(keys.map(Arc::new)),
            }),
        })
    }

    /// The newest revision known, as it rises: after own changes at once, after others'
    /// within half a second (SQLite) or as fast as the server tells (PostgreSQL; five
    /// seconds at most if it can't). It falls only if an older copy of the database was
    /// put in place. While the database is away it stays.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.seen.subscribe()
    }

    /// Whether the database answers.
    pub fn health(&self) -> Health {
        self.inner.seen.health()
    }

    /// Takes other keys from now on, after the key file has changed for one.
    pub fn use_keys(&self, keys: Keys) {
        let mut held = self
            .inner
            .keys
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *held = Some(Arc::new(keys));
    }

    /// Closes the connections, which folds SQLite's log into its file. Calls fail after it.
    pub async fn close(&self) {
        self.inner.database.close().await;
    }

    pub(crate) fn keys(&self) -> Result<Arc<Keys>, StoreError> {
        let held = self
            .inner
            .keys
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        held.clone().ok_or_else(|| {
            StoreError::Sealing("no key is given; set a key file or the key itself".to_owned())
        })
    }
}

impl Author {
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        size("author", &self.0, IDENTITY_MAX)
    }
}

/// Refuses what is longer than `max` bytes, or holds what PostgreSQL's TEXT can't.
pub(crate) fn size(what: &'static str, text: &str, max: usize) -> Result<(), StoreError> {
    let problem = if text.len() > max {
        format!("has {} bytes, {max} are allowed", text.len())
    } else if text.contains('\0') {
        "has a zero byte".to_owned()
    } else {
        return Ok(());
    };
    Err(StoreError::Invalid { what, problem })
}
