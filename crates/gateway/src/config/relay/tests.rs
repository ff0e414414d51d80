use std::path::Path;
use std::time::Duration;

use crate::config::{Ack, BufferKind, Config, ConfigErrors, Loaded};

/// Loads a configuration beside a `route.json`.
fn load(yaml: &str, route_json: &str, pairs: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    let route_file = folder.path().join("route.json");
    std::fs::write(&route_file, route_json).unwrap();
    let file = folder.path().join("tidegate.yaml");
    std::fs::write(
        &file,
        yaml.replace("ROUTES", &route_file.display().to_string()),
    )
    .unwrap();
    let pairs = pairs
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    Config::load(Some(&file), pairs)
}

fn url(config: &Config, client: &str) -> Option<String> {
    let found = config.relay.table.routes().lookup(client)?;
    Some(found.target.url.to_string())
}

#[test]
fn the_relay_is_on_where_there_are_routes_or_the_demo() {
    let is_on = |text: &str| Config::parse(text).unwrap().relay.is_on();
    assert!(!is_on(""));
    assert!(is_on("demo: { enabled: true }"));
    let routes = "routes: [ { client_id: a, agent: \"ws://a\" } ]";
    assert!(is_on(&format!("relay: {{ {routes} }}")));
    assert!(!is_on(&format!("relay: {{ enabled: false, {routes} }}")));
}

#[test]
fn routes_become_a_table() {
    let config = Config::parse(
        "relay:\n  ack: delivered\n  routes:\n\
         \x20   - { client_id_prefix: client-1-1000, agent: \"ws://one/ws\" }\n\
         \x20   - { client_id_prefix: client-, agents: [ \"ws://two/ws\", \"ws://three/ws\" ], protocol: stratix }\n\
         \x20   - client_id: vip\n      agent: wss://four/ws\n      auth: { mode: token, secret: hush-hush }\n\
         \x20     tls_fingerprint: 00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00112233445566778899AABBCCDDEEFF\n",
    )
    .unwrap();
    assert_eq!(config.relay.ack, Ack::Delivered);
    assert_eq!(url(&config, "client-123").as_deref(), Some("ws://one/ws"));
    assert_eq!(url(&config, "vip").as_deref(), Some("wss://four/ws"));
    assert!(url(&config, "client-x").is_some());
    let routes = config.relay.table.routes();
    let vip = routes.lookup("vip").unwrap();
    assert_eq!(vip.target.tls_fingerprint.unwrap()[..3], [0, 0x11, 0x22]);
    assert!(!config.to_yaml().contains("hush-hush"));
}

#[test]
fn the_seeds_file_gives_routes_and_defaults() {
    let shipped = include_str!("../../../fixtures/route.json");
    let yaml = "relay: { routes_file: \"ROUTES\", pong_timeout: 20s, routes: [ { client_id: client-5, agent: \"ws://own\" } ] }";
    let config = load(yaml, shipped, &[]).unwrap().config;
    assert!(config.relay.is_on());
    assert_eq!(
        url(&config, "client-123").as_deref(),
        Some("ws://gateway1.example.com:8080/ws")
    );
    assert_eq!(url(&config, "client-5").as_deref(), Some("ws://own"));
    assert_eq!(url(&config, "unknown-999"), None);
    assert_eq!(config.relay.ping_interval, Duration::from_secs(15));
    // What our own file says is stronger.
    assert_eq!(config.relay.pong_timeout, Duration::from_secs(20));
    assert_eq!(
        config.relay.folder(Path::new("d")),
        Path::new("data/buffer")
    );
    let address = config.listeners.relay.address.unwrap();
    assert_eq!(address.to_string(), "0.0.0.0:8080");
    assert_eq!(config.limits.connections, 100_000);
    assert_eq!(config.relay.table.warnings().count(), 0);
}

#[test]
fn what_is_wrong_in_the_seeds_file_names_the_place() {
    let yaml = "relay:\n  routes_file: \"ROUTES\"\n";
    for (content, parts) in [
        (
            r#"{"gateway":{"heartbeatInterval":"soon"}}"#,
            &["route.json: gateway.heartbeatInterval: relay.ping_interval: expected a duration"][..],
        ),
        (
            r#"{"gateway":{"listen":"here"}}"#,
            &[
                "route.json: gateway.listen: listeners.relay.address: ",
                "is not a socket's address",
            ],
        ),
        (
            r#"{"routes":[{"clientIdPrefix":"a"},{"clientIdPrefix":"b","openclawGateway":"http://x"},{"openclawGateway":"ws://x"}]}"#,
            &[
                "tidegate.yaml:2:16: relay.routes_file: ",
                "route.json: routes[0].openclawGateway: missing",
                "route.json: routes[1].openclawGateway: \"http://x\" is no URL of an agent",
                "route.json: routes[2].clientIdPrefix: missing",
            ],
        ),
        ("{", &["relay.routes_file: ", "1:1: EOF"]),
    ] {
        let said = load(yaml, content, &[]).unwrap_err().to_string();
        for part in parts {
            assert!(said.contains(part), "{part} is not in {said}");
        }
    }
    let said = Config::parse("relay: { routes_file: nowhere.json }").unwrap_err();
    assert_eq!(said.errors[0].key, "relay.routes_file");
}

