use super::{Revocation, RevocationError, Revocations, Revoked};

fn user(user: &str, issued_before: u64, expires_at: u64) -> Revocation {
    Revocation {
        revoked: Revoked::User {
            user: user.to_owned(),
            issued_before,
        },
        expires_at,
        reason: None,
    }
}

fn token(token_id: &str, expires_at: u64) -> Revocation {
    Revocation {
        revoked: Revoked::Token {
            token_id: token_id.to_owned(),
        },
        expires_at,
        reason: None,
    }
}

#[test]
fn tokens_issued_before_are_refused_and_later_ones_not() {
    let revocations = Revocations::open(None).unwrap();
    revocations.add(user("42", 1_000, 2_000), 900).unwrap();
    assert!(revocations.check("42", None, Some(999)));
    assert!(!revocations.check("42", None, Some(1_000)));
    assert!(revocations.check("42", None, None), "a token without iat");
    assert!(!revocations.check("43", None, None));
}

#[test]
fn a_token_is_refused_by_its_id() {
    let revocations = Revocations::open(None).unwrap();
    revocations.add(token("id", 2_000), 900).unwrap();
    assert!(revocations.check("anyone", Some("id"), Some(5_000)));
    assert!(!revocations.check("anyone", Some("other"), Some(5_000)));
    assert!(
        revocations
            .remove(&Revoked::Token {
                token_id: "id".to_owned()
            })
            .unwrap()
    );
    assert!(!revocations.check("anyone", Some("id"), Some(5_000)));
}

#[test]
fn revocations_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let revocations = Revocations::open(Some(folder.path())).unwrap();
    revocations.add(user("42", 1_000, 2_000), 900).unwrap();
    let odd = Revocation {
        reason: Some("left\nfor \"good\"".to_owned()),
        ..token("line\nfeed \"quoted\"", 3_000)
    };
    revocations.add(odd.clone(), 900).unwrap();
    let again = Revocations::open(Some(folder.path())).unwrap();
    assert_eq!(again.list(), revocations.list());
    assert!(again.check("42", None, Some(1)));
    assert_eq!(again.sweep(2_500).unwrap(), 1);
    let third = Revocations::open(Some(folder.path())).unwrap();
    assert_eq!(third.list(), [odd]);
}

#[test]
fn a_damaged_file_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("revocations.jsonl");
    std::fs::write(
        &path,
        "{\"token_id\":\"a\",\"expires_at\":1}\n{\"token_id\":",
    )
    .unwrap();
    let error = Revocations::open(Some(folder.path())).err().unwrap();
    assert!(
        matches!(error, RevocationError::Corrupt { line: 2, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("revocations.jsonl"));
}

#[test]
fn a_second_revocation_only_extends_the_first() {
    let revocations = Revocations::open(None).unwrap();
    let because = |reason: &str, revocation| Revocation {
        reason: Some(reason.to_owned()),
        ..revocation
    };
    let first = because("first", user("42", 1_000, 3_000));
    revocations.add(first, 900).unwrap();
    revocations.add(user("42", 1_500, 2_000), 900).unwrap();
    let extended = because("first", user("42", 1_500, 3_000));
    assert_eq!(revocations.list(), [extended]);
    let second = because("second", user("42", 1_000, 2_000));
    revocations.add(second, 900).unwrap();
    let extended = because("second", user("42", 1_500, 3_000));
    assert_eq!(revocations.list(), [extended]);
}

#[test]
fn additions_wake_those_who_check_live_connections() {
    let revocations = Revocations::open(None).unwrap();
    let mut woken = revocations.subscribe();
    assert!(!woken.has_changed().unwrap());
    revocations.add(token("id", 2_000), 900).unwrap();
    assert!(woken.has_changed().unwrap());
    assert_eq!(*woken.borrow_and_update(), revocations.generation());
}

#[test]
fn several_are_added_together_or_not_at_all() {
    let revocations = Revocations::open(None).unwrap();
    revocations
        .add_all(vec![user("1", 10, 100), token("t", 50)], 0)
        .unwrap();
    assert_eq!(revocations.len(), 2);
    let refused = revocations.add_all(vec![token("u", 50), token("", 50)], 0);
    assert!(matches!(refused, Err(RevocationError::Name)));
    assert_eq!(revocations.len(), 2);
    for known in [user("1", 10, 100), user("1", 9, 99), token("t", 50)] {
        assert!(revocations.covers(&known), "{known:?}");
    }
    for new in [user("1", 11, 100), user("1", 10, 101), token("u", 50)] {
        assert!(!revocations.covers(&new), "{new:?}");
    }
    assert_eq!(revocations.expiry(&token("t", 0).revoked), Some(50));
    assert_eq!(revocations.expiry(&token("u", 0).revoked), None);
}

#[test]
fn nobody_can_be_revoked_without_a_name() {
    let revocations = Revocations::open(None).unwrap();
    assert!(matches!(
        revocations.add(user("", 1, 2), 0),
        Err(RevocationError::Name)
    ));
    assert!(matches!(
        revocations.add(token(&"x".repeat(2_000), 2), 0),
        Err(RevocationError::Name)
    ));
    assert!(revocations.is_empty());
}

#[test]
fn a_revocation_that_can_not_be_saved_is_not_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let revocations = Revocations::open(Some(&blocked));
    // A file where the folder should be is refused at once.
    assert!(matches!(
        revocations.err(),
        Some(RevocationError::File { .. })
    ));
}
