use std::sync::Arc;

use super::{AmbiguousPath, PathTaken, Routes};

fn routes(paths: &[&'static str]) -> Routes<&'static str> {
    let mut routes = Routes::default();
    for path in paths {
        routes.add(path, Arc::new(*path)).unwrap();
    }
    routes
}

fn found<'a>(
    routes: &'a Routes<&'static str>,
    path: &'a str,
) -> Result<Option<(&'static str, &'a str)>, AmbiguousPath> {
    let found = routes.find(path)?;
    Ok(found.map(|found| (**found.route, found.rest)))
}

#[test]
fn the_longest_prefix_at_a_boundary_wins() {
    let routes = routes(&["/-/openai", "/-/openai/v1/chat", "/-/b"]);
    for (path, expected) in [
        ("/-/openai", Some(("/-/openai", ""))),
        ("/-/openai/", Some(("/-/openai", "/"))),
        ("/-/openai/x//y", Some(("/-/openai", "/x//y"))),
        ("/-/openai/v1", Some(("/-/openai", "/v1"))),
        ("/-/openai/v1/chat/", Some(("/-/openai/v1/chat", "/"))),
        ("/-/openai/v1/chatter", Some(("/-/openai", "/v1/chatter"))),
        ("/-/openaiextra", None),
        ("/-/OpenAI", None),
        ("/-/", None),
        ("/-", None),
        ("/openai", None),
        ("*", None),
        ("", None),
    ] {
        assert_eq!(found(&routes, path).unwrap(), expected, "{path}");
    }
    assert_eq!(routes.len(), 3);
}

#[test]
fn encoding_is_no_way_around_a_longer_route() {
    let routes = routes(&["/-/a", "/-/a/admin"]);
    for path in ["/-/a/%61dmin/x", "/-/%61/admin/x", "/-/a/a%64%6Din/x"] {
        assert_eq!(
            found(&routes, path).unwrap(),
            Some(("/-/a/admin", "/x")),
            "{path}"
        );
    }
    for path in [
        "/-/a//admin",
        "/-//a",
        "/-/a/x/../admin",
        "/-/a/./admin",
        "/-/a/..",
        "/-/a/.%2e/b",
        "/-/a/%2E%2e/b",
        "/-/a/x/..;v=1/admin",
        "/-/a/x%2f..%2fadmin",
        "/-/a%2fadmin",
        "/-/a/x%5Cadmin",
        "/-/a/x\\admin",
        "/-/a/admin/x/%2e%2e\\..",
    ] {
        assert_eq!(found(&routes, path), Err(AmbiguousPath), "{path}");
    }
    // Encoded once more it is a name like others.
    assert_eq!(
        found(&routes, "/-/a/%252e%252e").unwrap(),
        Some(("/-/a", "/%252e%252e"))
    );
    assert_eq!(
        found(&routes, "/-/a/.well-known/x..y").unwrap().unwrap().0,
        "/-/a"
    );
    assert_eq!(found(&routes, "/-/a/%zz%/é%E").unwrap().unwrap().0, "/-/a");
}

#[test]
fn behind_the_last_route_slashes_are_the_upstreams_affair() {
    let routes = routes(&["/-/git"]);
    let rest = "/group%2Fproject//https:\\\\x";
    assert_eq!(
        found(&routes, &format!("/-/git{rest}")).unwrap().unwrap().1,
        rest
    );
    assert_eq!(found(&routes, "/-/git/a%2f..%2f..%2fb"), Err(AmbiguousPath));
}

#[test]
fn a_path_has_one_route() {
    let mut routes = routes(&["/-/a/b"]);
    assert!(routes.add("/-/a", Arc::new("a")).is_ok());
    assert_eq!(routes.add("/-/a/b", Arc::new("again")), Err(PathTaken));
    assert_eq!(found(&routes, "/-/a/b").unwrap(), Some(("/-/a/b", "")));
}

#[test]
fn ten_thousand_routes_are_found() {
    let mut routes = Routes::default();
    for number in 0..10_000 {
        let path = format!("/-/team-{}/service-{number}", number % 100);
        routes.add(&path, Arc::new(number)).unwrap();
    }
    for number in 0..10_000 {
        let path = format!("/-/team-{}/service-{number}/x", number % 100);
        assert_eq!(**routes.find(&path).unwrap().unwrap().route, number);
    }
}
