//! The end of a recovery: the tail is cut, files that are not needed are taken back, and what is
//! left of a damaged log is written to new segments.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::super::format::{Batch, Chain, PAGE, Salt};
use super::super::index::{Part, Seen};
use super::super::keeper::Keeper;
use super::super::log::{Fault, Log, Staged};
use super::super::manifest::ManifestFile;
use super::super::segment::{Segment, segment_name};
use super::super::shared::Shared;
use super::super::supply::Supply;
use super::super::{OpenError, Sync};
use super::{Settings, Walk, failed};

impl Walk {
    /// Cuts a torn tail, takes back what lies after the end, and says where to go on.
    pub(super) fn settle(
        mut self,
        settings: Settings,
    ) -> Result<(Log, BTreeMap<u64, Seen>), OpenError> {
        let lossy = !self.damaged.is_empty() || self.chain.is_none();
        let mut keeper = self.keeper(settings.limits.segment_bytes, settings.salts)?;
        let chain = self.chain.unwrap_or(Chain { batch: 0, crc: 0 });
        let chain = Chain {
            batch: chain.batch.max(self.batch),
            crc: chain.crc,
        };
        self.retire_others(&mut keeper)?;
        let active = match self.index.parts.back() {
            Some(part) if !lossy => Some((Arc::clone(&part.segment), part.end)),
            _ => None,
        };
        let evacuate = if lossy { keeper.manifest.newest + 1 } else { 0 };
        let (active, offset) = match active {
            Some((segment, end)) => {
                self.cut(&segment, end)?;
                (segment, end)
            }
            None => {
                let segment = keeper.prepare().map_err(failed("making a segment"))?;
                self.index
                    .parts
                    .push_back(Part::new(Arc::clone(&segment), chain, PAGE as u64));
                (segment, PAGE as u64)
            }
        };
        keeper
            .note(self.next_seq, if lossy { 0 } else { chain.batch - 1 })
            .map_err(failed("writing the manifest"))?;
        tracing::info!(
            records = self.index.slots.len(),
            segments = self.index.parts.len(),
            batch = chain.batch,
            next_seq = self.next_seq,
            "outbox recovered"
        );
        let bytes = Arc::clone(&keeper.bytes);
        let shared = Shared::new(settings.clock, settings.limits, self.index, bytes);
        let mut log = Log {
            shared: Arc::new(shared),
            supply: Supply::Inline(keeper),
            sync: settings.sync,
            active,
            offset,
            chain,
            next_seq: self.next_seq,
            synced: chain.batch - 1,
            synced_seq: self.next_seq - 1,
            releases: Vec::new(),
            batch: Batch::default(),
            staged: Staged::default(),
            cursor: (0, 0),
            evacuate,
            closing: false,
            #[cfg(test)]
            hasty: false,
        };
        if lossy {
            evacuated(&mut log)?;
        } else {
            log.release().map_err(stopped)?;
        }
        Ok((log, self.seen))
    }

    fn keeper(
        &mut self,
        segment_bytes: u64,
        salts: Box<dyn FnMut() -> io::Result<Salt> + Send>,
    ) -> Result<Keeper, OpenError> {
        let storage = self.storage.as_ref();
        let file = ManifestFile::open(storage, self.files.manifest)
            .map_err(failed("opening the manifest"))?;
        if self.manifest.epoch > 0 {
            file.confirm(&self.manifest)
                .map_err(failed("writing the manifest"))?;
        }
        let mut bytes = 0;
        let mut free = Vec::new();
        for name in std::mem::take(&mut self.files.free) {
            let size = storage.open(&name).and_then(|file| file.len());
            match size {
                Ok(size) if size == segment_bytes => {
                    bytes += size;
                    free.push(name);
                }
                _ => storage
                    .remove(&name)
                    .map_err(failed("removing an old segment"))?,
            }
        }
        for id in &self.files.segments {
            bytes += storage
                .open(&segment_name(*id))
                .and_then(|file| file.len())
                .map_err(failed("measuring segments"))?;
        }
        Ok(Keeper {
            storage: Arc::clone(&self.storage),
            manifest: self.manifest,
            file,
            segment_bytes,
            free,
            damaged: std::mem::take(&mut self.damaged),
            salts,
            bytes: Arc::new(AtomicU64::new(bytes)),
        })
    }

    /// Segments before the floor, and those that were made for later, hold nothing; the latter
    /// may hold torn batches, so they are made anew.
    fn retire_others(&mut self, keeper: &mut Keeper) -> Result<(), OpenError> {
        let newest = match self.index.parts.back() {
            Some(part) => part.segment.id,
            None => keeper.manifest.newest,
        };
        keeper.manifest.newest = newest;
        keeper
            .file
            .write(&mut keeper.manifest)
            .map_err(failed("writing the manifest"))?;
        for id in &self.files.segments {
            if *id < keeper.manifest.floor || *id > newest {
                keeper
                    .retire(*id)
                    .map_err(failed("taking back a segment"))?;
            }
        }
        Ok(())
    }

    /// Makes the end of the log what was read of it. What came last may never have reached the
    /// disk although it can be read, even after a failed sync, so it is written once more.
    /// What lies behind the end is overwritten.
    fn cut(&self, segment: &Segment, end: u64) -> Result<(), OpenError> {
        let cutting = || format!("cutting the tail of {}", segment_name(segment.id));
        let mut bytes = Vec::new();
        segment.read(&mut bytes).map_err(failed(&cutting()))?;
        let end = usize::try_from(end).unwrap_or(bytes.len());
        let (kept, rest) = bytes.split_at(end.min(bytes.len()));
        let unproven = self
            .batches
            .iter()
            .find(|(number, _)| *number > self.proven)
            .map_or(end, |(_, start)| *start);
        let write = |bytes: &[u8], at: usize| {
            segment
                .file
                .write_at(bytes, at as u64)
                .map_err(failed(&cutting()))
        };
        write(&kept[unproven..], unproven)?;
        if let Some(last) = rest.iter().rposition(|byte| *byte != 0) {
            tracing::warn!(
                segment = segment.id,
                from = end,
                to = end + last + 1,
                "what was not acknowledged is cut from the tail"
            );
            let zeros = vec![0; SLICE];
            for (at, slice) in rest[..=last].chunks(SLICE).enumerate() {
                write(&zeros[..slice.len()], end + at * SLICE)?;
            }
        }
        segment.file.sync().map_err(failed(&cutting()))
    }
}

/// Writes what is left of a damaged log to new segments, and puts the old ones aside.
fn evacuated(log: &mut Log) -> Result<(), OpenError> {
    let sync = std::mem::replace(&mut log.sync, Sync::Always);
    let mut nothing = VecDeque::new();
    log.release().map_err(stopped)?;
    while log.commit(&mut nothing).map_err(stopped)? {}
    let left = log
        .shared
        .index()
        .slots
        .values()
        .any(|slot| slot.place.segment < log.evacuate);
    if left {
        let what = "not everything of a damaged log could be written again";
        return Err(OpenError::Refused(what.to_owned()));
    }
    log.give_up_before(log.evacuate).map_err(stopped)?;
    log.evacuate = 0;
    log.sync = sync;
    Ok(())
}

fn stopped(fault: Fault) -> OpenError {
    OpenError::Io {
        what: fault.what,
        source: fault.source,
    }
}

const SLICE: usize = 1 << 20;
