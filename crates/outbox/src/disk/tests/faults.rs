//! Errors of the storage, segments used again, compaction.

use super::*;
use crate::disk::storage::model::Trouble;

#[test]
fn failed_sync_acknowledges_nothing() {
    let disk = ModelDisk::default();
    let (mut bench, _) = Bench::open(&disk);
    let kept = bench.appended([record(1, 100)]);
    disk.trouble_in(0, Trouble::SyncFails);
    bench.append(record(2, 100));
    assert!(!bench.commit());
    let answers = bench.answers();
    assert!(
        matches!(answers[..], [(2, Err(AppendError::Failed(_)))]),
        "{answers:?}"
    );
    drop(bench);
    // What the failed sync forgot can still be read after a restart; a power cut after that must
    // not take it, for it counts as there.
    disk.killed();
    let (_, entries) = Bench::open(&disk);
    disk.power_cut_keeping(&mut |_| false);
    let (_, again) = Bench::open(&disk);
    assert_eq!(entries, again);
    assert_eq!(entries[0].id, kept[0]);
}

#[test]
fn full_disk_refuses_and_recovers() {
    let disk = ModelDisk::default();
    let (mut bench, _) = Bench::open(&disk);
    let ids = bench.appended((1..=4).map(|key| record(key, 12_000)));
    bench.mark(ids[0], Mark::Settled);
    // The next segment can't be made.
    disk.trouble_in(2, Trouble::Full);
    let mut refused = 0;
    for key in 5..=12 {
        bench.append(record(key, 12_000));
        assert!(bench.commit());
        for (_, answer) in bench.answers() {
            match answer {
                Ok(_) => {}
                Err(AppendError::Busy) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(refused >= 6, "{refused}");
    disk.killed();
    assert_eq!(bench.appended([record(13, 12_000)]).len(), 1);
    drop(bench);
    let (_, entries) = Bench::open(&disk);
    assert_eq!(entries.len(), 3 + (8 - refused) + 1);
    assert_eq!(entries[0].id, ids[1]);
}

#[test]
fn segments_are_used_again_and_their_old_bytes_do_not_count() {
    let disk = ModelDisk::default();
    let (mut bench, _) = Bench::open(&disk);
    let mut last = Vec::new();
    for key in 1..=400 {
        for id in std::mem::take(&mut last) {
            bench.mark(id, Mark::Settled);
        }
        last = bench.appended([record(key, 3_000)]);
    }
    let segments = disk.names().len();
    assert!(segments <= 10, "{:?}", disk.names());
    assert!(bench.log.active.id > 20, "{}", bench.log.active.id);
    for round in 0..10 {
        drop(bench);
        let entries;
        (bench, entries) = Bench::open(&disk);
        let found: Vec<RecordId> = entries.iter().map(|entry| entry.id).collect();
        assert!(found.ends_with(&last), "{found:?} {last:?}");
        last.extend(bench.appended([record(1_000 + round, 3_000)]));
    }
}

#[test]
fn few_old_records_do_not_hold_the_log_up() {
    let disk = ModelDisk::default();
    let (mut bench, _) = Bench::open(&disk);
    let old = bench.appended((1..=3).map(|key| record(key, 500)));
    bench.mark(
        old[0],
        Mark::Attempted {
            attempt: 2,
            at_ms: 77,
        },
    );
    let reason: Arc<str> = Arc::from("x".repeat(3_000));
    bench.mark(old[1], Mark::Dead { reason, at_ms: 78 });
    for key in 10..=600 {
        for id in bench.appended([record(key, 3_000)]) {
            bench.mark(id, Mark::Settled);
        }
        let log = bench.log.shared.index().log_bytes();
        assert!(log <= 16 * SEGMENT, "{log}");
    }
    let first = bench.log.shared.index().parts[0].segment.id;
    assert!(first > 5, "{first}");
    assert!(bench.commit());
    drop(bench);
    let (bench, entries) = Bench::open(&disk);
    let ids: Vec<RecordId> = entries.iter().map(|entry| entry.id).collect();
    assert_eq!(ids, old);
    assert_eq!(
        (entries[0].attempts, entries[0].first_attempt_ms),
        (2, Some(77))
    );
    match &entries[1].state {
        State::Dead { reason, at_ms: 78 } => assert_eq!(reason.len(), 1_024),
        other => panic!("{other:?}"),
    }
    for (id, key) in old.iter().zip(1..) {
        assert_eq!(bench.read(*id).unwrap(), record(key, 500));
    }
}

#[test]
fn oldest_dead_letters_go_first() {
    let disk = ModelDisk::default();
    let (mut bench, _) = Bench::open(&disk);
    let ids = bench.appended((1..=5).map(|key| record(key, 10)));
    for (id, at_ms) in ids.iter().zip([50, 40, 30, 20, 10]) {
        let reason = Arc::from("no");
        bench.mark(*id, Mark::Dead { reason, at_ms });
    }
    bench.mark(ids[4], Mark::Revived);
    assert!(bench.log.shared.index().expire(35, 100));
    assert!(bench.log.shared.index().expire(0, 1));
    assert!(!bench.log.shared.index().expire(0, 1));
    assert!(bench.commit());
    assert_eq!(bench.log.shared.figures().dead_dropped, 3);
    drop(bench);
    let (_, entries) = Bench::open(&disk);
    let left: Vec<RecordId> = entries.iter().map(|entry| entry.id).collect();
    assert_eq!(left, [ids[0], ids[4]]);
    assert_eq!(entries[1].state, State::Pending);
}

/// Everything appended until something fails; what was acknowledged.
fn filled_until_trouble(disk: &ModelDisk, operations: u64, trouble: Trouble) -> Vec<u128> {
    let (mut bench, _) = Bench::open(disk);
    disk.trouble_in(operations, trouble);
    let mut kept = Vec::new();
    for key in 1..=12 {
        bench.append(record(key, 12_000));
        let went_well = bench.commit();
        for (key, answer) in bench.answers() {
            match answer {
                Ok(_) => kept.push(key),
                // Somebody makes room.
                Err(AppendError::Busy) => disk.killed(),
                Err(_) => {}
            }
        }
        if !went_well {
            break;
        }
    }
    kept
}

#[test]
fn disk_that_fills_up_at_any_moment_loses_nothing() {
    for operations in 0..60 {
        let disk = ModelDisk::default();
        let mut kept = filled_until_trouble(&disk, operations, Trouble::Full);
        disk.killed();
        for key in 20..24 {
            let (mut bench, entries) = Bench::open(&disk);
            let found: Vec<u128> = entries.iter().map(|entry| entry.key).collect();
            for key in &kept {
                assert!(
                    found.contains(key),
                    "operation {operations}: {key} in {found:?}"
                );
            }
            bench.appended([record(key, 12_000)]);
            kept.push(u128::from(key));
            disk.power_cut_keeping(&mut |_| false);
        }
    }
}

/// What a failed sync forgot can be read until the power is cut, in segments, the manifest and
/// the folder alike.
#[test]
fn power_cut_while_a_failed_sync_is_recovered_from_loses_nothing() {
    for operations in 0..40 {
        let disk = ModelDisk::default();
        let kept = filled_until_trouble(&disk, operations, Trouble::SyncFails);
        disk.killed();
        for cut in 0..24 {
            for keep in [false, true] {
                let disk = disk.copied();
                disk.trouble_in(cut, Trouble::Cut);
                drop(Bench::try_open(&disk, false));
                disk.power_cut_keeping(&mut |number| keep && number % 2 == 1);
                let (_, entries) = Bench::open(&disk);
                let found: Vec<u128> = entries.iter().map(|entry| entry.key).collect();
                for key in &kept {
                    assert!(
                        found.contains(key),
                        "sync after {operations} failed, cut at {cut}: {key} in {found:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn close_leaves_compaction_to_the_next_start() {
    let disk = ModelDisk::default();
    let (mut bench, _) = Bench::open(&disk);
    let ids = bench.appended((1..=60).map(|key| record(key, 9_000)));
    for id in ids.iter().skip(1) {
        bench.mark(*id, Mark::Settled);
    }
    bench.log.closing = true;
    assert!(bench.commit());
    assert_eq!(bench.log.shared.index().slots[&ids[0].seq].place.segment, 1);
}

#[test]
fn segments_made_ahead_are_freed_by_every_restart() {
    let disk = ModelDisk::default();
    let (mut bench, _) = Bench::open(&disk);
    let made_ahead = |bench: &mut Bench, count| {
        for _ in 0..count {
            bench.log.supply.next().unwrap();
        }
        let files = disk.names();
        let segments = files.iter().filter(|name| *name != "MANIFEST").count();
        assert_eq!(
            bench.log.shared.figures().bytes,
            segments as u64 * SEGMENT,
            "{files:?}"
        );
    };
    made_ahead(&mut bench, 2);
    // Each restart frees what was made ahead; the next may find a free one of the same number.
    for count in [1, 2, 1, 1, 2, 3] {
        drop(bench);
        disk.killed();
        (bench, _) = Bench::open(&disk);
        made_ahead(&mut bench, count);
    }
    assert_eq!(bench.appended([record(1, 100)]).len(), 1);
}
