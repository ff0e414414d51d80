//! What identities spent, window by window.

use sqlx::Row as _;

use crate::database::{failed, in_time, natural, number};
use crate::opened::size;
use crate::{IDENTITY_MAX, SPENDING_MAX, SpendingRow, Store, StoreError};

/// Sums stop here instead of wrapping: far above any real one, far below the column's limit.
const SUM_MAX: u64 = 1 << 62;

impl Store {
    /// Adds to what is there, all rows or none. Does not raise the revision.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] for more than [`SPENDING_MAX`] rows or too long a name;
    /// [`StoreError::Database`], after which the rows may have been added.
    pub async fn add_spending(&self, rows: &[SpendingRow]) -> Result<(), StoreError> {
        if rows.len() > SPENDING_MAX {
            return Err(StoreError::Invalid {
                what: "spending",
                problem: format!("has {} rows, {SPENDING_MAX} are allowed", rows.len()),
            });
        }
        for row in rows {
            size("identity", &row.identity, IDENTITY_MAX)?;
            size("window kind", &row.window_kind, IDENTITY_MAX)?;
        }
        if rows.is_empty() {
            return Ok(());
        }
        // In one order everywhere, so that two nodes never wait for each other's rows.
        let mut ordered: Vec<&SpendingRow> = rows.iter().collect();
        ordered.sort_by_key(|row| (&row.identity, &row.window_kind, row.window_start_ms));
        in_time(async {
            let mut transaction = self.inner.database.begin_write().await?;
            for row in ordered {
                sqlx::query(
                    "INSERT INTO spending (identity, window_kind, window_start, tokens, micro_cost)
                     VALUES ($1, $2, $3, $4, $5)
                     ON CONFLICT (identity, window_kind, window_start) DO UPDATE SET
                     tokens = CASE WHEN spending.tokens >= $6 - excluded.tokens THEN $6
                              ELSE spending.tokens + excluded.tokens END,
                     micro_cost = CASE WHEN spending.micro_cost >= $6 - excluded.micro_cost THEN $6
                                  ELSE spending.micro_cost + excluded.micro_cost END",
                )
                .bind(&row.identity)
                .bind(&row.window_kind)
                .bind(number(row.window_start_ms))
                .bind(number(row.tokens.min(SUM_MAX)))
                .bind(number(row.micro_cost.min(SUM_MAX)))
                .bind(number(SUM_MAX))
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            }
            transaction.commit().await.map_err(failed)
        })
        .await
    }

    /// Windows that began at `since_ms` or later, by identity, kind and start.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub async fn spending(&self, since_ms: u64) -> Result<Vec<SpendingRow>, StoreError> {
        in_time(async {
            let mut reading = self.inner.database.begin_read().await?;
            let rows = sqlx::query(
                "SELECT identity, window_kind, window_start, tokens, micro_cost FROM spending
                 WHERE window_start >= $1 ORDER BY identity, window_kind, window_start",
            )
            .bind(number(since_ms))
            .fetch_all(&mut *reading)
            .await
            .map_err(failed)?;
            let row = |from: &sqlx::any::AnyRow| -> Result<SpendingRow, sqlx::Error> {
                Ok(SpendingRow {
                    identity: from.try_get("identity")?,
                    window_kind: from.try_get("window_kind")?,
                    window_start_ms: from.try_get("window_start").map(natural)?,
                    tokens: from.try_get("tokens").map(natural)?,
                    micro_cost: from.try_get("micro_cost").map(natural)?,
                })
            };
            rows.iter().map(|from| row(from).map_err(failed)).collect()
        })
        .await
    }

    /// Forgets windows that began before `before_ms`, and says how many those were.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub async fn forget_spending(&self, before_ms: u64) -> Result<u64, StoreError> {
        in_time(async {
            let mut transaction = self.inner.database.begin_write().await?;
            let done = sqlx::query("DELETE FROM spending WHERE window_start < $1")
                .bind(number(before_ms))
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
            Ok(done.rows_affected())
        })
        .await
    }
}
