//! How long to wait before the next try, and how many there are.

use std::time::Duration;

use crate::settings::{PolicyError, within};

/// Waits that grow: `base × factor^n`, at most `cap`, then spread by ± `jitter`.
///
/// The jitter comes after the cap: those who wait at the cap must not come back
/// together either. A wait is therefore at most `cap × (1 + jitter)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    base: Duration,
    factor: f64,
    cap: Duration,
    jitter: f64,
}

/// How often a call is tried again, and after which waits.
///
/// The default is the relay's: three retries after 1, 2 and 4 seconds, ± 20 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retries {
    /// Tries after the first; 0 is none.
    pub attempts: u32,
    /// The waits before them.
    pub backoff: Backoff,
    /// The longest wait that an upstream can ask for; what it asks beyond is cut.
    pub after_max: Duration,
}

impl Backoff {
    /// 30 s doubling up to 300 s, ± 10 %: how long a breaker stays open by default.
    pub(crate) const OPEN_TIME: Self = Self {
        base: Duration::from_secs(30),
        factor: 2.0,
        cap: Duration::from_secs(300),
        jitter: 0.1,
    };

    /// `base` and `cap` up to 30 days with `base <= cap`, `factor` 1 to 100, `jitter` 0 to 1.
    pub fn new(
        base: Duration,
        factor: f64,
        cap: Duration,
        jitter: f64,
    ) -> Result<Self, PolicyError> {
        within("backoff cap in seconds", cap.as_secs_f64(), 0.0, CAP_MAX)?;
        within(
            "backoff base in seconds",
            base.as_secs_f64(),
            0.0,
            cap.as_secs_f64(),
        )?;
        within("backoff factor", factor, 1.0, 100.0)?;
        within("backoff jitter", jitter, 0.0, 1.0)?;
        Ok(Self {
            base,
            factor,
            cap,
            jitter,
        })
    }

    /// The wait after `made` failures before this one (0 for the first wait).
    pub fn delay(&self, made: u32, random: u64) -> Duration {
        // 100^1000 is infinite and so is capped; the exponent needs no more range.
        let exponent = i32::try_from(made.min(1_000)).unwrap_or(1_000);
        let grown = self.base.as_secs_f64() * self.factor.powi(exponent);
        let capped = if self.base.is_zero() {
            0.0
        } else {
            grown.min(self.cap.as_secs_f64())
        };
        let spread = 1.0 + self.jitter * (2.0 * share_of(random) - 1.0);
        Duration::from_secs_f64(capped * spread)
    }

    /// The longest wait before jitter.
    pub fn cap(&self) -> Duration {
        self.cap
    }
}

impl Retries {
    /// No second try.
    pub const NONE: Self = Self {
        attempts: 0,
        ..DEFAULT
    };

    /// The wait before the next try after `made` tries, or `None` if there is no next.
    /// `after` is what the upstream asked for; it can lengthen the wait, not shorten it.
    pub fn wait(&self, made: u32, after: Option<Duration>, random: u64) -> Option<Duration> {
        if made > self.attempts {
            return None;
        }
        let own = self.backoff.delay(made.saturating_sub(1), random);
        Some(own.max(after.unwrap_or_default().min(self.after_max)))
    }
}

impl Default for Retries {
    fn default() -> Self {
        DEFAULT
    }
}

/// A random number as a share of 1, from 0 (included) to 1 (excluded).
pub(crate) fn share_of(random: u64) -> f64 {
    // 53 bits are what an f64 holds exactly.
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

const DEFAULT: Retries = Retries {
    attempts: 3,
    backoff: Backoff {
        base: Duration::from_secs(1),
        factor: 2.0,
        cap: Duration::from_secs(30),
        jitter: 0.2,
    },
    after_max: Duration::from_secs(300),
};

/// Thirty days in seconds.
const CAP_MAX: f64 = 30.0 * 86_400.0;

#[cfg(test)]
mod tests;
