//! Opening what is there already.

use lifecycle::Tasks;
use store::{Store, StoreError};

use crate::place::{Place, author};

pub(crate) async fn newer_schema_is_refused(place: &Place) {
    let store = place.open().await;
    store.create("/-/a", "{}", &author(), 1).await.unwrap();
    let mut past = place.connect().await;
    sqlx::raw_sql("UPDATE meta SET schema_version = 99")
        .execute(&mut past)
        .await
        .unwrap();
    let refused = Store::open(&place.location(), None, &Tasks::new()).await;
    let error = refused.unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::TooNew {
                found: 99,
                known: 1
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("start a release"), "{error}");
    // Nothing was touched.
    sqlx::raw_sql("UPDATE meta SET schema_version = 1")
        .execute(&mut past)
        .await
        .unwrap();
    assert_eq!(place.open().await.snapshot().await.unwrap().rows.len(), 1);
}

pub(crate) async fn rows_outlive_the_process(place: &Place) {
    let store = place.open().await;
    let row = store.create("/-/a", "{}", &author(), 1).await.unwrap();
    store.close().await;
    let closed = store.snapshot().await;
    assert!(matches!(closed, Err(StoreError::Database(_))), "{closed:?}");
    let store = place.open().await;
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!((snapshot.revision, snapshot.rows), (1, vec![row]));
    assert_eq!(*store.changes().borrow(), 1);
}
