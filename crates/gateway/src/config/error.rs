//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

pub use super::document::Place;

/// One mistake in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the value was written.
    pub place: Place,
    /// The key as a path (`channel.namespaces[0].name`); empty if it is about the file.
    pub key: String,
    /// What is wrong and what is accepted.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(place: Place, key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            place,
            key: key.into(),
            problem: problem.into(),
        }
    }
}

/// All mistakes that were found, in the order of the file; never empty.
///
/// `Display` prints one line for each: `FILE:LINE:COLUMN: KEY: PROBLEM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
    /// The mistakes.
    pub errors: Vec<ConfigError>,
}

impl ConfigErrors {
    pub(crate) fn new(file: Option<PathBuf>, mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by(|one, other| one.place.cmp(&other.place));
        errors.dedup();
        Self { file, errors }
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            match (&error.place, &self.file) {
                (Place::File { line, column }, Some(file)) => {
                    write!(formatter, "{}:{line}:{column}: ", file.display())?;
                }
                (Place::File { line, column }, None) => write!(formatter, "{line}:{column}: ")?,
                (Place::Environment(name), _) => write!(formatter, "environment {name}: ")?,
                (Place::RouteFile(key), _) => write!(formatter, "{key}: ")?,
                (Place::Default, Some(file)) => write!(formatter, "{}: ", file.display())?,
                (Place::Default, None) => {}
            }
            if !error.key.is_empty() {
                write!(formatter, "{}: ", error.key)?;
            }
            formatter.write_str(&error.problem)?;
        }
        Ok(())
    }
}
