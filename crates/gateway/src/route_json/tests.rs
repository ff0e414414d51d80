use std::time::Duration;

use super::{RouteJsonError, Value, key_in_file, routes, settings};

const SHIPPED: &[u8] = include_bytes!("../../fixtures/route.json");

fn found(text: &str, key: &str) -> Option<Value> {
    let settings = settings(text.as_bytes()).unwrap();
    let mut found = settings
        .into_iter()
        .filter(|setting| setting.path.join(".") == key);
    found.next().map(|setting| setting.value)
}

#[test]
fn the_shipped_file_is_read_as_it_stands() {
    let listed: Vec<_> = settings(SHIPPED)
        .unwrap()
        .into_iter()
        .map(|setting| (setting.path.join("."), setting.value))
        .collect();
    let integer = |key: &str, value| (key.to_owned(), Value::Integer(value));
    let text = |key: &str, value: &str| (key.to_owned(), Value::Text(value.to_owned()));
    assert_eq!(
        listed,
        [
            text("listeners.relay.address", "0.0.0.0:8080"),
            integer("limits.connections", 100_000),
            text("relay.pong_timeout", "90s"),
            text("relay.ping_interval", "15s"),
            integer("relay.message_size_max", 52_428_800),
            integer("limits.handshake_rate_per_address", 1_000),
            integer("limits.handshake_burst_per_address", 2_000),
            (
                "access.allowed_origins".to_owned(),
                Value::Texts(vec!["*".to_owned()])
            ),
            (
                "websocket.compression.enabled".to_owned(),
                Value::Bool(true)
            ),
            integer("relay.history.per_client", 500),
            integer("relay.history.message_size_max", 65_536),
            text("relay.history.ttl", "24h"),
            integer("relay.buffer.size", 1_000_000),
            text("relay.buffer.folder", "data/buffer"),
            text("relay.metrics_log_interval", "10s"),
            integer("limits.memory", 2_147_483_648),
        ]
    );
    let mut prefixes = Vec::new();
    let warnings = routes(SHIPPED, |_, route| {
        prefixes.push(route.unwrap().client_id_prefix.unwrap());
        true
    });
    assert_eq!(warnings, Ok(Vec::new()));
    assert_eq!(prefixes, ["client-1-1000", "client-1001-2000"]);
}

#[test]
fn durations_may_be_nanoseconds() {
    let key = "relay.pong_timeout";
    let text = |text: &str| Some(Value::Text(text.to_owned()));
    let file = |value: &str| format!("{{\"gateway\":{{\"connectionTimeout\":{value}}}}}");
    assert_eq!(found(&file("90000000000"), key), text("90000000000ns"));
    assert_eq!(found(&file("\"500ms\""), key), text("500ms"));
    for unset in ["0", "\"\"", "null"] {
        assert_eq!(found(&file(unset), key), None, "{unset}");
    }
}

#[test]
fn what_is_turned_off_there_is_off_here() {
    let file = r#"{"gateway":{"rateLimit":{"enabled":false,"requestsPerSecond":5},
        "history":{"enabled":false,"maxPerClient":5}},"metrics":{"enabled":false}}"#;
    let key = "limits.handshake_rate_per_address";
    assert_eq!(found(file, key), Some(Value::Integer(0)));
    let key = "relay.history.per_client";
    assert_eq!(found(file, key), Some(Value::Integer(0)));
    let key = "relay.metrics_log_interval";
    assert_eq!(found(file, key), Some(Value::Text("0".to_owned())));
}

#[test]
fn a_wrong_value_names_its_key() {
    for (file, said) in [
        (
            r#"{"gateway":{"maxConnections":"many"}}"#,
            "gateway.maxConnections: expected a whole number of at least 0, found a text",
        ),
        (
            r#"{"gateway":{"heartbeatInterval":-5}}"#,
            "gateway.heartbeatInterval: expected a duration such as \"90s\", or nanoseconds, found a number",
        ),
        (
            r#"{"gateway":{"security":{"allowedOrigins":[5]}}}"#,
            "gateway.security.allowedOrigins: expected a list of texts, found a number",
        ),
        (
            r#"{"buffer":[]}"#,
            "buffer: expected an object, found a list",
        ),
    ] {
        assert_eq!(settings(file.as_bytes()).unwrap_err().to_string(), said);
    }
    let error = settings(b"{\n  \"gateway\": }").unwrap_err();
    assert!(
        matches!(error, RouteJsonError::Syntax { line: 2, .. }),
        "{error}"
    );
}

#[test]
fn unknown_keys_are_told_and_wrong_routes_name_the_key() {
    let file = br#"{"gatway":{},"gateway":{"rateLimit":{"rps":5}},"routes":[
        {"clientIdPrefix":"a-","openclawGateway":"ws://a","color":"red","auth":{"mode":"token","secret":"s","x":1},
         "protocol":"stratix","agentId":"b","deltas":true,"dialTimeout":"5s","tryTimeout":1000000000,"inFlight":3,
         "dataEncoding":"plain"},
        {"clientIdPrefix":5}, 7, {"protocol":"http"}]}"#;
    let mut said = Vec::new();
    let mut good = Vec::new();
    let warnings = routes(file, |index, route| {
        match route {
            Ok(route) => good.push(route),
            Err((key, problem)) => said.push(format!("{index} {key}: {problem}")),
        }
        true
    });
    assert_eq!(
        warnings.unwrap(),
        [
            "gateway.rateLimit.rps is not known and changes nothing",
            "gatway is not known and changes nothing",
            "routes[].auth.x is not known and changes nothing",
            "routes[].color is not known and changes nothing",
        ]
    );
    assert_eq!(
        said,
        [
            "1 clientIdPrefix: expected a text, found a number",
            "2 client_id_prefix: expected an object, found a number",
            "3 protocol: expected openclaw or stratix, found another text",
        ]
    );
    assert_eq!(good[0].dial_timeout, Duration::from_secs(5));
    assert_eq!(good[0].try_timeout, Duration::from_secs(1));
    assert_eq!((good[0].in_flight, good[0].agent_id.as_str()), (3, "b"));
}

#[test]
fn keys_have_the_names_of_the_file() {
    for (ours, theirs) in [
        ("client_id_prefix", "clientIdPrefix"),
        ("agents[2]", "openclawGateways[2]"),
        ("agent", "openclawGateway"),
        ("auth.secret", "auth.secret"),
        ("tls_fingerprint", "tlsFingerprint"),
    ] {
        assert_eq!(key_in_file(ours), theirs);
    }
}

#[test]
fn two_lists_of_routes_are_refused() {
    let file = br#"{"routes": [7], "routes": [7]}"#;
    let mut told = 0;
    let read = routes(file, |_, _| {
        told += 1;
        true
    });
    assert!(matches!(read, Err(RouteJsonError::Syntax { .. })));
    assert_eq!(told, 1);
}
