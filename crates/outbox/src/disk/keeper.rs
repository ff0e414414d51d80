//! Makes segments before they are needed and takes them back when they are not.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::format::{Chain, PAGE, Salt, Seal};
use super::manifest::{Manifest, ManifestFile};
use super::segment::{Segment, free_name, header, quarantine_name, segment_name};
use super::storage::Storage;
use super::supply::is_full;

/// Where the log starts from now on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floor {
    pub(crate) segment: u64,
    pub(crate) chain: Chain,
    pub(crate) next_seq: u64,
    pub(crate) synced: u64,
}

/// Owns the names of the files and the manifest. All that it does is safe at any moment: it
/// syncs contents before it gives them a name, names before the manifest counts on them, and
/// the manifest before it takes a name away.
pub(crate) struct Keeper {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) manifest: Manifest,
    pub(crate) file: ManifestFile,
    /// Bytes of the segments it makes.
    pub(crate) segment_bytes: u64,
    /// Names of files of that size that may be used again.
    pub(crate) free: Vec<String>,
    /// Segments to be put aside when they are taken back.
    pub(crate) damaged: BTreeSet<u64>,
    pub(crate) salts: Box<dyn FnMut() -> io::Result<Salt> + Send>,
    /// Bytes of all files, told to whoever asks.
    pub(crate) bytes: Arc<AtomicU64>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("manifest", &self.manifest)
            .field("free", &self.free)
            .finish_non_exhaustive()
    }
}

impl Keeper {
    /// Makes the next segment: zeros, or what a segment that is no longer needed held; none of
    /// that passes under the new salt.
    pub(crate) fn prepare(&mut self) -> io::Result<Arc<Segment>> {
        let id = self.manifest.newest + 1;
        let size = self.segment_bytes;
        let salt = (self.salts)()?;
        let (name, file) = match self.free.last() {
            Some(name) => {
                let file = self.storage.open(name)?;
                file.write_at(&[0; PAGE], PAGE as u64)?;
                (name.clone(), file)
            }
            None => (NEW.to_owned(), self.zeroed(size)?),
        };
        file.write_at(&header(id, &salt, size), 0)?;
        file.sync()?;
        self.named(id, &name).map_err(beyond_room)?;
        Ok(Arc::new(Segment {
            id,
            size,
            seal: Seal::new(&salt),
            file,
        }))
    }

    /// Makes a file that is ready the segment `id`.
    fn named(&mut self, id: u64, name: &str) -> io::Result<()> {
        self.storage.rename(name, &segment_name(id))?;
        if name == NEW {
            self.bytes.fetch_add(self.segment_bytes, Ordering::Relaxed);
        } else {
            self.free.pop();
        }
        self.storage.sync_names()?;
        self.manifest.newest = id;
        self.file.write(&mut self.manifest)
    }

    /// Forgets the segments before the floor. What settled their records must be synced.
    pub(crate) fn reclaim(&mut self, floor: Floor) -> io::Result<()> {
        let old = self.manifest.floor;
        self.manifest.floor = floor.segment;
        self.manifest.chain = floor.chain;
        self.manifest.next_seq = self.manifest.next_seq.max(floor.next_seq);
        self.manifest.synced = self.manifest.synced.max(floor.synced);
        self.file.write(&mut self.manifest)?;
        for id in old..floor.segment {
            self.retire(id)?;
        }
        Ok(())
    }

    /// Notes how far the log is synced.
    pub(crate) fn note(&mut self, next_seq: u64, synced: u64) -> io::Result<()> {
        self.manifest.next_seq = self.manifest.next_seq.max(next_seq);
        self.manifest.synced = self.manifest.synced.max(synced);
        self.file.write(&mut self.manifest)
    }

    /// Takes the name of a segment away.
    pub(crate) fn retire(&mut self, id: u64) -> io::Result<()> {
        let name = segment_name(id);
        if self.damaged.remove(&id) {
            self.storage.rename(&name, &quarantine_name(id))?;
            return self.storage.sync_names();
        }
        let size = self.storage.open(&name)?.len()?;
        if self.free.len() < FREE_MAX && size == self.segment_bytes {
            // A restart may have freed a segment of this number before.
            let free = (id..).map(free_name).find(|name| !self.free.contains(name));
            let free = free.ok_or_else(|| io::Error::other("no name for a free segment"))?;
            self.storage.rename(&name, &free)?;
            self.free.push(free);
        } else {
            self.storage.remove(&name)?;
            self.bytes.fetch_sub(size, Ordering::Relaxed);
        }
        self.storage.sync_names()
    }

    /// Syncs slice by slice: a long one would hold up the writer's syncs.
    fn zeroed(&self, size: u64) -> io::Result<Arc<dyn super::storage::File>> {
        let file = self.storage.create(NEW)?;
        let fill = || {
            let zeros = vec![0; SLICE];
            let mut at = 0;
            while at < size {
                let slice = (size - at).min(SLICE as u64);
                file.write_at(&zeros[..usize::try_from(slice).unwrap_or(SLICE)], at)?;
                file.sync()?;
                at += slice;
            }
            Ok(())
        };
        match fill() {
            Ok(()) => Ok(file),
            Err(error) => {
                if let Err(error) = self.storage.remove(NEW) {
                    tracing::warn!(%error, "unfinished segment was not removed");
                }
                Err(error)
            }
        }
    }
}

/// Up to the name everything can be begun again when there is room. After that the numbers of
/// segments are at stake: a lack of room counts as a failure like any other.
fn beyond_room(error: io::Error) -> io::Error {
    if is_full(&error) {
        io::Error::other(error)
    } else {
        error
    }
}

const NEW: &str = "new.tmp";
const FREE_MAX: usize = 4;
const SLICE: usize = 1 << 20;
