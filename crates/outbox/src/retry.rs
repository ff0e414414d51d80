//! Chance, and delays that grow.

use std::time::Duration;

/// Delays between tries: from 50 ms doubling to 2 seconds, half of each by chance so that a
/// fleet does not come back in step.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let full = FIRST.saturating_mul(1 << self.tries.min(16)).min(LONGEST);
        self.tries += 1;
        let chance = u32::from(random().to_le_bytes()[0]);
        full / 2 + full / 2 * chance / 255
    }
}

/// A random number. Falls back to zero where the system has none.
pub(crate) fn random() -> u128 {
    let mut bytes = [0; 16];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::warn!(%error, "no random numbers");
    }
    u128::from_le_bytes(bytes)
}

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);
