//! Rows and their history.

use sqlx::any::AnyRow;
use sqlx::{Any, Row as _, Transaction};

use crate::database::{Changing, failed, in_time, natural, number};
use crate::opened::size;
use crate::{
    Author, Change, ChangeKind, DOCUMENT_MAX, HISTORY_MAX, PATH_MAX, ROWS_MAX, Row, Snapshot,
    Store, StoreError,
};

/// Characters of a row's id.
const ID_CHARACTERS: usize = 15;

impl Store {
    /// All rows and the revision they belong to.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        in_time(async {
            let mut reading = self.inner.database.begin_read().await?;
            let revision = sqlx::query("SELECT revision FROM meta WHERE only_row = 1")
                .fetch_one(&mut *reading)
                .await
                .and_then(|row| row.try_get::<i64, _>(0))
                .map_err(failed)?;
            let rows = sqlx::query(
                "SELECT id, path, document, version, created_ms, updated_ms FROM proxies ORDER BY id",
            )
            .fetch_all(&mut *reading)
            .await
            .map_err(failed)?;
            reading.rollback().await.map_err(failed)?;
            Ok(Snapshot {
                revision: natural(revision),
                rows: rows.iter().map(row).collect::<Result<_, _>>()?,
            })
        })
        .await
    }

    /// The row with this id.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`], [`StoreError::Database`].
    pub async fn get(&self, id: &str) -> Result<Row, StoreError> {
        in_time(async {
            let mut reading = self.inner.database.begin_read().await?;
            current(&mut reading, id).await?.ok_or(StoreError::NotFound)
        })
        .await
    }

    /// Makes a row, at version 1.
    ///
    /// # Errors
    ///
    /// [`StoreError::PathTaken`], [`StoreError::Invalid`], [`StoreError::Database`].
    pub async fn create(
        &self,
        path: &str,
        document: &str,
        author: &Author,
        now_ms: u64,
    ) -> Result<Row, StoreError> {
        check(path, document, author)?;
        let row = Row {
            id: new_id()?,
            path: path.to_owned(),
            document: document.to_owned(),
            version: 1,
            created_ms: now_ms,
            updated_ms: now_ms,
        };
        in_time(async {
            let mut changing = self.inner.database.begin_change().await?;
            insert(&mut changing.transaction, &row).await?;
            self.finish(changing, &row, ChangeKind::Create, author)
                .await
        })
        .await?;
        Ok(row)
    }

    /// Gives a row another path and document. With `expected_version` only if that is its
    /// version still.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`], [`StoreError::Changed`], [`StoreError::PathTaken`],
    /// [`StoreError::Invalid`], [`StoreError::Database`].
    pub async fn update(
        &self,
        id: &str,
        expected_version: Option<u64>,
        path: &str,
        document: &str,
        author: &Author,
        now_ms: u64,
    ) -> Result<Row, StoreError> {
        check(path, document, author)?;
        in_time(async {
            let mut changing = self.inner.database.begin_change().await?;
            let old = current(&mut changing.transaction, id).await?;
            let old = old.ok_or(StoreError::NotFound)?;
            expect(expected_version, old.version)?;
            let row = Row {
                path: path.to_owned(),
                document: document.to_owned(),
                version: old.version + 1,
                updated_ms: now_ms,
                ..old
            };
            replace(&mut changing.transaction, &row).await?;
            self.finish(changing, &row, ChangeKind::Update, author)
                .await?;
            Ok(row)
        })
        .await
    }

    /// Takes a row away; its history stays.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`], [`StoreError::Changed`], [`StoreError::Database`].
    pub async fn delete(
        &self,
        id: &str,
        expected_version: Option<u64>,
        author: &Author,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        author.check()?;
        in_time(async {
            let mut changing = self.inner.database.begin_change().await?;
            let old = current(&mut changing.transaction, id).await?;
            let old = old.ok_or(StoreError::NotFound)?;
            expect(expected_version, old.version)?;
            sqlx::query("DELETE FROM proxies WHERE id = $1")
                .bind(id)
                .execute(&mut *changing.transaction)
                .await
                .map_err(failed)?;
            let gone = Row {
                version: old.version + 1,
                updated_ms: now_ms,
                ..old
            };
            self.finish(changing, &gone, ChangeKind::Delete, author)
                .await
        })
        .await
    }

    /// Puts a row back to what it was at `to_version`, as a new version; a deleted row
    /// comes back. Of a deleted row `expected_version` is the deletion's.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] also if `to_version` is a deletion or no longer kept;
    /// [`StoreError::Changed`], [`StoreError::PathTaken`], [`StoreError::Database`].
    pub async fn rollback(
        &self,
        id: &str,
        to_version: u64,
        expected_version: Option<u64>,
        author: &Author,
        now_ms: u64,
    ) -> Result<Row, StoreError> {
        author.check()?;
        in_time(async {
            let mut changing = self.inner.database.begin_change().await?;
            let latest = entries(&mut changing.transaction, id, 1, None).await?;
            let latest = latest.into_iter().next().ok_or(StoreError::NotFound)?;
            expect(expected_version, latest.row.version)?;
            let target = entry(&mut changing.transaction, id, to_version).await?;
            if target.kind == ChangeKind::Delete {
                return Err(StoreError::NotFound);
            }
            let row = Row {
                version: latest.row.version + 1,
                updated_ms: now_ms,
                ..target.row
            };
            if latest.kind == ChangeKind::Delete {
                insert(&mut changing.transaction, &row).await?;
            } else {
                replace(&mut changing.transaction, &row).await?;
            }
            self.finish(changing, &row, ChangeKind::Rollback, author)
                .await?;
            Ok(row)
        })
        .await
    }

    /// What happened to a row, the latest first: at most `limit` entries, older than the
    /// version `before` if that is given. The last [`HISTORY_MAX`] are kept.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] of an id that never was, [`StoreError::Database`].
    pub async fn history(
        &self,
        id: &str,
        limit: u64,
        before: Option<u64>,
    ) -> Result<Vec<Change>, StoreError> {
        in_time(async {
            let mut reading = self.inner.database.begin_read().await?;
            if entries(&mut reading, id, 1, None).await?.is_empty() {
                return Err(StoreError::NotFound);
            }
            entries(&mut reading, id, limit.min(HISTORY_MAX), before).await
        })
        .await
    }

    /// One entry of a row's history.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`], [`StoreError::Database`].
    pub async fn version(&self, id: &str, version: u64) -> Result<Change, StoreError> {
        in_time(async {
            let mut reading = self.inner.database.begin_read().await?;
            entry(&mut reading, id, version).await
        })
        .await
    }

    /// Notes the change in the history and commits.
    async fn finish(
        &self,
        mut changing: Changing,
        row: &Row,
        kind: ChangeKind,
        author: &Author,
    ) -> Result<(), StoreError> {
        let transaction = &mut changing.transaction;
        sqlx::query(
            "INSERT INTO proxy_history (id, version, kind, author, at_ms, created_ms, path, document)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&row.id)
        .bind(number(row.version))
        .bind(kind.word())
        .bind(&author.0)
        .bind(number(row.updated_ms))
        .bind(number(row.created_ms))
        .bind(&row.path)
        .bind(&row.document)
        .execute(&mut **transaction)
        .await
        .map_err(failed)?;
        sqlx::query("DELETE FROM proxy_history WHERE id = $1 AND version <= $2")
            .bind(&row.id)
            .bind(number(row.version.saturating_sub(HISTORY_MAX)))
            .execute(&mut **transaction)
            .await
            .map_err(failed)?;
        let revision = changing.commit().await?;
        self.inner.seen.raise(revision);
        Ok(())
    }
}

