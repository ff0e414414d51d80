//! What the aggregator takes in: encoded ticks to encoded batches, on one thread, nothing else.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use bus::Now;
use market::aggregator::{Aggregator, Grouping, Limits};
use market::generator::Generator;

/// Ticks taken per second.
pub(super) fn run(symbols: usize, groups: usize) -> anyhow::Result<f64> {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let now = Now {
        mono_ms: 1,
        unix_ms: unix.as_millis() as u64,
    };
    let messages = messages(symbols, now);
    let limits = Limits {
        symbols_max: symbols,
        skew_max_ms: 60_000,
    };
    let mut aggregator = Aggregator::new(Grouping::new(groups, 1)?, limits);
    let started = Instant::now();
    let (mut cut_at, mut bytes) = (INTERVAL, 0);
    // As the aggregator's own loop does it: a burst of messages, then a look at the clock.
    for burst in messages.chunks(BURST).cycle() {
        let elapsed = started.elapsed();
        if elapsed >= cut_at {
            cut_at += INTERVAL;
            aggregator.cut_ticks(now, |offer| {
                bytes += offer.payload.len();
                true
            });
        }
        if elapsed >= LENGTH {
            break;
        }
        for (subject, payload) in burst {
            // What is refused is counted.
            let _ = aggregator.take(subject, None, payload, now);
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let counts = aggregator.counts();
    let refused: u64 = counts.refused.iter().sum();
    ensure!(
        refused == 0 && bytes > 0,
        "aggregator refused {refused} ticks and made {bytes} bytes of batches"
    );
    Ok(counts.ticks as f64 / seconds)
}

/// Subjects and encoded ticks, in an order that no cache foresees.
fn messages(symbols: usize, now: Now) -> Vec<(String, Vec<u8>)> {
    let mut messages = Vec::new();
    let mut generator = Generator::new(symbols, 1, 0.2);
    for _ in 0..50 {
        generator.step(now.unix_ms as i64, |one| {
            let symbol = String::from_utf8_lossy(one.tick.symbol);
            let mut payload = Vec::new();
            one.tick.write(&mut payload);
            messages.push((format!("xy.src.tick.perf.{symbol}"), payload));
        });
    }
    messages
}

const BURST: usize = 256;
const INTERVAL: Duration = Duration::from_millis(33);
const LENGTH: Duration = Duration::from_secs(3);
