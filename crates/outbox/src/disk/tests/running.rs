//! The log with its threads, on real files.

use std::time::Duration;

use lifecycle::Tasks;
use tokio::sync::mpsc;

use super::*;
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
