//! The tables and how an older database becomes a newer one.
//!
//! A migration is a file of SQL that both databases understand, and is never edited once
//! it is out. The table `meta` has one row: the schema's number and the revision.

use sqlx::{Any, Row as _, Transaction};

use crate::StoreError;
use crate::database::{Database, failed, number};

/// In the order in which they run; the first makes schema 1.
const MIGRATIONS: &[&str] = &[include_str!("schema/0001.sql")];

/// Brings the database to the newest schema, one process at a time.
///
/// # Errors
///
/// [`StoreError::TooNew`] if a newer release has been here; nothing is touched then.
pub(crate) async fn migrate(database: &Database) -> Result<(), StoreError> {
    let known = MIGRATIONS.len() as u64;
    let mut transaction = database.begin_write().await?;
    database.lock_schema(&mut transaction).await?;
    let found = schema(&mut transaction).await?;
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    if found == known {
        return Ok(());
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        sqlx::raw_sql(*migration)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    sqlx::query("UPDATE meta SET schema_version = $1")
        .bind(number(known))
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    tracing::info!(from = found, to = known, "schema of the store was raised");
    Ok(())
}

async fn schema(transaction: &mut Transaction<'static, Any>) -> Result<u64, StoreError> {
    sqlx::raw_sql(
        "CREATE TABLE IF NOT EXISTS meta (
            only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
            schema_version BIGINT NOT NULL,
            revision BIGINT NOT NULL
        )",
    )
    .execute(&mut **transaction)
    .await
    .map_err(failed)?;
    sqlx::query(
        "INSERT INTO meta (only_row, schema_version, revision) VALUES (1, 0, 0)
         ON CONFLICT (only_row) DO NOTHING",
    )
    .execute(&mut **transaction)
    .await
    .map_err(failed)?;
    let row = sqlx::query("SELECT schema_version FROM meta WHERE only_row = 1")
        .fetch_one(&mut **transaction)
        .await
        .map_err(failed)?;
    let schema: i64 = row.try_get(0).map_err(failed)?;
    Ok(u64::try_from(schema).unwrap_or(0))
}
