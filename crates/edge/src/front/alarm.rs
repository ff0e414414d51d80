//! One timer for all deadlines of a connection.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use lifecycle::Clock;
use tokio::time::Sleep;

/// Rings when the earliest deadline that was asked about has come, or earlier.
///
/// Nearly every deadline is met, so setting and clearing a timer for each would be work
/// for nothing. This one stays set while later deadlines are asked about, and is looked
/// at again when it rings.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    set: Option<Pin<Box<Sleep>>>,
    /// Milliseconds of the clock at which it rings.
    rings_ms: u64,
}

impl Alarm {
    /// Ready once the clock shows `at`; until then the task is woken by then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, clock: Clock, at: u64) -> Poll<()> {
        // Not even the clock is read while it is set early enough.
        if self.rings_ms <= at && self.set.as_ref().is_some_and(|set| !set.is_elapsed()) {
            return Poll::Pending;
        }
        let now = clock.mono_ms();
        if now >= at {
            return Poll::Ready(());
        }
        // What never comes must not be more than timers can tell.
        let at = at.min(now.saturating_add(FARTHEST_MS));
        let sleep = match &mut self.set {
            Some(sleep) => {
                // The old deadline stands for its moment on the clock.
                let moved = if at >= self.rings_ms {
                    sleep.deadline() + Duration::from_millis(at - self.rings_ms)
                } else {
                    let sooner = Duration::from_millis(self.rings_ms - at);
                    sleep
                        .deadline()
                        .checked_sub(sooner)
                        .unwrap_or(sleep.deadline())
                };
                sleep.as_mut().reset(moved);
                sleep
            }
            set @ None => set.insert(Box::pin(tokio::time::sleep(Duration::from_millis(
                at - now,
            )))),
        };
        self.rings_ms = at;
        // It may be due by its own reckoning, which is finer than milliseconds.
        if sleep.as_mut().poll(cx).is_ready() {
            self.set = None;
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// A year, after which the alarm is looked at again.
const FARTHEST_MS: u64 = 365 * 24 * 3_600 * 1_000;

#[cfg(test)]
mod tests;
