//! What operators see of gRPC services and Quantum, and what nobody sees.

use e2e::desk::{Desk, Options, Way, orders};
use e2e::proxy::{route, settings as routes};
use serde_json::json;
use testkit::{Gateway, http};

use super::{anna, config, refusal, say, service, settings};

/// The seed's names, then those that explain them.
const NAMES: &[&str] = &[
    "quantum_packets_sent_total",
    "quantum_packets_received_total",
    "quantum_packets_lost_total",
    "quantum_rtt_seconds_bucket",
    "quantum_cwnd_bytes",
    "quantum_inflight_bytes",
    "quantum_fec_recoveries_total",
    "quantum_retransmissions_total",
    "quantum_fec_repair_sent_total",
    "quantum_fec_unrecoverable_total",
    "quantum_spurious_retransmissions_total",
    "quantum_recovery_seconds_bucket",
    "quantum_pacing_rate_bytes",
    "quantum_bbr_state",
    "quantum_handshake_seconds_count",
    "quantum_decrypt_failures_total",
    "quantum_dropped_total",
];

#[test]
fn metrics_have_the_names_of_the_contract_with_service_and_role() -> anyhow::Result<()> {
    let desk = Desk::start_with(Options { loss: Some(0.05) })?;
    let text = config(&settings(
        &[service(&desk, Way::Link, &json!({}))],
        &json!({}),
    ));
    let gateway = Gateway::start(&text)?;
    let mut anna = anna(&gateway)?;
    for number in 0..100 {
        say(&mut anna, &json!({ "text": number.to_string() }))?;
    }
    let page = http::get(gateway.admin_addr(), "/metrics", &[])?.text();
    for name in NAMES {
        let line = page.lines().find(|line| {
            let rest = line
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('{'));
            rest.is_some_and(|labels| {
                labels.contains("service=\"desk\"") && labels.contains("role=\"client\"")
            })
        });
        assert!(line.is_some(), "{name} is not there:\n{page}");
    }
    for counted in [
        "quantum_packets_sent_total",
        "quantum_packets_received_total",
        "quantum_packets_lost_total",
        "quantum_rtt_seconds_count",
        "quantum_cwnd_bytes",
        "quantum_handshake_seconds_count",
        "quantum_pacing_rate_bytes",
        "quantum_bbr_state",
    ] {
        assert!(gateway.metric(counted)? > 0.0, "{counted}:\n{page}");
    }
    let repaired = gateway.metric("quantum_fec_recoveries_total")?;
    let resent = gateway.metric("quantum_retransmissions_total")?;
    assert!(repaired + resent > 0.0, "5 % were lost:\n{page}");
    Ok(())
}

#[test]
fn logs_show_neither_secrets_nor_addresses_of_clients() -> anyhow::Result<()> {
    let desk = Desk::start()?;
    let grpc = settings(
        &[service(&desk, Way::Quantum, &json!({}))],
        &json!({
            "rpc": { "grpc": [ {
                "method": "desk.say", "service": "desk", "call": super::SAY,
                "metadata": { "x-key": "canary-metadata" },
            } ] },
        }),
    );
    let headers = json!({ "headers": { "Authorization": "Bearer canary-header" } });
    let proxied = routes(
        &json!([route("/-/desk", &desk.url(Way::Tcp), &headers)]),
        &json!({ "access_log": { "enabled": true } }),
    );
    let proxied = proxied.lines().next().unwrap_or_default().to_owned();
    let gateway = Gateway::start(&config(&format!("{grpc}{proxied}\n")))?;
    let mut anna = anna(&gateway)?;
    let client = anna.stream().local_addr()?.to_string();
    say(&mut anna, &json!({ "text": "canary-data" }))?;
    refusal(say(&mut anna, &json!({ "text": orders::REFUSE })))?;
    refusal(say(&mut anna, &json!({ "text": 1, "canary-field": 1 })))?;
    let mut logs = vec![
        ("gateway", gateway.log().text()),
        ("service", desk.log().text()),
    ];
    logs.push((
        "metrics",
        http::get(gateway.admin_addr(), "/metrics", &[])?.text(),
    ));
    let keys = std::fs::read_to_string(&desk.identity().client.key)?;
    let key = keys.lines().nth(1).unwrap_or_default();
    for (whose, log) in &logs {
        for hidden in ["canary", client.as_str(), key] {
            assert!(
                !log.contains(hidden),
                "{hidden:?} is shown by {whose}:\n{log}"
            );
        }
    }
    Ok(())
}
