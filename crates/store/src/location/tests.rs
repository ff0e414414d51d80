use std::path::PathBuf;

use super::Location;

#[test]
fn files_and_servers_are_told_apart() {
    for (text, path) in [
        ("sqlite:data/store.db", "data/store.db"),
        ("sqlite:///var/lib/store.db", "/var/lib/store.db"),
        ("store.db", "store.db"),
        ("/a b/c?d.db", "/a b/c?d.db"),
    ] {
        assert_eq!(
            Location::parse(text).unwrap(),
            Location::Sqlite(PathBuf::from(path))
        );
    }
    for text in ["postgres://u@h/d", "postgresql://h:1/d?sslmode=require"] {
        assert!(matches!(
            Location::parse(text).unwrap(),
            Location::Postgres(_)
        ));
    }
}

#[test]
fn password_is_never_shown() {
    let location = Location::parse("postgres://user:hunter2@db.example:6000/routes").unwrap();
    assert_eq!(location.to_string(), "postgres://db.example:6000/routes");
    assert!(!format!("{location:?}").contains("hunter2"));
    let refused = Location::parse("postgres://user:hunter2@db.example:notaport/x").unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("hunter2"));
}

#[test]
fn nonsense_is_refused() {
    for text in ["", "sqlite:", "sqlite::memory:", ":memory:", "mysql://h/d"] {
        assert!(Location::parse(text).is_err(), "{text}");
    }
}
