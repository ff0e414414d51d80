//! The environment variables that routes may name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// The environment without what is the gateway's own: variables that begin with `TIDEGATE_`
/// and those that secrets of the configuration refer to (`env:NAME`). Whoever may write a
/// route could otherwise have them sent to himself. Printing it shows nothing.
#[derive(Clone, Default, PartialEq)]
pub struct Variables(Arc<BTreeMap<String, String>>);

impl Variables {
    pub(in super::super) fn new(
        environment: &BTreeMap<String, String>,
        withheld: &BTreeSet<String>,
    ) -> Self {
        let may = |name: &str| !name.starts_with("TIDEGATE_") && !withheld.contains(name);
        let allowed = environment.iter().filter(|(name, _)| may(name));
        Self(Arc::new(
            allowed
                .map(|(name, text)| (name.clone(), text.clone()))
                .collect(),
        ))
    }

    /// The value of a variable that is set and not withheld.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} variables", self.0.len())
    }
}
