//! A disk that forgets what was not synced, for tests.
//!
//! Writes and changes of names are visible at once and pending until they are synced. A power
//! cut keeps any pieces of pending writes, in any order, and any of the pending names.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::{File, Storage};
use crate::disk::log::locked;

/// Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModelDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Contents>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    changes: Vec<Change>,
    /// Operations so far that change something.
    operations: u64,
    /// What goes wrong, and at which operation.
    trouble: Option<(u64, Trouble)>,
    gone: bool,
}

#[derive(Debug, Default)]
struct Contents {
    seen: Vec<u8>,
    synced: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug, Clone)]
enum Change {
    Link(String, usize),
    Rename(String, String),
    Unlink(String),
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The process ends there: this operation and all later ones fail, a write is pending.
    Cut,
    /// The next sync fails, and what was pending is forgotten without a trace: it can be read
    /// until the power is cut.
    SyncFails,
    /// The next write fails, and nothing of it is there.
    WriteFails,
    /// The operation and all later ones find the disk full.
    Full,
    /// From the operation on there is no room for new files.
    NoRoomForFiles,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Create,
    Write,
    Name,
    Sync,
}

/// Chance, repeatable.
#[derive(Debug, Clone)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(crate) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

impl ModelDisk {
    /// Lets something go wrong at the operation after `operations` more.
    pub(crate) fn trouble_in(&self, operations: u64, trouble: Trouble) {
        let mut state = locked(&self.state);
        state.trouble = Some((state.operations + operations, trouble));
    }

    /// Operations so far that change something.
    pub(crate) fn operations(&self) -> u64 {
        locked(&self.state).operations
    }

    /// The process is killed and started again: what was written is there, pending or not.
    pub(crate) fn killed(&self) {
        let mut state = locked(&self.state);
        state.gone = false;
        state.trouble = None;
    }

    /// The power is cut and comes back.
    pub(crate) fn power_cut(&self, chance: &mut Chance) {
        // Some disks keep all, some nothing, most something.
        let (keep, of) =
            [(0, 1), (1, 1), (1, 2), (7, 8), (1, 8)][usize::try_from(chance.below(5)).unwrap()];
        self.power_cut_keeping(&mut |_| chance.below(of) < keep);
    }

    /// As [`Self::power_cut`]; `keep` decides about each piece, by its number. Pieces of a write
    /// are 512 bytes or 4 KiB, which is decided first.
    pub(crate) fn power_cut_keeping(&self, keep: &mut dyn FnMut(u64) -> bool) {
        let mut state = locked(&self.state);
        let mut number = 0;
        let mut decide = || {
            number += 1;
            keep(number)
        };
        let piece = if decide() { 512 } else { 4096 };
        for file in &mut state.files {
            let mut after = file.synced.clone();
            for (offset, bytes) in std::mem::take(&mut file.pending) {
                let mut at = offset;
                while at < offset + bytes.len() {
                    let end = ((at / piece + 1) * piece).min(offset + bytes.len());
                    let part = &bytes[at - offset..end - offset];
                    if decide() {
                        put(&mut after, at, part);
                    }
                    at = end;
                }
            }
            file.seen = after.clone();
            file.synced = after;
        }
        let mut names = state.synced_names.clone();
        for change in std::mem::take(&mut state.changes) {
            if decide() {
                change.apply(&mut names);
            }
        }
        state.synced_names = names.clone();
        state.names = names;
        state.gone = false;
        state.trouble = None;
    }

    /// Changes the bytes of a file behind everybody's back, on the disk.
    pub(crate) fn tamper(&self, name: &str, with: impl FnOnce(&mut Vec<u8>)) {
        let mut state = locked(&self.state);
        let file = state.names[name];
        with(&mut state.files[file].synced);
        state.files[file].seen = state.files[file].synced.clone();
        state.files[file].pending.clear();
    }

    /// A copy that shares nothing.
    pub(crate) fn copied(&self) -> Self {
        let state = locked(&self.state);
        let files = state.files.iter().map(|file| Contents {
            seen: file.seen.clone(),
            synced: file.synced.clone(),
            pending: file.pending.clone(),
        });
        Self {
            state: Arc::new(Mutex::new(State {
                files: files.collect(),
                names: state.names.clone(),
                synced_names: state.synced_names.clone(),
                changes: state.changes.clone(),
                operations: state.operations,
                trouble: None,
                gone: false,
            })),
        }
    }

