//! The replay window.

/// Which of the last [`SIZE`] packet counters were seen; those below count as seen.
#[derive(Debug)]
pub(super) struct Window {
    /// Bit `counter % SIZE`, for the counters from `largest` down.
    bits: [u64; WORDS],
    largest: Option<u64>,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            bits: [0; WORDS],
            largest: None,
        }
    }
}

impl Window {
    pub(super) fn has(&self, counter: u64) -> bool {
        let Some(largest) = self.largest else {
            return false;
        };
        if counter > largest {
            return false;
        }
        let (word, bit) = place(counter);
        largest - counter >= SIZE || self.bits[word] & bit != 0
    }

    /// Marks a counter that [`Self::has`] does not have.
    pub(super) fn set(&mut self, counter: u64) {
        let largest = self.largest.unwrap_or(0);
        if counter > largest {
            if counter - largest >= SIZE {
                self.bits.fill(0);
            } else {
                for skipped in largest + 1..counter {
                    let (word, bit) = place(skipped);
                    self.bits[word] &= !bit;
                }
            }
        }
        self.largest = Some(largest.max(counter));
        let (word, bit) = place(counter);
        self.bits[word] |= bit;
    }

    pub(super) fn largest(&self) -> Option<u64> {
        self.largest
    }
}

fn place(counter: u64) -> (usize, u64) {
    let index = (counter % SIZE) as usize;
    (index / 64, 1 << (index % 64))
}

/// Counters remembered.
pub(super) const SIZE: u64 = 2_048;
const WORDS: usize = SIZE as usize / 64;
