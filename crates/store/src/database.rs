//! The connections: how they are set up, what a transaction is, how long things may take.
//!
//! The same SQL runs on both databases. On SQLite there is one connection that writes,
//! whose transactions begin as writers so that none has to be upgraded, and a few that
//! read. On PostgreSQL a writer takes the one row of `meta` first: writers go one after
//! the other there too, and what a transaction reads after that is what it changes.

use std::fs::OpenOptions;
use std::future::Future;
use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions, install_default_drivers};
use sqlx::{Any, AnyPool, ConnectOptions as _, Connection as _, Row as _, Transaction};

use crate::location::{Location, PostgresUrl};
use crate::{StoreError, schema};

/// The longest that one call may take.
pub(crate) const CALL_MAX: Duration = Duration::from_secs(10);

/// The longest wait for a connection.
const ACQUIRE_MAX: Duration = Duration::from_secs(5);

/// Between two tries while another process holds a SQLite file.
const BUSY_RETRY: Duration = Duration::from_millis(20);

const SQLITE_BUSY: u32 = 5;

/// Connections that read a SQLite file.
const SQLITE_READERS: u32 = 4;

/// Connections to a PostgreSQL server, beside the one that listens.
const POSTGRES_CONNECTIONS: u32 = 6;

/// Taken while the schema is raised. Any number does, as long as it never changes.
const SCHEMA_LOCK: i64 = 0x7469_6465;

/// Set on each new PostgreSQL connection: a lost client must not hold the others up.
const POSTGRES_SETUP: &str = "SET statement_timeout = '5s'; SET lock_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '10s'; SET client_min_messages = warning";

/// Set on the connection that writes to a SQLite file. `FULL`: a commit is synced.
const SQLITE_WRITER_SETUP: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; \
     PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON";

const SQLITE_READER_SETUP: &str = "PRAGMA busy_timeout = 5000; PRAGMA query_only = ON";

/// Where the announcement of a new revision is heard.
pub(crate) const CHANNEL: &str = "tidegate_store";

/// The connections to one database.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    writers: AnyPool,
    readers: AnyPool,
    postgres: Option<PostgresUrl>,
}

impl Database {
    /// Connects and brings the schema up to date.
    pub(crate) async fn open(location: &Location) -> Result<Self, StoreError> {
        install_default_drivers();
        let database = match location {
            Location::Sqlite(path) => Self::open_sqlite(path).await?,
            Location::Postgres(url) => Self::open_postgres(url).await?,
        };
        in_time(schema::migrate(&database)).await?;
        Ok(database)
    }

