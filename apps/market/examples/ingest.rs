//! How many ticks a second one thread takes, from encoded messages to encoded batches.
//!
//! `cargo run --release -p market --example ingest`, with the number of symbols as an argument if
//! it is not to be 10,000.
#![expect(clippy::print_stdout, reason = "it prints its result")]

use std::time::Duration;

use bus::Now;
use lifecycle::Clock;
use market::Aggregator;
use market::aggregator::{Grouping, GroupingError, Limits};
use market::generator::Generator;

fn main() -> Result<(), GroupingError> {
    let asked = std::env::args()
        .nth(1)
        .and_then(|symbols| symbols.parse().ok());
    let symbols = asked.unwrap_or(10_000);
    let messages = messages(symbols);
    let limits = Limits {
        symbols_max: symbols,
        skew_max_ms: 60_000,
    };
    let mut aggregator = Aggregator::new(Grouping::new(20, 1)?, limits);
    let clock = Clock::start();
    let (mut cut_at, mut bytes) = (INTERVAL, 0);
    // As the runner does it: a burst of messages, then a look at the clock.
    for burst in messages.chunks(256).cycle() {
        let elapsed = clock.elapsed();
        if elapsed >= cut_at {
            cut_at += INTERVAL;
            aggregator.cut_ticks(NOW, |offer| {
                bytes += offer.payload.len();
                true
            });
        }
        if elapsed >= LENGTH {
            break;
        }
        for (subject, payload) in burst {
            if let Err(reason) = aggregator.take(subject, None, payload, NOW) {
                println!("{subject} was refused: {reason}");
            }
        }
    }
    let counts = aggregator.counts();
    let seconds = clock.elapsed().as_secs_f64();
    println!(
        "{{\"ticks_in_per_s\":{:.0},\"symbols\":{},\"batches\":{},\"bytes\":{bytes}}}",
        counts.ticks as f64 / seconds,
        aggregator.symbols(),
        counts.batches_out,
    );
    Ok(())
}

/// Subjects and encoded ticks, in an order that no cache foresees.
fn messages(symbols: usize) -> Vec<(String, Vec<u8>)> {
    let mut messages = Vec::new();
    let mut generator = Generator::new(symbols, 1, 0.2);
    for _ in 0..50 {
        generator.step(NOW.unix_ms.cast_signed(), |one| {
            let symbol = String::from_utf8_lossy(one.tick.symbol);
            let mut payload = Vec::new();
            one.tick.write(&mut payload);
            messages.push((format!("xy.src.tick.demo.{symbol}"), payload));
        });
    }
    messages
}

const NOW: Now = Now {
    mono_ms: 1,
    unix_ms: 1_700_000_000_000,
};
const INTERVAL: Duration = Duration::from_millis(33);
const LENGTH: Duration = Duration::from_secs(3);
