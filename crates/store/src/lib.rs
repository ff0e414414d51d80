//! What operators change while the gateway runs, in SQL: SQLite by default, PostgreSQL
//! by URL, the same migrations on both.
//!
//! The store knows rows and versions; what a row means is its owner's business.
#![warn(missing_docs)]

mod face;

pub use face::{Author, Change, ChangeKind, Row, Snapshot, StoreError};
