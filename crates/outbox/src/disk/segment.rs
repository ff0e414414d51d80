//! Segment files: their names and headers.

use std::io;
use std::sync::Arc;

use super::format::{NUMBERS_END, PAGE, Salt, Seal, crc32c, number32, number64};
use super::storage::File;

/// A file of the log.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: u64,
    /// Bytes of the file.
    pub(crate) size: u64,
    pub(crate) seal: Seal,
    pub(crate) file: Arc<dyn File>,
}

/// What a file is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// A segment of the log.
    Segment(u64),
    /// A segment that may be used again.
    Free,
    /// Something that was being made.
    Unfinished,
    /// Not ours to touch, or not a segment.
    Other,
}

pub(crate) fn named(name: &str) -> Named {
    match name.split_once('.') {
        Some((digits, "seg"))
            if digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            match digits.parse() {
                Ok(id) if id < NUMBERS_END => Named::Segment(id),
                _ => Named::Other,
            }
        }
        Some((_, "free")) => Named::Free,
        Some((_, "tmp")) => Named::Unfinished,
        _ => Named::Other,
    }
}

pub(crate) fn segment_name(id: u64) -> String {
    format!("{id:020}.seg")
}

pub(crate) fn free_name(id: u64) -> String {
    format!("{id:020}.free")
}

pub(crate) fn quarantine_name(id: u64) -> String {
    format!("{id:020}.quarantined")
}

/// The first page of a segment.
pub(crate) fn header(id: u64, salt: &Salt, size: u64) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    page[..8].copy_from_slice(MAGIC);
    page[8..12].copy_from_slice(&VERSION.to_le_bytes());
    page[16..24].copy_from_slice(&id.to_le_bytes());
    page[24..40].copy_from_slice(salt);
    page[40..48].copy_from_slice(&size.to_le_bytes());
    let crc = crc32c(&page[..CHECKED]);
    page[CHECKED..CHECKED + 4].copy_from_slice(&crc.to_le_bytes());
    page
}

/// The salt of a segment, if its first page is what was written.
pub(crate) fn salt(page: &[u8], id: u64, size: u64) -> Result<Salt, &'static str> {
    let Some((page, _)) = page.split_first_chunk::<PAGE>() else {
        return Err("the header is cut");
    };
    if page[..8] != *MAGIC {
        return Err("the header does not start as a segment does");
    }
    if number32(&page[8..12]) != VERSION {
        return Err("the segment has another version");
    }
    if crc32c(&page[..CHECKED]) != number32(&page[CHECKED..CHECKED + 4])
        || page[CHECKED + 4..].iter().any(|byte| *byte != 0)
    {
        return Err("the header is damaged");
    }
    if number64(&page[16..24]) != id || number64(&page[40..48]) != size {
        return Err("the header is that of another segment");
    }
    page[24..40].try_into().map_err(|_| "the header is cut")
}

impl Segment {
    /// Reads the whole file.
    pub(crate) fn read(&self, into: &mut Vec<u8>) -> io::Result<()> {
        let size = usize::try_from(self.size).map_err(io::Error::other)?;
        into.resize(size, 0);
        self.file.read_at(into, 0)
    }
}

const MAGIC: &[u8; 8] = b"TIDELOG\n";
const VERSION: u32 = 1;
const CHECKED: usize = 48;
