//! Two handles on one database, as two nodes have them.

use std::collections::HashSet;

use futures_util::future::join_all;
use store::StoreError;

use crate::place::{Place, author, soon};

pub(crate) async fn one_of_many_writers_wins_each_version(place: &Place) {
    let nodes = [place.open().await, place.open().await];
    let author = author();
    let row = nodes[0].create("/-/a", "{}", &author, 0).await.unwrap();
    for version in 1..=8 {
        let document = format!("{{\"n\":{version}}}");
        let attempts =
            nodes.iter().cycle().take(6).map(|node| {
                node.update(&row.id, Some(version), "/-/a", &document, &author, version)
            });
        let outcomes = soon(join_all(attempts)).await;
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let lost = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Err(StoreError::Changed { version: now }) if *now == version + 1))
            .count();
        assert_eq!((won, lost), (1, 5), "{outcomes:?}");
    }
    let history = nodes[1].history(&row.id, 100, None).await.unwrap();
    assert_eq!(history.len(), 9);
    assert_eq!(nodes[1].snapshot().await.unwrap().revision, 9);
}

pub(crate) async fn one_of_many_gets_the_path(place: &Place) {
    let nodes = [place.open().await, place.open().await];
    let author = author();
    for n in 0..8 {
        let path = format!("/-/{n}");
        let attempts = nodes
            .iter()
            .cycle()
            .take(6)
            .map(|node| node.create(&path, "{}", &author, n));
        let outcomes = soon(join_all(attempts)).await;
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let lost = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Err(StoreError::PathTaken)))
            .count();
        assert_eq!((won, lost), (1, 5), "{outcomes:?}");
    }
    let snapshot = nodes[0].snapshot().await.unwrap();
    assert_eq!((snapshot.revision, snapshot.rows.len()), (8, 8));
    let ids: HashSet<_> = snapshot.rows.iter().map(|row| &row.id).collect();
    assert_eq!(ids.len(), 8);
}

/// Two rows, of which one more than the other has ever been written: a snapshot has both
/// as they were at its revision.
pub(crate) async fn snapshots_are_never_half(place: &Place) {
    let nodes = [place.open().await, place.open().await];
    let left = nodes[0].create("/-/l", "{}", &author(), 0).await.unwrap();
    let right = nodes[0].create("/-/r", "{}", &author(), 0).await.unwrap();
    let writing = async {
        for n in 1..=30 {
            for row in [&left, &right] {
                nodes[0]
                    .update(&row.id, None, &row.path, "{}", &author(), n)
                    .await
                    .unwrap();
            }
        }
    };
    let reading = async {
        loop {
            let snapshot = nodes[1].snapshot().await.unwrap();
            let sum: u64 = snapshot.rows.iter().map(|row| row.version).sum();
            assert_eq!(snapshot.revision, sum);
            if sum == 62 {
                break;
            }
        }
    };
    Box::pin(soon(async { tokio::join!(writing, reading) })).await;
}

pub(crate) async fn store_is_opened_by_many_at_once(place: &Place) {
    let stores = soon(join_all((0..6).map(|_| place.open()))).await;
    for (n, store) in stores.iter().enumerate() {
        let path = format!("/-/{n}");
        store.create(&path, "{}", &author(), 0).await.unwrap();
    }
    assert_eq!(stores[0].snapshot().await.unwrap().rows.len(), 6);
}
