//! ACK_EXT: which packets arrived, by counter.
//!
//! ```text
//! largest u64 | delay u32 | count u8 | (gap u32 | length u32) · count | (start u32 | end u32)*
//! ```
//!
//! Ranges walk down from `largest`: the first gap is 0, and a range holds `length` counters.
//! Between a range and the one below it lie `gap` counters that did not arrive. Then, up to the
//! end, ranges of sequence numbers (as on the wire, ends included) that were rebuilt from
//! repairs.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{FRAME_HEAD, Problem, kind, write};

/// Bytes of an ACK_EXT frame with one range.
pub const ACK_EXT_HEAD: usize = FRAME_HEAD + FIXED + RANGE;

/// An ACK_EXT frame whose ranges were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckExt {
    /// The largest packet counter received.
    pub largest: u64,
    /// Microseconds between its arrival and this acknowledgement.
    pub delay: u32,
    ranges: Bytes,
    recovered: Bytes,
}

impl AckExt {
    /// Ranges of counters received, ends included, from the largest down; at least one.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + Clone + '_ {
        let mut top = self.largest;
        self.ranges.chunks_exact(RANGE).map(move |mut range| {
            let (gap, length) = (u64::from(range.get_u32()), u64::from(range.get_u32()));
            let high = top.saturating_sub(gap);
            let low = high.saturating_sub(length.saturating_sub(1));
            top = low.saturating_sub(1);
            (low, high)
        })
    }

    /// Ranges of sequence numbers, as on the wire and ends included, rebuilt from repairs.
    pub fn recovered(&self) -> impl Iterator<Item = (u32, u32)> + Clone + '_ {
        let pairs = self.recovered.chunks_exact(RANGE);
        pairs.map(|mut pair| (pair.get_u32(), pair.get_u32()))
    }

    pub(super) fn read(mut body: Bytes) -> Result<Self, Problem> {
        let len = body.len();
        if len < FIXED {
            return Err(Problem::Length(len));
        }
        let (largest, delay) = (body.get_u64(), body.get_u32());
        let count = usize::from(body.get_u8());
        if body.len() < count * RANGE || !body.len().is_multiple_of(RANGE) {
            return Err(Problem::Length(len));
        }
        if count == 0 {
            return Err(Problem::Value("count"));
        }
        let ranges = body.split_to(count * RANGE);
        check(largest, &ranges)?;
        Ok(Self {
            largest,
            delay,
            ranges,
            recovered: body,
        })
    }
}

/// Appends ACK_EXT with as many of `ranges` (counters, from the largest down, ends included) and
/// then of `recovered` (sequence numbers as on the wire) as fit into `room` bytes. Writes nothing
/// and returns false if there is no range or no room for one.
pub fn write_ack_ext(
    out: &mut BytesMut,
    delay: u32,
    ranges: impl Iterator<Item = (u64, u64)>,
    recovered: impl Iterator<Item = (u32, u32)>,
    room: usize,
) -> bool {
    let start = out.len();
    let mut fit = room.saturating_sub(FRAME_HEAD + FIXED).min(BODY_MAX) / RANGE;
    let mut ranges = ranges.take(fit.min(COUNT_MAX)).peekable();
    let Some((_, largest)) = ranges.peek().copied() else {
        return false;
    };
    write::head(out, kind::ACK_EXT, 0);
    out.put_u64(largest);
    out.put_u32(delay);
    out.put_u8(0);
    let (mut count, mut above) = (0, None);
    for (low, high) in ranges {
        let gap = above.map_or(0, |above: u64| above.saturating_sub(1).saturating_sub(high));
        // Wider than 32 bits: told as far as the field goes; the rest lies beyond any memory.
        let length = (high.saturating_sub(low) + 1).min(u64::from(u32::MAX));
        let Ok(gap) = u32::try_from(gap) else { break };
        out.put_u32(gap);
        out.put_u32(length as u32);
        above = Some(high - (length - 1));
        (count, fit) = (count + 1, fit - 1);
    }
    for (first, last) in recovered.take(fit) {
        out.put_u32(first);
        out.put_u32(last);
    }
    let body = (out.len() - start - FRAME_HEAD) as u16;
    out[start + 1..start + FRAME_HEAD].copy_from_slice(&body.to_be_bytes());
    out[start + FRAME_HEAD + FIXED - 1] = count;
    true
}

/// Every range holds something, lies below the one before, and above zero.
fn check(largest: u64, mut ranges: &[u8]) -> Result<(), Problem> {
    // What lies at or below it is still free.
    let mut top = Some(largest);
    let mut first = true;
    while ranges.has_remaining() {
        let (gap, length) = (ranges.get_u32(), ranges.get_u32());
        if first != (gap == 0) {
            return Err(Problem::Value("gap"));
        }
        let high = top.and_then(|top| top.checked_sub(u64::from(gap)));
        let high = high.ok_or(Problem::Value("gap"))?;
        let below = length.checked_sub(1).map(u64::from);
        let low = below.and_then(|below| high.checked_sub(below));
        let low = low.ok_or(Problem::Value("length"))?;
        (top, first) = (low.checked_sub(1), false);
    }
    Ok(())
}

/// Bytes of the body before the ranges.
const FIXED: usize = 13;
/// Bytes of one range, of counters or of sequence numbers.
const RANGE: usize = 8;
/// What a count of 8 bits can say.
const COUNT_MAX: usize = u8::MAX as usize;
/// The most bytes of ranges in one frame.
const BODY_MAX: usize = 32_768;
