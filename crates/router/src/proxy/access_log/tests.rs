#![expect(
    clippy::disallowed_methods,
    reason = "the test waits for a thread, with a deadline"
)]

use std::fs;
use std::time::Instant;

use super::super::outcome::{Decider, Outcome};
use super::super::trace::Trace;
use super::*;

fn log(log: &AccessLog, path: &str) {
    let trace = Trace {
        id: 1,
        span: 1,
        flags: 0,
        is_new: true,
    };
    log.write(&Line {
        unix_ms: 0,
        proxy_name: "",
        method: "GET",
        path,
        upstream: "",
        concurrent: 1,
        circuit_state: "closed",
        trace: &trace,
        caller: None,
        model: None,
        error: None,
        outcome: &Outcome::refused(404, Decider::Route, Duration::ZERO),
    });
}

fn paths(file: &std::path::Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    text.lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["path"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn lines_are_written_by_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let writer = AccessLog::start(Destination::File(file.clone())).unwrap();
    for path in ["/a", "/b"] {
        log(&writer, path);
    }
    drop(writer);
    assert_eq!(paths(&file), ["/a", "/b"]);
    let writer = AccessLog::start(Destination::File(file.clone())).unwrap();
    log(&writer, "/c");
    drop(writer);
    assert_eq!(paths(&file), ["/a", "/b", "/c"]);
}

#[test]
fn a_file_that_was_moved_is_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (file, old) = (folder.path().join("log"), folder.path().join("log.1"));
    let writer = AccessLog::start(Destination::File(file.clone())).unwrap();
    log(&writer, "/old");
    fs::rename(&file, &old).unwrap();
    writer.reopen();
    // Only the thread knows when it has opened the new file, which is then there.
    let begun = Instant::now();
    while !file.exists() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::yield_now();
    }
    log(&writer, "/new");
    drop(writer);
    assert_eq!(paths(&old), ["/old"]);
    assert_eq!(paths(&file), ["/new"]);
}

#[test]
fn what_has_no_room_is_dropped_and_counted() {
    let writer = AccessLog {
        shared: Arc::default(),
        destination: Destination::Stdout,
        thread: None,
    };
    for _ in 0..LINES_MAX + 3 {
        log(&writer, "/");
    }
    assert_eq!(writer.dropped(), 3);
    assert_eq!(writer.shared.lock().lines, LINES_MAX);
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none").join("log");
    let error = AccessLog::start(Destination::File(path)).unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_drops_lines_and_blocks_nobody() {
    let full = Destination::File(PathBuf::from("/dev/full"));
    let writer = AccessLog::start(full).unwrap();
    log(&writer, "/a");
    let shared = Arc::clone(&writer.shared);
    drop(writer);
    assert_eq!(shared.dropped.load(Relaxed), 1);
    assert_eq!(shared.written.load(Relaxed), 0);
}
