//! The bytes of records and batches. The layout stands in the documentation of [`super`].

use std::sync::Arc;

use crc_fast::{CrcAlgorithm, Digest};

use crate::face::Priority;

/// Batches and segments are aligned to this.
pub(crate) const PAGE: usize = 4096;
/// Bytes before a record's payload.
pub(crate) const HEAD: usize = 48;
/// Bytes of a trailer, head included, padding included.
pub(crate) const TRAILER: usize = HEAD + 16;
/// Most bytes kept of the reason of a dead letter.
pub(crate) const REASON_MAX: usize = 1024;
/// Bytes a moved record may need more than the record itself.
pub(crate) const MOVED_MAX: usize = STANDING + REASON_MAX + 8;
/// Numbers of records, batches, segments and epochs stay below this: counting on from what a
/// file says can't overflow.
pub(crate) const NUMBERS_END: u64 = 1 << 62;
/// A lag that only says "many".
pub(crate) const LAG_MAX: u16 = u16::MAX;

const CHECKED: usize = HEAD - 4;
const STANDING: usize = 4 + 8 + 8 + 2;
const RUN: usize = 12;
const NONE: u64 = u64::MAX;

/// Makes the records of one segment unlike those of any other.
pub(crate) type Salt = [u8; 16];

/// Checksums under a segment's salt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seal(u64);

/// What the next batch must refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Its number.
    pub(crate) batch: u64,
    /// The checksum of the trailer before it.
    pub(crate) crc: u32,
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Record,
    Moved,
    State,
    Settled,
    Trailer,
}

/// A record whose checksum holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a> {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) lag: u16,
    pub(crate) seq: u64,
    pub(crate) batch: u64,
    pub(crate) at_ms: u64,
    pub(crate) hash: u64,
    pub(crate) previous: u32,
    pub(crate) crc: u32,
    pub(crate) payload: &'a [u8],
    /// Where it starts in what was read.
    pub(crate) start: usize,
    /// Its bytes with head and padding.
    pub(crate) len: usize,
}

/// How a record fares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    pub(crate) attempts: u32,
    pub(crate) first_attempt_ms: Option<u64>,
    /// Why and when it was given up.
    pub(crate) dead: Option<Box<(Arc<str>, u64)>>,
}

/// What was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content<'a> {
    pub(crate) priority: Priority,
    pub(crate) key: u128,
    pub(crate) client: &'a str,
    pub(crate) payload: &'a [u8],
}

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body<'a> {
    Record(Content<'a>),
    Moved(Standing, Content<'a>),
    State(Standing),
    /// Runs of numbers: the first and how many.
    Settled(Vec<(u64, u32)>),
}

/// A batch in the making.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    starts: Vec<(usize, usize)>,
    content: usize,
}

impl Seal {
    pub(crate) fn new(salt: &Salt) -> Self {
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        digest.update(salt);
        Self(digest.get_state())
    }

