//! Hearing of changes.

use std::time::Duration;

use store::{GLOBAL, StoreError};

use crate::place::{Place, author, reaches};

/// What is promised, and time for a busy machine.
const WITHIN: Duration = Duration::from_secs(3);

pub(crate) async fn changes_are_heard_by_others(place: &Place) {
    let here = place.open().await;
    let there = place.open().await;
    let row = here.create("/-/a", "{}", &author(), 1).await.unwrap();
    // Own changes are known when the call returns.
    assert_eq!(*here.changes().borrow(), 1);
    reaches(&there, 1, WITHIN).await;
    there
        .update(&row.id, None, "/-/a", "{}", &author(), 2)
        .await
        .unwrap();
    reaches(&here, 2, WITHIN).await;
    here.put_secret("K", GLOBAL, "v", &author(), 3)
        .await
        .unwrap();
    reaches(&there, 3, WITHIN).await;
    there.delete_secret("K", GLOBAL).await.unwrap();
    here.delete(&row.id, None, &author(), 4).await.unwrap();
    reaches(&here, 5, WITHIN).await;
    reaches(&there, 5, WITHIN).await;
    // An older copy of the database, put in place by an operator, is news too.
    let mut past = place.connect().await;
    sqlx::raw_sql("UPDATE meta SET revision = 2")
        .execute(&mut past)
        .await
        .unwrap();
    for node in [&here, &there] {
        let mut changes = node.changes();
        let fell = changes.wait_for(|seen| *seen == 2);
        tokio::time::timeout(3 * WITHIN, fell)
            .await
            .unwrap()
            .unwrap();
        assert!(node.health().reachable);
    }
}

pub(crate) async fn refused_change_is_heard_by_nobody(place: &Place) {
    let store = place.open().await;
    store.create("/-/a", "{}", &author(), 1).await.unwrap();
    let mut changes = store.changes();
    changes.mark_unchanged();
    let refused = store.create("/-/a", "{}", &author(), 2).await;
    assert!(matches!(refused, Err(StoreError::PathTaken)));
    assert!(!changes.has_changed().unwrap());
    assert_eq!(store.snapshot().await.unwrap().revision, 1);
}
