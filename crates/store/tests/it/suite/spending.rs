//! What identities spent.

use futures_util::future::try_join_all;
use store::{IDENTITY_MAX, SPENDING_MAX, SpendingRow, StoreError};

use crate::place::{Place, soon};

pub(crate) async fn spending_adds_up(place: &Place) {
    let nodes = [place.open().await, place.open().await];
    // Both nodes write the same rows at the same time, in opposite orders.
    let rows: Vec<_> = (0..10)
        .map(|n| row(&format!("u{n}"), n * 10, 3, 5))
        .collect();
    let reversed: Vec<_> = rows.iter().rev().cloned().collect();
    let additions = (0..10).flat_map(|_| {
        [
            nodes[0].add_spending(&rows),
            nodes[1].add_spending(&reversed),
        ]
    });
    soon(try_join_all(additions)).await.unwrap();
    let spent = nodes[0].spending(0).await.unwrap();
    let wanted: Vec<_> = (0..10)
        .map(|n| row(&format!("u{n}"), n * 10, 60, 100))
        .collect();
    assert_eq!(spent, wanted);
    assert_eq!(nodes[1].spending(50).await.unwrap(), wanted[5..]);
    assert_eq!(nodes[1].forget_spending(50).await.unwrap(), 5);
    assert_eq!(nodes[0].spending(0).await.unwrap(), wanted[5..]);
    nodes[0].add_spending(&[]).await.unwrap();
    // Sums stop at their limit instead of wrapping.
    for _ in 0..3 {
        nodes[0]
            .add_spending(&[row("u9", 90, u64::MAX, 1)])
            .await
            .unwrap();
    }
    let last = nodes[0].spending(90).await.unwrap();
    assert_eq!(last, [row("u9", 90, 1 << 62, 103)]);
    let many = vec![row("u", 1, 1, 1); SPENDING_MAX + 1];
    let long = [row(&"x".repeat(IDENTITY_MAX + 1), 1, 1, 1)];
    for refused in [&many[..], &long] {
        let refused = nodes[0].add_spending(refused).await;
        assert!(
            matches!(refused, Err(StoreError::Invalid { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(nodes[0].snapshot().await.unwrap().revision, 0);
}

fn row(identity: &str, window_start_ms: u64, tokens: u64, micro_cost: u64) -> SpendingRow {
    SpendingRow {
        identity: identity.to_owned(),
        window_kind: "day".to_owned(),
        window_start_ms,
        tokens,
        micro_cost,
    }
}
