use std::time::UNIX_EPOCH;

use super::*;

fn wanted() -> Wanted {
    Wanted {
        server_names: vec!["gateway.test".to_owned(), "127.0.0.1".to_owned()],
        client_uri: "spiffe://tidegate.test/client".to_owned(),
        now: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        lifetime: Duration::from_secs(86_400),
    }
}

#[cfg(unix)]
#[test]
fn keys_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let made = Identity::generate(&folder.path().join("new"), &wanted()).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o077;
    for key in [&made.authority_key, &made.server.key, &made.client.key] {
        assert_eq!(mode(key), 0, "{}", key.display());
    }
    assert!(made.authority.exists() && made.server.chain.exists() && made.client.chain.exists());
}

#[test]
fn existing_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("client-key.pem");
    std::fs::write(&there, "mine").unwrap();
    let error = Identity::generate(folder.path(), &wanted()).unwrap_err();
    assert!(error.to_string().contains("client-key.pem"), "{error}");
    assert_eq!(std::fs::read(&there).unwrap(), b"mine");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn names_that_are_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut nameless = wanted();
    nameless.server_names.clear();
    let mut odd = wanted();
    odd.client_uri = "spiffe://tidegate.test/größe".to_owned();
    for wanted in [nameless, odd] {
        assert!(Identity::generate(folder.path(), &wanted).is_err());
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
