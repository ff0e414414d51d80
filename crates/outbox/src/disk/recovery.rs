//! Opening a log: what is on the disk becomes an index and a place to go on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use lifecycle::Clock;

use super::format::{Chain, PAGE, Salt, Seal};
use super::index::{Index, Part, Seen};
use super::log::Log;
use super::manifest::{self, Manifest};
use super::scan;
use super::segment::{Named, Segment, named, salt, segment_name};
use super::shared::{Limits, Shared};
use super::storage::Storage;
use super::{OpenError, Sync};
use crate::face::Entry;

mod settle;

/// What a recovery needs to know.
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) sync: Sync,
    pub(crate) accept_loss: bool,
    pub(crate) clock: Clock,
    pub(crate) salts: Box<dyn FnMut() -> io::Result<Salt> + Send>,
}

/// Opens the log; the storage is locked already. Returns what is unsettled in order.
pub(crate) fn recover(
    storage: &Arc<dyn Storage>,
    settings: Settings,
) -> Result<(Log, Vec<Entry>), OpenError> {
    let files = Files::list(storage.as_ref()).map_err(failed("listing files"))?;
    let mut walk = Walk::new(storage, files, settings.accept_loss)?;
    walk.all()?;
    let mut log = walk.settle(settings)?;
    let entries = entries(&mut log.1, log.0.shared.as_ref());
    Ok((log.0, entries))
}

/// The files there are.
struct Files {
    manifest: bool,
    segments: BTreeSet<u64>,
    free: Vec<String>,
}

impl Files {
    fn list(storage: &dyn Storage) -> io::Result<Self> {
        let mut files = Self {
            manifest: false,
            segments: BTreeSet::new(),
            free: Vec::new(),
        };
        for name in storage.list()? {
            match named(&name) {
                Named::Segment(id) => drop(files.segments.insert(id)),
                Named::Free => files.free.push(name),
                Named::Unfinished => storage.remove(&name)?,
                Named::Other => files.manifest |= name == manifest::NAME,
            }
        }
        Ok(files)
    }
}

/// The way through the segments.
struct Walk {
    storage: Arc<dyn Storage>,
    files: Files,
    manifest: Manifest,
    accept_loss: bool,
    index: Index,
    seen: BTreeMap<u64, Seen>,
    /// What the next batch must refer to, if that is known.
    chain: Option<Chain>,
    /// The number the next batch must have at least.
    batch: u64,
    next_seq: u64,
    /// The highest batch that was proven to be synced.
    proven: u64,
    /// Numbers and places of the batches of the segment walked last.
    batches: Vec<(u64, usize)>,
    damaged: BTreeSet<u64>,
}

/// Where the batches of a segment stop, and why.
struct Stop {
    at: usize,
    what: &'static str,
}

impl Walk {
    fn new(storage: &Arc<dyn Storage>, files: Files, accept_loss: bool) -> Result<Self, OpenError> {
        let read = Manifest::read(storage.as_ref(), files.manifest)
            .map_err(failed("reading the manifest"))?;
        let bounds = files.segments.first().zip(files.segments.last());
        let (manifest, chain) = match (read, bounds) {
            (manifest::Read::Found(manifest), _) => (manifest, Some(manifest.chain)),
            (manifest::Read::Missing, None) => {
                let manifest = Manifest::new();
                (manifest, Some(manifest.chain))
            }
            (manifest::Read::Missing | manifest::Read::Damaged, bounds) => {
                let damage = damage(manifest::NAME, 0, 2 * PAGE, "neither page is valid");
                if !accept_loss {
                    return Err(damage);
                }
                if bounds.is_some_and(|(first, last)| last - first > manifest::SEGMENTS_MAX) {
                    return Err(OpenError::Refused(
                        "names of segments are too far apart to be those of one log".to_owned(),
                    ));
                }
                tracing::error!(%damage, "the log starts where its oldest segment does");
                let mut manifest = Manifest::new();
                if let Some((first, last)) = bounds {
                    (manifest.floor, manifest.newest) = (*first, *last);
                }
                (manifest, None)
            }
        };
        Ok(Self {
            storage: Arc::clone(storage),
            files,
            manifest,
            accept_loss,
            index: Index::default(),
            seen: BTreeMap::new(),
            chain,
            batch: manifest.chain.batch,
            next_seq: manifest.next_seq,
            proven: manifest.synced,
            batches: Vec::new(),
            damaged: BTreeSet::new(),
        })
    }

