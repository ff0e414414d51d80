//! Settings of feature flags.

use protocol::subject::Subject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Switches that operators set while the gateway runs, pushed to clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FeatureFlags {
    /// Keeps flags, serves `/admin/feature-flags` and pushes each change.
    pub enabled: bool,
    /// The channel they are pushed on, as a message `FeatureFlags` of `proto/`. Its
    /// namespace should keep one publication, so that new subscribers get the present
    /// state.
    pub channel: String,
}

impl Default for FeatureFlags {
    fn default() -> Self {
        Self {
            enabled: true,
            channel: "xy.flags".to_owned(),
        }
    }
}

/// Tells each key that is wrong, and why.
pub(super) fn check(flags: &FeatureFlags, refuse: &mut dyn FnMut(&str, String)) {
    if let Err(error) = Subject::new(&flags.channel) {
        let problem = format!("{:?}: {error}; expected xy.flags or such", flags.channel);
        refuse("feature_flags.channel", problem);
    }
}
