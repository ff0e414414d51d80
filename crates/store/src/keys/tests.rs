use std::fs;

use super::Keys;
use crate::StoreError;

const ZEROS: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

#[test]
fn spellings_of_a_key_are_one_key() {
    let hex = "00".repeat(32);
    let ids = [ZEROS, ZEROS.trim_end_matches('='), &hex]
        .map(|text| Keys::parse(text).unwrap().current().id.clone());
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[0], ids[2]);
}

#[test]
fn first_key_is_the_current_one_and_the_others_are_found() {
    let text = format!("# made in June\n{},{ZEROS}\n", "ab".repeat(32));
    let keys = Keys::parse(&text).unwrap();
    let zeros = Keys::parse(ZEROS).unwrap().current().id.clone();
    assert_ne!(keys.current().id, zeros);
    assert_eq!(keys.of(&zeros).unwrap().id, zeros);
    assert!(matches!(keys.of("feed"), Err(StoreError::Sealing(_))));
}

#[test]
fn what_is_no_key_is_refused_and_not_quoted() {
    for text in [
        "",
        "# only a remark",
        "hunter2",
        &"zz".repeat(32),
        &"ab".repeat(31),
    ] {
        let refused = Keys::parse(text).unwrap_err().to_string();
        assert!(!refused.contains("hunter2"), "{refused}");
    }
    assert!(Keys::parse(&format!("{ZEROS} ").repeat(17)).is_err());
}

#[test]
fn debug_shows_no_key() {
    let keys = format!("{:?}", Keys::parse(ZEROS).unwrap());
    assert!(!keys.contains("AAAA") && !keys.contains("0000"), "{keys}");
}

#[test]
fn key_file_is_made_once_and_private() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/store.key");
    assert!(matches!(Keys::load(&path), Err(StoreError::Sealing(_))));
    let made = Keys::load_or_create(&path).unwrap();
    let again = Keys::load_or_create(&path).unwrap();
    assert_eq!(made.current().id, again.current().id);
    let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(names.len(), 1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    fs::write(&path, "half").unwrap();
    let refused = Keys::load_or_create(&path).unwrap_err().to_string();
    assert!(refused.contains("store.key"), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "half");
}
