//! Where flags are kept over a restart.

use std::io;
use std::path::PathBuf;

use super::state::State;

/// Where flags are kept.
#[derive(Debug, Clone)]
pub enum Place {
    /// A file of the data folder; one gateway alone.
    File(PathBuf),
    /// The bus; all gateways on it.
    Bus(bus::Bus),
}

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads a file of flags; none yet is none at all.
pub(super) fn read(path: &PathBuf) -> Result<State, String> {
    match std::fs::metadata(path) {
        Ok(found) if found.len() > FILE_BYTES_MAX => {
            return Err(format!("is longer than {FILE_BYTES_MAX} bytes"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
        Err(error) => return Err(error.to_string()),
    }
    let content = std::fs::read(path).map_err(|error| error.to_string())?;
    State::parse(&content)
}

/// Replaces the file; it is the old or the new one whatever happens in between.
pub(super) fn replace(path: &std::path::Path, state: &State) -> io::Result<()> {
    auth::durable::replace(path, &state.written())
}
