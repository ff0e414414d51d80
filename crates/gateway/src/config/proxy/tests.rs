use std::path::Path;
use std::time::Duration;

use crate::config::{Config, Loaded};

fn problem(text: &str) -> (String, String) {
    let error = Config::parse(text).unwrap_err();
    assert_eq!(error.errors.len(), 1, "{error}");
    (error.errors[0].key.clone(), error.to_string())
}

const ROUTES: &str = "proxy:
  routes:
    - name: openai
      path: /openai
      target_url: https://api.openai.com/v1
      accessRule: \"@request.auth.id != ''\"
      headers: { Authorization: \"Bearer {secret.OPENAI}\", X-Api-Key: hush-hush }
      circuit_breaker: { enabled: true, failureThreshold: 3 }
      ai: true
    - { path: /b, upstreams: [ \"http://127.0.0.1:1\", { url: \"http://127.0.0.1:2\", weight: 3 } ], allow_private: true }
";

#[test]
fn routes_of_the_file_are_records() {
    let config = Config::parse(ROUTES).unwrap();
    let records = config.proxy.file_routes.records();
    assert_eq!(records.len(), 2);
    assert_eq!(
        (records[0].path.as_str(), records[0].name.as_str()),
        ("/-/openai", "openai")
    );
    assert_eq!(records[0].circuit_breaker.failure_threshold, 3);
    assert_eq!(records[0].timeout_config.first_byte, 180.0);
    assert_eq!(records[1].upstreams[1].weight, 3);
    assert!(config.proxy.enabled && !config.proxy.metrics_public);
    assert_eq!(config.proxy.keep_alive, Duration::from_secs(60));
}

#[test]
fn credentials_of_routes_are_not_printed() {
    let config = Config::parse(ROUTES).unwrap();
    let printed = config.to_yaml();
    assert!(
        !printed.contains("hush-hush") && printed.contains("[redacted]"),
        "{printed}"
    );
    assert!(printed.contains("Bearer {secret.OPENAI}"));
    assert!(!format!("{config:?}").contains("hush-hush"));
    let again = Config::parse(&printed).unwrap();
    assert_eq!(again.to_yaml(), printed);
}

#[test]
fn what_is_wrong_with_a_route_is_told_where_it_stands() {
    let text = "proxy:
  routes:
    - path: /a
      upstream: http://a
      retry: { attemps: 2 }
    - path: /api
      upstream: ftp://b
    - path: /-/a
      upstream: http://c
";
    let said = Config::parse(text).unwrap_err().to_string();
    assert_eq!(
        said,
        "tidegate.yaml:5:25: proxy.routes[0].retry.attemps: unknown field; did you mean attempts?
tidegate.yaml:6:13: proxy.routes[1].path: path cannot start with /api/ (reserved for data API)
tidegate.yaml:7:17: proxy.routes[1].upstream: must begin with http://, https://, grpc://, grpcs:// or quantum://"
    );
    let (key, said) = problem(
        "proxy: { routes: [ { path: /a, upstream: \"http://a\" }, { path: /-/a/, upstream: \"http://b\" } ] }",
    );
    assert_eq!(key, "proxy.routes[1].path");
    assert!(
        said.ends_with("is the path of proxy.routes[0] too"),
        "{said}"
    );
    assert_eq!(problem("proxy: { routes: [ 5 ] }").0, "proxy.routes[0]");
    assert_eq!(problem("proxy: { routes: {} }").0, "proxy.routes");
}

#[test]
fn what_a_type_of_the_proxy_can_not_say_is_checked() {
    for (text, key) in [
        ("keep_alive: 0s", "proxy.keep_alive"),
        ("body_timeout: 2d", "proxy.body_timeout"),
        ("pool: { lifetime: 0s }", "proxy.pool.lifetime"),
        ("pool: { idle: 10 }", "proxy.pool.idle_per_host"),
        ("pool: { http2_per_host: 0 }", "proxy.pool.http2_per_host"),
        ("http2: { streams: 0 }", "proxy.http2.streams"),
        (
            "http2: { header_list_size: 1 }",
            "proxy.http2.header_list_size",
        ),
        ("http2: { resets_pending: 0 }", "proxy.http2.resets_pending"),
        ("pol: {}", "proxy.pol"),
    ] {
        assert_eq!(problem(&format!("proxy: {{ {text} }}")).0, key);
    }
}

#[test]
fn routes_see_no_variable_of_the_gateways_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidegate.yaml");
    std::fs::write(&file, "http_api: { key: \"env:API_KEY\" }\n").unwrap();
    let variable = |name: &str| (name.to_owned(), "value-of-it".to_owned());
    let names = ["API_KEY", "REGION", "TIDEGATE_BIN"];
    let Loaded { config, .. } = Config::load(Some(&file), names.map(variable)).unwrap();
    let variables = &config.proxy.variables;
    assert_eq!(variables.get("REGION"), Some("value-of-it"));
    assert_eq!(
        (variables.get("API_KEY"), variables.get("TIDEGATE_BIN")),
        (None, None)
    );
    assert!(!format!("{config:?}").contains("value-of-it"));
}

#[test]
fn the_store_is_a_file_or_a_server() {
    let location = |text: &str| {
        let config = Config::parse(text).unwrap();
        config.store.location(Path::new("/d")).unwrap().to_string()
    };
    assert_eq!(location(""), "sqlite:/d/store.db");
    assert_eq!(
        location("store: { url: \"sqlite:/x/y.db\" }"),
        "sqlite:/x/y.db"
    );
    let server =
        "store: { url: \"postgres://me@db:5433/gate?sslmode=require\", password: \"p@ss:/?\" }";
    assert_eq!(location(server), "postgres://db:5433/gate");
    assert!(!Config::parse(server).unwrap().to_yaml().contains("p@ss"));
    for (text, key) in [
        ("url: \"mysql://db\"", "store.url"),
        ("url: \":memory:\"", "store.url"),
        ("url: \"postgres://u:p@db/x\"", "store.url"),
        ("url: \"postgres://u@db/x?password=p\"", "store.url"),
        ("url: \"postgres://db/x\", password: p", "store.url"),
        ("password: p", "store.password"),
        ("key: short", "store.key"),
        ("key: \"env:NOWHERE\"", "store.key"),
    ] {
        let (found, said) = problem(&format!("store: {{ {text} }}"));
        assert_eq!(found, key, "{said}");
        assert!(!said.contains("u:p@"), "{said}");
    }
}

#[test]
fn keys_of_the_store_are_read_from_where_they_are() {
    let config = Config::parse("").unwrap();
    assert_eq!(
        config.store.key_file(Path::new("d")).as_deref(),
        Some(Path::new("d/store.key"))
    );
    assert!(config.store.keys().unwrap().is_none());
    let key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let config = Config::parse(&format!("store: {{ key: \"{key}\" }}")).unwrap();
    assert!(config.store.keys().unwrap().is_some());
    assert_eq!(config.store.key_file(Path::new("d")), None);
    assert!(!config.to_yaml().contains(key));
}
