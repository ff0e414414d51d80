//! The example of Quantum runs, and its guide shows what runs.
#![cfg(test)]

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

const GUIDE: &str = include_str!("../../docs/guide/quantum.md");
const METRICS: &str = include_str!("../../docs/reference/metrics.md");
const WAYS: &str = include_str!("../../examples/quantum/ways.rs");
const ALERTS: &str = include_str!("../../examples/quantum/alerts.yml");

#[test]
fn quantum_hides_loss_in_the_example() -> anyhow::Result<()> {
    // Cargo puts examples beside the folder of tests.
    let ours = std::env::current_exe()?;
    let profile = ours.parent().and_then(Path::parent).context("no folder")?;
    let output = Command::new(profile.join("examples/quantum"))
        .args(["--seconds", "1"])
        .output()
        .context("the example was not built; `cargo test -p e2e` does that")?;
    let printed = String::from_utf8(output.stdout)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{printed}\n{errors}");
    for loss in ["1 %", "5 %", "10 %"] {
        let rows = printed
            .lines()
            .filter(|line| line.trim_start().starts_with(loss));
        let rows: Vec<_> = rows.collect();
        ensure!(rows.len() == 2, "no two rows for {loss}:\n{printed}");
        for (row, fec) in rows.into_iter().zip(["off", "on"]) {
            let fields: Vec<_> = row.split_whitespace().collect();
            ensure!(fields.get(2) == Some(&fec), "{row}");
            let median: f64 = fields.get(3).context("no p50")?.parse()?;
            ensure!(median >= 20.0, "no call is faster than the link: {row}");
            let recovered: u64 = fields.get(7).context("no count")?.parse()?;
            ensure!(fec == "on" || recovered == 0, "{row}");
        }
    }
    Ok(())
}

#[test]
fn code_of_the_guide_is_code_of_the_example() {
    let blocks: Vec<_> = GUIDE.split("```rust\n").skip(1).collect();
    assert!(blocks.len() > 5);
    for block in blocks {
        let code = block.split("```").next().unwrap_or_default();
        assert!(WAYS.contains(code), "ways.rs has not:\n{code}");
    }
}

#[test]
fn alerts_and_guide_name_metrics_that_there_are() {
    for text in [ALERTS, GUIDE] {
        let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
        let named: Vec<_> = words
            .filter(|word| word.starts_with("quantum_") && word.len() > "quantum_".len())
            .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
            .collect();
        assert!(named.len() > 5);
        for metric in named {
            assert!(
                METRICS.contains(&format!("`{metric}`")),
                "there is no {metric}"
            );
        }
    }
}
