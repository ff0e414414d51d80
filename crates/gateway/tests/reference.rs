//! What is generated from the settings' types is up to date, and the example is valid.

use std::path::PathBuf;

use gateway::config::{Config, reference};
use gateway::metrics;

#[track_caller]
fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path);
    std::fs::read_to_string(&path).expect("a file of the repository")
}

#[track_caller]
fn assert_current(path: &str, what: &str, text: &str) {
    assert!(
        read(path) == text,
        "{path} is out of date; run `cargo run -p gateway --example reference -- {what} > {path}`"
    );
}

#[test]
fn the_reference_page_is_current() {
    assert_current("docs/reference/config.md", "config", &reference::markdown());
}

#[test]
fn the_schema_is_current() {
    assert_current(
        "docs/reference/config.schema.json",
        "schema",
        &reference::schema(),
    );
}

#[test]
fn the_metrics_page_is_current() {
    let page = metrics::markdown().unwrap();
    assert_current("docs/reference/metrics.md", "metrics", &page);
}

#[test]
fn the_names_that_dashboards_know_are_there() {
    let page = metrics::markdown().unwrap();
    for name in [
        "gateway_websocket_connections_active",
        "gateway_websocket_connections_total",
        "gateway_messages_pulse_total",
        "gateway_messages_received_total",
        "gateway_messages_sent_total",
        "gateway_push_duration_seconds",
        "gateway_push_failed_total",
        "gateway_http_requests_total",
        "gateway_http_request_duration_seconds",
        "gateway_http_errors_total",
        "xy_ws_active_connections",
        "ws_active",
        "ws_msgs",
        "xy_ws_messages_forwarded_total",
        "ws_msgs_rate",
        "xy_ws_messages_dropped_total",
        "xy_ws_slow_consumers_total",
        "slow_consumers",
        "xy_nats_reconnects_total",
        "xy_ws_send_queue_size",
        "xy_sub_storms_total",
        "backpressure_events",
        "ticks_out",
        "snapshots_out",
        "nats_req_latency",
        "src_ingest_rate",
        "src_gap",
        "reorder_count",
        "invalid_ticks",
        "heartbeat_age",
    ] {
        assert!(page.contains(&format!("| `{name}` |")), "{name}");
    }
}

#[test]
fn the_example_is_a_configuration_that_changes_nothing() {
    let text = read("examples/tidegate.yaml");
    // Commented lines that set something (`#key: value`) must be right as well.
    let uncommented: String = text
        .lines()
        .map(|line| {
            let indent = line.len() - line.trim_start().len();
            match line.trim_start().strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => format!("{}{rest}\n", &line[..indent]),
                _ => format!("{line}\n"),
            }
        })
        .collect();
    let plain = Config::parse(&text).unwrap_or_else(|errors| panic!("{errors}"));
    let mut default = Config::default();
    default.demo.enabled = Some(false);
    default.relay.enabled = Some(false);
    default.live.enabled = Some(false);
    default.market.enabled = Some(false);
    assert_eq!(plain, default);
    let errors = Config::parse(&uncommented)
        .err()
        .map(|errors| errors.errors)
        .unwrap_or_default();
    // Files it names do not exist here; everything else is to be right.
    let wrong: Vec<_> = errors
        .iter()
        .filter(|error| !error.problem.contains("entity not found"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