    /// Takes in every segment up to the end of the log.
    fn all(&mut self) -> Result<(), OpenError> {
        let mut bytes = Vec::new();
        let mut stopped: Option<(u64, Stop)> = None;
        for id in self.manifest.floor..=self.manifest.newest {
            let segment = match self.open(id, &mut bytes) {
                Ok(segment) => segment,
                Err(damage) => {
                    self.lose(id, &damage)?;
                    self.placeholder(id)?;
                    continue;
                }
            };
            let mut at = PAGE;
            if self.chain.is_none() {
                // After damage: whatever is whole and later is taken.
                at = scan::resume(&bytes, at, segment.seal, self.batch).unwrap_or(bytes.len());
            } else if let Some((last, stop)) = &stopped
                && let Err(what) = scan::batch(&bytes, at, segment.seal, self.chain)
            {
                // Neither the segment before nor this one goes on: the end, or damage.
                let gap = self.gap(*last, stop, id, &bytes, segment.seal, what)?;
                let Some((at_fault, damage)) = gap else {
                    return Ok(());
                };
                self.lose(at_fault, &damage)?;
                let resumed = scan::resume(&bytes, PAGE, segment.seal, self.batch);
                self.chain = None;
                stopped = None;
                let Some(resumed) = resumed else {
                    self.damaged.insert(id);
                    self.push(segment, PAGE);
                    continue;
                };
                self.push_at(segment, &bytes, resumed, &mut stopped)?;
                continue;
            }
            self.push_at(segment, &bytes, at, &mut stopped)?;
        }
        self.end(stopped)
    }

    /// Takes in a segment from `at` on, over damage if that is accepted.
    fn push_at(
        &mut self,
        segment: Arc<Segment>,
        bytes: &[u8],
        mut at: usize,
        stopped: &mut Option<(u64, Stop)>,
    ) -> Result<(), OpenError> {
        let id = segment.id;
        let seal = segment.seal;
        self.push(segment, at);
        self.batches.clear();
        loop {
            let stop = self.run(id, bytes, at, seal)?;
            let proof = scan::proof(bytes, stop.at, seal, self.batch);
            let Some(to) = proof else {
                *stopped = Some((id, stop));
                return Ok(());
            };
            self.lose(id, &damage(&segment_name(id), stop.at, to, stop.what))?;
            self.chain = None;
            match scan::resume(bytes, stop.at + PAGE, seal, self.batch) {
                Some(next) => at = next,
                None => {
                    *stopped = None;
                    return Ok(());
                }
            }
        }
    }

    /// Takes in whole batches until one is not.
    fn run(&mut self, id: u64, bytes: &[u8], mut at: usize, seal: Seal) -> Result<Stop, OpenError> {
        loop {
            let whole = match scan::batch(bytes, at, seal, self.chain) {
                Ok(whole) => whole,
                Err(what) => return Ok(Stop { at, what }),
            };
            for record in &whole.records {
                if let Err(what) = self.index.replay(id, record, &mut self.seen) {
                    // Checksums hold: it was written like that.
                    let place = record.start;
                    self.lose(
                        id,
                        &damage(&segment_name(id), place, place + record.len, what),
                    )?;
                }
            }
            self.batches.push((whole.next.batch - 1, at));
            self.chain = Some(whole.next);
            self.batch = whole.next.batch;
            self.next_seq = self.next_seq.max(whole.seq.saturating_add(1));
            self.proven = self.proven.max(whole.synced.unwrap_or(0));
            at = whole.end;
            if let Some(part) = self.index.part_mut(id) {
                part.end = at as u64;
            }
        }
    }

    /// Whether something after the stop proves that more was there: in the segment that was
    /// reached or in those after it. Says which segment is damaged, and how.
    fn gap(
        &self,
        last: u64,
        stop: &Stop,
        id: u64,
        bytes: &[u8],
        seal: Seal,
        what: &'static str,
    ) -> Result<Option<(u64, OpenError)>, OpenError> {
        let here = scan::proof(bytes, PAGE, seal, self.batch);
        let mut proven = here.is_some() || self.manifest.synced >= self.batch;
        let mut later = Vec::new();
        for id in id + 1..=self.manifest.newest {
            if proven {
                break;
            }
            let segment = match self.open(id, &mut later) {
                Ok(segment) => segment,
                // What can't be read proves nothing; that is accepted.
                Err(OpenError::Damaged { .. }) if self.accept_loss => continue,
                Err(error) => return Err(error),
            };
            proven = scan::proof(&later, PAGE, segment.seal, self.batch).is_some();
        }
        if !proven {
            return Ok(None);
        }
        // The batch was at the end of the one segment or at the start of the other.
        if let Some(part) = self.index.part(last) {
            part.segment
                .read(&mut later)
                .map_err(failed("reading a damaged segment"))?;
            if scan::trace(&later, stop.at, part.segment.seal, self.batch).is_some() {
                let name = segment_name(last);
                let damage = damage(&name, stop.at, later.len(), stop.what);
                return Ok(Some((last, damage)));
            }
        }
        let to = here.unwrap_or(bytes.len());
        Ok(Some((id, damage(&segment_name(id), PAGE, to, what))))
    }

