//! The suite. The storage behind the configuration is empty when it starts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lifecycle::{Clock, Tasks};
use outbox::{
    AppendError, Config, Entry, Mark, Outbox, Priority, ReadError, Record, RecordId, State, open,
};
use tokio::sync::mpsc;

/// Everything that holds for every kind.
pub(crate) async fn conformance(config: Config) {
    empty_outbox_has_no_entries(&config).await;
    appended_records_are_called_back_in_order_and_come_back(&config).await;
    notes_survive(&config).await;
    settled_records_do_not_come_back(&config).await;
    numbers_are_never_used_again(&config).await;
}

async fn empty_outbox_has_no_entries(config: &Config) {
    let (outbox, entries) = opened(config).await;
    assert!(entries.is_empty(), "{entries:?}");
    assert_eq!(outbox.figures().unsettled, 0);
    assert!(!outbox.failed().is_cancelled());
    outbox.close().await;
}

async fn appended_records_are_called_back_in_order_and_come_back(config: &Config) {
    let (outbox, _) = opened(config).await;
    let records: Vec<Record> = (0..100).map(record).collect();
    let ids = appended(&outbox, &records).await;
    assert!(ids.is_sorted(), "{ids:?}");
    for (id, record) in ids.iter().zip(&records) {
        assert_eq!(outbox.read(*id).await.unwrap(), *record);
    }
    assert_eq!(outbox.figures().unsettled, 100);
    outbox.close().await;
    drop(outbox);

    let (outbox, entries) = opened(config).await;
    assert_eq!(entries.len(), 100);
    for (entry, record) in entries.iter().zip(&records) {
        assert_eq!(entry.key, record.key);
        assert_eq!(entry.client, record.client);
        assert_eq!(entry.priority, record.priority);
        assert_eq!(entry.at_ms, record.at_ms);
        assert_eq!(entry.size, record.payload.len());
        assert_eq!((entry.attempts, entry.first_attempt_ms), (0, None));
        assert_eq!(entry.state, State::Pending);
        assert_eq!(outbox.read(entry.id).await.unwrap(), *record);
    }
    outbox.close().await;
}

async fn notes_survive(config: &Config) {
    let (outbox, entries) = opened(config).await;
    let [tried, given_up, revived, ..] = entries.as_slice() else {
        panic!("{} entries", entries.len());
    };
    for attempt in 1..=3 {
        let at_ms = 1000 * u64::from(attempt);
        outbox.mark(tried.id, Mark::Attempted { attempt, at_ms });
    }
    for entry in [given_up, revived] {
        let reason = Arc::from("agent said no");
        outbox.mark(
            entry.id,
            Mark::Attempted {
                attempt: 1,
                at_ms: 1,
            },
        );
        outbox.mark(
            entry.id,
            Mark::Dead {
                reason,
                at_ms: u64::MAX / 4,
            },
        );
    }
    outbox.mark(revived.id, Mark::Revived);
    outbox.close().await;
    drop(outbox);

    let (outbox, again) = opened(config).await;
    assert_eq!(
        (again[0].attempts, again[0].first_attempt_ms),
        (3, Some(1000))
    );
    assert_eq!(
        again[1].state,
        State::Dead {
            reason: Arc::from("agent said no"),
            at_ms: u64::MAX / 4
        }
    );
    assert_eq!(again[2].state, State::Pending);
    assert_eq!((again[2].attempts, again[2].first_attempt_ms), (0, None));
    assert_eq!(again[3], entries[3]);
    outbox.close().await;
}

async fn settled_records_do_not_come_back(config: &Config) {
    let (outbox, entries) = opened(config).await;
    for entry in entries.iter().filter(|entry| entry.id.seq % 2 == 0) {
        outbox.mark(entry.id, Mark::Settled);
        // Twice is as good as once.
        outbox.mark(entry.id, Mark::Settled);
    }
    outbox.close().await;
    drop(outbox);

    let (outbox, left) = opened(config).await;
    let expected: Vec<&Entry> = entries
        .iter()
        .filter(|entry| entry.id.seq % 2 == 1)
        .collect();
    assert_eq!(left.iter().collect::<Vec<_>>(), expected);
    for entry in entries.iter().filter(|entry| entry.id.seq % 2 == 0) {
        let read = outbox.read(entry.id).await;
        assert!(matches!(read, Err(ReadError::Missing(_))), "{read:?}");
    }
    for entry in &left {
        outbox.mark(entry.id, Mark::Settled);
    }
    outbox.close().await;
}

async fn numbers_are_never_used_again(config: &Config) {
    let (outbox, entries) = opened(config).await;
    assert!(entries.is_empty(), "{entries:?}");
    let first = appended(&outbox, &[record(1)]).await[0];
    outbox.mark(first, Mark::Settled);
    outbox.close().await;
    drop(outbox);
    let (outbox, _) = opened(config).await;
    let second = appended(&outbox, &[record(2)]).await[0];
    assert!(second > first, "{second:?} after {first:?}");
    outbox.close().await;
    let refused = try_append(&outbox, record(3)).await;
    assert!(refused.is_err(), "{refused:?} after it was closed");
}

async fn opened(config: &Config) -> (Outbox, Vec<Entry>) {
    open(config.clone(), &Tasks::new(), Clock::start())
        .await
        .unwrap()
}

/// The `n`th record: clients take turns, priorities too.
fn record(n: u64) -> Record {
    Record {
        client: Arc::from(format!("client-{}", n % 7)),
        priority: [Priority::Control, Priority::Interactive, Priority::Bulk]
            [usize::try_from(n % 3).unwrap()],
        at_ms: 1_700_000_000_000 + n,
        key: u128::from(n) << 64 | 7,
        payload: Bytes::from(format!("contents of {n}").repeat(usize::try_from(n).unwrap())),
    }
}

async fn appended(outbox: &Outbox, records: &[Record]) -> Vec<RecordId> {
    let (sender, mut receiver) = mpsc::channel(records.len());
    for record in records {
        let sender = sender.clone();
        let done = Box::new(move |result| drop(sender.try_send(result)));
        outbox.append(record.clone(), done);
    }
    let mut ids = Vec::new();
    for _ in records {
        let result: Result<RecordId, AppendError> =
            tokio::time::timeout(Duration::from_secs(30), receiver.recv())
                .await
                .unwrap()
                .unwrap();
        ids.push(result.unwrap());
    }
    ids
}

async fn try_append(outbox: &Outbox, record: Record) -> Result<RecordId, AppendError> {
    let (sender, mut receiver) = mpsc::channel(1);
    outbox.append(
        record,
        Box::new(move |result| drop(sender.try_send(result))),
    );
    tokio::time::timeout(Duration::from_secs(30), receiver.recv())
        .await
        .unwrap()
        .unwrap()
}
