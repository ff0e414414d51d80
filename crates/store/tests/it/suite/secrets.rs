//! Secrets and their keys.

use store::{GLOBAL, Keys, Location, MASK, SECRET_MAX, StoreError};

use crate::place::{Place, author, key, key_text};

const VALUE: &str = "sk-hunter2-\u{fc}";

pub(crate) async fn secrets_are_shown_to_nobody(place: &Place) {
    let store = place.open().await;
    assert_eq!(store.secret("K", GLOBAL).await.unwrap(), None);
    store
        .put_secret("K", GLOBAL, VALUE, &author(), 5)
        .await
        .unwrap();
    store
        .put_secret("K", "staging", "other", &author(), 6)
        .await
        .unwrap();
    assert_eq!(store.snapshot().await.unwrap().revision, 2);
    let opened = store.secret("K", GLOBAL).await.unwrap().unwrap();
    assert_eq!(opened.reveal(), VALUE);
    assert!(!format!("{opened:?}").contains("hunter2"));
    let notes = store.secrets().await.unwrap();
    let told: Vec<_> = notes
        .iter()
        .map(|n| {
            (
                n.name.as_str(),
                n.environment.as_str(),
                n.updated_ms,
                n.author.as_str(),
                n.masked,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("K", "global", 5, "alice", MASK),
            ("K", "staging", 6, "alice", MASK)
        ]
    );
    let all = store.all_secrets().await.unwrap();
    assert!(!format!("{all:?}").contains("hunter2"));
    let values: Vec<_> = all
        .iter()
        .map(|s| s.value.as_ref().unwrap().reveal())
        .collect();
    assert_eq!(values, [VALUE, "other"]);
    // The same value is sealed differently each time, and not readable.
    let mut past = place.connect().await;
    let first = sealed(&mut past).await;
    store
        .put_secret("K", GLOBAL, VALUE, &author(), 7)
        .await
        .unwrap();
    assert_ne!(first, sealed(&mut past).await);
    store.delete_secret("K", GLOBAL).await.unwrap();
    let gone = store.delete_secret("K", GLOBAL).await;
    assert!(matches!(gone, Err(StoreError::NotFound)));
    assert_eq!(store.secrets().await.unwrap().len(), 1);
    assert_eq!(store.snapshot().await.unwrap().revision, 4);
    // Of a file: also the log beside it.
    let Location::Sqlite(file) = place.location() else {
        return;
    };
    let files = std::fs::read_dir(file.parent().unwrap()).unwrap();
    let paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    assert_eq!(paths.len(), 3);
    for path in paths {
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", path.display());
        }
    }
}

pub(crate) async fn mask_is_never_stored(place: &Place) {
    let store = place.open().await;
    store
        .put_secret("K", GLOBAL, VALUE, &author(), 1)
        .await
        .unwrap();
    let long = "x".repeat(SECRET_MAX + 1);
    for value in [MASK, "*", "\u{2022}\u{2022}", "", &long] {
        let refused = store.put_secret("K", GLOBAL, value, &author(), 2).await;
        assert!(
            matches!(refused, Err(StoreError::Invalid { .. })),
            "{refused:?}"
        );
    }
    for name in ["", "a b", "{x}", "\u{fc}"] {
        let refused = store.put_secret(name, GLOBAL, VALUE, &author(), 2).await;
        assert!(
            matches!(refused, Err(StoreError::Invalid { .. })),
            "{refused:?}"
        );
    }
    let kept = store.secret("K", GLOBAL).await.unwrap().unwrap();
    assert_eq!(kept.reveal(), VALUE);
}

pub(crate) async fn wrong_key_says_what_to_do(place: &Place) {
    let store = place.open_with(Some(key(1))).await;
    store
        .put_secret("K", GLOBAL, VALUE, &author(), 1)
        .await
        .unwrap();
    let other = place.open_with(Some(key(2))).await;
    other
        .put_secret("MINE", GLOBAL, "mine", &author(), 1)
        .await
        .unwrap();
    let refused = other.secret("K", GLOBAL).await.unwrap_err();
    assert!(matches!(refused, StoreError::Sealing(_)));
    let said = refused.to_string();
    assert!(
        said.contains("add that key below the current one"),
        "{said}"
    );
    // One that can't be opened keeps nothing else back.
    let all = other.all_secrets().await.unwrap();
    let opened: Vec<_> = all
        .iter()
        .map(|s| (s.name.as_str(), s.value.is_ok()))
        .collect();
    assert_eq!(opened, [("K", false), ("MINE", true)]);
    assert!(matches!(other.reseal().await, Err(StoreError::Sealing(_))));
    let keyless = place.open_with(None).await;
    let refused = keyless.secret("K", GLOBAL).await;
    assert!(matches!(refused, Err(StoreError::Sealing(_))));
    let refused = keyless.put_secret("L", GLOBAL, VALUE, &author(), 1).await;
    assert!(matches!(refused, Err(StoreError::Sealing(_))));
    assert_eq!(keyless.secrets().await.unwrap().len(), 2);
    keyless.delete_secret("K", GLOBAL).await.unwrap();
}

pub(crate) async fn keys_can_be_changed(place: &Place) {
    let store = place.open_with(Some(key(1))).await;
    for name in ["A", "B", "C"] {
        store
            .put_secret(name, GLOBAL, name, &author(), 1)
            .await
            .unwrap();
    }
    assert_eq!(store.reseal().await.unwrap(), 0);
    let both = format!("{}\n{}", key_text(2), key_text(1));
    store.use_keys(Keys::parse(&both).unwrap());
    store
        .put_secret("C", GLOBAL, "C", &author(), 2)
        .await
        .unwrap();
    assert_eq!(store.reseal().await.unwrap(), 2);
    let notes = store.secrets().await.unwrap();
    let updated: Vec<_> = notes.iter().map(|note| note.updated_ms).collect();
    assert_eq!(updated, [1, 1, 2]);
    store.use_keys(key(2));
    for secret in store.all_secrets().await.unwrap() {
        assert_eq!(secret.value.unwrap().reveal(), secret.name);
    }
    store.use_keys(key(1));
    let refused = store.secret("A", GLOBAL).await;
    assert!(matches!(refused, Err(StoreError::Sealing(_))));
}

pub(crate) async fn secret_of_another_name_does_not_open(place: &Place) {
    let store = place.open().await;
    store
        .put_secret("ab", "c", VALUE, &author(), 1)
        .await
        .unwrap();
    let mut past = place.connect().await;
    for other in [
        "UPDATE secrets SET name = 'a', environment = 'bc'",
        "UPDATE secrets SET sealed = 'AQ=='",
    ] {
        sqlx::raw_sql(other).execute(&mut past).await.unwrap();
        let all = store.all_secrets().await.unwrap();
        let refused = all[0].value.as_ref().unwrap_err();
        assert!(matches!(refused, StoreError::Sealing(_)), "{refused:?}");
    }
}

async fn sealed(past: &mut sqlx::AnyConnection) -> String {
    sqlx::query_scalar("SELECT sealed FROM secrets WHERE environment = 'global'")
        .fetch_one(past)
        .await
        .unwrap()
}
