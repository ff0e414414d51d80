//! Secrets: sealed before they get to the database, shown to nobody.

use std::fmt;

use sqlx::Row as _;
use sqlx::any::AnyRow;
use zeroize::Zeroizing;

use crate::database::{Changing, failed, in_time, natural, number};
use crate::opened::size;
use crate::{Author, IDENTITY_MAX, SECRET_MAX, SECRETS_MAX, SecretNote, Store, StoreError, seal};

/// The environment of a secret for which none is named.
pub const GLOBAL: &str = "global";

/// What stands for a secret's value wherever it is shown.
pub const MASK: &str = "********";

/// A secret's value. Printing it shows nothing; dropping it overwrites it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub(crate) fn new(value: &str) -> Self {
        Self(Zeroizing::new(value.to_owned()))
    }

    /// The value itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// A secret with its name, or why it can't be opened.
#[derive(Debug)]
pub struct NamedSecret {
    /// The `X` of `{secret.X}`.
    pub name: String,
    /// `global` unless said otherwise.
    pub environment: String,
    /// [`StoreError::Sealing`] if the key is another one.
    pub value: Result<Secret, StoreError>,
}

impl Store {
    /// Sets a secret, whether or not it was there. Raises the revision.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] for a name that is not made of letters, digits, `_`, `-` and
    /// `.`, an empty value, one of more than [`SECRET_MAX`] bytes or one that is a mask;
    /// [`StoreError::Sealing`], [`StoreError::Database`].
    pub async fn put_secret(
        &self,
        name: &str,
        environment: &str,
        value: &str,
        author: &Author,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        check_name("name of the secret", name)?;
        check_name("environment of the secret", environment)?;
        check_value(value)?;
        author.check()?;
        let keys = self.keys()?;
        let sealed = seal::seal(&keys, name, environment, value)?;
        in_time(async {
            let mut changing = self.inner.database.begin_change().await?;
            require_room(&mut changing, name, environment).await?;
            sqlx::query(
                "INSERT INTO secrets (name, environment, sealed, key_id, updated_ms, author)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (name, environment) DO UPDATE SET sealed = excluded.sealed,
                 key_id = excluded.key_id, updated_ms = excluded.updated_ms,
                 author = excluded.author",
            )
            .bind(name)
            .bind(environment)
            .bind(&sealed)
            .bind(&keys.current().id)
            .bind(number(now_ms))
            .bind(&author.0)
            .execute(&mut *changing.transaction)
            .await
            .map_err(failed)?;
            self.inner.seen.raise(changing.commit().await?);
            Ok(())
        })
        .await
    }

    /// Takes a secret away. Raises the revision; needs no key.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`], [`StoreError::Database`].
    pub async fn delete_secret(&self, name: &str, environment: &str) -> Result<(), StoreError> {
        in_time(async {
            let mut changing = self.inner.database.begin_change().await?;
            let done = sqlx::query("DELETE FROM secrets WHERE name = $1 AND environment = $2")
                .bind(name)
                .bind(environment)
                .execute(&mut *changing.transaction)
                .await
                .map_err(failed)?;
            if done.rows_affected() == 0 {
                return Err(StoreError::NotFound);
            }
            self.inner.seen.raise(changing.commit().await?);
            Ok(())
        })
        .await
    }

    /// The secrets there are, by name and environment, without their values. Needs no key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`].
    pub async fn secrets(&self) -> Result<Vec<SecretNote>, StoreError> {
        in_time(async {
            let mut reading = self.inner.database.begin_read().await?;
            let rows = sqlx::query(
                "SELECT name, environment, updated_ms, author FROM secrets
                 ORDER BY name, environment",
            )
            .fetch_all(&mut *reading)
            .await
            .map_err(failed)?;
            rows.iter().map(|from| note(from).map_err(failed)).collect()
        })
        .await
    }

    /// One secret's value.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sealing`] if its key is not given, [`StoreError::Database`].
    pub async fn secret(
        &self,
        name: &str,
        environment: &str,
    ) -> Result<Option<Secret>, StoreError> {
        let mut all = self.open_secrets(Some((name, environment))).await?;
        all.pop().map(|secret| secret.value).transpose()
    }

    /// All secrets with their values, by name and environment. One that can't be opened
    /// does not keep the others back.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sealing`] if no key is given and there are secrets,
    /// [`StoreError::Database`].
    pub async fn all_secrets(&self) -> Result<Vec<NamedSecret>, StoreError> {
        self.open_secrets(None).await
    }

