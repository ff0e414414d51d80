//! Files that are either the old or the new one, whatever happens in between.

use std::fs::{DirBuilder, File, OpenOptions, rename};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Replaces a file: writes a temporary one beside it, syncs it, renames it over and
/// syncs the folder. Only the owner may read it, or enter the folder if it had to be
/// made. Callers take turns.
///
/// # Errors
///
/// Of the file system; the old file is then still there, or the new one but perhaps not yet
/// on the disk.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let temporary = path.with_extension("tmp");
    // A leftover of a crash may have other permissions; it is not reused.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}
