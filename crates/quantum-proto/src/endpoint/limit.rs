//! So many per second.

use crate::Time;

/// Counts within the present second.
#[derive(Debug, Default)]
pub(super) struct Limit {
    second: u64,
    taken: u32,
}

impl Limit {
    /// Whether one more is within the limit; then it counts.
    pub(super) fn take(&mut self, now: Time, per_second: u32) -> bool {
        let second = now.elapsed().as_secs();
        if second != self.second {
            (self.second, self.taken) = (second, 0);
        }
        let within = self.taken < per_second;
        self.taken += u32::from(within);
        within
    }
}
