//! Databases that go away, or never were one.

use std::time::Duration;

use lifecycle::Tasks;
use store::{Location, Store, StoreError};
use testkit::services::Postgres;

use crate::place::{Place, author, reaches, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outage_of_the_server_is_survived() {
    let mut server = Postgres::start().unwrap();
    let location = Location::parse(&server.database("routes").unwrap()).unwrap();
    let here = Store::open(&location, None, &Tasks::new()).await.unwrap();
    let there = Store::open(&location, None, &Tasks::new()).await.unwrap();
    here.create("/-/a", "{}", &author(), 1).await.unwrap();
    reaches(&there, 1, Duration::from_secs(5)).await;
    server.kill().unwrap();
    let refused = here.create("/-/b", "{}", &author(), 2).await;
    assert!(
        matches!(refused, Err(StoreError::Database(_))),
        "{refused:?}"
    );
    until(async || !here.health().reachable && !there.health().reachable).await;
    // The last state stays.
    assert_eq!(*there.changes().borrow(), 1);
    assert!(there.health().failures > 0);
    server.restart().unwrap();
    until(async || here.create("/-/c", "{}", &author(), 3).await.is_ok()).await;
    reaches(&there, 2, Duration::from_secs(15)).await;
    until(async || here.health().reachable && there.health().reachable).await;
    // Announcements work again: much faster than the looks without them.
    here.create("/-/d", "{}", &author(), 4).await.unwrap();
    reaches(&there, 3, Duration::from_secs(3)).await;
}

#[tokio::test]
async fn file_that_is_no_database_is_refused() {
    let place = Place::sqlite();
    let Location::Sqlite(path) = place.location() else {
        panic!("the place is a file");
    };
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "routes: []\n".repeat(100)).unwrap();
    let refused = Store::open(&place.location(), None, &Tasks::new()).await;
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("not a database"), "{said}");
    assert!(
        std::fs::read_to_string(&path)
            .unwrap()
            .starts_with("routes")
    );
}

#[tokio::test]
async fn impossible_folder_and_missing_server_are_named() {
    for (location, named) in [
        (
            "sqlite:/dev/null/at/all/store.db",
            "/dev/null/at/all/store.db",
        ),
        ("postgres://u:hunter2@127.0.0.1:1/d", "refused"),
    ] {
        let location = Location::parse(location).unwrap();
        let refused = Store::open(&location, None, &Tasks::new()).await;
        let said = refused.unwrap_err().to_string();
        assert!(said.contains(named) && !said.contains("hunter2"), "{said}");
    }
}
