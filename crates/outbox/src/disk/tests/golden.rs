//! The format, byte by byte: a log written once must be read for ever, and is written the same.

use super::*;
use crate::disk::format::PAGE;
use crate::disk::segment::segment_name;

/// One of everything: records, states, settlements, a moved record.
fn written() -> ModelDisk {
    let disk = ModelDisk::default();
    let (mut bench, _) = Bench::open(&disk);
    let ids = bench.appended((1..=5).map(|key| record(key, 20 * usize::try_from(key).unwrap())));
    bench.mark(ids[1], Mark::Settled);
    bench.mark(
        ids[2],
        Mark::Attempted {
            attempt: 2,
            at_ms: 1_000,
        },
    );
    let reason = Arc::from("the agent is gone");
    bench.mark(
        ids[3],
        Mark::Dead {
            reason,
            at_ms: 2_000,
        },
    );
    assert!(bench.commit());
    // The second of these goes to another segment, and then what is left of the first does.
    let filling = bench.appended([record(6, 30_000)]);
    let next = bench.appended([record(7, 34_000)]);
    bench.mark(filling[0], Mark::Settled);
    bench.mark(
        next[0],
        Mark::Attempted {
            attempt: 1,
            at_ms: 3_000,
        },
    );
    bench.log.evacuate = 2;
    bench.appended([record(8, 10)]);
    bench.log.evacuate = 0;
    assert_eq!(bench.log.shared.index().parts[0].segment.id, 2);
    disk
}

#[test]
fn log_is_written_as_ever() {
    let disk = written();
    for (name, file) in [("MANIFEST", "manifest"), (&segment_name(2), "segment")] {
        let mut bytes = Vec::new();
        disk.tamper(name, |contents| bytes.clone_from(contents));
        let golden = golden(file, bytes.len());
        let differs = bytes.iter().zip(&golden).position(|(is, was)| is != was);
        assert_eq!(differs, None, "{name}");
    }
}

#[test]
fn log_of_version_1_is_read() {
    let disk = ModelDisk::default();
    for (name, file, length) in [
        ("MANIFEST", "manifest", 2 * PAGE),
        (
            &segment_name(2),
            "segment",
            usize::try_from(SEGMENT).unwrap(),
        ),
    ] {
        let made = disk.create(name).unwrap();
        made.write_at(&golden(file, length), 0).unwrap();
    }
    let (bench, entries) = Bench::open(&disk);
    let found: Vec<(u64, u32, bool)> = entries
        .iter()
        .map(|entry| {
            let dead = matches!(&entry.state, State::Dead { reason, at_ms: 2_000 } if &**reason == "the agent is gone");
            (entry.id.seq, entry.attempts, dead)
        })
        .collect();
    let expected = [
        (1, 0, false),
        (3, 2, false),
        (4, 0, true),
        (5, 0, false),
        (7, 1, false),
        (8, 0, false),
    ];
    assert_eq!(found, expected);
    for entry in entries {
        let key = entry.id.seq;
        let size = match key {
            7 => 34_000,
            8 => 10,
            key => 20 * key,
        };
        let size = usize::try_from(size).unwrap();
        assert_eq!(bench.read(entry.id).unwrap(), record(key, size));
    }
}

/// A file of `fixtures/`, which lacks the zeros at the end.
fn golden(file: &str, length: usize) -> Vec<u8> {
    let path = format!("{}/fixtures/v1/{file}", env!("CARGO_MANIFEST_DIR"));
    let mut bytes = std::fs::read(path).unwrap();
    bytes.resize(length, 0);
    bytes
}
