use std::path::Path;
use std::time::Duration;

use super::{BusKind, Config, ConfigErrors, Place};

/// What is said about a configuration, one mistake per line.
#[track_caller]
fn complaints(text: &str) -> String {
    Config::parse(text).expect_err("a refusal").to_string()
}

fn from_environment(pairs: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let pairs = pairs
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    Config::load(None, pairs).map(|loaded| loaded.config)
}

#[test]
fn nothing_at_all_is_a_safe_configuration() {
    let config = from_environment(&[]).unwrap();
    assert!(config.listeners.main.address.ip().is_loopback());
    assert!(config.listeners.admin.address.ip().is_loopback());
    assert!(config.demo.is_on());
    assert!(config.http_api.key.is_empty());
    assert!(!config.client.token.has_keys());
    assert!(!config.client.settings.allow_anonymous_connect_without_token);
}

#[test]
fn the_demo_is_off_with_a_file_or_beyond_loopback() {
    assert!(!Config::parse("").unwrap().demo.is_on());
    assert!(
        Config::parse("demo: { enabled: true }")
            .unwrap()
            .demo
            .is_on()
    );
    let open = [("TIDEGATE_LISTENERS_MAIN_ADDRESS", "0.0.0.0:8000")];
    assert!(!from_environment(&open).unwrap().demo.is_on());
}

#[test]
fn a_full_file_is_read() {
    let config = Config::parse(
        r#"
data_dir: /var/lib/tidegate
log: { level: debug, targets: { edge: trace }, format: json }
listeners: { main: { address: "[::]:443", proxy_protocol: on }, admin: { address: "127.0.0.1:0" } }
access:
  allowed_origins: [ "https://*.example.com" ]
  trusted_networks: [ 10.0.0.0/8, "::1" ]
client:
  ping_interval: 10s
  pong_timeout: 5s
  token: { hmac_secret_key: "0123456789abcdef0123456789abcdef", audience: app }
  subscription_token: { enabled: true, hmac_secret_key: "another-secret-of-sufficient-length" }
channel:
  without_namespace: { presence: true }
  namespaces:
    - name: chat
      history_size: 100
      history_ttl: 5m
      force_recovery: true
    - { name: ticks, pattern: "market.>", slow_client: conflate, publication_data_format: "" }
drain: { grace: 5s, rate: 1000 }
"#,
    )
    .unwrap();
    assert_eq!(
        config.client.settings.ping_interval,
        Duration::from_secs(10)
    );
    assert_eq!(config.client.token.audience, "app");
    assert!(config.client.subscription_token.enabled);
    assert!(config.channel.without_namespace.presence);
    assert_eq!(
        config.channel.namespaces[0].options.history_ttl,
        Duration::from_secs(300)
    );
    assert_eq!(
        config.channel.namespaces[1].pattern.as_deref(),
        Some("market.>")
    );
    assert_eq!(config.access.trusted_networks[1].to_string(), "::1/128");
    assert_eq!(config.drain.rate, 1000);
}

#[test]
fn all_mistakes_are_told_with_line_column_key_and_what_was_expected() {
    let said = complaints(
        r#"client:
  ping_intervall: 20s
  pong_timeout: 8
  channel_limit: "many"
  hmac_secret_key: x
channel:
  without_namespace:
    presense: true
  namespaces:
    - name: chat
      history_ttl: soon
      slow_client: drop
    - presence: yes
listeners:
  main: { adress: "0.0.0.0:80" }
frobnicate: 1
workers: -1
"#,
    );
    assert_eq!(
        said,
        r#"tidegate.yaml:2:3: client.ping_intervall: unknown key; did you mean "ping_interval"?
tidegate.yaml:3:17: client.pong_timeout: expected a duration such as "25s", "250ms" or "1h30m", found the number 8
tidegate.yaml:4:18: client.channel_limit: expected a whole number of at least 0, found the text "many"
tidegate.yaml:5:3: client.hmac_secret_key: unknown key here; there is "client.subscription_token.hmac_secret_key" and "client.token.hmac_secret_key" and "live.token.hmac_secret_key"
tidegate.yaml:8:5: channel.without_namespace.presense: unknown key; did you mean "presence"?
tidegate.yaml:11:20: channel.namespaces[0].history_ttl: expected a duration such as "25s", "250ms" or "1h30m", found the text "soon"
tidegate.yaml:12:20: channel.namespaces[0].slow_client: expected one of disconnect, drop_oldest, conflate, found the text "drop"
tidegate.yaml:13:7: channel.namespaces[1].name: missing; expected text
tidegate.yaml:13:17: channel.namespaces[1].presence: expected true or false, found the text "yes"
tidegate.yaml:15:11: listeners.main.adress: unknown key; did you mean "address"?
tidegate.yaml:16:1: frobnicate: unknown key; accepted here: access, admin, bus, channel, client, data_dir, demo, drain, emulation, feature_flags, grpc, http_api, http_stream, limits, listeners, live, log, market, proxy, quantum, relay, rpc, sse, store, websocket, workers
tidegate.yaml:17:10: workers: expected a whole number of at least 0, found the number -1"#
    );
}