    fn checksum(self, head: &[u8], payload: &[u8]) -> u32 {
        let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, self.0);
        digest.update(head);
        digest.update(payload);
        low(digest.finalize())
    }
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Record,
            2 => Self::Moved,
            3 => Self::State,
            4 => Self::Settled,
            5 => Self::Trailer,
            _ => return None,
        })
    }

    fn byte(self) -> u8 {
        match self {
            Self::Record => 1,
            Self::Moved => 2,
            Self::State => 3,
            Self::Settled => 4,
            Self::Trailer => 5,
        }
    }
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
        self.content = 0;
        // One huge record must not hold its memory for good.
        if self.bytes.capacity() > 8 << 20 {
            self.bytes = Vec::new();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Bytes of the records so far.
    pub(crate) fn len(&self) -> usize {
        self.content
    }

    /// Adds a record; says where it starts in the batch and its bytes.
    pub(crate) fn record(
        &mut self,
        kind: Kind,
        flags: u8,
        seq: u64,
        at_ms: u64,
        hash: u64,
        parts: &[&[u8]],
    ) -> (usize, usize) {
        let start = self.content;
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.bytes.truncate(start);
        self.bytes.extend_from_slice(&narrow(length).to_le_bytes());
        self.bytes.extend_from_slice(&[kind.byte(), flags, 0, 0]);
        self.bytes.extend_from_slice(&seq.to_le_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(&at_ms.to_le_bytes());
        self.bytes.extend_from_slice(&hash.to_le_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.bytes.resize(start + padded(HEAD + length), 0);
        self.starts.push((start, HEAD + length));
        self.content = self.bytes.len();
        (start, self.content - start)
    }

    /// Bytes it will take once sealed.
    pub(crate) fn sealed_len(&self) -> usize {
        (self.content + TRAILER).next_multiple_of(PAGE)
    }

    /// Numbers, chains and checksums everything; returns the bytes and what comes next. May be
    /// called again for another segment.
    pub(crate) fn seal(&mut self, seal: Seal, chain: Chain, lag: u16, seq: u64) -> (&[u8], Chain) {
        let records = self.starts.len();
        let content = self.content;
        let mut crcs = Digest::new(CrcAlgorithm::Crc32Iscsi);
        let mut previous = chain.crc;
        for (start, length) in &self.starts {
            previous = finish(
                &mut self.bytes[*start..start + length],
                seal,
                chain.batch,
                lag,
                previous,
            );
            crcs.update(&previous.to_le_bytes());
        }
        let sums = [
            narrow(records).to_le_bytes(),
            narrow(content).to_le_bytes(),
            low(crcs.finalize()).to_le_bytes(),
        ]
        .concat();
        let (start, _) = self.record(Kind::Trailer, 0, seq, 0, 0, &[&sums]);
        self.starts.truncate(records);
        self.content = content;
        let end = start + HEAD + sums.len();
        let crc = finish(
            &mut self.bytes[start..end],
            seal,
            chain.batch,
            lag,
            previous,
        );
        let sealed = self.sealed_len();
        self.bytes.resize(sealed, 0);
        let next = Chain {
            batch: chain.batch + 1,
            crc,
        };
        (&self.bytes, next)
    }
}

/// Completes a record; returns its checksum.
pub(crate) fn finish(record: &mut [u8], seal: Seal, batch: u64, lag: u16, previous: u32) -> u32 {
    record[6..8].copy_from_slice(&lag.to_le_bytes());
    record[16..24].copy_from_slice(&batch.to_le_bytes());
    record[40..44].copy_from_slice(&previous.to_le_bytes());
    let crc = seal.checksum(&record[..CHECKED], &record[HEAD..]);
    record[CHECKED..HEAD].copy_from_slice(&crc.to_le_bytes());
    crc
}

impl Standing {
    /// Its bytes in a record.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (reason, dead_at) = match &self.dead {
            Some(dead) => (clipped(&dead.0), dead.1),
            None => ("", NONE),
        };
        let mut bytes = Vec::with_capacity(STANDING + reason.len());
        bytes.extend_from_slice(&self.attempts.to_le_bytes());
        bytes.extend_from_slice(&self.first_attempt_ms.unwrap_or(NONE).to_le_bytes());
        bytes.extend_from_slice(&dead_at.to_le_bytes());
        bytes.extend_from_slice(&u16::try_from(reason.len()).unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(reason.as_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (attempts, bytes) = bytes.split_first_chunk()?;
        let (first, bytes) = bytes.split_first_chunk()?;
        let (dead_at, bytes) = bytes.split_first_chunk()?;
        let (length, bytes) = bytes.split_first_chunk()?;
        let length = usize::from(u16::from_le_bytes(*length));
        let (reason, bytes) = bytes.split_at_checked(length)?;
        if length > REASON_MAX {
            return None;
        }
        let first = u64::from_le_bytes(*first);
        let dead_at = u64::from_le_bytes(*dead_at);
        let reason = std::str::from_utf8(reason).ok()?;
        let standing = Self {
            attempts: u32::from_le_bytes(*attempts),
            first_attempt_ms: (first != NONE).then_some(first),
            dead: (dead_at != NONE).then(|| Box::new((Arc::from(reason), dead_at))),
        };
        Some((standing, bytes))
    }
}

/// What stands before the contents of a record: the key, the client.
pub(crate) fn preamble(key: u128, client: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(18 + client.len());
    bytes.extend_from_slice(&key.to_le_bytes());
    bytes.extend_from_slice(&u16::try_from(client.len()).unwrap_or(0).to_le_bytes());
    bytes.extend_from_slice(client.as_bytes());
    bytes
}

/// Runs of numbers as bytes. Sorts `numbers`.
pub(crate) fn runs(numbers: &mut [u64]) -> Vec<u8> {
    numbers.sort_unstable();
    let mut bytes = Vec::new();
    for run in numbers.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
        bytes.extend_from_slice(&run[0].to_le_bytes());
        bytes.extend_from_slice(&narrow(run.len()).to_le_bytes());
    }
    bytes
}

/// Most numbers whose runs fit into so many bytes.
pub(crate) fn runs_within(bytes: usize) -> usize {
    bytes.saturating_sub(HEAD + 8) / RUN
}

/// The record that starts at `start`, if its checksum holds.
pub(crate) fn raw(bytes: &[u8], start: usize, seal: Seal) -> Result<Raw<'_>, &'static str> {
    let here = bytes.get(start..).ok_or("nothing is there")?;
    let (head, rest) = here
        .split_first_chunk::<HEAD>()
        .ok_or("the head of a record is cut")?;
    let length = number32(&head[0..4]) as usize;
    let kind = Kind::of(head[4]).ok_or("there is no such type of record")?;
    let payload = rest
        .get(..length)
        .ok_or("a record is longer than what is left")?;
    let crc = number32(&head[44..48]);
    if seal.checksum(&head[..CHECKED], payload) != crc {
        return Err("the checksum of a record is wrong");
    }
    let len = padded(HEAD + length);
    let padding = rest
        .get(length..len - HEAD)
        .ok_or("the padding of a record is cut")?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err("the padding of a record is not zero");
    }
    Ok(Raw {
        kind,
        flags: head[5],
        lag: u16::from_le_bytes([head[6], head[7]]),
        seq: number64(&head[8..16]),
        batch: number64(&head[16..24]),
        at_ms: number64(&head[24..32]),
        hash: number64(&head[32..40]),
        previous: number32(&head[40..44]),
        crc,
        payload,
        start,
        len,
    })
}

