//! What the store takes and gives.

/// One record as it stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// 15 characters of `a` to `z` and `0` to `9`.
    pub id: String,
    /// Unique among the rows.
    pub path: String,
    /// The record's fields but `id`, `created` and `updated`, as a JSON object.
    pub document: String,
    /// Rises by one with each change of this row, from 1.
    pub version: u64,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub updated_ms: u64,
}

/// All rows at one revision of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Rises with every change of any row or secret.
    pub revision: u64,
    /// In the order of their ids.
    pub rows: Vec<Row>,
}

/// Who changes something: the name of an administrator's token, never the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author(pub String);

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// The row came to be.
    Create,
    /// It was changed.
    Update,
    /// It went away.
    Delete,
    /// It was put back to an older version.
    Rollback,
}

impl ChangeKind {
    /// The word under which it is stored and shown: `create`, `update`, `delete`, `rollback`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Rollback => "rollback",
        }
    }

    /// The kind of a [word](Self::word).
    pub(crate) fn of(word: &str) -> Option<Self> {
        [Self::Create, Self::Update, Self::Delete, Self::Rollback]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

/// An entry of a row's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The row as it was after the change. Of a deletion: path and document as they were
    /// before, the version the deletion has in the history.
    pub row: Row,
    /// What was done.
    pub kind: ChangeKind,
    /// By whom.
    pub author: String,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// A secret as operators see it: that it is there, nothing of its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretNote {
    /// The `X` of `{secret.X}`.
    pub name: String,
    /// `global` unless said otherwise.
    pub environment: String,
    /// Milliseconds since the Unix epoch.
    pub updated_ms: u64,
    /// Who put it last.
    pub author: String,
    /// Always [`MASK`](crate::MASK): it is set.
    pub masked: &'static str,
}

/// What one identity spent in one window of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpendingRow {
    /// Whose; at most [`IDENTITY_MAX`] bytes.
    pub identity: String,
    /// What kind of window, `day` for one; at most [`IDENTITY_MAX`] bytes.
    pub window_kind: String,
    /// When the window began, in milliseconds since the Unix epoch.
    pub window_start_ms: u64,
    /// Tokens of models.
    pub tokens: u64,
    /// Millionths of the currency that prices are given in.
    pub micro_cost: u64,
}

/// How the store fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Whether the last look at the database succeeded. If not, the last good state serves.
    pub reachable: bool,
    /// How many looks at the database have failed since the start.
    pub failures: u64,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such row, version or secret.
    #[error("not found")]
    NotFound,
    /// Another row has this path.
    #[error("path is taken by another record")]
    PathTaken,
    /// The row has changed since: its version is not the one that was expected.
    #[error("record has changed: its version is {version}")]
    Changed {
        /// The version it has now.
        version: u64,
    },
    /// The caller's values can't be stored.
    #[error("{what} {problem}")]
    Invalid {
        /// Which of them.
        what: &'static str,
        /// What is wrong with it; never its value.
        problem: String,
    },
    /// A secret could not be sealed or opened: the key is missing or another one.
    #[error("secret can't be read or written: {0}")]
    Sealing(String),
    /// A newer release has been here.
    #[error(
        "database has schema {found}, this release knows up to {known}; start a release that is at least as new as the one that wrote it"
    )]
    TooNew {
        /// The schema of the database.
        found: u64,
        /// The newest schema known here.
        known: u64,
    },
    /// The database can't be used. A change that was under way may or may not have been made.
    #[error("database can't be used: {0}")]
    Database(String),
}

/// Rows at most; a further one is refused.
pub const ROWS_MAX: u64 = 10_000;

/// Secrets at most; a further one is refused.
pub const SECRETS_MAX: u64 = 1_000;

/// Bytes of a path at most.
pub const PATH_MAX: usize = 2_048;

/// Bytes of a document at most.
pub const DOCUMENT_MAX: usize = 256 << 10;

/// Entries of one row's history; the oldest go first.
pub const HISTORY_MAX: u64 = 1_000;

/// Bytes of a secret's value at most.
pub const SECRET_MAX: usize = 16 << 10;

/// Bytes of an identity, an author, a secret's name or an environment at most.
pub const IDENTITY_MAX: usize = 256;

/// Rows of one addition to the spending at most.
pub const SPENDING_MAX: usize = 10_000;
