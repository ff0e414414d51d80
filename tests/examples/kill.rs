//! Kills the gateway under load, again and again, and prints what was lost: nothing, or it
//! fails.
//!
//! ```text
//! cargo run --release -p e2e --example kill -- [--kills 1000] [--seed N] [--folder F]
//! ```
//!
//! `cargo xtask kill` builds the gateway before. The folder must not exist; it is removed at
//! a good end and kept, with logs, ledger and the gateway's data, at a bad one.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]
#![expect(clippy::disallowed_methods, reason = "it lives by the wall clock")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use e2e::kill::{Order, run};

fn main() -> anyhow::Result<ExitCode> {
    let mut kills = 1_000;
    let mut seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut folder = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(key) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{key} needs a value"))?;
        match key.as_str() {
            "--kills" => kills = value.parse().context("--kills is no number")?,
            "--seed" => seed = value.parse().context("--seed is no number")?,
            "--folder" => folder = Some(PathBuf::from(value)),
            _ => bail!("expected --kills, --seed or --folder instead of {key}"),
        }
    }
    let folder = folder.unwrap_or_else(|| PathBuf::from(format!("target/kill/{seed}")));
    if folder.exists() {
        bail!("folder {folder:?} exists already");
    }
    println!("{kills} kills, seed {seed}, folder {}", folder.display());
    let order = Order {
        kills,
        seed,
        folder: folder.clone(),
        executable: testkit::gateway::executable()?,
    };
    let started = Instant::now();
    let verdict = run(&order, |done| {
        if done % 50 == 0 {
            println!("{done:>6} kills, {:.0} s", started.elapsed().as_secs_f64());
        }
    })
    .with_context(|| format!("everything is kept in {}", folder.display()))?;
    println!("\n{verdict}");
    if !verdict.is_clean() {
        println!("everything is kept in {}", folder.display());
        println!("{}", verdict.json());
        return Ok(ExitCode::FAILURE);
    }
    std::fs::remove_dir_all(&folder)?;
    println!("{}", verdict.json());
    Ok(ExitCode::SUCCESS)
}