    /// Seals anew, with the current key, what an older one has sealed, and says how many
    /// those were. All or none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sealing`] if one of the keys is missing, [`StoreError::Database`].
    pub async fn reseal(&self) -> Result<usize, StoreError> {
        let keys = self.keys()?;
        in_time(async {
            let mut changing = self.inner.database.begin_change().await?;
            let rows = sqlx::query(
                "SELECT name, environment, sealed, key_id FROM secrets WHERE key_id <> $1",
            )
            .bind(&keys.current().id)
            .fetch_all(&mut *changing.transaction)
            .await
            .map_err(failed)?;
            for from in &rows {
                let Sealed {
                    name,
                    environment,
                    sealed,
                    key_id,
                } = Sealed::of(from).map_err(failed)?;
                let value = seal::open(&keys, &key_id, &name, &environment, &sealed);
                let value = value.map_err(|error| match error {
                    StoreError::Sealing(problem) => {
                        StoreError::Sealing(format!("{name}: {problem}"))
                    }
                    other => other,
                })?;
                let resealed = seal::seal(&keys, &name, &environment, value.reveal())?;
                sqlx::query(
                    "UPDATE secrets SET sealed = $1, key_id = $2
                     WHERE name = $3 AND environment = $4",
                )
                .bind(resealed)
                .bind(&keys.current().id)
                .bind(name)
                .bind(environment)
                .execute(&mut *changing.transaction)
                .await
                .map_err(failed)?;
            }
            if !rows.is_empty() {
                self.inner.seen.raise(changing.commit().await?);
            }
            Ok(rows.len())
        })
        .await
    }

    async fn open_secrets(
        &self,
        one: Option<(&str, &str)>,
    ) -> Result<Vec<NamedSecret>, StoreError> {
        let (name, environment) = one.unwrap_or_default();
        let rows = in_time(async {
            let mut reading = self.inner.database.begin_read().await?;
            let rows = sqlx::query(
                "SELECT name, environment, sealed, key_id FROM secrets
                 WHERE $1 = 1 OR (name = $2 AND environment = $3) ORDER BY name, environment",
            )
            .bind(i64::from(one.is_none()))
            .bind(name)
            .bind(environment)
            .fetch_all(&mut *reading)
            .await
            .map_err(failed)?;
            rows.iter()
                .map(|from| Sealed::of(from).map_err(failed))
                .collect::<Result<Vec<_>, _>>()
        })
        .await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.keys()?;
        let opened = rows.into_iter().map(|row| NamedSecret {
            value: seal::open(&keys, &row.key_id, &row.name, &row.environment, &row.sealed),
            name: row.name,
            environment: row.environment,
        });
        Ok(opened.collect())
    }
}

/// A row as it lies in the database.
struct Sealed {
    name: String,
    environment: String,
    sealed: String,
    key_id: String,
}

impl Sealed {
    fn of(from: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            name: from.try_get("name")?,
            environment: from.try_get("environment")?,
            sealed: from.try_get("sealed")?,
            key_id: from.try_get("key_id")?,
        })
    }
}

fn note(from: &AnyRow) -> Result<SecretNote, sqlx::Error> {
    Ok(SecretNote {
        name: from.try_get("name")?,
        environment: from.try_get("environment")?,
        updated_ms: from.try_get("updated_ms").map(natural)?,
        author: from.try_get("author")?,
        masked: MASK,
    })
}

async fn require_room(
    changing: &mut Changing,
    name: &str,
    environment: &str,
) -> Result<(), StoreError> {
    let others =
        sqlx::query("SELECT COUNT(*) FROM secrets WHERE NOT (name = $1 AND environment = $2)")
            .bind(name)
            .bind(environment)
            .fetch_one(&mut *changing.transaction)
            .await
            .and_then(|row| row.try_get::<i64, _>(0))
            .map_err(failed)?;
    if natural(others) < SECRETS_MAX {
        return Ok(());
    }
    Err(StoreError::Invalid {
        what: "secret",
        problem: format!("is one too many, {SECRETS_MAX} are allowed"),
    })
}

fn check_name(what: &'static str, name: &str) -> Result<(), StoreError> {
    size(what, name, IDENTITY_MAX)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !name.is_empty() && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(StoreError::Invalid {
        what,
        problem: "must be letters, digits, '_', '-' and '.'".to_owned(),
    })
}

/// What was shown in place of a secret must not become one.
fn check_value(value: &str) -> Result<(), StoreError> {
    let what = "value of the secret";
    size(what, value, SECRET_MAX)?;
    let problem = if value.is_empty() {
        "is empty"
    } else if value.chars().all(|c| matches!(c, '*' | '•')) {
        "is a mask"
    } else {
        return Ok(());
    };
    Err(StoreError::Invalid {
        what,
        problem: problem.to_owned(),
    })
}
