//! The log with its threads, on real files.

use std::time::Duration;

use lifecycle::Tasks;
use tokio::sync::mpsc;

use super::*;
use crate::disk::manifest::{self, Manifest};
use crate::disk::storage::model::Trouble;
use crate::disk::{Config, DiskOutbox};
use crate::face::ReadError;

fn config(folder: &tempfile::TempDir) -> Config {
    let mut config = Config::new(folder.path());
    config.segment_bytes = 128 << 10;
    config.bytes_max = 4 << 20;
    config
}

async fn opened(config: &Config) -> (DiskOutbox, Vec<Entry>) {
    DiskOutbox::open(config.clone(), &Tasks::new(), Clock::start())
        .await
        .unwrap()
}

/// Appends one record and waits for the answer.
async fn append(outbox: &DiskOutbox, record: Record) -> Result<RecordId, AppendError> {
    let (sender, mut receiver) = mpsc::channel(1);
    let done = Box::new(move |answer| drop(sender.try_send(answer)));
    outbox.append(record, done);
    tokio::time::timeout(Duration::from_secs(60), receiver.recv())
        .await
        .unwrap()
        .unwrap()
}

/// Waits until something holds.
async fn until(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn second_opener_is_kept_out() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let (outbox, _) = opened(&config).await;
    let second = DiskOutbox::open(config.clone(), &Tasks::new(), Clock::start()).await;
    assert!(matches!(second, Err(OpenError::Locked { .. })));
    outbox.close().await;
    drop(outbox);
    opened(&config).await.0.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_log_refuses_until_something_is_settled() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let (outbox, _) = opened(&config).await;
    let mut ids = Vec::new();
    let refused = loop {
        match append(&outbox, record(ids.len() as u64, 20_000)).await {
            Ok(id) => ids.push(id),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AppendError::Busy);
    assert!(ids.len() > 100, "{}", ids.len());
    for id in ids.drain(..100) {
        outbox.mark(id, Mark::Settled);
    }
    for key in 0..50 {
        ids.push(append(&outbox, record(1_000 + key, 20_000)).await.unwrap());
    }
    outbox.close().await;
    drop(outbox);
    let (outbox, entries) = opened(&config).await;
    let found: Vec<RecordId> = entries.iter().map(|entry| entry.id).collect();
    assert_eq!(found, ids);
    outbox.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_held_up_by_scattered_records_makes_room_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _) = opened(&config(&folder)).await;
    let mut kept = Vec::new();
    for key in 0..2_000 {
        let id = append(&outbox, record(key, 4_000)).await.unwrap();
        if key % 20 == 0 {
            kept.push((id, key));
        } else {
            outbox.mark(id, Mark::Settled);
        }
    }
    for (id, key) in kept {
        assert_eq!(outbox.read(id).await.unwrap(), record(key, 4_000));
    }
    assert!(outbox.figures().bytes <= 6 << 20, "{:?}", outbox.figures());
    outbox.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_are_written_without_records_to_travel_with() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _) = opened(&config(&folder)).await;
    let id = append(&outbox, record(1, 10)).await.unwrap();
    let syncs = outbox.figures().syncs;
    outbox.mark(id, Mark::Settled);
    assert!(matches!(outbox.read(id).await, Err(ReadError::Missing(_))));
    until(|| outbox.figures().syncs > syncs).await;
    outbox.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_ways_to_sync_keep_order_and_survive_a_close() {
    for sync in [Sync::Interval(Duration::from_millis(5)), Sync::Never] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&folder);
        config.sync = sync;
        let (outbox, _) = opened(&config).await;
        let mut ids = Vec::new();
        for key in 0..300 {
            ids.push(append(&outbox, record(key, 3_000)).await.unwrap());
            if key % 3 == 0 {
                outbox.mark(ids.remove(0), Mark::Settled);
            }
        }
        outbox.close().await;
        drop(outbox);
        let (outbox, entries) = opened(&config).await;
        let found: Vec<RecordId> = entries.iter().map(|entry| entry.id).collect();
        assert_eq!(found, ids, "{sync:?}");
        outbox.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_records_are_refused_and_the_largest_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let (outbox, _) = opened(&config).await;
    let max = (128 << 10) - 3 * 4096;
    let client = record(0, 0).client.len();
    let id = append(&outbox, record(0, max - client)).await.unwrap();
    assert_eq!(outbox.read(id).await.unwrap().payload.len(), max - client);
    let refused = append(&outbox, record(0, max - client + 1)).await;
    assert_eq!(refused, Err(AppendError::TooLarge { size: max + 1, max }));
    outbox.close().await;
    drop(outbox);
    assert_eq!(opened(&config).await.1.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn scrubber_finds_damage() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _) = opened(&config(&folder)).await;
    let mut ids = Vec::new();
    for key in 0..30 {
        ids.push(append(&outbox, record(key, 20_000)).await.unwrap());
    }
    let path = folder.path().join("00000000000000000001.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[5_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    until(|| outbox.figures().corrupt > 0).await;
    let read = outbox.read(ids[0]).await;
    assert!(matches!(read, Err(ReadError::Damaged { .. })), "{read:?}");
    outbox.close().await;
}

