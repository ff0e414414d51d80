//! What operators change while the gateway runs, in SQL: SQLite by default, PostgreSQL
//! by URL, the same migrations on both.
//!
//! The store knows rows and versions; what a row means is its owner's business. Each change
//! is one transaction: the row, its entry in the history and the revision change together
//! or not at all. Changes go one after the other, across processes too, so that what a
//! change was checked against is what it changes. A commit is on disk before it is
//! reported: SQLite with `synchronous=FULL`, PostgreSQL as its `synchronous_commit` says.
//!
//! Secrets are sealed before they get to the database ([`Keys`]). [`Store::changes`] tells
//! of every new revision, whoever made it.
#![warn(missing_docs)]

mod database;
mod face;
mod keys;
mod location;
mod opened;
mod records;
mod schema;
mod seal;
mod secrets;
mod spending;
mod watching;

pub use face::{
    Author, Change, ChangeKind, DOCUMENT_MAX, HISTORY_MAX, Health, IDENTITY_MAX, PATH_MAX,
    ROWS_MAX, Row, SECRET_MAX, SECRETS_MAX, SPENDING_MAX, SecretNote, Snapshot, SpendingRow,
    StoreError,
};
pub use keys::Keys;
pub use location::{Location, PostgresUrl};
pub use opened::Store;
pub use secrets::{GLOBAL, MASK, NamedSecret, Secret};
