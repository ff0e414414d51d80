//! Sections of lines: where they end, and the fields in them.

use std::ops::Range;

use bytes::Bytes;

use crate::fields::{Fields, Known, NO_TOKEN, UNDERSCORE, is_value, name_end};
use crate::parse::Reject;

/// Whether a name may hold `_`. Servers of the CGI family take it for `-`, so that such
/// a field would pass for one that the gateway guards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Underscores {
    Refused,
    Allowed,
}

/// Where the section that starts at `start` ends, its empty line included. `None` if it
/// is not complete and may still keep within `limit` bytes.
pub(crate) fn end(bytes: &[u8], start: usize, limit: usize) -> Result<Option<usize>, Reject> {
    let section = bytes.get(start..).unwrap_or_default();
    let mut line = 0;
    for feed in memchr::memchr_iter(b'\n', section) {
        if feed == line || section.get(feed - 1) != Some(&b'\r') {
            return Err(Reject::BareLineFeed);
        }
        if feed - 1 == line {
            return if feed < limit {
                Ok(Some(start + feed + 1))
            } else {
                Err(Reject::TooLarge)
            };
        }
        line = feed + 1;
    }
    if section.len() < limit {
        Ok(None)
    } else {
        Err(Reject::TooLarge)
    }
}

/// The end of the line that starts at `start`, without its CRLF. The section is complete,
/// so there is one.
pub(crate) fn line_end(block: &[u8], start: usize) -> usize {
    let rest = block.get(start..).unwrap_or_default();
    start + memchr::memchr(b'\n', rest).map_or(rest.len(), |feed| feed.saturating_sub(1))
}

/// Takes up the fields from `start` to the empty line, or to the end of the block.
pub(crate) fn fields(
    block: &Bytes,
    start: usize,
    limit: usize,
    underscores: Underscores,
    mut take: impl FnMut(Known, &[u8], Range<usize>) -> Result<(), Reject>,
) -> Result<Fields, Reject> {
    if u32::try_from(block.len()).is_err() {
        return Err(Reject::TooLarge);
    }
    let mut fields = Fields::within(block.clone(), USUAL_FIELDS.min(limit));
    let mut at = start;
    for feed in memchr::memchr_iter(b'\n', block.get(start..).unwrap_or_default()) {
        let (from, to) = (at, (start + feed).saturating_sub(1));
        at = start + feed + 1;
        let line = block.get(from..to).unwrap_or_default();
        if line.is_empty() {
            break;
        }
        let (name, value) = split(line, underscores)?;
        if fields.len() >= limit {
            return Err(Reject::TooManyFields);
        }
        let value = from + value.start..from + value.end;
        let known = fields.take_up(narrow(from..from + name), narrow(value.clone()));
        take(known, block.get(value.clone()).unwrap_or_default(), value)?;
    }
    Ok(fields)
}

/// The length of a line's name, and where its value lies.
fn split(line: &[u8], underscores: Underscores) -> Result<(usize, Range<usize>), Reject> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Reject::Folded);
    }
    let (colon, spelling) = name_end(line).ok_or(Reject::Name)?;
    if colon == 0
        || spelling & NO_TOKEN != 0
        || (spelling & UNDERSCORE != 0 && underscores == Underscores::Refused)
    {
        return Err(Reject::Name);
    }
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let rest = line.get(colon + 1..).unwrap_or_default();
    let Some(first) = rest.iter().position(|byte| !is_space(byte)) else {
        return Ok((colon, line.len()..line.len()));
    };
    let start = colon + 1 + first;
    let end = line
        .iter()
        .rposition(|byte| !is_space(byte))
        .map_or(start, |last| last + 1);
    if !is_value(line.get(start..end).unwrap_or_default()) {
        return Err(Reject::Value);
    }
    Ok((colon, start..end))
}

/// The block is known to be shorter than 4 GiB.
fn narrow(range: Range<usize>) -> Range<u32> {
    range.start as u32..range.end as u32
}

/// For so many fields there is room from the start.
const USUAL_FIELDS: usize = 16;