#[test]
fn a_secret_of_a_route_may_be_elsewhere() {
    let route = r#"{"routes":[{"clientId":"a","openclawGateway":"ws://a","auth":{"mode":"token","secret":"env:AGENT"}}]}"#;
    let yaml = "relay: { routes_file: \"ROUTES\" }";
    assert!(load(yaml, route, &[("AGENT", "token-of-the-agent")]).is_ok());
    let said = load(yaml, route, &[]).unwrap_err().to_string();
    assert!(
        said.contains("routes[0].auth.secret: \"env:AGENT\" could not be read"),
        "{said}"
    );
}

#[test]
fn what_a_type_of_the_relay_can_not_say_is_checked() {
    for (text, key) in [
        ("ping_interval: 0s", "relay.ping_interval"),
        ("signatures: { mode: required }", "relay.signatures.keys"),
        ("retries: { max: 1ms }", "relay.retries.max"),
        ("retries: { factor: 0.5 }", "relay.retries.factor"),
        ("retries: { jitter: 1.5 }", "relay.retries.jitter"),
        ("breaker: { open: 10m }", "relay.breaker.open_max"),
        ("dedup_max: 0", "relay.dedup_max"),
        (
            "rate: { per_client: { burst: 0 } }",
            "relay.rate.per_client.burst",
        ),
        (
            "history: { bytes_max: 1 }",
            "relay.history.message_size_max",
        ),
        ("buffer: { bytes_max: 1048576 }", "relay.buffer.bytes_max"),
        ("buffer: { size: 0 }", "relay.buffer.size"),
        ("buffer: { kind: redis }", "relay.buffer.redis.url"),
        (
            "buffer: { kind: redis, redis: { url: \"redis://u:p@h\" } }",
            "relay.buffer.redis.url",
        ),
        ("buffer: { kind: nats }", "relay.buffer.nats.urls"),
        (
            "buffer: { kind: nats, nats: { urls: [ \"http://h\" ] } }",
            "relay.buffer.nats.urls[0]",
        ),
        ("routes: [ { client_id: a } ]", "relay.routes[0].agent"),
        (
            "routes: [ { agent: \"ws://a\" } ]",
            "relay.routes[0].client_id_prefix",
        ),
        (
            "routes: [ { client_id: a, agent: \"ws://a\", auth: { mode: token } } ]",
            "relay.routes[0].auth.secret",
        ),
        (
            "routes: [ { client_id: a, agent: \"ws://a\", auth: { secret: x } } ]",
            "relay.routes[0].auth.mode",
        ),
        (
            "routes: [ { client_id: a, agents: [ \"ws://a\", \"ws://b\" ] } ]",
            "relay.routes[0].agents",
        ),
        (
            "routes: [ { client_id: a, agent: \"ws://a\", tls_fingerprint: aa } ]",
            "relay.routes[0].tls_fingerprint",
        ),
        (
            "routes: [ { client_id: a, agent: \"wss://a\", tls_fingerprint: aa } ]",
            "relay.routes[0].tls_fingerprint",
        ),
    ] {
        let error = Config::parse(&format!("relay: {{ {text} }}")).unwrap_err();
        assert_eq!(error.errors[0].key, key, "{error}");
    }
    let text = "listeners: { relay: { address: \"127.0.0.1:8001\" } }";
    let error = Config::parse(text).unwrap_err();
    assert_eq!(error.errors[0].key, "listeners.relay.address");
}

#[test]
fn the_buffer_may_be_elsewhere() {
    let text =
        "relay: { buffer: { kind: nats, nats: { urls: [ \"nats://one:4222\" ], token: t } } }";
    let config = Config::parse(text).unwrap();
    assert_eq!(config.relay.buffer.kind, BufferKind::Nats);
    assert_eq!(config.relay.folder(Path::new("d")), Path::new("d/relay"));
}