    /// Whether a power cut could take something.
    pub(crate) fn has_pending(&self) -> bool {
        let state = locked(&self.state);
        !state.changes.is_empty() || state.files.iter().any(|file| !file.pending.is_empty())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        locked(&self.state).names.keys().cloned().collect()
    }
}

impl State {
    /// Counts an operation; `Err` if it is not done.
    fn operation(&mut self, what: Operation) -> io::Result<()> {
        if self.gone {
            return Err(io::Error::other("the process has ended"));
        }
        self.operations += 1;
        let Some((at, trouble)) = self.trouble else {
            return Ok(());
        };
        if self.operations <= at {
            return Ok(());
        }
        match trouble {
            Trouble::Cut => {
                self.gone = true;
                Err(io::Error::other("the process has ended"))
            }
            Trouble::SyncFails if what == Operation::Sync => {
                self.trouble = None;
                Err(io::Error::other("the device failed"))
            }
            Trouble::WriteFails if what == Operation::Write => {
                self.trouble = None;
                Err(io::Error::other("the device failed"))
            }
            Trouble::NoRoomForFiles if what == Operation::Create => {
                Err(io::ErrorKind::StorageFull.into())
            }
            Trouble::Full => Err(io::ErrorKind::StorageFull.into()),
            Trouble::SyncFails | Trouble::WriteFails | Trouble::NoRoomForFiles => Ok(()),
        }
    }
}

impl Change {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, file) => drop(names.insert(name, file)),
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(&from) {
                    names.insert(to, file);
                }
            }
            Self::Unlink(name) => drop(names.remove(&name)),
        }
    }
}

impl Storage for ModelDisk {
    fn lock(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let state = locked(&self.state);
        match state.names.get(name) {
            Some(file) => Ok(self.file(*file)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut state = locked(&self.state);
        state.operation(Operation::Create)?;
        state.files.push(Contents::default());
        let file = state.files.len() - 1;
        let change = Change::Link(name.to_owned(), file);
        change.clone().apply(&mut state.names);
        state.changes.push(change);
        Ok(self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = locked(&self.state);
        state.operation(Operation::Name)?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = Change::Rename(from.to_owned(), to.to_owned());
        change.clone().apply(&mut state.names);
        state.changes.push(change);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = locked(&self.state);
        state.operation(Operation::Name)?;
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = Change::Unlink(name.to_owned());
        change.clone().apply(&mut state.names);
        state.changes.push(change);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = locked(&self.state);
        state.operation(Operation::Sync)?;
        state.synced_names = state.names.clone();
        state.changes.clear();
        Ok(())
    }
}

impl ModelDisk {
    fn file(&self, number: usize) -> Arc<dyn File> {
        Arc::new(ModelFile {
            disk: self.clone(),
            number,
        })
    }
}

#[derive(Debug)]
struct ModelFile {
    disk: ModelDisk,
    number: usize,
}

impl File for ModelFile {
    fn len(&self) -> io::Result<u64> {
        Ok(locked(&self.disk.state).files[self.number].seen.len() as u64)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let state = locked(&self.disk.state);
        let from = usize::try_from(offset).unwrap();
        let seen = state.files[self.number].seen.get(from..from + into.len());
        into.copy_from_slice(seen.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn read_cached(&self, _: &mut [u8], _: u64) -> io::Result<bool> {
        Ok(false)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = locked(&self.disk.state);
        if state.gone {
            return Err(io::Error::other("the process has ended"));
        }
        let done = state.operation(Operation::Write);
        if done.is_ok() || state.gone {
            let file = &mut state.files[self.number];
            let at = usize::try_from(offset).unwrap();
            put(&mut file.seen, at, bytes);
            file.pending.push((at, bytes.to_vec()));
        }
        done
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = locked(&self.disk.state);
        let done = state.operation(Operation::Sync);
        let file = &mut state.files[self.number];
        match &done {
            Ok(()) => {
                // Not a copy of what is seen: what a failed sync forgot stays forgotten.
                for (at, bytes) in std::mem::take(&mut file.pending) {
                    put(&mut file.synced, at, &bytes);
                }
            }
            Err(error) if error.to_string() == "the device failed" => file.pending.clear(),
            Err(_) => {}
        }
        done
    }
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}