fn check(path: &str, document: &str, author: &Author) -> Result<(), StoreError> {
    size("path", path, PATH_MAX)?;
    size("document", document, DOCUMENT_MAX)?;
    author.check()
}

fn expect(expected: Option<u64>, version: u64) -> Result<(), StoreError> {
    match expected {
        Some(expected) if expected != version => Err(StoreError::Changed { version }),
        _ => Ok(()),
    }
}

async fn current(
    transaction: &mut Transaction<'static, Any>,
    id: &str,
) -> Result<Option<Row>, StoreError> {
    let found = sqlx::query(
        "SELECT id, path, document, version, created_ms, updated_ms FROM proxies WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(&mut **transaction)
    .await
    .map_err(failed)?;
    found.as_ref().map(row).transpose()
}

async fn insert(transaction: &mut Transaction<'static, Any>, row: &Row) -> Result<(), StoreError> {
    let count = sqlx::query("SELECT COUNT(*) FROM proxies")
        .fetch_one(&mut **transaction)
        .await
        .and_then(|row| row.try_get::<i64, _>(0))
        .map_err(failed)?;
    if natural(count) >= ROWS_MAX {
        return Err(StoreError::Invalid {
            what: "record",
            problem: format!("is one too many, {ROWS_MAX} are allowed"),
        });
    }
    require_free(transaction, row).await?;
    sqlx::query(
        "INSERT INTO proxies (id, path, document, version, created_ms, updated_ms)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&row.id)
    .bind(&row.path)
    .bind(&row.document)
    .bind(number(row.version))
    .bind(number(row.created_ms))
    .bind(number(row.updated_ms))
    .execute(&mut **transaction)
    .await
    .map_err(failed)?;
    Ok(())
}

async fn replace(transaction: &mut Transaction<'static, Any>, row: &Row) -> Result<(), StoreError> {
    require_free(transaction, row).await?;
    sqlx::query(
        "UPDATE proxies SET path = $1, document = $2, version = $3, updated_ms = $4 WHERE id = $5",
    )
    .bind(&row.path)
    .bind(&row.document)
    .bind(number(row.version))
    .bind(number(row.updated_ms))
    .bind(&row.id)
    .execute(&mut **transaction)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Writers go one after the other, so what is free here is free at the commit.
async fn require_free(
    transaction: &mut Transaction<'static, Any>,
    row: &Row,
) -> Result<(), StoreError> {
    let taken = sqlx::query("SELECT 1 FROM proxies WHERE path = $1 AND id <> $2")
        .bind(&row.path)
        .bind(&row.id)
        .fetch_optional(&mut **transaction)
        .await
        .map_err(failed)?;
    match taken {
        Some(_) => Err(StoreError::PathTaken),
        None => Ok(()),
    }
}

async fn entry(
    transaction: &mut Transaction<'static, Any>,
    id: &str,
    version: u64,
) -> Result<Change, StoreError> {
    let before = Some(version.saturating_add(1));
    let found = entries(transaction, id, 1, before).await?.pop();
    found
        .filter(|change| change.row.version == version)
        .ok_or(StoreError::NotFound)
}

async fn entries(
    transaction: &mut Transaction<'static, Any>,
    id: &str,
    limit: u64,
    before: Option<u64>,
) -> Result<Vec<Change>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, path, document, version, created_ms, at_ms AS updated_ms, kind, author
         FROM proxy_history WHERE id = $1 AND version < $2 ORDER BY version DESC LIMIT $3",
    )
    .bind(id)
    .bind(before.map_or(i64::MAX, number))
    .bind(number(limit))
    .fetch_all(&mut **transaction)
    .await
    .map_err(failed)?;
    rows.iter().map(change).collect()
}

fn row(from: &AnyRow) -> Result<Row, StoreError> {
    let natural_of = |column| from.try_get::<i64, _>(column).map(natural).map_err(failed);
    Ok(Row {
        id: from.try_get("id").map_err(failed)?,
        path: from.try_get("path").map_err(failed)?,
        document: from.try_get("document").map_err(failed)?,
        version: natural_of("version")?,
        created_ms: natural_of("created_ms")?,
        updated_ms: natural_of("updated_ms")?,
    })
}

fn change(from: &AnyRow) -> Result<Change, StoreError> {
    let row = row(from)?;
    let word: String = from.try_get("kind").map_err(failed)?;
    let unknown = || StoreError::Database(format!("history has a change of kind {word:?}"));
    Ok(Change {
        kind: ChangeKind::of(&word).ok_or_else(unknown)?,
        author: from.try_get("author").map_err(failed)?,
        at_ms: row.updated_ms,
        row,
    })
}

/// Even chances for each of the 36 characters: bytes above the last whole round are
/// thrown away.
fn new_id() -> Result<String, StoreError> {
    const CHARACTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut id = String::with_capacity(ID_CHARACTERS);
    while id.len() < ID_CHARACTERS {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map_err(|error| StoreError::Database(format!("no randomness for an id: {error}")))?;
        let fair = bytes.iter().filter(|byte| **byte < 252);
        let characters = fair.filter_map(|byte| CHARACTERS.get(usize::from(byte % 36)));
        let missing = ID_CHARACTERS - id.len();
        id.extend(characters.take(missing).map(|byte| char::from(*byte)));
    }
    Ok(id)
}
