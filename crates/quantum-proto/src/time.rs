//! Points in time, as the caller's clock counts them.

use std::ops::Add;
use std::time::Duration;

/// Nanoseconds since some beginning that the caller chose; never goes back.
///
/// Eight bytes, so that each packet in flight can remember when it was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The beginning of the caller's clock.
    pub const ZERO: Self = Self(0);
    /// Later than everything: 584 years after the beginning.
    pub const NEVER: Self = Self(u64::MAX);

    /// The point that lies `since` after the beginning.
    pub fn after(since: Duration) -> Self {
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Time from the beginning to this point.
    pub fn elapsed(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// Time from `earlier` to this point; zero if that lies later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Nanoseconds since the beginning.
    pub fn nanos(self) -> u64 {
        self.0
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}