    /// The last segment was reached.
    fn end(&mut self, stopped: Option<(u64, Stop)>) -> Result<(), OpenError> {
        if self.manifest.synced < self.batch {
            return Ok(());
        }
        let (name, at, what) = match stopped {
            Some((id, stop)) => (segment_name(id), stop.at, stop.what),
            None => (manifest::NAME.to_owned(), 0, "batches are missing"),
        };
        let size = self.index.parts.back().map_or(0, |part| part.segment.size);
        let damage = damage(&name, at, usize::try_from(size).unwrap_or(at), what);
        let last = self.manifest.newest;
        self.lose(last, &damage)?;
        self.batch = self.manifest.synced + 1;
        Ok(())
    }

    /// Opens a segment and reads all of it.
    fn open(&self, id: u64, bytes: &mut Vec<u8>) -> Result<Arc<Segment>, OpenError> {
        let name = segment_name(id);
        if !self.files.segments.contains(&id) {
            return Err(damage(&name, 0, 0, "the file is missing"));
        }
        let reading = || format!("reading {name}");
        let file = self.storage.open(&name).map_err(failed(&reading()))?;
        let size = file.len().map_err(failed(&reading()))?;
        if size > SEGMENT_MAX {
            let what = "the file is longer than any segment";
            return Err(damage(&name, 0, PAGE, what));
        }
        let mut segment = Segment {
            id,
            size,
            seal: Seal::new(&[0; 16]),
            file,
        };
        segment.read(bytes).map_err(failed(&reading()))?;
        let salt = salt(bytes, id, size).map_err(|what| damage(&name, 0, PAGE, what))?;
        segment.seal = Seal::new(&salt);
        Ok(Arc::new(segment))
    }

    fn push(&mut self, segment: Arc<Segment>, end: usize) {
        let chain = self.chain.unwrap_or(Chain {
            batch: self.batch,
            crc: 0,
        });
        self.index
            .parts
            .push_back(Part::new(segment, chain, end as u64));
    }

    /// Stands for a segment of which nothing can be read.
    fn placeholder(&mut self, id: u64) -> Result<(), OpenError> {
        let name = segment_name(id);
        let file = if self.files.segments.contains(&id) {
            self.storage.open(&name)
        } else {
            self.storage.create(&name)
        };
        let file = file.map_err(failed("opening a damaged segment"))?;
        let size = file.len().map_err(failed("opening a damaged segment"))?;
        self.chain = None;
        let segment = Arc::new(Segment {
            id,
            size,
            seal: Seal::new(&[0; 16]),
            file,
        });
        self.push(segment, PAGE);
        Ok(())
    }

    /// Damage: an error, unless it is accepted.
    fn lose(&mut self, id: u64, damage: &OpenError) -> Result<(), OpenError> {
        match damage {
            OpenError::Damaged { .. } if self.accept_loss => {
                tracing::error!(%damage, "damage is accepted and put aside");
                self.damaged.insert(id);
                Ok(())
            }
            OpenError::Damaged {
                file,
                from,
                to,
                what,
            } => Err(OpenError::Damaged {
                file: file.clone(),
                from: *from,
                to: *to,
                what: what.clone(),
            }),
            other => Err(OpenError::Refused(other.to_string())),
        }
    }
}

fn entries(seen: &mut BTreeMap<u64, Seen>, shared: &Shared) -> Vec<Entry> {
    let index = shared.index();
    std::mem::take(seen)
        .into_iter()
        .filter_map(|(seq, seen)| index.entry(seq, seen))
        .collect()
}

fn damage(file: &str, from: usize, to: usize, what: &str) -> OpenError {
    OpenError::Damaged {
        file: file.to_owned(),
        from: from as u64,
        to: to as u64,
        what: what.to_owned(),
    }
}

fn failed(what: &str) -> impl FnOnce(io::Error) -> OpenError {
    let what = what.to_owned();
    move |source| OpenError::Io { what, source }
}

const SEGMENT_MAX: u64 = 1 << 30;
