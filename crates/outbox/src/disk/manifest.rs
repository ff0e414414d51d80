//! Which segments there must be: two pages written in turn.

use std::io;
use std::sync::Arc;

use super::format::{Chain, NUMBERS_END, PAGE, crc32c, number32, number64};
use super::storage::{File, Storage};

pub(crate) const NAME: &str = "MANIFEST";

/// What a page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Counts the writes.
    pub(crate) epoch: u64,
    /// The oldest segment that is needed.
    pub(crate) floor: u64,
    /// What the first batch of that segment refers to.
    pub(crate) chain: Chain,
    /// The newest segment that may be in use; one less than `floor` if there is none.
    pub(crate) newest: u64,
    /// A number that no record had when this was written.
    pub(crate) next_seq: u64,
    /// A batch that was synced when this was written.
    pub(crate) synced: u64,
}

impl Manifest {
    /// That of an empty log.
    pub(crate) fn new() -> Self {
        Self {
            epoch: 0,
            floor: 1,
            chain: Chain { batch: 1, crc: 0 },
            newest: 0,
            next_seq: 1,
            synced: 0,
        }
    }

    pub(crate) fn encode(&self) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        page[..8].copy_from_slice(MAGIC);
        page[8..12].copy_from_slice(&VERSION.to_le_bytes());
        page[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        page[24..32].copy_from_slice(&self.floor.to_le_bytes());
        page[32..40].copy_from_slice(&self.chain.batch.to_le_bytes());
        page[40..44].copy_from_slice(&self.chain.crc.to_le_bytes());
        page[48..56].copy_from_slice(&self.newest.to_le_bytes());
        page[56..64].copy_from_slice(&self.next_seq.to_le_bytes());
        page[64..72].copy_from_slice(&self.synced.to_le_bytes());
        let crc = crc32c(&page[..CHECKED]);
        page[CHECKED..CHECKED + 4].copy_from_slice(&crc.to_le_bytes());
        page
    }

    pub(crate) fn decode(page: &[u8]) -> Option<Self> {
        let (page, _) = page.split_first_chunk::<PAGE>()?;
        let right = page[..8] == *MAGIC
            && number32(&page[8..12]) == VERSION
            && crc32c(&page[..CHECKED]) == number32(&page[CHECKED..CHECKED + 4])
            && page[CHECKED + 4..].iter().all(|byte| *byte == 0);
        let manifest = right.then(|| Self {
            epoch: number64(&page[16..24]),
            floor: number64(&page[24..32]),
            chain: Chain {
                batch: number64(&page[32..40]),
                crc: number32(&page[40..44]),
            },
            newest: number64(&page[48..56]),
            next_seq: number64(&page[56..64]),
            synced: number64(&page[64..72]),
        });
        manifest.filter(Self::plausible)
    }

    /// Whether one can count on from here, and over the segments.
    fn plausible(&self) -> bool {
        let numbers = [
            self.epoch,
            self.chain.batch,
            self.newest,
            self.next_seq,
            self.synced,
        ];
        numbers.iter().all(|number| *number < NUMBERS_END)
            && self.next_seq > 0
            && self.chain.batch > 0
            && (1..=self.newest + 1).contains(&self.floor)
            && self.newest - (self.floor - 1) <= SEGMENTS_MAX
    }

    /// Reads the newer valid page. `Err` if there is a file and neither page is valid.
    pub(crate) fn read(storage: &dyn Storage, there: bool) -> io::Result<Read> {
        if !there {
            return Ok(Read::Missing);
        }
        let file = storage.open(NAME)?;
        let mut bytes = vec![0; 2 * PAGE];
        let length = usize::try_from(file.len()?).unwrap_or(0).min(bytes.len());
        file.read_at(&mut bytes[..length], 0)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(Read::Missing);
        }
        let (first, second) = bytes.split_at(PAGE);
        let newer = [Self::decode(first), Self::decode(second)]
            .into_iter()
            .flatten()
            .max_by_key(|page| page.epoch);
        Ok(newer.map_or(Read::Damaged, Read::Found))
    }
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Read {
    Missing,
    Damaged,
    Found(Manifest),
}

/// The file, for writing.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    file: Arc<dyn File>,
}

impl ManifestFile {
    /// Makes the file if it is missing. An empty one says as much as none.
    pub(crate) fn open(storage: &dyn Storage, there: bool) -> io::Result<Self> {
        let file = if there {
            storage.open(NAME)?
        } else {
            storage.create(NAME)?
        };
        if file.len()? < 2 * PAGE as u64 {
            file.write_at(&[0; 2 * PAGE], 0)?;
            file.sync()?;
            storage.sync_names()?;
        }
        Ok(Self { file })
    }

    /// Writes the page that counts once more, and syncs: after a failed sync it may be there to
    /// be read and not on the disk, and the next page goes where the one before it stands.
    pub(crate) fn confirm(&self, manifest: &Manifest) -> io::Result<()> {
        let offset = (manifest.epoch % 2) * PAGE as u64;
        self.file.write_at(&manifest.encode(), offset)?;
        self.file.sync()
    }

    /// Writes the page whose turn it is, and syncs.
    pub(crate) fn write(&self, manifest: &mut Manifest) -> io::Result<()> {
        manifest.epoch += 1;
        self.confirm(manifest)
    }
}

const MAGIC: &[u8; 8] = b"TIDEMAN\n";
const VERSION: u32 = 1;
const CHECKED: usize = 72;
/// More segments than any limit allows: 64 GiB of the smallest ones.
pub(crate) const SEGMENTS_MAX: u64 = 1 << 20;
