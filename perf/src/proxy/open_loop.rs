//! Requests at a constant rate that waits for nobody; latency counts from the time a request
//! was due.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::load::{Load, PATIENCE, histogram};

/// What an open loop came to.
pub(super) struct Open {
    pub(super) requests: u64,
    /// From the due time to the whole answer, in nanoseconds.
    pub(super) latency: Histogram<u64>,
    /// Percentage of requests that the generator itself sent late: a connection was free.
    pub(super) missed_percent: f64,
    pub(super) elapsed: Duration,
}

/// Sends `rate` requests per second for this long, each on the connection that has rested
/// longest. A request that finds none free waits, and its latency counts on.
pub(super) fn run(load: &mut Load, rate: f64, duration: Duration) -> anyhow::Result<Open> {
    let interval = 1e9 / rate;
    let total = (duration.as_secs_f64() * rate) as u64;
    let due_of = |number: u64| Duration::from_nanos((number as f64 * interval) as u64);
    let mut latency = histogram()?;
    let mut free: VecDeque<usize> = (0..load.connections()).collect();
    // The due time of what each connection has sent.
    let mut due = vec![Duration::ZERO; load.connections()];
    let mut done = Vec::new();
    let (mut sent, mut answered, mut missed) = (0, 0, 0_u64);
    // Since when there has been a free connection.
    let mut free_since = Duration::ZERO;
    let started = Instant::now();
    let end = duration + PATIENCE;
    while answered < total {
        let now = started.elapsed();
        while sent < total && due_of(sent) <= now {
            let Some(key) = free.pop_front() else { break };
            due[key] = due_of(sent);
            if started.elapsed().saturating_sub(due[key].max(free_since)) > LATE {
                missed += 1;
            }
            load.send(key)?;
            sent += 1;
        }
        let wait = match (sent < total && !free.is_empty()).then(|| due_of(sent)) {
            Some(next) => next.saturating_sub(started.elapsed()).max(NAP),
            None => Duration::from_millis(10),
        };
        load.turn(Some(wait), &mut done)?;
        let now = started.elapsed();
        if !done.is_empty() && free.is_empty() {
            free_since = now;
        }
        for &key in &done {
            latency.saturating_record(now.saturating_sub(due[key]).as_nanos() as u64);
            answered += 1;
            free.push_back(key);
        }
        if now > end {
            load.fail(format!(
                "{} requests had no answer within {PATIENCE:?}",
                total - answered
            ));
            break;
        }
    }
    Ok(Open {
        requests: answered,
        elapsed: started.elapsed(),
        latency,
        missed_percent: 100.0 * missed as f64 / total.max(1) as f64,
    })
}

/// The generator rests this long if no answer wakes it, and sends what has come due at once: a
/// timer for each request would cost it more than the request. The delay counts as latency.
const NAP: Duration = Duration::from_micros(50);

/// A request sent later than this was missed.
const LATE: Duration = Duration::from_millis(1);
