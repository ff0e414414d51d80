//! What the log needs of a disk; the only way in which it reaches one.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

mod files;
#[cfg(test)]
pub(crate) mod model;

pub(crate) use files::Folder;

/// A flat folder of files.
pub(crate) trait Storage: Debug + Send + Sync {
    /// Keeps every other process out for as long as `self` lives; `false` if one is in.
    fn lock(&self) -> io::Result<bool>;

    /// Names of the files.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Makes an empty file, in place of one that is there.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name, in place of one that is there.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names safe: what was created, renamed, removed.
    fn sync_names(&self) -> io::Result<()>;
}

/// An open file.
pub(crate) trait File: Debug + Send + Sync {
    /// Its bytes.
    fn len(&self) -> io::Result<u64>;

    /// Fills `into` from `offset` on.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;

    /// As [`Self::read_at`] if that takes no wait for a device, else `false`.
    fn read_cached(&self, into: &mut [u8], offset: u64) -> io::Result<bool>;

    /// Writes all of it.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes contents and length safe.
    fn sync(&self) -> io::Result<()>;
}
