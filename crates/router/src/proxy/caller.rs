//! Who asks.

use std::sync::Arc;

use serde_json::{Map, Value};

/// Who asks, as far as a token proves it.
#[derive(Debug, Clone, Default)]
pub enum Caller {
    /// No token of ours, or none at all.
    #[default]
    Guest,
    /// A client's token.
    User {
        /// Its `sub`.
        id: Arc<str>,
        /// Its claims, `id` included.
        claims: Arc<Map<String, Value>>,
    },
    /// An administrator's token, by its name.
    Superuser(Arc<str>),
}

impl Caller {
    /// The id that limits and budgets count by; guests have none.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Guest => None,
            Self::User { id, .. } => Some(id),
            Self::Superuser(name) => Some(name),
        }
    }
}