#[test]
fn text_that_is_not_yaml_is_refused_where_it_ends_to_be() {
    let error = Config::parse("client:\n  ping_interval: [1s\nchannel: {}\n").unwrap_err();
    assert!(
        matches!(error.errors[0].place, Place::File { line: 2..=4, .. }),
        "{error}"
    );
    let error = Config::parse("workers: 1\nworkers: 2\n").unwrap_err();
    assert_eq!(
        error.errors[0].place,
        Place::File { line: 2, column: 1 },
        "{error}"
    );
    let error = Config::parse("- a list\n").unwrap_err();
    assert_eq!(
        error.errors[0].place,
        Place::File { line: 1, column: 1 },
        "{error}"
    );
}

#[test]
fn what_a_type_refuses_has_a_place_too() {
    for (text, key, line) in [
        (
            "listeners:\n  main:\n    address: localhost\n",
            "listeners.main.address",
            3,
        ),
        (
            "access:\n  deny: [ 10.0.0.0/8, nowhere ]\n",
            "access.deny[1]",
            2,
        ),
        (
            "access:\n  allowed_origins:\n    - example.com\n",
            "access.allowed_origins[0]",
            3,
        ),
    ] {
        let error = Config::parse(text).unwrap_err();
        assert_eq!(error.errors[0].key, key, "{error}");
        assert!(
            matches!(error.errors[0].place, Place::File { line: at, .. } if at == line),
            "{error}"
        );
        assert!(error.errors[0].problem.contains("expected"), "{error}");
    }
}

#[test]
fn relations_between_keys_are_checked() {
    for (text, key) in [
        ("client: { ping_interval: 5s }", "client.pong_timeout"),
        ("client: { queue_max_size: 100 }", "client.queue_max_size"),
        ("drain: { grace: 5s, delay: 5s }", "drain.delay"),
        ("drain: { rate: 0 }", "drain.rate"),
        (
            "listeners: { main: { proxy_protocol: on } }",
            "listeners.main.proxy_protocol",
        ),
        (
            "listeners: { admin: { address: \"127.0.0.1:8000\" } }",
            "listeners.admin.address",
        ),
        (
            "listeners: { main: { tls: { certificate: no.pem, key: no.pem } } }",
            "listeners.main.tls.certificate",
        ),
        (
            "client: { token: { hmac_secret_key: short } }",
            "client.token.hmac_secret_key",
        ),
        (
            "client: { token: { hmac_secret_key: \"file:no\" } }",
            "client.token.hmac_secret_key",
        ),
        ("http_api: { key: \"env:NO_SUCH\" }", "http_api.key"),
        (
            "client: { subscription_token: { enabled: true } }",
            "client.subscription_token.enabled",
        ),
        (
            "channel: { namespaces: [ { name: x } ] }",
            "channel.namespaces[0].name",
        ),
        (
            "channel: { without_namespace: { force_recovery: true } }",
            "channel.without_namespace.force_recovery",
        ),
        (
            "websocket: { write_timeout: 0s }",
            "websocket.write_timeout",
        ),
    ] {
        let error = Config::parse(text).unwrap_err();
        assert_eq!(error.errors[0].key, key, "{error}");
        assert!(
            matches!(
                error.errors[0].place,
                Place::File { line: 1, .. } | Place::Default
            ),
            "{error}"
        );
    }
}

#[test]
fn the_environment_is_stronger_than_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidegate.yaml");
    std::fs::write(&file, "client:\n  ping_interval: 20s\n  channel_limit: 5\n").unwrap();
    let pairs = [
        ("TIDEGATE_CLIENT_PING_INTERVAL", "15s"),
        (
            "TIDEGATE_ACCESS_ALLOWED_ORIGINS",
            "https://a.example, https://b.example",
        ),
        ("TIDEGATE_SSE_ENABLED", "false"),
        ("TIDEGATE_DEMO_ENABLED", "true"),
        ("TIDEGATE_LIMITS_CONNECTIONS", "10"),
        ("TIDEGATE_HTTP_API_KEY", "env:API_KEY"),
        ("API_KEY", "a key from elsewhere"),
        ("TIDEGATE_CONFIG", "ignored here"),
        ("TIDEGATE_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
        ("HOME", "/root"),
    ];
    let pairs = pairs.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let loaded = Config::load(Some(&file), pairs).unwrap();
    let config = loaded.config;
    assert_eq!(
        config.client.settings.ping_interval,
        Duration::from_secs(15)
    );
    assert_eq!(config.client.settings.channel_limit, 5);
    assert_eq!(config.access.allowed_origins.len(), 2);
    assert!(!config.sse.enabled && config.demo.is_on());
    assert_eq!(config.limits.connections, 10);
    assert_eq!(config.http_api.key.reveal(), Some("a key from elsewhere"));
    assert_eq!(loaded.files.len(), 1);
}

