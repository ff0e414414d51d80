//! Runs the relay against a real OpenClaw gateway and prints a table.
//!
//! `cargo xtask openclaw` installs what it needs and starts it:
//! its argument is the `node_modules` folder with OpenClaw.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

fn main() -> anyhow::Result<ExitCode> {
    let modules = std::env::args_os().nth(1).map(PathBuf::from);
    let modules = modules.context("expected: the node_modules folder with OpenClaw")?;
    let outcomes = e2e::openclaw::run(&modules.canonicalize()?, |check| {
        let outcome = check.failure.as_ref().map_or("ok", |_| "FAILED");
        let seconds = check.took.as_secs_f64();
        println!("    {outcome:<6}  {seconds:6.1} s  {}", check.name);
        if let Some(failure) = &check.failure {
            println!("{failure}");
        }
    })?;
    let failed = outcomes.iter().filter(|check| check.failure.is_some());
    let failed = failed.count();
    println!("\n{} passed, {failed} failed", outcomes.len() - failed);
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
