//! The parsers, for fuzz targets.

use std::collections::BTreeMap;

use super::format::{Chain, HEAD, PAGE, Seal, claim, padded};
use super::index::Index;
use super::manifest::Manifest;
use super::{format, scan, segment};

/// See [`crate::fuzzing::segment`].
pub(crate) fn segment(bytes: &[u8], reseal: bool) -> usize {
    let mut bytes = bytes.to_vec();
    let salt = segment::salt(&bytes, 1, bytes.len() as u64).unwrap_or([0; 16]);
    let seal = Seal::new(&salt);
    if reseal {
        let mut at = PAGE.min(bytes.len());
        let mut chain = Chain { batch: 1, crc: 0 };
        while let Some((len, crc)) = resealed(&mut bytes[at..], seal, chain) {
            at += len;
            chain.crc = crc;
        }
    }
    let mut index = Index::default();
    let mut seen = BTreeMap::new();
    let mut taken = 0;
    let mut starts = vec![Some(PAGE)];
    starts.push(scan::resume(&bytes, 0, seal, 0));
    starts.push(scan::proof(&bytes, 0, seal, 1));
    starts.push(scan::trace(&bytes, 0, seal, 1));
    for start in starts.into_iter().flatten() {
        let mut at = start;
        let mut chain = None;
        while let Ok(whole) = scan::batch(&bytes, at, seal, chain) {
            for record in &whole.records {
                taken += usize::from(index.replay(1, record, &mut seen).is_ok());
            }
            chain = Some(whole.next);
            at = whole.end;
        }
        // What is behind the checks of a batch, without them.
        let mut at = start;
        while let Ok(record) = format::raw(&bytes, at, seal) {
            taken += usize::from(index.replay(1, &record, &mut seen).is_ok());
            at += record.len;
        }
    }
    taken
}

/// See [`crate::fuzzing::manifest`].
pub(crate) fn manifest(page: &[u8]) -> bool {
    Manifest::decode(page)
        .is_some_and(|manifest| Manifest::decode(&manifest.encode()) == Some(manifest))
}

/// Makes the record at the start of `bytes` pass; its bytes and checksum.
fn resealed(bytes: &mut [u8], seal: Seal, chain: Chain) -> Option<(usize, u32)> {
    let (.., length) = claim(bytes.first_chunk::<HEAD>()?)?;
    let record = bytes.get_mut(..HEAD.checked_add(length)?)?;
    let crc = format::finish(record, seal, chain.batch, 0, chain.crc);
    Some((padded(HEAD + length), crc)).filter(|(len, _)| *len <= bytes.len())
}
