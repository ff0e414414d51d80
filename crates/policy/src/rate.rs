//! How many calls per second.
//!
//! The generic cell rate algorithm: instead of a bucket that is refilled, one number
//! says when the line of calls admitted so far would be worked off at the exact rate.
//! A call is admitted while that moment is at most `burst - 1` intervals ahead. One
//! number per key is all there is to keep, a key whose moment is past is the same as
//! a new one, and there is no refill to forget.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::settings::{PolicyError, within};

/// So many per second, so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    interval_ns: u64,
    /// How far ahead the line may be for a call to be admitted.
    ahead_ns: u64,
}

/// The line of calls admitted so far under one rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenLine {
    done_ns: u64,
}

/// Lines by key, at most so many.
///
/// Beyond the cap, keys that are idle are dropped; if none is, further keys share one
/// line. So memory is bounded, and who makes up keys gets one rate for all of them
/// and takes nothing from the keys that are known.
#[derive(Debug)]
pub struct RateTable<K> {
    rate: Rate,
    keys_max: usize,
    lines: HashMap<K, TokenLine>,
    rest: TokenLine,
    /// No sweep before: when the last one found that the first key falls idle, and a while
    /// after it, or who makes up keys could have one swept for each.
    sweep_ns: u64,
}

impl Rate {
    /// `per_second` 0.00001 to 1,000,000, `burst` at least 1.
    pub fn new(per_second: f64, burst: u32) -> Result<Self, PolicyError> {
        within("rate per second", per_second, 0.000_01, 1_000_000.0)?;
        within("rate burst", f64::from(burst), 1.0, f64::from(u32::MAX))?;
        let interval_ns = (NANOS_PER_SECOND / per_second).round() as u64;
        Ok(Self {
            interval_ns,
            ahead_ns: interval_ns.saturating_mul(u64::from(burst) - 1),
        })
    }

    /// Admits one call, or says how long until the next is.
    pub fn take(&self, line: &mut TokenLine, now: u64) -> Result<(), Duration> {
        let now = now.saturating_mul(NANOS_PER_MILLI);
        let ahead = line.done_ns.saturating_sub(now);
        if ahead > self.ahead_ns {
            return Err(Duration::from_nanos(ahead - self.ahead_ns));
        }
        line.done_ns = line.done_ns.max(now).saturating_add(self.interval_ns);
        Ok(())
    }
}

impl<K: Eq + Hash + Clone> RateTable<K> {
    /// No key is known yet.
    pub fn new(rate: Rate, keys_max: usize) -> Self {
        Self {
            rate,
            keys_max,
            lines: HashMap::new(),
            rest: TokenLine::default(),
            sweep_ns: 0,
        }
    }

    /// Admits one call of a key, or says how long until its next is.
    pub fn take(&mut self, key: &K, now: u64) -> Result<(), Duration> {
        if let Some(line) = self.lines.get_mut(key) {
            return self.rate.take(line, now);
        }
        if self.lines.len() >= self.keys_max {
            self.sweep(now);
        }
        if self.lines.len() >= self.keys_max {
            return self.rate.take(&mut self.rest, now);
        }
        let line = self.lines.entry(key.clone()).or_default();
        self.rate.take(line, now)
    }

    /// Keys known, those that fell idle since the last sweep included.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// No key is known.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Drops the keys that are idle. Called by itself at the cap; calling it now and
    /// then gives memory back earlier.
    pub fn sweep(&mut self, now: u64) {
        let now = now.saturating_mul(NANOS_PER_MILLI);
        if now < self.sweep_ns {
            return;
        }
        self.lines.retain(|_, line| line.done_ns > now);
        self.lines
            .shrink_to(self.keys_max.min(self.lines.len() * 2));
        self.sweep_ns = self
            .lines
            .values()
            .map(|line| line.done_ns)
            .min()
            .unwrap_or(now)
            .max(now.saturating_add(SWEEP_APART_NS));
    }
}

const NANOS_PER_SECOND: f64 = 1e9;
const NANOS_PER_MILLI: u64 = 1_000_000;
/// A sweep looks at every key.
const SWEEP_APART_NS: u64 = 100 * NANOS_PER_MILLI;

#[cfg(test)]
mod tests;
