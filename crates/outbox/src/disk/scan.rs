//! Finding batches in the bytes of a segment. Pure: takes any bytes.

use crc_fast::{CrcAlgorithm, Digest};

use super::format::{Chain, HEAD, Kind, LAG_MAX, NUMBERS_END, PAGE, Raw, Seal, claim, raw};

/// A batch that is whole and what was written.
#[derive(Debug)]
pub(crate) struct Whole<'a> {
    /// Its records, without the trailer.
    pub(crate) records: Vec<Raw<'a>>,
    /// What the next batch must refer to.
    pub(crate) next: Chain,
    /// The batch up to which everything was synced when this one was written, if it says so.
    pub(crate) synced: Option<u64>,
    /// The highest number of a record given out so far.
    pub(crate) seq: u64,
    /// Where the next batch starts.
    pub(crate) end: usize,
}

/// The batch that starts at `start`; `chain` is what it must refer to, if that is known.
pub(crate) fn batch(
    bytes: &[u8],
    start: usize,
    seal: Seal,
    chain: Option<Chain>,
) -> Result<Whole<'_>, &'static str> {
    let mut records = Vec::new();
    let mut crcs = Digest::new(CrcAlgorithm::Crc32Iscsi);
    let mut at = start;
    let mut expected = chain;
    let mut lag = None;
    let trailer = loop {
        let record = raw(bytes, at, seal)?;
        if let Some(Chain { batch, crc }) = expected {
            if record.batch != batch {
                return Err("a record belongs to another batch");
            }
            if record.previous != crc {
                return Err("a record does not follow the one before it");
            }
        }
        if *lag.get_or_insert(record.lag) != record.lag {
            return Err("the records of a batch contradict each other");
        }
        expected = Some(Chain {
            batch: record.batch,
            crc: record.crc,
        });
        at += record.len;
        if record.kind == Kind::Trailer {
            break record;
        }
        crcs.update(&record.crc.to_le_bytes());
        records.push(record);
    };
    let sums = (
        records.len(),
        trailer.start - start,
        (crcs.finalize() & u64::from(u32::MAX)) as u32,
    );
    if trailer.sums() != Some(sums) {
        return Err("the trailer of a batch does not fit its records");
    }
    if trailer.batch >= NUMBERS_END || trailer.seq >= NUMBERS_END {
        return Err("the numbers of a batch are out of range");
    }
    let end = start + (at - start).next_multiple_of(PAGE);
    let padding = bytes.get(at..end).ok_or("the padding of a batch is cut")?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err("the padding of a batch is not zero");
    }
    Ok(Whole {
        records,
        next: Chain {
            batch: trailer.batch + 1,
            crc: trailer.crc,
        },
        synced: synced_before(trailer.batch, trailer.lag),
        seq: trailer.seq,
        end,
    })
}

/// Where something valid stands, from `from` on, that was written after batch `number` had been
/// synced. It proves that the batch was there: what is bad before it is damage, not a torn tail.
pub(crate) fn proof(bytes: &[u8], from: usize, seal: Seal, number: u64) -> Option<usize> {
    find(bytes, from, seal, |batch, lag| {
        synced_before(batch, lag).is_some_and(|synced| synced >= number)
    })
}

/// Where a part of batch `number` stands, from `from` on.
pub(crate) fn trace(bytes: &[u8], from: usize, seal: Seal, number: u64) -> Option<usize> {
    find(bytes, from, seal, |batch, _| batch == number)
}

/// The first valid record that claims what is sought. Checksums over long stretches at every
/// place would take for ever, so only trailers, and short records at the start of a batch count:
/// every batch has a trailer, and most start with a short record.
fn find(bytes: &[u8], from: usize, seal: Seal, sought: impl Fn(u64, u16) -> bool) -> Option<usize> {
    let mut at = from.next_multiple_of(8);
    while let Some(head) = bytes.get(at..).and_then(|rest| rest.first_chunk::<HEAD>()) {
        if let Some((batch, lag, kind, length)) = claim(head)
            && sought(batch, lag)
            && (kind == Kind::Trailer && length == 12 || at.is_multiple_of(PAGE) && length <= SHORT)
            && raw(bytes, at, seal).is_ok()
        {
            return Some(at);
        }
        at += 8;
    }
    None
}

/// The first whole batch from `from` on with a number of at least `number`.
pub(crate) fn resume(bytes: &[u8], from: usize, seal: Seal, number: u64) -> Option<usize> {
    (from.next_multiple_of(PAGE)..bytes.len())
        .step_by(PAGE)
        .find(|at| {
            let plausible = bytes
                .get(*at..)
                .and_then(|rest| rest.first_chunk::<HEAD>())
                .and_then(claim)
                .is_some_and(|(batch, ..)| batch >= number);
            plausible && batch(bytes, *at, seal, None).is_ok()
        })
}

fn synced_before(batch: u64, lag: u16) -> Option<u64> {
    if lag == LAG_MAX {
        return None;
    }
    batch.checked_sub(1 + u64::from(lag))
}

const SHORT: usize = 64 << 10;
