//! What every kind of outbox promises, as one suite. Here it runs on the disk; tests of other
//! kinds include `conformance/suite.rs` and call it with their own configuration.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "conformance/suite.rs"]
mod suite;

use outbox::{Config, disk};

#[tokio::test(flavor = "multi_thread")]
async fn log_on_disk_keeps_its_promises() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = disk::Config::new(folder.path());
    config.segment_bytes = 256 << 10;
    config.bytes_max = 64 << 20;
    suite::conformance(Config::Disk(config)).await;
}
