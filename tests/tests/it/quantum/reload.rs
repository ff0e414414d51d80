//! Settings of the transport that change while calls are under way.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use e2e::desk::{Desk, Options, Way};
use serde_json::json;
use testkit::{Gateway, PATIENCE};

use super::{anna, config, say, service, settings};

const REPAIRS: &str = "quantum_fec_repair_sent_total{role=\"client\"}";
const RELOADED: &str = e2e::reload::RELOADED;

#[test]
fn repairs_begin_within_a_second_of_a_reload_and_no_call_fails() -> anyhow::Result<()> {
    let desk = Desk::start_with(Options { loss: Some(0.05) })?;
    let with_ratio = |ratio: f64| {
        let quantum = json!({ "quantum": { "fec-ratio": ratio, "fec-tail-rate": 0 } });
        config(&settings(
            &[service(&desk, Way::Link, &json!({}))],
            &quantum,
        ))
    };
    let gateway = Gateway::start(&with_ratio(0.0))?;
    let (is_over, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let calling = |_| {
            let mut client = anna(&gateway)?;
            while !is_over.load(Ordering::Relaxed) {
                let text = "x".repeat(3_000);
                let answer = say(&mut client, &json!({ "text": text }))?;
                ensure!(answer["text"] == text, "another answer");
                calls.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        };
        let callers: Vec<_> = (0..4)
            .map(|nth| scope.spawn(move || calling(nth)))
            .collect();
        let watched = watch(&gateway, &calls, &with_ratio);
        is_over.store(true, Ordering::Relaxed);
        for caller in callers {
            caller
                .join()
                .map_err(|_| anyhow::anyhow!("caller panicked"))??;
        }
        watched
    })
}

fn watch(
    gateway: &Gateway,
    calls: &AtomicU64,
    with_ratio: &dyn Fn(f64) -> String,
) -> anyhow::Result<()> {
    wait_calls(calls, 200)?;
    gateway.wait_metric("quantum_packets_lost_total{role=\"client\"}", |lost| {
        lost > 0.0
    })?;
    let repairs = gateway.metric(REPAIRS)?;
    ensure!(repairs == 0.0, "{repairs} repairs although they are off");
    let connections = gateway.metric("quantum_handshake_seconds_count{role=\"client\"}")?;

    let mark = gateway.log().mark();
    gateway.rewrite_config(&with_ratio(0.3))?;
    gateway.hangup()?;
    gateway.log().wait_for_message(mark, PATIENCE, RELOADED)?;
    let begun = Instant::now();
    gateway.wait_metric(REPAIRS, |repairs| repairs > 0.0)?;
    let took = begun.elapsed();
    ensure!(
        took < Duration::from_secs(1),
        "the first repair came after {took:?}"
    );

    // And off again: those under way are the last.
    let mark = gateway.log().mark();
    gateway.rewrite_config(&with_ratio(0.0))?;
    gateway.hangup()?;
    gateway.log().wait_for_message(mark, PATIENCE, RELOADED)?;
    let before = calls.load(Ordering::Relaxed);
    wait_calls(calls, before + 50)?;
    let repairs = gateway.metric(REPAIRS)?;
    wait_calls(calls, before + 250)?;
    ensure!(
        gateway.metric(REPAIRS)? == repairs,
        "repairs go on although they are off"
    );
    let since = gateway.metric("quantum_handshake_seconds_count{role=\"client\"}")?;
    ensure!(
        since == connections,
        "connections were made anew: {connections}, then {since}"
    );
    Ok(())
}

fn wait_calls(calls: &AtomicU64, enough: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while calls.load(Ordering::Relaxed) < enough {
        ensure!(Instant::now() < deadline, "calls do not go on");
        std::thread::yield_now();
    }
    Ok(())
}
