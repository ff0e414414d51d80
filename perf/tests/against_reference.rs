//! The generator drives the reference broadcaster, small and short: the last
//! line is the JSON object that others read, and nothing voids the run except
//! what a busy machine may.

#![expect(
    clippy::unwrap_used,
    reason = "a test that can not be set up has failed"
)]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

const PERF: &str = env!("CARGO_BIN_EXE_perf");

#[test]
fn churn_counts_handshakes_of_a_peer() {
    let reference = Reference::start();
    let line = reference.drive(&["churn", "--seconds", "1"]);
    assert_eq!(line["bench"], "churn");
    assert!(line["other_handshakes_per_cpu_second"].as_f64().unwrap() > 0.0);
    assert!(line["rss_before"].is_null(), "tidegate was not driven");
    assert_sound(&line);
}

#[test]
fn fanout_delivers_everything_and_times_it() {
    let reference = Reference::start();
    let line = reference.drive(&["fanout", "--subscribers", "20", "--duration", "1"]);
    assert_eq!(line["bench"], "fanout");
    assert!(line["other_deliveries_per_cpu_second"].as_f64().unwrap() > 0.0);
    assert!(line["other_p99_ms"].as_f64().unwrap() > 0.0);
    assert_sound(&line);
}

#[test]
fn idle_counts_bytes_of_a_peer() {
    let reference = Reference::start();
    let line = reference.drive(&["idle", "--connections", "50", "--ping-interval", "1"]);
    assert_eq!(
        (line["bench"].as_str(), line["connections"].as_i64()),
        (Some("idle"), Some(50))
    );
    assert!(line["other_bare_bytes"].as_i64().unwrap() > 0);
    assert_sound(&line);
}

/// Nothing voids the run but what other processes did to it.
#[track_caller]
fn assert_sound(line: &serde_json::Value) {
    const OF_THE_MACHINE: [&str; 5] = [
        "of CPU time was stolen",
        "of the schedule was missed",
        "other processes took",
        "the generator used",
        "CPU-seconds are too few",
    ];
    for reason in line["void"].as_array().unwrap() {
        let reason = reason.as_str().unwrap();
        assert!(
            OF_THE_MACHINE.iter().any(|known| reason.contains(known)),
            "{reason}"
        );
    }
}

struct Reference {
    child: Child,
    peer: String,
}

impl Reference {
    fn start() -> Self {
        let mut child = Command::new(PERF)
            .args(["reference", "--ping-interval", "1"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let listening: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = listening["address"].as_str().unwrap();
        let peer = format!(
            "other=ws://{address}/connection/websocket,pid={}",
            child.id()
        );
        Self { child, peer }
    }

    /// Runs a bench against this server and returns its last line.
    #[track_caller]
    fn drive(&self, arguments: &[&str]) -> serde_json::Value {
        let output = Command::new(PERF)
            .args(arguments)
            .args(["--peers-only", "--peer", &self.peer])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}\n{errors}");
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // A server that is gone already has made its test fail.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
