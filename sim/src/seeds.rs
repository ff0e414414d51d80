//! Many seeds on several threads, and what they came to.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::Args;

use crate::quantum::{self, Failure, Figures};

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many seeds, from `--first` on
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// This seed only
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Prints every event; for one seed
    #[arg(short, long)]
    verbose: bool,
    /// How many failing seeds are shown before the run ends
    #[arg(long, default_value_t = 10)]
    failures: usize,
    /// Threads; as many as there are cores by default
    #[arg(long)]
    threads: Option<usize>,
}

#[derive(Debug, Default)]
struct Results {
    runs: u64,
    figures: Figures,
    /// Runs by the kind of their scenario.
    kinds: BTreeMap<&'static str, u64>,
    failures: BTreeMap<u64, Failure>,
}

/// Runs them all; the exit code says whether everything held.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    std::panic::set_hook(Box::new(|_| {}));
    let (first, count) = match options.seed {
        Some(seed) => (seed, 1),
        None => (options.first, options.seeds),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.unwrap_or(cores).clamp(1, 256);
    let next = AtomicU64::new(first);
    let results = Mutex::new(Results::default());
    let started = now();
    std::thread::scope(|scope| {
        for _ in 0..threads.min(usize::try_from(count).unwrap_or(threads)) {
            scope.spawn(|| work(options, (first, count), &next, &results));
        }
    });
    let seconds = now().duration_since(started).as_secs_f64();
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    report(&results, seconds);
    Ok(if results.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn work(options: &Options, (first, count): (u64, u64), next: &AtomicU64, results: &Mutex<Results>) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed - first >= count {
            return;
        }
        let verbose = options.verbose && count == 1;
        let outcome = catch_unwind(AssertUnwindSafe(|| quantum::run(seed, verbose)));
        let outcome = outcome.unwrap_or_else(|panic| Err(Failure::of_panic(panic.as_ref())));
        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
        results.runs += 1;
        match outcome {
            Ok((kind, figures)) => {
                results.figures.add(&figures);
                *results.kinds.entry(kind).or_default() += 1;
            }
            Err(failure) => {
                eprintln!(
                    "seed {seed}: {failure}\n    cargo run --release -p sim -- quantum --seed {seed} -v"
                );
                results.failures.insert(seed, failure);
                if results.failures.len() >= options.failures {
                    next.store(first.saturating_add(count), Ordering::Relaxed);
                }
            }
        }
        if results.runs.is_multiple_of(500) {
            eprintln!("{} of {count} seeds", results.runs);
        }
    }
}

fn report(results: &Results, seconds: f64) {
    println!("{:<28} {:>12}", "seeds", results.runs);
    for (kind, runs) in &results.kinds {
        println!("  {kind:<26} {runs:>12}");
    }
    for (name, value) in results.figures.rows() {
        println!("{name:<28} {value:>12}");
    }
    println!("{:<28} {seconds:>12.1}", "seconds");
    let mut oracles: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (seed, failure) in &results.failures {
        oracles.entry(failure.oracle).or_default().push(*seed);
    }
    for (oracle, seeds) in &oracles {
        println!("FAILED {oracle:<21} {seeds:?}");
    }
    let failed: Vec<String> = oracles
        .iter()
        .map(|(oracle, seeds)| format!("\"{oracle}\":{}", seeds.len()))
        .collect();
    println!(
        "{{\"sim\":\"quantum\",\"seeds\":{},\"failed\":{},\"oracles\":{{{}}},\"seconds\":{seconds:.1}}}",
        results.runs,
        results.failures.len(),
        failed.join(",")
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "says how long a run took; nothing in the simulation sees it"
)]
fn now() -> Instant {
    Instant::now()
}
