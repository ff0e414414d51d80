//! What holds on every database.

pub(crate) mod changes;
pub(crate) mod races;
pub(crate) mod records;
pub(crate) mod schema;
pub(crate) mod secrets;
pub(crate) mod spending;