/// The number of the batch, the lag, the type and the length a record claims, unchecked.
pub(crate) fn claim(head: &[u8; HEAD]) -> Option<(u64, u16, Kind, usize)> {
    let kind = Kind::of(head[4])?;
    let lag = u16::from_le_bytes([head[6], head[7]]);
    Some((
        number64(&head[16..24]),
        lag,
        kind,
        number32(&head[0..4]) as usize,
    ))
}

impl<'a> Raw<'a> {
    /// What it says. A trailer says nothing.
    pub(crate) fn body(&self) -> Result<Body<'a>, &'static str> {
        let body = match self.kind {
            Kind::Record => Body::Record(self.content(self.payload)?),
            Kind::Moved => {
                let (standing, rest) =
                    Standing::decode(self.payload).ok_or("the state of a record is cut")?;
                Body::Moved(standing, self.content(rest)?)
            }
            Kind::State => match Standing::decode(self.payload) {
                Some((standing, [])) => Body::State(standing),
                _ => return Err("the state of a record is malformed"),
            },
            Kind::Settled => {
                let (runs, rest) = self.payload.as_chunks::<RUN>();
                if !rest.is_empty() {
                    return Err("the runs of settled records are cut");
                }
                Body::Settled(
                    runs.iter()
                        .map(|run| (number64(&run[..8]), number32(&run[8..])))
                        .collect(),
                )
            }
            Kind::Trailer => return Err("a trailer stands where a record should"),
        };
        Ok(body)
    }

    /// Count, bytes and checksum of checksums that a trailer states.
    pub(crate) fn sums(&self) -> Option<(usize, usize, u32)> {
        if self.kind != Kind::Trailer || self.payload.len() != 12 {
            return None;
        }
        Some((
            number32(&self.payload[..4]) as usize,
            number32(&self.payload[4..8]) as usize,
            number32(&self.payload[8..]),
        ))
    }

    fn content(&self, bytes: &'a [u8]) -> Result<Content<'a>, &'static str> {
        let split = || {
            let (key, bytes) = bytes.split_first_chunk()?;
            let (length, bytes) = bytes.split_first_chunk()?;
            let (client, payload) =
                bytes.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
            Some((u128::from_le_bytes(*key), client, payload))
        };
        let (key, client, payload) = split().ok_or("the contents of a record are cut")?;
        let priority = priority(self.flags).ok_or("there is no such priority")?;
        if hash(client) != self.hash {
            return Err("the key of a record is not that of its client");
        }
        let client = std::str::from_utf8(client).map_err(|_| "a client's name is not UTF-8")?;
        Ok(Content {
            priority,
            key,
            client,
            payload,
        })
    }
}

/// Whose record it is, for whoever searches without reading the contents: FNV-1a.
pub(crate) fn hash(client: &[u8]) -> u64 {
    client.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A priority as flags.
pub(crate) fn flags(priority: Priority) -> u8 {
    match priority {
        Priority::Control => 0,
        Priority::Interactive => 1,
        Priority::Bulk => 2,
    }
}

/// CRC-32C (Castagnoli).
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

pub(crate) fn padded(length: usize) -> usize {
    length.next_multiple_of(8)
}

/// A little-endian number of at most four bytes.
pub(crate) fn number32(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// A little-endian number of at most eight bytes.
pub(crate) fn number64(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// At most [`REASON_MAX`] bytes, cut between characters.
pub(crate) fn clipped(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_MAX)]
}

fn priority(flags: u8) -> Option<Priority> {
    Some(match flags {
        0 => Priority::Control,
        1 => Priority::Interactive,
        2 => Priority::Bulk,
        _ => return None,
    })
}

fn low(sum: u64) -> u32 {
    (sum & u64::from(u32::MAX)) as u32
}

/// Lengths within a segment of at most 1 GiB.
fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
