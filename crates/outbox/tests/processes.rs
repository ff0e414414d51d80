//! One process at a time, tested with a second one: this binary, started again.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::Path;
use std::process::Command;

use lifecycle::{Clock, Tasks};
use outbox::{Config, OpenError, disk, open};

#[tokio::test(flavor = "multi_thread")]
async fn second_process_is_kept_out_until_the_first_has_closed() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::Disk(small(folder.path()));
    let (outbox, _) = open(config, &Tasks::new(), Clock::start()).await.unwrap();
    assert_eq!(opened_by_another(folder.path()), "kept out");
    outbox.close().await;
    assert_eq!(opened_by_another(folder.path()), "let in");
}

/// What the second process does; no test of its own.
#[tokio::test(flavor = "multi_thread")]
async fn another_process() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let config = Config::Disk(small(Path::new(&folder)));
    let found = match open(config, &Tasks::new(), Clock::start()).await {
        Ok((outbox, _)) => {
            outbox.close().await;
            "let in"
        }
        Err(OpenError::Disk(disk::OpenError::Locked { .. })) => "kept out",
        Err(_) => "something else",
    };
    println!("{MARK}{found}");
}

/// What another process finds at a folder.
fn opened_by_another(folder: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "another_process", "--nocapture"])
        .env(FOLDER, folder)
        .output()
        .unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let mut lines = output.lines();
    let found = lines.find_map(|line| line.split_once(MARK));
    found.unwrap().1.to_owned()
}

fn small(folder: &Path) -> disk::Config {
    let mut config = disk::Config::new(folder);
    config.segment_bytes = 64 << 10;
    config.bytes_max = 1 << 20;
    config
}

const FOLDER: &str = "OUTBOX_OF_ANOTHER_PROCESS";
const MARK: &str = "another process was ";
