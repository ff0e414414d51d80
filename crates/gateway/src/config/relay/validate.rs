//! What the types of the relay's settings can't say.

use std::time::Duration;

use super::super::nats::{is_name, url_problem};
use super::{BufferKind, NatsBuffer, RedisBuffer, Relay};

/// Tells each key that is wrong, and why. Routes are checked when they become a table.
pub(in super::super) fn check(relay: &Relay, refuse: &mut dyn FnMut(&str, String)) {
    check_times(relay, refuse);
    check_numbers(relay, refuse);
    if let Err(error) = relay.signatures.check() {
        refuse(&format!("relay.signatures.{}", error.key), error.problem);
    }
    match relay.buffer.kind {
        BufferKind::Disk => {}
        BufferKind::Redis => check_redis(&relay.buffer.redis, refuse),
        BufferKind::Nats => check_nats(&relay.buffer.nats, refuse),
    }
}

fn check_times(relay: &Relay, refuse: &mut dyn FnMut(&str, String)) {
    let buffer = &relay.buffer;
    for (key, time, is_fine) in [
        (
            "relay.ping_interval",
            relay.ping_interval,
            is_timer(relay.ping_interval),
        ),
        (
            "relay.pong_timeout",
            relay.pong_timeout,
            is_timer(relay.pong_timeout),
        ),
        (
            "relay.buffer.sync_interval",
            buffer.sync_interval,
            is_timer(buffer.sync_interval),
        ),
        (
            "relay.retries.base",
            relay.retries.base,
            is_timer(relay.retries.base),
        ),
        (
            "relay.breaker.open",
            relay.breaker.open,
            is_timer(relay.breaker.open),
        ),
        (
            "relay.dedup_window",
            relay.dedup_window,
            relay.dedup_window <= YEAR,
        ),
        (
            "relay.buffer.dead_retention",
            buffer.dead_retention,
            is_timer(buffer.dead_retention),
        ),
        (
            "relay.history.ttl",
            relay.history.ttl,
            is_timer(relay.history.ttl),
        ),
        (
            "relay.metrics_log_interval",
            relay.metrics_log_interval,
            relay.metrics_log_interval.is_zero() || is_timer(relay.metrics_log_interval),
        ),
    ] {
        if !is_fine {
            let problem = format!("is {time:?}; must be at least 1ms and at most a year (366d)");
            refuse(key, problem);
        }
    }
    if relay.retries.max < relay.retries.base || relay.retries.max > YEAR {
        refuse(
            "relay.retries.max",
            "must be at least relay.retries.base and at most a year (366d)".into(),
        );
    }
    if relay.breaker.open_max < relay.breaker.open || relay.breaker.open_max > YEAR {
        refuse(
            "relay.breaker.open_max",
            "must be at least relay.breaker.open and at most a year (366d)".into(),
        );
    }
}

fn check_numbers(relay: &Relay, refuse: &mut dyn FnMut(&str, String)) {
    if !(1.0..=100.0).contains(&relay.retries.factor) {
        refuse("relay.retries.factor", "must be from 1 to 100".into());
    }
    if !(0.0..=1.0).contains(&relay.retries.jitter) {
        refuse("relay.retries.jitter", "must be from 0 to 1".into());
    }
    if !relay.dedup_window.is_zero() && relay.dedup_max == 0 {
        refuse(
            "relay.dedup_max",
            "must be above 0, or relay.dedup_window 0".into(),
        );
    }
    let (client, agent) = (relay.rate.per_client, relay.rate.per_agent);
    for (key, rate, burst) in [
        ("relay.rate.per_client.burst", client.rate, client.burst),
        ("relay.rate.per_agent.burst", agent.rate, agent.burst),
    ] {
        if rate > 0 && burst == 0 {
            refuse(key, "must be above 0".into());
        }
    }
    let history = &relay.history;
    if history.per_client > 0 && history.message_size_max > history.bytes_max {
        refuse(
            "relay.history.message_size_max",
            "must be at most relay.history.bytes_max".into(),
        );
    }
    if relay.buffer.bytes_max / 2 < relay.message_size_max as u64 {
        refuse(
            "relay.buffer.bytes_max",
            "must be at least twice relay.message_size_max".into(),
        );
    }
}

fn check_redis(redis: &RedisBuffer, refuse: &mut dyn FnMut(&str, String)) {
    if let Some(problem) = url_problem(&redis.url, &["redis://", "rediss://"]) {
        refuse("relay.buffer.redis.url", problem);
    }
    if redis.stream.is_empty() {
        refuse("relay.buffer.redis.stream", "must not be empty".into());
    }
    if !redis.user.is_empty() && redis.password.is_empty() {
        let problem = "missing; relay.buffer.redis.user needs it";
        refuse("relay.buffer.redis.password", problem.into());
    }
}

fn check_nats(nats: &NatsBuffer, refuse: &mut dyn FnMut(&str, String)) {
    nats.server.check("relay.buffer.nats", refuse);
    if !is_name(&nats.stream) {
        refuse(
            "relay.buffer.nats.stream",
            "must have 1 to 32 letters, digits, - and _".into(),
        );
    }
}

fn is_timer(time: Duration) -> bool {
    (Duration::from_millis(1)..=YEAR).contains(&time)
}

const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);
