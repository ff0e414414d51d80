//! Until when.

use std::time::Duration;

/// A moment after which nobody waits any more, in milliseconds of the monotonic clock,
/// or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadline(Option<u64>);

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeouts {
    /// For the call with everything in it: queueing, tries, waits between them.
    /// `None`: only what the caller says.
    pub total: Option<Duration>,
    /// For each try. `None`: only the total.
    pub per_try: Option<Duration>,
}

impl Deadline {
    /// No limit.
    pub const NEVER: Self = Self(None);

    /// At this moment.
    pub const fn at(ms: u64) -> Self {
        Self(Some(ms))
    }

    /// So long from now; `None` is never.
    pub fn after(now: u64, span: Option<Duration>) -> Self {
        Self(span.map(|span| now.saturating_add(millis(span))))
    }

    /// Whichever comes first.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Self(Some(a.min(b))),
            (a, b) => Self(a.or(b)),
        }
    }

    /// It is over; the moment itself is.
    pub fn passed(self, now: u64) -> bool {
        self.0.is_some_and(|at| now >= at)
    }

    /// What is left; `None` is without limit.
    pub fn remaining(self, now: u64) -> Option<Duration> {
        self.0
            .map(|at| Duration::from_millis(at.saturating_sub(now)))
    }

    /// A wait of this length ends before the deadline.
    pub fn leaves(self, now: u64, wait: Duration) -> bool {
        !self.passed(now.saturating_add(millis(wait)))
    }
}

impl Timeouts {
    /// The deadline of a call that begins now.
    pub fn deadline(&self, now: u64) -> Deadline {
        Deadline::after(now, self.total)
    }

    /// The deadline of a try that begins now within a call.
    pub fn try_deadline(&self, now: u64, call: Deadline) -> Deadline {
        Deadline::after(now, self.per_try).earlier(call)
    }
}

/// Whole milliseconds, rounded up, so that a short wait is never none.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_of_two_counts() {
        let never = Deadline::NEVER;
        assert_eq!(never.earlier(Deadline::at(5)), Deadline::at(5));
        assert_eq!(Deadline::at(5).earlier(never), Deadline::at(5));
        assert_eq!(Deadline::at(9).earlier(Deadline::at(5)), Deadline::at(5));
        assert!(!never.passed(u64::MAX));
        assert_eq!(never.remaining(7), None);
    }

    #[test]
    fn a_deadline_passes_at_its_moment() {
        let deadline = Deadline::after(100, Some(Duration::from_millis(50)));
        assert!(!deadline.passed(149));
        assert!(deadline.passed(150));
        assert_eq!(deadline.remaining(149), Some(Duration::from_millis(1)));
        assert_eq!(deadline.remaining(500), Some(Duration::ZERO));
    }

    #[test]
    fn a_wait_up_to_the_deadline_is_too_long() {
        let deadline = Deadline::at(100);
        assert!(deadline.leaves(0, Duration::from_millis(99)));
        assert!(!deadline.leaves(0, Duration::from_millis(100)));
        assert!(!deadline.leaves(0, Duration::MAX));
        assert!(Deadline::NEVER.leaves(0, Duration::MAX));
    }

    #[test]
    fn a_try_ends_with_its_call() {
        let timeouts = Timeouts {
            total: Some(Duration::from_secs(10)),
            per_try: Some(Duration::from_secs(4)),
        };
        let call = timeouts.deadline(0);
        assert_eq!(timeouts.try_deadline(1_000, call), Deadline::at(5_000));
        assert_eq!(timeouts.try_deadline(8_000, call), Deadline::at(10_000));
    }
}
