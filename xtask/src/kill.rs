//! The relay under SIGKILL: builds the gateway as it is released and kills it under load.
//!
//! The checks are in the package `e2e`; their last line, which is JSON, is ours too.

use std::process::ExitCode;

use crate::run;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How often the gateway is killed
    #[arg(long, default_value_t = 1000)]
    kills: u32,
    /// What chance starts from; printed, and taken from the clock unless given
    #[arg(long)]
    seed: Option<u64>,
}

/// Builds, kills, compares; fails if anything was lost, reordered or invented.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    run::run(&mut run::command(
        "cargo build --quiet --release --package tidegate",
    ))?;
    let mut kill = run::command("cargo run --quiet --release --package e2e --example kill --");
    kill.args(["--kills", &arguments.kills.to_string()]);
    if let Some(seed) = arguments.seed {
        kill.args(["--seed", &seed.to_string()]);
    }
    let is_clean = run::run_reading(&mut kill, |_| {})?;
    Ok(if is_clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
