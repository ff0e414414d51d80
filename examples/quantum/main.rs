//! A tonic service and client over Quantum, through a link that loses: what error correction does.
//!
//! ```text
//! cargo run --release -p e2e --example quantum
//! cargo run --release -p e2e --example quantum -- --seconds 60
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "an example lives by the wall clock"
)]

mod measure;
mod ways;

/// What was made of `echo.proto`.
#[expect(
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "written by a program"
)]
mod v1 {
    tonic::include_proto!("example.echo.v1");
}

use anyhow::Context;
use measure::{Cell, Row};

const LOSSES: [f64; 3] = [0.01, 0.05, 0.1];
const SECONDS: f64 = 10.0;

fn main() -> anyhow::Result<()> {
    let seconds = seconds()?;
    let runtime = lifecycle::background_runtime(2)?;
    runtime.block_on(show(seconds))
}

async fn show(seconds: f64) -> anyhow::Result<()> {
    let keys = tempfile::tempdir()?;
    let [per_call, ordered] = measure::try_both(&keys.path().join("both")).await?;
    println!("first calls on this machine, connecting included:");
    println!(
        "  a stream per call: {:.1} ms",
        per_call.as_secs_f64() * 1e3
    );
    println!(
        "  HTTP/2 in the ordered mode: {:.1} ms",
        ordered.as_secs_f64() * 1e3
    );

    let calls = measure::calls_in(seconds);
    println!("\n200 calls/s of 1,000 bytes for {seconds} s each, round trip 20 ms:\n");
    println!("{}", Row::HEAD);
    for loss in LOSSES {
        for fec in [false, true] {
            let cell = Cell { loss, fec, calls };
            let folder = keys.path().join(format!("{loss}-{fec}"));
            println!("{}", cell.measure(&folder).await?);
        }
    }
    println!(
        "\nlost: packets that congestion control counts as lost; recovered: of those, what repairs\n\
         gave back; resent: what had to be sent again. Bytes are those of both directions."
    );
    Ok(())
}

/// The argument `--seconds`.
fn seconds() -> anyhow::Result<f64> {
    let mut arguments = std::env::args().skip(1);
    let seconds = match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => SECONDS,
        (Some("--seconds"), Some(text)) => text.parse().context("--seconds wants a number")?,
        (Some(other), _) => anyhow::bail!("{other:?} is not known; there is `--seconds N`"),
    };
    anyhow::ensure!(
        (0.5..=600.0).contains(&seconds),
        "--seconds takes 0.5 to 600"
    );
    Ok(seconds)
}
