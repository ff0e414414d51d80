//! Simulations in virtual time.
//!
//! `cargo run --release -p sim -- quantum --seeds 10000` runs pairs of Quantum connections over a
//! network that does to them what networks do, and worse: see [`quantum`]. Each run is drawn from
//! a seed, and a seed that fails prints the command that repeats it, event by event with `-v`.
//!
//! `cargo run --release -p sim -- mutations` breaks the code in five known ways, one at a time, and
//! expects each to be caught: see [`mutations`].

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "reports on standard output, progress on standard error"
)]

mod chance;
mod mutations;
mod network;
mod quantum;
mod seeds;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "sim", about = "Seeded simulations in virtual time")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Quantum connections over a network that loses, damages, reorders, repeats and lies
    Quantum(seeds::Options),
    /// Breaks Quantum in known ways and expects the simulation to notice
    Mutations(mutations::Options),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Quantum(options) => seeds::run(&options),
        Command::Mutations(options) => mutations::run(&options),
    }
}
