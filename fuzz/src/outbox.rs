//! What brokers give back of an outbox.

use outbox::{envelope, note::Note};

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
