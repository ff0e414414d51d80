//! Settings of the store: what operators change while the gateway runs.

use std::path::{Path, PathBuf};

use auth::settings::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{Keys, Location, StoreError};

/// Where routes and their secrets are kept that operators change while the gateway runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// A path or `sqlite:<path>` (SQLite), or `postgres://user@host:port/database`, without
    /// password; its query may have `sslmode` and `sslrootcert`. Empty means `store.db` in
    /// `data_dir`.
    pub url: String,
    /// Password of the PostgreSQL user.
    pub password: Secret,
    /// Key that secrets are sealed with: 32 bytes in Base64 or hexadecimal, such as
    /// `openssl rand -base64 32` makes. Several, parted by white space: the first seals, all
    /// open. Empty means the file `store.key` in `data_dir`, which is made when first needed.
    pub key: Secret,
}

impl Store {
    /// Where the database is, password included.
    pub fn location(&self, data_dir: &Path) -> Result<Location, StoreError> {
        if self.url.is_empty() {
            return Ok(Location::Sqlite(data_dir.join("store.db")));
        }
        let password = self.password.reveal().unwrap_or_default();
        match postgres(&self.url) {
            Some(url) if !password.is_empty() => {
                let (scheme, user, rest) = (url.scheme, url.user, url.rest);
                let password = encoded(password);
                Location::parse(&format!("{scheme}{user}:{password}@{rest}"))
            }
            _ => Location::parse(&self.url),
        }
    }

    /// The file with the key, where no key is configured.
    pub fn key_file(&self, data_dir: &Path) -> Option<PathBuf> {
        self.key.is_empty().then(|| data_dir.join("store.key"))
    }

    /// The keys, if they are configured.
    pub fn keys(&self) -> Result<Option<Keys>, StoreError> {
        match self.key.reveal() {
            None | Some("") => Ok(None),
            Some(text) => Keys::parse(text).map(Some),
        }
    }

    /// The secrets, each with its key.
    pub(super) fn secrets(&mut self) -> [(&'static str, &mut Secret); 2] {
        [
            ("store.password", &mut self.password),
            ("store.key", &mut self.key),
        ]
    }
}

/// Tells each key that is wrong, and why. URLs are not quoted: they may hold a password.
pub(super) fn check(store: &Store, refuse: &mut dyn FnMut(&str, String)) {
    let server = postgres(&store.url);
    match &server {
        Some(url) if url.has_password => {
            let problem = "has a password in it; there is store.password for it";
            return refuse("store.url", problem.into());
        }
        Some(url) if !store.password.is_empty() && url.user.is_empty() => {
            refuse("store.url", "names no user for store.password".into());
        }
        None if !store.password.is_empty() => {
            refuse("store.password", "is for a postgres:// URL only".into());
        }
        _ => {}
    }
    let problem_of = |error: StoreError| match error {
        StoreError::Invalid { problem, .. } | StoreError::Sealing(problem) => problem,
        other => other.to_string(),
    };
    if let Err(error) = store.location(Path::new(".")) {
        refuse("store.url", problem_of(error));
    }
    if let Err(error) = store.keys() {
        refuse("store.key", problem_of(error));
    }
}

struct PostgresParts<'a> {
    scheme: &'a str,
    user: &'a str,
    /// From the host on.
    rest: &'a str,
    has_password: bool,
}

fn postgres(url: &str) -> Option<PostgresParts<'_>> {
    let (scheme, rest) = ["postgres://", "postgresql://"]
        .iter()
        .find_map(|scheme| Some((*scheme, url.strip_prefix(scheme)?)))?;
    let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (user, rest) = match authority.rfind('@') {
        Some(at) => (rest.get(..at)?, rest.get(at + 1..)?),
        None => ("", rest),
    };
    let has_password = user.contains(':')
        || query
            .split('&')
            .any(|parameter| parameter.starts_with("password="));
    Some(PostgresParts {
        scheme,
        user,
        rest,
        has_password,
    })
}

/// Percent-encoded, whatever it holds.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(byte).collect()
}
