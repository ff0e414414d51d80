//! Calls at a constant rate that waits for nobody, or as fast as answers come.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Somebody whom one can call many times at once over one connection.
pub(crate) trait Caller {
    /// Sends the body; done when an answer of the same length is there whole.
    fn call(&self, body: Bytes) -> impl Future<Output = anyhow::Result<()>>;
}

/// An open loop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Calls per second.
    pub(crate) rate: u32,
    /// Bytes of request and of answer.
    pub(crate) size: usize,
    /// Calls that are made and not counted.
    pub(crate) warm_up: Duration,
    /// Calls that are counted.
    pub(crate) duration: Duration,
    /// How long answers are waited for after the last call.
    pub(crate) drain: Duration,
}

/// What an open loop came to.
#[derive(Debug)]
pub(crate) struct Calls {
    /// From the time a call was due to the whole answer, in nanoseconds. A call without an
    /// answer counts with the time it was waited for.
    pub(crate) latency: Histogram<u64>,
    pub(crate) offered: u64,
    /// Without an answer until the end.
    pub(crate) unanswered: u64,
    pub(crate) failed: u64,
    pub(crate) failure: Option<String>,
    /// The latest that the generator itself began a call.
    pub(crate) latest_start: Duration,
}

impl Calls {
    /// A quantile in milliseconds.
    pub(crate) fn ms(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e6
    }

    /// Whether a quantile is no more than a lower bound.
    pub(crate) fn is_bound(&self, quantile: f64) -> bool {
        let without = self.unanswered + self.failed;
        without as f64 > (1.0 - quantile) * self.offered as f64
    }
}

/// What happens around the calls that count.
pub(crate) trait Around {
    /// The warm-up is over.
    fn begin(&mut self) {}
    /// The last call has been made.
    fn end(&mut self) {}
}

impl Around for () {}

/// Makes calls at a constant rate, whether or not answers come.
pub(crate) async fn open_loop<C: Caller>(
    caller: &C,
    plan: &Plan,
    around: &mut impl Around,
) -> anyhow::Result<Calls> {
    let body = Bytes::from(vec![0x5A; plan.size]);
    let interval = 1e9 / f64::from(plan.rate);
    let due_of = |number: u64| Duration::from_nanos((number as f64 * interval) as u64);
    let count = |duration: Duration| (duration.as_secs_f64() * f64::from(plan.rate)) as u64;
    let first = count(plan.warm_up);
    let total = first + count(plan.duration);
    let mut calls = Calls {
        latency: histogram()?,
        offered: total - first,
        unanswered: 0,
        failed: 0,
        failure: None,
        latest_start: Duration::ZERO,
    };
    let alarm = Alarm::new()?;
    let mut flying = FuturesUnordered::new();
    let mut done = 0;
    let mut number = 0;
    let started = Instant::now();
    while done < total {
        let now = started.elapsed();
        while number < total && due_of(number) <= now {
            if number == first {
                around.begin();
            }
            let late = started.elapsed().saturating_sub(due_of(number));
            if number >= first {
                calls.latest_start = calls.latest_start.max(late);
            }
            let call = caller.call(body.clone());
            let this = number;
            flying.push(async move { (this, call.await, started.elapsed()) });
            number += 1;
            if number == total {
                around.end();
            }
        }
        let wake = match number < total {
            true => due_of(number),
            false => due_of(total) + plan.drain,
        };
        tokio::select! {
            biased;
            Some((this, outcome, at)) = flying.next(), if !flying.is_empty() => {
                done += 1;
                if this >= first {
                    calls.count(outcome, at.saturating_sub(due_of(this)));
                }
            }
            () = alarm.at(wake.saturating_sub(started.elapsed())) => {
                if number == total {
                    break;
                }
            }
        }
    }
    // Those that are still out have waited for the whole drain; the last of them began latest.
    let answered = calls.latency.len();
    calls.unanswered = calls.offered.saturating_sub(answered);
    for missing in 0..calls.unanswered {
        let due = due_of(total - 1 - missing.min(total - 1));
        let waited = started.elapsed().saturating_sub(due);
        calls.latency.saturating_record(waited.as_nanos() as u64);
    }
    Ok(calls)
}

impl Calls {
    fn count(&mut self, outcome: anyhow::Result<()>, took: Duration) {
        match outcome {
            Ok(()) => self.latency.saturating_record(took.as_nanos() as u64),
            Err(error) => {
                self.failed += 1;
                self.failure.get_or_insert_with(|| format!("{error:#}"));
                // Worse than any answer.
                self.latency.saturating_record(u64::MAX);
            }
        }
    }
}

/// Keeps so many calls in flight until the time is over; returns their latencies.
pub(crate) async fn closed_loop<C: Caller>(
    caller: &C,
    size: usize,
    in_flight: usize,
    duration: Duration,
) -> anyhow::Result<Histogram<u64>> {
    let body = Bytes::from(vec![0x5A; size]);
    let mut latency = histogram()?;
    let mut flying = FuturesUnordered::new();
    let started = Instant::now();
    let call = || async {
        let began = Instant::now();
        caller.call(body.clone()).await.map(|()| began.elapsed())
    };
    for _ in 0..in_flight {
        flying.push(call());
    }
    while let Some(took) = flying.next().await {
        latency.saturating_record(took.context("echo failed")?.as_nanos() as u64);
        if started.elapsed() < duration {
            flying.push(call());
        }
    }
    Ok(latency)
}

/// A timer that is exact to some microseconds: tokio's are to a millisecond, which would be
/// part of every latency here.
struct Alarm {
    timer: AsyncFd<OwnedFd>,
}

impl Alarm {
    fn new() -> anyhow::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).context("no timer")?;
        #[expect(
            unsafe_code,
            reason = "tokio wants to be told that the descriptor stays"
        )]
        // SAFETY: the value owns the descriptor, which is the same and open until it is dropped.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?;
        Ok(Self { timer })
    }

    /// Waits so long.
    async fn at(&self, wait: Duration) {
        // A time of zero would switch the timer off.
        let wait = wait.max(Duration::from_nanos(1));
        let value = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: wait.as_secs() as i64,
                tv_nsec: wait.subsec_nanos().into(),
            },
        };
        // Setting it also takes back that it had been due.
        if timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &value).is_err() {
            return;
        }
        loop {
            let Ok(mut ready) = self.timer.readable().await else {
                return;
            };
            let mut expirations = [0; 8];
            match rustix::io::read(self.timer.get_ref(), &mut expirations) {
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// From a microsecond to five minutes, to three digits.
fn histogram() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1_000, 300_000_000_000, 3).context("no histogram")
}

#[cfg(test)]
mod tests;
