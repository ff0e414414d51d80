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

/// An entry of a row's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The row as it was after the change; of a deletion, as it was before.
    pub row: Row,
    /// What was done.
    pub kind: ChangeKind,
    /// By whom.
    pub author: String,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
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
    /// A secret could not be sealed or opened: the key is missing or another one.
    #[error("secret can't be read or written: {0}")]
    Sealing(String),
    /// The database can't be used.
    #[error("database can't be used: {0}")]
    Database(String),
}