#[test]
fn a_wrong_variable_is_named() {
    let error = from_environment(&[
        ("TIDEGATE_CLIENT_PING_INTERVAL", "soon"),
        ("TIDEGATE_CLIENT_PING_INTERVALL", "5s"),
        ("TIDEGATE_CHANNEL_NAMESPACES", "chat"),
    ])
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"environment TIDEGATE_CHANNEL_NAMESPACES: channel.namespaces: can't be set by a variable; expected in the file
environment TIDEGATE_CLIENT_PING_INTERVAL: client.ping_interval: expected a duration such as "25s", "250ms" or "1h30m", found the text "soon"
environment TIDEGATE_CLIENT_PING_INTERVALL: no key has this name; did you mean TIDEGATE_CLIENT_PING_INTERVAL?"#
    );
}

#[test]
fn a_secret_is_not_quoted_back() {
    let said = complaints(
        "client: { token: { hmac_secret_key: 123456789012345678 } }\nhttp_api: { key: 4711 }\n",
    );
    assert!(
        said.contains("client.token.hmac_secret_key: expected text, found a number"),
        "{said}"
    );
    assert!(!said.contains("12345") && !said.contains("4711"), "{said}");
    let said = complaints("client: { token: { hmac_secret_key: short-one } }");
    assert!(!said.contains("short-one"), "{said}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Some(Path::new("/no/such/file.yaml")), []).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/no/such/file.yaml: can't be read: "),
        "{error}"
    );
}

#[test]
fn what_is_printed_is_a_configuration_without_secrets() {
    let config = Config::parse(
        "client: { token: { hmac_secret_key: \"secret-that-nobody-may-see\" } }\nhttp_api: { key: hidden-key }\n\
         channel: { namespaces: [ { name: chat, presence: true } ] }\n",
    )
    .unwrap();
    let printed = config.to_yaml();
    assert!(
        !printed.contains("nobody-may-see") && !printed.contains("hidden-key"),
        "{printed}"
    );
    assert!(!format!("{config:?}").contains("nobody-may-see"));
    let again = Config::parse(&printed.replace("[redacted]", "0123456789abcdef")).unwrap();
    assert_eq!(again.channel, config.channel);
    assert_eq!(again.client.settings, config.client.settings);
    assert_eq!(again.listeners, config.listeners);
}

#[test]
fn defaults_are_what_an_empty_file_says() {
    let mut config = Config::parse("").unwrap();
    assert_eq!(config.demo.enabled, Some(false));
    config.demo.enabled = None;
    assert_eq!(config.relay.enabled, Some(false));
    config.relay.enabled = None;
    assert_eq!(config.live.enabled, Some(false));
    config.live.enabled = None;
    assert_eq!(config.market.enabled, Some(false));
    config.market.enabled = None;
    assert_eq!(config, Config::default());
}

#[test]
fn a_bus_over_nats_is_read_and_its_secrets_are_not_shown() {
    let config = Config::parse(
        "bus:\n  kind: nats\n  nats:\n    urls: [ tls://nats.example.com:4222 ]\n    user: gateway\n    password: not-to-be-shown\n    prefix: prod\n\
         \x20   streams:\n      - { name: AUDIT, subjects: [ audit.> ], max_age: 90d, max_bytes: 1000000 }\n",
    )
    .unwrap();
    let nats = &config.bus.nats;
    assert_eq!(
        (config.bus.kind, nats.prefix.as_str()),
        (BusKind::Nats, "prod")
    );
    assert_eq!(nats.streams.len(), 1);
    assert_eq!(nats.streams[0].max_bytes, 1_000_000);
    assert!(!config.to_yaml().contains("not-to-be-shown"));
    assert!(!format!("{config:?}").contains("not-to-be-shown"));
    let server = nats.server.connection("tidegate", nats.connect_within);
    assert!(matches!(
        server.credentials,
        bus::NatsCredentials::Password { ref user, ref password }
            if user == "gateway" && password == "not-to-be-shown"
    ));
}

