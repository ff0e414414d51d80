//! Rows, versions, history.

use store::{Author, ChangeKind, DOCUMENT_MAX, HISTORY_MAX, PATH_MAX, Row, Snapshot, StoreError};

use crate::place::{Place, author};

pub(crate) async fn row_lives_from_creation_to_deletion(place: &Place) {
    let store = place.open().await;
    assert_eq!(store.snapshot().await.unwrap(), Snapshot::default());
    let made = store.create("/-/a", "{}", &author(), 10).await.unwrap();
    assert_eq!(made.id.len(), 15);
    assert!(
        made.id
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    );
    let changed = store
        .update(&made.id, Some(1), "/-/b", "{\"x\":1}", &author(), 20)
        .await
        .unwrap();
    let wanted = Row {
        path: "/-/b".to_owned(),
        document: "{\"x\":1}".to_owned(),
        version: 2,
        updated_ms: 20,
        ..made.clone()
    };
    assert_eq!(changed, wanted);
    assert_eq!(store.get(&made.id).await.unwrap(), wanted);
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!((snapshot.revision, &snapshot.rows[..]), (2, &[wanted][..]));
    let bob = Author("bob".to_owned());
    store.delete(&made.id, Some(2), &bob, 30).await.unwrap();
    let gone = store.get(&made.id).await;
    assert!(matches!(gone, Err(StoreError::NotFound)));
    let again = store.delete(&made.id, None, &bob, 31).await;
    assert!(matches!(again, Err(StoreError::NotFound)));
    let history = store.history(&made.id, 10, None).await.unwrap();
    let told: Vec<_> = history
        .iter()
        .map(|c| {
            (
                c.row.version,
                c.kind,
                c.author.as_str(),
                c.at_ms,
                c.row.path.as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (3, ChangeKind::Delete, "bob", 30, "/-/b"),
            (2, ChangeKind::Update, "alice", 20, "/-/b"),
            (1, ChangeKind::Create, "alice", 10, "/-/a"),
        ]
    );
    assert_eq!(store.snapshot().await.unwrap().revision, 3);
}

pub(crate) async fn path_belongs_to_one_row(place: &Place) {
    let store = place.open().await;
    let first = store.create("/-/a", "{}", &author(), 1).await.unwrap();
    let second = store.create("/-/b", "{}", &author(), 1).await.unwrap();
    let taken = store.create("/-/a", "{}", &author(), 2).await;
    assert!(matches!(taken, Err(StoreError::PathTaken)), "{taken:?}");
    let taken = store
        .update(&second.id, None, "/-/a", "{}", &author(), 2)
        .await;
    assert!(matches!(taken, Err(StoreError::PathTaken)), "{taken:?}");
    // Its own path is its to keep, and a freed one anybody's.
    store
        .update(&first.id, None, "/-/a", "{}", &author(), 3)
        .await
        .unwrap();
    store.delete(&first.id, None, &author(), 4).await.unwrap();
    store
        .update(&second.id, None, "/-/a", "{}", &author(), 5)
        .await
        .unwrap();
    let taken = store.rollback(&first.id, 1, None, &author(), 6).await;
    assert!(matches!(taken, Err(StoreError::PathTaken)), "{taken:?}");
}

pub(crate) async fn stale_versions_are_refused_and_change_nothing(place: &Place) {
    let store = place.open().await;
    let row = store.create("/-/a", "{}", &author(), 1).await.unwrap();
    let id = &row.id;
    store
        .update(id, Some(1), "/-/a", "{\"n\":2}", &author(), 2)
        .await
        .unwrap();
    let before = store.snapshot().await.unwrap();
    let refused = [
        store
            .update(id, Some(1), "/-/z", "{}", &author(), 3)
            .await
            .map(drop),
        store.delete(id, Some(3), &author(), 3).await,
        store.rollback(id, 1, Some(1), &author(), 3).await.map(drop),
    ];
    for refused in refused {
        assert!(
            matches!(refused, Err(StoreError::Changed { version: 2 })),
            "{refused:?}"
        );
    }
    let missing = [
        store
            .update("no", Some(1), "/-/z", "{}", &author(), 3)
            .await
            .map(drop),
        store.delete("no", None, &author(), 3).await,
        store.rollback("no", 1, None, &author(), 3).await.map(drop),
        store.rollback(id, 9, None, &author(), 3).await.map(drop),
        store.version(id, 9).await.map(drop),
        store.version(id, 0).await.map(drop),
        store.history("no", 5, None).await.map(drop),
    ];
    for missing in missing {
        assert!(matches!(missing, Err(StoreError::NotFound)), "{missing:?}");
    }
    assert_eq!(store.snapshot().await.unwrap(), before);
    assert_eq!(store.history(id, 5, None).await.unwrap().len(), 2);
}

pub(crate) async fn every_version_can_be_had_back(place: &Place) {
    let store = place.open().await;
    let row = store
        .create("/-/1", "{\"n\":1}", &author(), 1)
        .await
        .unwrap();
    for n in 2..=5 {
        let (path, document) = (format!("/-/{n}"), format!("{{\"n\":{n}}}"));
        store
            .update(&row.id, None, &path, &document, &author(), n)
            .await
            .unwrap();
    }
    for n in 1..=5 {
        let version = 5 + n;
        let back = store
            .rollback(&row.id, n, Some(version - 1), &author(), 100 + n)
            .await
            .unwrap();
        let wanted = Row {
            id: row.id.clone(),
            path: format!("/-/{n}"),
            document: format!("{{\"n\":{n}}}"),
            version,
            created_ms: 1,
            updated_ms: 100 + n,
        };
        assert_eq!(back, wanted);
        assert_eq!(store.get(&row.id).await.unwrap(), wanted);
        let noted = store.version(&row.id, version).await.unwrap();
        assert_eq!((noted.kind, noted.row), (ChangeKind::Rollback, wanted));
    }
}

pub(crate) async fn deleted_row_comes_back(place: &Place) {
    let store = place.open().await;
    let row = store
        .create("/-/a", "{\"n\":1}", &author(), 1)
        .await
        .unwrap();
    store.delete(&row.id, None, &author(), 2).await.unwrap();
    let deletion = store.rollback(&row.id, 2, None, &author(), 3).await;
    assert!(matches!(deletion, Err(StoreError::NotFound)));
    let stale = store.rollback(&row.id, 1, Some(1), &author(), 3).await;
    assert!(matches!(stale, Err(StoreError::Changed { version: 2 })));
    let back = store
        .rollback(&row.id, 1, Some(2), &author(), 3)
        .await
        .unwrap();
    let wanted = Row {
        version: 3,
        updated_ms: 3,
        ..row
    };
    assert_eq!(back, wanted);
    assert_eq!(store.snapshot().await.unwrap().rows, [wanted]);
}

pub(crate) async fn history_is_read_in_pages_and_keeps_the_latest(place: &Place) {
    let store = place.open().await;
    let row = store.create("/-/a", "{}", &author(), 1).await.unwrap();
    for n in 2..=12 {
        store
            .update(&row.id, None, "/-/a", "{}", &author(), n)
            .await
            .unwrap();
    }
    let mut before = None;
    let mut seen = Vec::new();
    loop {
        let page = store.history(&row.id, 5, before).await.unwrap();
        seen.extend(page.iter().map(|change| change.row.version));
        let Some(last) = page.last() else { break };
        before = Some(last.row.version);
    }
    assert_eq!(seen, (1..=12).rev().collect::<Vec<_>>());
    // As if very many changes had been made.
    let mut past = place.connect().await;
    for table in ["proxies", "proxy_history"] {
        let raise = format!(
            "UPDATE {table} SET version = version + {}",
            HISTORY_MAX - 10
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(raise))
            .execute(&mut past)
            .await
            .unwrap();
    }
    store
        .update(&row.id, None, "/-/a", "{}", &author(), 13)
        .await
        .unwrap();
    let kept = store.history(&row.id, u64::MAX, None).await.unwrap();
    let versions: Vec<_> = kept.iter().map(|change| change.row.version).collect();
    assert_eq!(versions.first(), Some(&(HISTORY_MAX + 3)));
    assert_eq!(versions.last(), Some(&(HISTORY_MAX - 9)));
    for n in 14..=30 {
        store
            .update(&row.id, None, "/-/a", "{}", &author(), n)
            .await
            .unwrap();
    }
    let kept = store.history(&row.id, u64::MAX, None).await.unwrap();
    assert_eq!(
        kept.first().map(|change| change.row.version),
        Some(HISTORY_MAX + 20)
    );
    let gone = store.version(&row.id, 20).await;
    assert!(matches!(gone, Err(StoreError::NotFound)));
}

pub(crate) async fn what_does_not_fit_is_refused(place: &Place) {
    let store = place.open().await;
    let long = "x".repeat(DOCUMENT_MAX + 1);
    for (path, document) in [
        (&long[..=PATH_MAX], "{}"),
        ("/-/a", &long),
        ("/-/\0", "{}"),
        ("/-/a", "\0"),
    ] {
        let refused = store.create(path, document, &author(), 1).await;
        assert!(
            matches!(refused, Err(StoreError::Invalid { .. })),
            "{refused:?}"
        );
    }
    let longest = store
        .create(&long[..PATH_MAX], &long[..DOCUMENT_MAX], &author(), 1)
        .await;
    assert_eq!(longest.unwrap().document.len(), DOCUMENT_MAX);
}

pub(crate) async fn text_comes_back_as_it_was(place: &Place) {
    let store = place.open().await;
    let texts = [
        "",
        "'; DROP TABLE proxies; --",
        "\u{1F980} ü \\ \" $1 ?1 %s",
        "line\r\nbreak\ttab\u{7f}\u{feff}",
    ];
    for (n, text) in texts.into_iter().enumerate() {
        let author = Author(text.to_owned());
        let path = format!("/-/{n}{text}");
        let row = store.create(&path, text, &author, u64::MAX).await.unwrap();
        let change = store.version(&row.id, 1).await.unwrap();
        assert_eq!(
            (change.row.path, change.row.document),
            (path, text.to_owned())
        );
        assert_eq!(change.author, text);
        // What the column can't hold is the largest it can.
        assert_eq!(change.at_ms, u64::MAX >> 1);
    }
}
