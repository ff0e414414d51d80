//! What the outbox finds at start: on its disk, or given back by a broker.

use outbox::{envelope, fuzzing, note::Note};

/// An envelope that opens is one that sealing makes again, byte by byte. The sum that keeps
/// most input out is put right first.
pub fn envelope(input: &[u8]) {
    let mut bytes = input.to_vec();
    drop(envelope::open(&bytes.clone().into()));
    if let Some(body) = bytes.len().checked_sub(4) {
        let sum = envelope::sum(&bytes[..body]);
        bytes[body..].copy_from_slice(&sum.to_le_bytes());
    }
    if let Ok(opened) = envelope::open(&bytes.clone().into()) {
        assert_eq!(envelope::seal(&opened.record, opened.writer), bytes);
    }
}

/// A note that can be read is written and read again without loss.
pub fn note(input: &[u8]) {
    let Some(note) = std::str::from_utf8(input).ok().and_then(Note::parse) else {
        return;
    };
    assert_eq!(Note::parse(&note.to_text()), Some(note));
}

/// Any bytes may stand where a segment or the manifest should: reading them ends, and says the
/// same twice. The first byte chooses whether the checksums are made right first, so that what
/// they protect is reached; the rest stands behind a page that is not a header.
pub fn segment(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else {
        return;
    };
    let page = |bytes: &[u8]| {
        let mut page = bytes.to_vec();
        page.resize(page.len().next_multiple_of(PAGE).max(PAGE), 0);
        page
    };
    let batches = [vec![0; PAGE], page(data)].concat();
    let reseal = mode % 2 == 1;
    let taken = fuzzing::segment(&batches, reseal);
    assert_eq!(fuzzing::segment(&batches, reseal), taken);
    fuzzing::segment(&page(data), reseal);
    fuzzing::segment(data, reseal);
    fuzzing::manifest(&page(data));
    fuzzing::manifest(data);
}

const PAGE: usize = 4096;
