//! Puts the parts together and runs them.

use crate::config::Loaded;
use crate::logging::Logging;
use crate::reload::Source;

/// Why the gateway could not serve.
#[derive(Debug, thiserror::Error)]
pub enum AssemblyError {
    /// No worker could be started.
    #[error("no worker could be started")]
    NoWorkers,
}

/// Serves until told to stop.
pub fn run(_source: Source, _loaded: Loaded, _logging: Logging) -> Result<(), AssemblyError> {
    Err(AssemblyError::NoWorkers)
}
