//! One message under way.

use std::collections::BTreeMap;

use super::{Assembled, ChunkProblem, Start};

/// Most chunks of a message that wait for an earlier one. WebSockets keep order, so that
/// only a strange client needs any; the limit bounds what bookkeeping it can cause.
pub const PARKED_MAX: usize = 4096;

/// One message under way.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) start: Start,
    pub(super) expires_ms: u64,
    /// Another message of the same hash was started.
    pub(super) is_contested: bool,
    /// Bytes that have come.
    pub(super) came: u64,
    /// Chunks in order from the first.
    data: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// Chunks that wait for an earlier one.
    parked: BTreeMap<u32, Box<[u8]>>,
}

impl Assembly {
    pub(super) fn new(start: Start, expires_ms: u64) -> Self {
        Self {
            start,
            expires_ms,
            is_contested: false,
            came: 0,
            data: Vec::new(),
            ends: Vec::new(),
            parked: BTreeMap::new(),
        }
    }

    /// Takes a chunk. After an error, what is held is of no use.
    pub(super) fn take(&mut self, index: u32, chunk: &[u8]) -> Result<(), ChunkProblem> {
        if index >= self.start.count {
            let count = self.start.count;
            return Err(ChunkProblem::Index { index, count });
        }
        if let Some(before) = self.chunk(index) {
            return match before == chunk {
                true => Ok(()),
                false => Err(ChunkProblem::Changed { index }),
            };
        }
        self.came += chunk.len() as u64;
        if self.came > self.start.size {
            return Err(ChunkProblem::Overrun {
                size: self.start.size,
            });
        }
        if index as usize > self.ends.len() {
            if self.parked.len() >= PARKED_MAX {
                return Err(ChunkProblem::Disorder);
            }
            self.parked.insert(index, chunk.into());
            return Ok(());
        }
        self.append(chunk);
        while let Some(next) = self.parked.remove(&(self.ends.len() as u32)) {
            self.append(&next);
        }
        Ok(())
    }

    pub(super) fn is_whole(&self) -> bool {
        self.ends.len() == self.start.count as usize
    }

    pub(super) fn finish(self, checksum: Option<[u8; 32]>) -> Result<Assembled, ChunkProblem> {
        if !self.is_whole() {
            return Err(ChunkProblem::Incomplete {
                came: (self.ends.len() + self.parked.len()) as u32,
                count: self.start.count,
            });
        }
        if self.came < self.start.size {
            return Err(ChunkProblem::Short {
                came: self.came,
                size: self.start.size,
            });
        }
        if let (Some(first), Some(last)) = (self.start.checksum, checksum)
            && first != last
        {
            return Err(ChunkProblem::ChecksumChanged);
        }
        Ok(Assembled {
            message_id: self.start.message_id,
            content_type: self.start.content_type,
            compressed: self.start.compressed,
            data: self.data,
            checksum: checksum.or(self.start.checksum),
        })
    }

    fn chunk(&self, index: u32) -> Option<&[u8]> {
        let place = index as usize;
        match self.ends.get(place) {
            Some(end) => {
                let begin = place.checked_sub(1).map_or(0, |before| self.ends[before]);
                Some(&self.data[begin..*end])
            }
            None => self.parked.get(&index).map(AsRef::as_ref),
        }
    }

    /// Grows by doubling, but never beyond what was announced: most large messages would
    /// otherwise take up to twice their size.
    fn append(&mut self, chunk: &[u8]) {
        let needed = self.data.len() + chunk.len();
        if needed > self.data.capacity() {
            let announced = usize::try_from(self.start.size).unwrap_or(usize::MAX);
            let wanted = (2 * needed).min(announced).max(needed);
            self.data.reserve_exact(wanted - self.data.len());
        }
        self.data.extend_from_slice(chunk);
        self.ends.push(self.data.len());
    }
}