#[test]
fn nats_beyond_this_machine_is_spoken_to_with_tls_only() {
    let with = |more: &str| Config::parse(&format!("bus: {{ kind: nats, nats: {{ {more} }} }}"));
    for near in [
        "nats://127.0.0.1:4222",
        "nats://localhost",
        "nats://[::1]:4222",
    ] {
        assert!(with(&format!("urls: [ \"{near}\" ]")).is_ok(), "{near}");
    }
    for far in [
        "nats://10.0.0.1:4222",
        "nats://nats",
        "nats://localhost.example.com",
    ] {
        let error = with(&format!("urls: [ \"{far}\" ]")).unwrap_err();
        assert_eq!(error.errors[0].key, "bus.nats.urls", "{error}");
        for more in ["tls: true", "insecure: true"] {
            let config = with(&format!("urls: [ \"{far}\" ], {more}"));
            assert!(config.is_ok(), "{far} {more}");
        }
    }
    let error = with("urls: [ \"nats://me:not-to-be-shown@nats\" ]").unwrap_err();
    assert_eq!(error.errors[0].key, "bus.nats.urls[0]", "{error}");
    assert!(!error.to_string().contains("not-to-be-shown"), "{error}");
}

#[test]
fn live_data_is_on_with_its_listener_or_the_demo() {
    let is_on = |text: &str| Config::parse(text).unwrap().live.is_on();
    assert!(!is_on(""));
    assert!(is_on("demo: { enabled: true }"));
    assert!(is_on("listeners: { live: { address: \"127.0.0.1:0\" } }"));
    assert!(!is_on("demo: { enabled: true }\nlive: { enabled: false }"));
}

#[test]
fn what_is_wrong_about_live_data_is_told_by_key() {
    for (text, key) in [
        ("bus: { kind: nats }", "bus.nats.urls"),
        ("bus: { nats: { prefix: a.b } }", "bus.nats.prefix"),
        ("bus: { nats: { linger: 2h } }", "bus.nats.linger"),
        (
            "bus: { nats: { subjects: [ a..b ] } }",
            "bus.nats.subjects[0]",
        ),
        (
            "bus: { nats: { subjects: [ tidegate.> ] } }",
            "bus.nats.subjects[0]",
        ),
        (
            "bus: { nats: { subjects: [ \">\" ] } }",
            "bus.nats.subjects[0]",
        ),
        (
            "bus: { nats: { subjects: [ $JS.> ] } }",
            "bus.nats.subjects[0]",
        ),
        (
            "bus: { nats: { streams: [ { name: a b, subjects: [ x ] } ] } }",
            "bus.nats.streams[0].name",
        ),
        (
            "bus: { nats: { streams: [ { name: A, subjects: [] } ] } }",
            "bus.nats.streams[0].subjects",
        ),
        (
            "bus: { nats: { streams: [ { name: A, subjects: [ a.> ] }, { name: B, subjects: [ a.b ] } ] } }",
            "bus.nats.streams[1].subjects[0]",
        ),
        (
            "bus: { nats: { subjects: [ a.>, a.b ] } }",
            "bus.nats.subjects[1]",
        ),
        (
            "bus: { nats: { history: { replicas: 7 } } }",
            "bus.nats.history.replicas",
        ),
        (
            "bus: { kind: nats, nats: { urls: [ \"nats://localhost\" ], history: { size_max: 5 } } }\n\
             channel: { without_namespace: { history_size: 6 } }",
            "bus.nats.history.size_max",
        ),
        (
            "bus: { kind: nats, nats: { urls: [ \"nats://localhost\" ], token: a, seed: b } }",
            "bus.nats",
        ),
        ("live: { subjects: [ a.>.b ] }", "live.subjects[0]"),
        ("live: { token: { enabled: true } }", "live.token.enabled"),
        ("live: { slow_patience: 0s }", "live.slow_patience"),
        ("live: { send_queue_max: 0 }", "live.send_queue_max"),
        (
            "listeners: { live: { address: \"127.0.0.1:8000\" } }",
            "listeners.live.address",
        ),
        (
            "rpc: { requests: [ { method: m, subject: \"a{b}\", channel: c } ] }",
            "rpc.requests[0].subject",
        ),
        (
            "rpc: { requests: [ { method: ping, subject: a, channel: c } ] }",
            "rpc.requests[0].method",
        ),
        (
            "rpc: { requests: [ { method: m } ] }",
            "rpc.requests[0].subject",
        ),
        (
            "feature_flags: { channel: \"a.>\" }",
            "feature_flags.channel",
        ),
    ] {
        let error = Config::parse(text).unwrap_err();
        assert!(
            error.errors.iter().any(|it| it.key == key),
            "{key}: {error}"
        );
    }
}
