//! Hearing of changes, whoever makes them.
//!
//! On SQLite the revision is read twice a second. A PostgreSQL server announces changes;
//! the revision is read then, and every few seconds besides, as announcements get lost
//! with a connection and do not pass every pooler. While the database is away the last
//! revision stays, and the looks at it get rarer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lifecycle::CancellationToken;
use sqlx::postgres::PgListener;
use tokio::sync::watch;

use crate::database::{CALL_MAX, CHANNEL, Database, failed, in_time};
use crate::{Health, StoreError};

/// Between two looks at a SQLite file.
const SQLITE_LOOKS: Duration = Duration::from_millis(500);

/// Between two looks at a PostgreSQL server that announces its changes.
const POSTGRES_LOOKS: Duration = Duration::from_secs(5);

/// Between two looks at a database that is away, at first and at most.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The newest revision seen, and how looking for it went.
#[derive(Debug)]
pub(crate) struct Seen {
    revision: watch::Sender<u64>,
    reachable: AtomicBool,
    failures: AtomicU64,
}

impl Seen {
    pub(crate) fn new(revision: u64) -> Self {
        Self {
            revision: watch::Sender::new(revision),
            reachable: AtomicBool::new(true),
            failures: AtomicU64::new(0),
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    pub(crate) fn health(&self) -> Health {
        Health {
            reachable: self.reachable.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }

    /// After an own change.
    pub(crate) fn raise(&self, revision: u64) {
        self.revision.send_if_modified(|newest| {
            let newer = revision > *newest;
            *newest = revision.max(*newest);
            newer
        });
    }

    /// Looks once. What was seen before the look began was committed by then: a lower
    /// revision means that somebody put an older copy of the database in place, while one
    /// that is lower only than what was seen during the look is a late answer.
    async fn look(&self, database: &Database) -> Result<(), StoreError> {
        let before = *self.revision.borrow();
        match in_time(database.revision()).await {
            Ok(found) => {
                self.revision.send_if_modified(|newest| {
                    let other = found > *newest || found < before;
                    if other {
                        *newest = found;
                    }
                    other
                });
                if !self.reachable.swap(true, Ordering::Relaxed) {
                    tracing::info!(revision = found, "database of the store is back");
                }
                Ok(())
            }
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    fn failed(&self, error: &StoreError) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if self.reachable.swap(false, Ordering::Relaxed) {
            tracing::warn!(%error, "database of the store is away, its last state serves");
        }
    }
}

/// Runs until `stop` fires.
pub(crate) async fn watch(database: Database, seen: std::sync::Arc<Seen>, stop: CancellationToken) {
    let looking = async {
        match database.postgres() {
            Some(url) => listen(&database, url.reveal(), &seen).await,
            None => poll(&database, &seen).await,
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        never = looking => match never {},
    }
}

async fn poll(database: &Database, seen: &Seen) -> std::convert::Infallible {
    let mut pause = SQLITE_LOOKS;
    loop {
        tokio::time::sleep(pause).await;
        pause = match seen.look(database).await {
            Ok(()) => SQLITE_LOOKS,
            Err(_) => longer(pause),
        };
    }
}

async fn listen(database: &Database, url: &str, seen: &Seen) -> std::convert::Infallible {
    let mut pause = RETRY_FIRST;
    loop {
        match listener(url).await {
            Ok(mut listener) => {
                if seen.look(database).await.is_ok() {
                    pause = RETRY_FIRST;
                }
                let lost = hear(&mut listener, database, seen).await;
                tracing::debug!(error = %lost, "announcements of changes are lost");
            }
            Err(error) => {
                // It may be the announcements only that don't work.
                if seen.look(database).await.is_ok() {
                    tracing::debug!(%error, "no announcements of changes, looking for them");
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = longer(pause);
    }
}

async fn listener(url: &str) -> Result<PgListener, StoreError> {
    // The driver's futures are large.
    let connecting = Box::pin(async {
        let mut listener = PgListener::connect(url).await.map_err(failed)?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await.map_err(failed)?;
        Ok(listener)
    });
    in_time(connecting).await
}

/// Looks at every announcement, and now and then without one, until the connection is lost
/// or a change has shown that the announcements don't come.
async fn hear(listener: &mut PgListener, database: &Database, seen: &Seen) -> StoreError {
    loop {
        let known = *seen.revision.borrow();
        let heard = tokio::time::timeout(POSTGRES_LOOKS, listener.try_recv()).await;
        let announced = match heard {
            Ok(Ok(Some(_))) => true,
            Ok(Ok(None)) => return StoreError::Database("connection was closed".to_owned()),
            Ok(Err(error)) => return failed(error),
            Err(_) => false,
        };
        // One look answers all that was announced by now.
        while announced && listener.next_buffered().is_some() {}
        if let Err(error) = seen.look(database).await {
            return error;
        }
        if !announced && *seen.revision.borrow() != known {
            return StoreError::Database("a change was not announced".to_owned());
        }
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(RETRY_MAX)
}

const _: () = assert!(POSTGRES_LOOKS.as_millis() < CALL_MAX.as_millis());
