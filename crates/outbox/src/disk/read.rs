//! Reading a record back.

use super::format::{Body, Kind, raw};
use super::index::Place;
use super::segment::Segment;
use crate::face::Record;
use bytes::Bytes;
use std::sync::Arc;

/// Flags, time, key hash, and the contents with what stands before them.
pub(crate) type Copied = (u8, u64, u64, Vec<u8>);

/// The record that lies at `place`, to be written again.
pub(crate) fn record(segment: &Segment, place: Place, seq: u64) -> Result<Copied, String> {
    let mut bytes = vec![0; place.len as usize];
    segment
        .file
        .read_at(&mut bytes, u64::from(place.offset))
        .map_err(|error| error.to_string())?;
    let raw = raw(&bytes, 0, segment.seal)?;
    if raw.seq != seq {
        return Err("another record is there".to_owned());
    }
    let body = raw.body()?;
    let skipped = match (raw.kind, body) {
        (Kind::Record, Body::Record(_)) => 0,
        (Kind::Moved, Body::Moved(standing, _)) => standing.encode().len(),
        _ => return Err("something else is there".to_owned()),
    };
    Ok((
        raw.flags,
        raw.at_ms,
        raw.hash,
        raw.payload[skipped..].to_vec(),
    ))
}

/// The record that `bytes` are.
pub(crate) fn decoded(segment: &Segment, bytes: Vec<u8>, seq: u64) -> Result<Record, &'static str> {
    let raw = raw(&bytes, 0, segment.seal)?;
    if raw.seq != seq {
        return Err("another record is there");
    }
    let (Body::Record(content) | Body::Moved(_, content)) = raw.body()? else {
        return Err("something else is there");
    };
    let (client, priority, key, at_ms) = (
        Arc::from(content.client),
        content.priority,
        content.key,
        raw.at_ms,
    );
    let end = super::format::HEAD + raw.payload.len();
    let start = end - content.payload.len();
    Ok(Record {
        client,
        priority,
        at_ms,
        key,
        payload: Bytes::from(bytes).slice(start..end),
    })
}
