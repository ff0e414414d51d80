//! What developers run: install, test, check, conformance.
//!
//! Each command says what it is about to do, shows the output of what it runs, and ends with a list of
//! its steps, the time each took, and a count: `N passed, M failed`.
//! The exit code is 0 only if nothing failed.

#![expect(
    clippy::print_stdout,
    reason = "a developer tool talks on standard output"
)]

mod autobahn;
mod buf;
mod ci;
mod deps;
mod house;
mod kill;
mod openclaw;
mod packages;
mod run;
mod schemathesis;
mod suites;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::run::Report;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Installs, tests and checks Tidegate")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs what the tests need: packages of Debian, npm, Go and PyPI
    Deps {
        /// Installs what the benchmarks compare against as well
        #[arg(long)]
        rivals: bool,
    },
    /// Installs what is missing, then runs the Rust tests, the JavaScript SDK suite, Schemathesis, the browser tests and the contracts
    Test,
    /// Runs the JavaScript SDK suite and the examples of the documents only
    Sdk,
    /// Runs the market screen and the console in headless Chromium only
    Browser,
    /// Runs everything that must hold before a change lands: format, lints, docs, house rules, tests
    Ci,
    /// Runs the Autobahn WebSocket suite against both roles of the codec, all cases
    Autobahn(autobahn::Arguments),
    /// Runs the relay against a real OpenClaw gateway from npm, with a stub for its model
    Openclaw,
    /// Tries the admin API of a real gateway against its OpenAPI document (Schemathesis, from PyPI)
    Schemathesis,
    /// Checks the contracts of proto/: format, lints, nothing that breaks against the baseline
    Buf {
        /// For a release only: makes the contracts the baseline if they only add to the last one
        #[arg(long)]
        release_baseline: bool,
    },
    /// Generates the contracts for TypeScript, Go and Python and has them read what Rust writes
    Contracts,
    /// Kills the gateway a thousand times under load; what it acknowledged must all arrive
    Kill(kill::Arguments),
    /// Checks the house rules only (seconds, no build)
    House,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    std::env::set_current_dir(run::repository_root()?)?;
    let mut report = Report::default();
    match arguments.command {
        Command::Deps { rivals } => deps::install(&mut report, rivals),
        Command::Test => suites::run(&mut report),
        Command::Sdk => suites::sdk(&mut report),
        Command::Browser => suites::browser(&mut report),
        Command::Ci => ci::run(&mut report),
        Command::Autobahn(arguments) => {
            report.step("Autobahn suite, server and client", || {
                autobahn::run(&arguments)
            });
        }
        Command::Openclaw => openclaw::run(&mut report),
        Command::Schemathesis => schemathesis::run(&mut report),
        Command::Buf { release_baseline } => buf::run(&mut report, release_baseline),
        Command::Contracts => buf::install_and_run_languages(&mut report),
        Command::Kill(arguments) => return kill::run(&arguments),
        Command::House => house::check(&mut report),
    }
    Ok(report.finish())
}
