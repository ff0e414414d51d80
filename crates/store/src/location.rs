//! Where the database is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;

use crate::StoreError;

/// Where the database is. Printing it shows no password.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A file, made if it is not there.
    Sqlite(PathBuf),
    /// A PostgreSQL server.
    Postgres(PostgresUrl),
}

/// A checked `postgres://` URL.
///
/// What its query may say is the driver's: `sslmode` (`disable`, `prefer`, `require`,
/// `verify-ca`, `verify-full`), `sslrootcert`, `options[search_path]` and so on.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    url: String,
    shown: String,
}

impl Location {
    /// Reads `sqlite:<path>`, a path, or `postgres://…`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`], which does not quote the URL.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let text = text.trim();
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(text)
                .map_err(|_| invalid("is not a valid postgres:// URL"))?;
            let (host, port) = (options.get_host(), options.get_port());
            let database = options.get_database().unwrap_or_default();
            return Ok(Self::Postgres(PostgresUrl {
                shown: format!("postgres://{host}:{port}/{database}"),
                url: text.to_owned(),
            }));
        }
        let path = text.strip_prefix("sqlite:").unwrap_or(text);
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(invalid("names no file"));
        }
        if path == ":memory:" {
            return Err(invalid("must be a file: what is in memory only is lost"));
        }
        if path.contains("://") {
            return Err(invalid("must be a path, sqlite:<path> or postgres://…"));
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

impl PostgresUrl {
    /// The URL with its password.
    pub(crate) fn reveal(&self) -> &str {
        &self.url
    }
}

fn invalid(problem: &str) -> StoreError {
    StoreError::Invalid {
        what: "location of the database",
        problem: problem.to_owned(),
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => f.write_str(&url.shown),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests;