    async fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        create_private(path)
            .map_err(|error| StoreError::Database(format!("{}: {error}", path.display())))?;
        let url = sqlite_url(path)?;
        let writers = connect(&url, 1, SQLITE_WRITER_SETUP).await?;
        let readers = connect(&url, SQLITE_READERS, SQLITE_READER_SETUP).await?;
        Ok(Self {
            writers,
            readers,
            postgres: None,
        })
    }

    async fn open_postgres(url: &PostgresUrl) -> Result<Self, StoreError> {
        let connections = connect(url.reveal(), POSTGRES_CONNECTIONS, POSTGRES_SETUP).await?;
        Ok(Self {
            writers: connections.clone(),
            readers: connections,
            postgres: Some(url.clone()),
        })
    }

    /// The server's URL; none of a SQLite file.
    pub(crate) fn postgres(&self) -> Option<&PostgresUrl> {
        self.postgres.as_ref()
    }

    /// A transaction that may write.
    pub(crate) async fn begin_write(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let begin = match self.postgres {
            Some(_) => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
            None => "BEGIN IMMEDIATE",
        };
        self.writers.begin_with(begin).await.map_err(failed)
    }

    /// A transaction that sees one state of the database and changes nothing.
    pub(crate) async fn begin_read(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let begin = match self.postgres {
            Some(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            None => "BEGIN DEFERRED",
        };
        self.readers.begin_with(begin).await.map_err(failed)
    }

    /// Begins a change: raises the revision, before which no other writer gets on.
    pub(crate) async fn begin_change(&self) -> Result<Changing, StoreError> {
        let mut transaction = self.begin_write().await?;
        let revision = sqlx::query(
            "UPDATE meta SET revision = revision + 1 WHERE only_row = 1 RETURNING revision",
        )
        .fetch_one(&mut *transaction)
        .await
        .and_then(|row| row.try_get::<i64, _>(0))
        .map_err(failed)?;
        Ok(Changing {
            transaction,
            revision: natural(revision),
            announce: self.postgres.is_some(),
        })
    }

    /// The revision as it stands.
    pub(crate) async fn revision(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT revision FROM meta WHERE only_row = 1")
            .fetch_one(&self.readers)
            .await
            .map_err(failed)?;
        Ok(natural(row.try_get(0).map_err(failed)?))
    }

    /// Keeps other processes from raising the schema until the transaction ends.
    /// On SQLite its being a writer does that.
    pub(crate) async fn lock_schema(
        &self,
        transaction: &mut Transaction<'static, Any>,
    ) -> Result<(), StoreError> {
        if self.postgres.is_some() {
            sqlx::query("SELECT 1 FROM pg_advisory_xact_lock($1)")
                .bind(SCHEMA_LOCK)
                .execute(&mut **transaction)
                .await
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Closes the connections; a SQLite file's log is folded into it.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
    }
}

/// A change under way. Dropping it undoes it.
#[derive(Debug)]
pub(crate) struct Changing {
    pub(crate) transaction: Transaction<'static, Any>,
    revision: u64,
    announce: bool,
}

impl Changing {
    /// Makes it durable, tells the other nodes, and gives its revision.
    pub(crate) async fn commit(mut self) -> Result<u64, StoreError> {
        if self.announce {
            // Heard with the commit. What it says is read, not told: a lost one loses nothing.
            sqlx::raw_sql("NOTIFY tidegate_store")
                .execute(&mut *self.transaction)
                .await
                .map_err(failed)?;
        }
        self.transaction.commit().await.map_err(failed)?;
        Ok(self.revision)
    }
}

/// Gives up when a call takes longer than [`CALL_MAX`].
pub(crate) async fn in_time<T>(
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late = || StoreError::Database(format!("no answer within {} s", CALL_MAX.as_secs()));
    tokio::time::timeout(CALL_MAX, call)
        .await
        .map_err(|_| late())?
}

/// What the driver says, without what it was asked. Its errors hold no password.
pub(crate) fn failed(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(refused) if refused.is_unique_violation() => StoreError::PathTaken,
        _ => StoreError::Database(error.to_string()),
    }
}

/// A number as the database holds it.
pub(crate) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A number from the database; what is below zero was never written.
pub(crate) fn natural(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A pool whose connections are set up by `setup`. The first one is made here, outside of
/// it: a pool tries again what can't succeed, and hides why.
async fn connect(url: &str, connections: u32, setup: &'static str) -> Result<AnyPool, StoreError> {
    let options = AnyConnectOptions::from_str(url)
        .map_err(failed)?
        .disable_statement_logging();
    let first = async {
        let mut connection = options.connect().await?;
        let mut retry = tokio::time::interval(BUSY_RETRY);
        loop {
            match sqlx::raw_sql(setup).execute(&mut connection).await {
                Ok(_) => break,
                Err(error) if busy(&error) => retry.tick().await,
                Err(error) => return Err(error),
            };
        }
        connection.close().await
    };
    in_time(async { first.await.map_err(failed) }).await?;
    let pool = AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_MAX)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                sqlx::raw_sql(setup).execute(&mut *connection).await?;
                Ok(())
            })
        });
    Ok(pool.connect_lazy_with(options))
}

/// SQLite: another process holds the file, and the busy timeout does not cover what was
/// asked, which the change to the write-ahead log is.
fn busy(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return false;
    };
    let code = error.code();
    let code = code.and_then(|code| code.parse::<u32>().ok());
    code.is_some_and(|code| code & 0xff == SQLITE_BUSY)
}

/// Makes the file and its folder, the file readable by its owner only; what SQLite puts
/// beside it takes its mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// The driver wants a URL; whatever a path may contain is escaped.
fn sqlite_url(path: &Path) -> Result<String, StoreError> {
    let absolute = std::path::absolute(path)
        .map_err(|error| StoreError::Database(format!("{}: {error}", path.display())))?;
    let text = absolute.to_str().ok_or_else(|| StoreError::Invalid {
        what: "location of the database",
        problem: "is not UTF-8".to_owned(),
    })?;
    let mut url = "sqlite://".to_owned();
    for byte in text.bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                url.push(char::from(byte));
            }
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(url)
}