/// The log with its threads on a model disk, and what it found there.
fn started(disk: &ModelDisk) -> (DiskOutbox, Vec<Entry>) {
    let (bench, entries) = Bench::open(disk);
    let mut config = Config::new("");
    config.segment_bytes = SEGMENT;
    let outbox = DiskOutbox::start(bench.log, &config, Tasks::new()).unwrap();
    (outbox, entries)
}

/// Waits until the keeper has made segments ahead and rests.
async fn quiet(disk: &ModelDisk) {
    until(|| {
        let newest = match Manifest::read(disk, true) {
            Ok(manifest::Read::Found(manifest)) => manifest.newest,
            _ => 0,
        };
        newest == 3 && !disk.has_pending()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_disk_ends_everything_until_a_restart() {
    for trouble in [Trouble::WriteFails, Trouble::SyncFails, Trouble::Full] {
        let disk = ModelDisk::default();
        let (outbox, _) = started(&disk);
        quiet(&disk).await;
        let kept = append(&outbox, record(1, 100)).await.unwrap();
        disk.trouble_in(0, trouble);
        let refused = append(&outbox, record(2, 100)).await;
        assert!(
            matches!(refused, Err(AppendError::Failed(_))),
            "{trouble:?}: {refused:?}"
        );
        assert!(outbox.failed().is_cancelled());
        let reason = outbox.figures().failed.unwrap();
        assert!(
            reason.contains("records 2 to 2 are unconfirmed"),
            "{reason}"
        );
        // The trouble is over, but nobody knows what was forgotten.
        disk.killed();
        let refused = append(&outbox, record(3, 100)).await;
        assert!(matches!(refused, Err(AppendError::Failed(_))));
        outbox.mark(kept, Mark::Settled);
        outbox.close().await;
        drop(outbox);
        let (outbox, entries) = started(&disk);
        assert_eq!(entries[0].id, kept);
        append(&outbox, record(4, 100)).await.unwrap();
        outbox.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failure_to_make_segments_ends_everything() {
    let disk = ModelDisk::default();
    let (bench, _) = Bench::open(&disk);
    disk.trouble_in(0, Trouble::WriteFails);
    let mut config = Config::new("");
    config.segment_bytes = SEGMENT;
    let outbox = DiskOutbox::start(bench.log, &config, Tasks::new()).unwrap();
    let failed = outbox.failed();
    tokio::time::timeout(Duration::from_secs(60), failed.cancelled())
        .await
        .unwrap();
    let refused = append(&outbox, record(1, 100)).await;
    assert!(matches!(refused, Err(AppendError::Failed(_))));
    outbox.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_without_room_for_segments_refuses_records_and_takes_settlements() {
    let disk = ModelDisk::default();
    let (mut bench, _) = Bench::open(&disk);
    let ids = bench.appended((1..=3).map(|key| record(key, 100)));
    drop(bench);
    disk.trouble_in(0, Trouble::NoRoomForFiles);
    let (outbox, _) = started(&disk);
    until(|| !outbox.shared.admits(1, 1)).await;
    assert_eq!(
        append(&outbox, record(4, 100)).await,
        Err(AppendError::Busy)
    );
    let syncs = outbox.figures().syncs;
    outbox.mark(ids[0], Mark::Settled);
    until(|| outbox.figures().syncs > syncs).await;
    assert!(!outbox.failed().is_cancelled());
    // Room again: it is noticed without anybody's help.
    disk.killed();
    until(|| outbox.shared.admits(1, 1)).await;
    append(&outbox, record(5, 100)).await.unwrap();
    outbox.close().await;
    drop(outbox);
    let (_, entries) = Bench::open(&disk);
    let keys: Vec<u128> = entries.iter().map(|entry| entry.key).collect();
    assert_eq!(keys, [2, 3, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn log_that_is_never_synced_gives_up_segments() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.sync = Sync::Never;
    let (outbox, _) = opened(&config).await;
    for key in 0..2_000 {
        let id = append(&outbox, record(key, 4_000)).await.unwrap();
        outbox.mark(id, Mark::Settled);
    }
    assert!(outbox.figures().bytes <= 4 << 20, "{:?}", outbox.figures());
    outbox.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_notes_at_once_are_all_written() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _) = opened(&config(&folder)).await;
    let (sender, mut receiver) = mpsc::channel(20_000);
    for key in 0..7_000 {
        let sender = sender.clone();
        let done = Box::new(move |answer| drop(sender.try_send(answer)));
        outbox.append(record(key, 10), done);
    }
    let mut ids = Vec::new();
    for _ in 0..7_000 {
        ids.push(receiver.recv().await.unwrap().unwrap());
    }
    for id in ids {
        let at_ms = 1;
        outbox.mark(id, Mark::Attempted { attempt: 1, at_ms });
    }
    until(|| outbox.shared.index().marks() == 0).await;
    outbox.close().await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn folder_and_files_are_closed_to_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.folder = folder.path().join("made").join("by us");
    let (outbox, _) = opened(&config).await;
    append(&outbox, record(1, 10)).await.unwrap();
    outbox.close().await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&config.folder) & 0o777, 0o700);
    let mut files = 0;
    for file in std::fs::read_dir(&config.folder).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path) & 0o777, 0o600, "{path:?}");
        files += 1;
    }
    assert!(files >= 3, "{files}");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&config.folder, open).unwrap();
    opened(&config).await.0.close().await;
    assert_eq!(mode(&config.folder) & 0o777, 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_records_are_recovered_quickly() {
    let records = if cfg!(debug_assertions) {
        20_000
    } else {
        1_000_000
    };
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::new(folder.path());
    config.segment_bytes = if cfg!(debug_assertions) {
        2 << 20
    } else {
        64 << 20
    };
    let (outbox, _) = opened(&config).await;
    let (sender, mut receiver) = mpsc::channel::<Result<RecordId, AppendError>>(4_096);
    let mut done = 0;
    for key in 0..records {
        if key >= 4_096 {
            receiver.recv().await.unwrap().unwrap();
            done += 1;
        }
        let sender = sender.clone();
        let call = Box::new(move |answer| drop(sender.try_send(answer)));
        outbox.append(record(key, 200), call);
    }
    for _ in done..records {
        receiver.recv().await.unwrap().unwrap();
    }
    outbox.close().await;
    drop(outbox);
    let clock = Clock::start();
    let (outbox, entries) = opened(&config).await;
    let took = clock.elapsed();
    assert_eq!(entries.len() as u64, records);
    println!("{records} unsettled records of 200 bytes recovered in {took:?}");
    assert!(took < Duration::from_secs(60), "{took:?}");
    outbox.close().await;
}
