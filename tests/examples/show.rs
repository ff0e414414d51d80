//! Runs a scenario at a size of your choice and prints what happened.
//!
//! ```text
//! cargo run --release -p e2e --example show -- reload 5000 500
//! cargo run --release -p e2e --example show -- drain 5000 500
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use anyhow::{Context, bail};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| -> anyhow::Result<usize> {
        let text = arguments.get(index).context("a number is missing")?;
        text.parse()
            .with_context(|| format!("{text:?} is no number"))
    };
    match arguments.first().map(String::as_str) {
        Some("reload") => {
            let size = e2e::reload::Size {
                clients: number(1)?,
                reloads: number(2)? as u64,
            };
            println!("{size:?}: {:?}", e2e::reload::under_load(size)?);
        }
        Some("drain") => {
            let rate = u32::try_from(number(2)?)?;
            let grace_s = 10 + number(1)? as u64 / u64::from(rate) * 2;
            let size = e2e::drain::Size {
                clients: number(1)?,
                rate,
                grace_s,
            };
            println!("{size:?}: {:?}", e2e::drain::to_another_instance(size)?);
        }
        _ => bail!("expected: reload CLIENTS RELOADS, or drain CLIENTS RATE"),
    }
    Ok(())
}
