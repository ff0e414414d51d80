//! Quantum on the emulated link, small and short: the last line has what others read.

use std::process::Command;

const PERF: &str = env!("CARGO_BIN_EXE_perf");

#[test]
fn a_row_has_latencies_overhead_figures_and_a_plot() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(PERF)
        .args(["quantum", "--seconds", "1", "--only", "latency"])
        .args(["--subject", "quantum", "--subject", "quinn-bbr"])
        .args(["--loss", "5", "--out"])
        .arg(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{output:?}");
    let line: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(line["bench"], "quantum");
    assert!(line["p99_ms"]["5"].as_f64().unwrap() >= 20.0, "{line}");
    assert!(line["rivals"]["quinn_bbr"]["p99_ms"]["5"].as_f64().unwrap() >= 20.0);
    assert!(line["overhead"].as_f64().unwrap() > 1.0, "{line}");
    assert!(line["bulk_mbit"]["1"].is_null(), "nothing was uploaded");
    let figures = std::fs::read_to_string(folder.path().join("row.csv")).unwrap();
    assert_eq!(figures.lines().count(), 3, "{figures}");
    let plot = std::fs::read_to_string(folder.path().join("row.svg")).unwrap();
    assert_eq!(plot.matches("<circle").count(), 2, "{plot}");
}
