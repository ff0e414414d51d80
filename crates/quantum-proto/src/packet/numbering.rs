//! Sequence numbers on the wire.

/// Maps sequence numbers, counted 1, 2, 3 … in 64 bits, to the 32 bits of the header and back.
///
/// On the wire 0 means "none", so the numbers there run from 1 to 2^32 − 1 and then begin again
/// at 1. The first one is announced in OPTIONS; tests begin close to the end, so that each of
/// them sees the wrap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Numbering {
    start: u64,
}

impl Numbering {
    /// Number 1 is `start + 1` on the wire (and 1 again for the largest `start`).
    pub fn new(start: u32) -> Self {
        Self {
            start: u64::from(start),
        }
    }

    /// The number on the wire; 0, "none", for 0.
    pub fn to_wire(self, number: u64) -> u32 {
        let Some(index) = number.checked_sub(1) else {
            return 0;
        };
        // Reduced first, so that no sum overflows; below 2^32 by the second reduction.
        (1 + (self.start + index % CYCLE) % CYCLE) as u32
    }

    /// The number that `wire` stands for: of all that look the same, the one nearest to `near`.
    ///
    /// `None` for 0. Right as long as the number lies within 2^31 of `near`.
    pub fn expand(self, wire: u32, near: u64) -> Option<u64> {
        let position = u64::from(wire).checked_sub(1)?;
        // In 0 … CYCLE − 1: the first number that looks so, less one.
        let first = (position + CYCLE - self.start % CYCLE) % CYCLE;
        let near = near.saturating_sub(1);
        // How far the next such number at or above `near` lies, and the one before that.
        let ahead = (first + CYCLE - near % CYCLE) % CYCLE;
        let behind = CYCLE - ahead;
        let above = near.checked_add(ahead).and_then(|it| it.checked_add(1));
        let below = near.checked_sub(behind).map(|it| it + 1);
        if ahead > behind {
            below.or(above)
        } else {
            above.or(below)
        }
    }
}

/// How many numbers there are on the wire: all of 32 bits but 0.
const CYCLE: u64 = u32::MAX as u64;
