//! A database of its own for each test.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use lifecycle::Tasks;
use sqlx::any::{AnyConnectOptions, install_default_drivers};
use sqlx::{AnyConnection, ConnectOptions as _};
use store::{Author, Keys, Location, Store};
use tempfile::TempDir;
use testkit::PATIENCE;
use testkit::services::Postgres;

/// An empty database.
pub(crate) struct Place {
    pub(crate) url: String,
    _folder: TempDir,
    _server: Option<Arc<Postgres>>,
}

/// The running server, as long as a test holds it.
static SERVER: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
static DATABASES: AtomicU32 = AtomicU32::new(0);

impl Place {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A path that needs escaping in a URL.
        let url = format!("sqlite:{}/new/a ?#%41é.db", folder.path().display());
        Self {
            url,
            _folder: folder,
            _server: None,
        }
    }

    pub(crate) fn postgres() -> Self {
        let server = {
            let mut running = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
            running.upgrade().unwrap_or_else(|| {
                let server = Arc::new(Postgres::start().unwrap());
                *running = Arc::downgrade(&server);
                server
            })
        };
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        Self {
            url: server.database(&name).unwrap(),
            _folder: tempfile::tempdir().unwrap(),
            _server: Some(server),
        }
    }

    pub(crate) fn location(&self) -> Location {
        Location::parse(&self.url).unwrap()
    }

    /// Opens it with a key that is the same each time.
    pub(crate) async fn open(&self) -> Store {
        self.open_with(Some(key(1))).await
    }

    pub(crate) async fn open_with(&self, keys: Option<Keys>) -> Store {
        // The watching task ends with the test's runtime.
        Store::open(&self.location(), keys, &Tasks::new())
            .await
            .unwrap()
    }

    /// A connection past the store.
    pub(crate) async fn connect(&self) -> AnyConnection {
        install_default_drivers();
        let url = match self.url.strip_prefix("sqlite:") {
            Some(path) => format!(
                "sqlite:{}",
                path.replace('%', "%25")
                    .replace('?', "%3F")
                    .replace('#', "%23")
            ),
            None => self.url.clone(),
        };
        let options: AnyConnectOptions = url.parse().unwrap();
        options.connect().await.unwrap()
    }
}

/// A key that is the same for the same number.
pub(crate) fn key(number: u8) -> Keys {
    Keys::parse(&key_text(number)).unwrap()
}

pub(crate) fn key_text(number: u8) -> String {
    format!("{number:02x}").repeat(32)
}

pub(crate) fn author() -> Author {
    Author("alice".to_owned())
}

/// Waits for something that should happen at once.
pub(crate) async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event).await.unwrap()
}

/// Waits for a revision of at least this.
pub(crate) async fn reaches(store: &Store, revision: u64, within: Duration) {
    let mut changes = store.changes();
    let reached = changes.wait_for(|seen| *seen >= revision);
    tokio::time::timeout(within, reached)
        .await
        .unwrap()
        .unwrap();
}

/// Waits until a condition holds.
pub(crate) async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    soon(async {
        while !condition().await {
            looks.tick().await;
        }
    })
    .await;
}
