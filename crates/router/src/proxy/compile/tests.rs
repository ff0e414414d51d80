use std::time::Duration;

use serde_json::{Value, json};
use upstream::http_service::{Scheme, Versions};

use super::{breaker, identity_rate, origins, policy};
use crate::proxy::Record;

fn record(more: Value) -> Record {
    let base = json!({ "path": "/a", "upstream": "http://one" });
    Record::read(&Record::patched(&base, &more)).unwrap()
}

#[test]
fn upstreams_become_origins() {
    let record = record(json!({
        "upstreams": ["https://API.Example.com/v1/", { "url": "http://[::1]:8080", "weight": 3 }],
        "upstreamHttp": "2",
        "allowPrivate": true,
        "timeoutConfig": { "dial": 0.5 },
    }));
    let found = origins(&record);
    let first = &found[0];
    assert_eq!((first.base_path.as_str(), first.weight), ("/v1", 1));
    assert_eq!(first.origin.scheme, Scheme::Https);
    assert_eq!(
        (first.origin.host.as_str(), first.origin.port),
        ("api.example.com", 443)
    );
    assert_eq!(first.origin.authority, "api.example.com");
    assert_eq!(first.origin.versions, Versions::Http2);
    assert_eq!(first.origin.dial_timeout, Duration::from_millis(500));
    assert_eq!(first.origin.idle_timeout, Duration::from_secs(90));
    let second = &found[1];
    assert_eq!(
        (
            second.origin.host.as_str(),
            second.origin.authority.as_str()
        ),
        ("::1", "[::1]:8080")
    );
    assert_eq!(second.weight, 3);
    assert!(second.origin.allow_private && second.base_path.is_empty());
}

#[test]
fn the_policy_is_the_records() {
    let plain = record(json!({}));
    let settings = policy(&plain).unwrap().settings().clone();
    assert_eq!(
        (settings.concurrency.limit, settings.concurrency.waiting_max),
        (0, 0)
    );
    assert!(settings.rate.is_none() && settings.breaker.is_none());
    assert_eq!(settings.retries.attempts, 1);

    let full = record(json!({
        "maxConcurrent": 7,
        "queue": { "max": 3, "timeout": 1.5 },
        "rate": { "per_second": 10 },
    }));
    let settings = policy(&full).unwrap().settings().clone();
    assert_eq!(settings.concurrency.limit, 7);
    assert_eq!(settings.concurrency.wait_max, Duration::from_millis(1_500));
    assert!(settings.rate.is_some() && identity_rate(&full).unwrap().is_none());

    for most in [0, 1, 500] {
        let adaptive = record(json!({ "maxConcurrent": most, "concurrencyMode": "adaptive" }));
        assert!(policy(&adaptive).is_ok());
    }

    let own = record(json!({ "rate": { "per_second": 10, "by": "identity" } }));
    assert!(policy(&own).unwrap().settings().rate.is_none());
    assert!(identity_rate(&own).unwrap().is_some());
}

#[test]
fn the_widest_settings_are_accepted_by_the_policy() {
    let widest = record(json!({
        "maxConcurrent": 10_000,
        "queue": { "max": 100_000, "timeout": 300 },
        "rate": { "per_second": 1_000_000, "burst": 1_000_000 },
        "retry": { "attempts": 5 },
        "circuitBreaker": { "enabled": true, "failure_rate": 0.01, "recovery_timeout": 3600, "ramp": 3600, "half_open_requests": 1000 },
    }));
    assert!(policy(&widest).is_ok());
    let settings = breaker(&widest.circuit_breaker).unwrap().unwrap();
    let checked = policy::Policy::new(policy::Settings {
        breaker: Some(settings),
        ..policy::Settings::default()
    });
    assert!(checked.is_ok());
}

#[test]
fn a_breaker_stays_open_for_the_recovery_timeout() {
    assert_eq!(breaker(&record(json!({})).circuit_breaker), Ok(None));
    let on = record(json!({ "circuitBreaker": { "enabled": true } }));
    let settings = breaker(&on.circuit_breaker).unwrap().unwrap();
    assert_eq!((settings.consecutive, settings.probes), (5, 1));
    assert_eq!(settings.open.delay(0, 7), Duration::from_secs(30));
    assert_eq!(settings.open.delay(9, u64::MAX), Duration::from_secs(30));
    assert_eq!(settings.open.cap(), Duration::from_secs(300));
}
