//! Which stream, and where in it.

use std::fmt;

use protocol::message::StreamPosition;

/// A place in a channel's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Counts publications from 1; 0 stands before the first.
    pub offset: u64,
    /// Which stream the offset counts in.
    pub epoch: Epoch,
}

impl From<Position> for StreamPosition {
    fn from(position: Position) -> Self {
        Self {
            offset: position.offset,
            epoch: position.epoch.as_str().to_owned(),
        }
    }
}

/// Names one life of a stream: eight random letters, new whenever it is recreated.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch([u8; Epoch::LETTERS]);

impl Epoch {
    /// Length of an epoch's text in bytes.
    pub const LETTERS: usize = 8;

    /// Reads an epoch as [`Epoch::as_str`] writes it. `None` for anything else, which
    /// therefore equals no stream's epoch.
    pub fn parse(text: &str) -> Option<Self> {
        let letters: [u8; Self::LETTERS] = text.as_bytes().try_into().ok()?;
        letters
            .iter()
            .all(u8::is_ascii_alphabetic)
            .then_some(Self(letters))
    }

    /// Spells a random number; a bus draws one for each stream.
    pub fn from_random(mut random: u64) -> Self {
        Self(std::array::from_fn(|_| {
            let letter = ALPHABET[(random % ALPHABET.len() as u64) as usize];
            random /= ALPHABET.len() as u64;
            letter
        }))
    }

    /// The text that clients know.
    pub fn as_str(&self) -> &str {
        // Both constructors admit ASCII letters only, so the default is never used.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({})", self.as_str())
    }
}

const ALPHABET: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

#[cfg(test)]
mod tests {
    use super::Epoch;

    #[test]
    fn epoch_reads_what_it_writes() {
        for random in [0, 1, 51, 52, u64::MAX] {
            let epoch = Epoch::from_random(random);
            assert_eq!(Epoch::parse(epoch.as_str()), Some(epoch));
        }
    }

    #[test]
    fn other_text_is_no_epoch() {
        for text in ["", "_", "abcdefg", "abcdefghi", "abcdefg1", "abcdefö"] {
            assert_eq!(Epoch::parse(text), None, "{text:?}");
        }
    }
}
