//! From a record to what the machinery takes: origins, the route's policy, breakers.

use std::sync::Arc;
use std::time::Duration;

use policy::{
    Backoff, BreakerSettings, ConcurrencySettings, FailureRate, LimitMode, Policy, PolicyError,
    Retries, Settings,
};
use upstream::http_service::{Origin, TlsTerms, Versions};

use super::record::{Address, Breaker, ConcurrencyMode, RateBy, Record, UpstreamVersions};

/// One upstream of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightedOrigin {
    /// Where it is; upstreams of several routes may be equal and share connections.
    pub origin: Arc<Origin>,
    /// Goes before the path of each request; empty, or from a slash on without one at the end.
    pub base_path: String,
    /// Its share, beside the others'.
    pub weight: u32,
    /// Calls of gRPC go there, and nothing else.
    pub is_grpc: bool,
}

/// The upstreams of a record, in its order. A URL that can't be read, which no record that was
/// read has, is left out.
pub fn origins(record: &Record) -> Vec<WeightedOrigin> {
    let origin = |address: &Address| Origin {
        scheme: address.scheme,
        host: address.host.clone(),
        port: address.port,
        authority: address.authority.clone(),
        versions: match record.upstream_http {
            _ if address.is_grpc => Versions::Http2,
            UpstreamVersions::Auto => Versions::Negotiated,
            UpstreamVersions::Http1 => Versions::Http1,
            UpstreamVersions::Http2 => Versions::Http2,
        },
        allow_private: record.allow_private,
        tls: TlsTerms {
            roots: record.upstream_roots.clone(),
            server_name: None,
        },
        dial_timeout: seconds(record.timeout_config.dial),
        idle_timeout: seconds(record.timeout_config.idle),
    };
    let upstreams = record.upstreams.iter();
    upstreams
        .filter_map(|spec| {
            let address = Address::parse(&spec.url).ok()?;
            Some(WeightedOrigin {
                origin: Arc::new(origin(&address)),
                base_path: address.base_path,
                weight: spec.weight,
                is_grpc: address.is_grpc,
            })
        })
        .collect()
}

/// What guards a route: slots, the queue, a rate that all share, further tries. Its breakers
/// belong to its upstreams, see [`breaker`]; so does the time a try may take.
pub fn policy(record: &Record) -> Result<Policy, PolicyError> {
    let shared = record.rate.filter(|rate| rate.by == RateBy::Route);
    let retries = Retries {
        attempts: record.retry.attempts,
        backoff: Backoff::new(RETRY_WAIT, 2.0, RETRY_WAIT_MAX, 0.5)?,
        after_max: RETRY_AFTER_MAX,
    };
    Policy::new(Settings {
        retries,
        rate: shared
            .map(|it| policy::Rate::new(it.per_second, it.burst))
            .transpose()?,
        concurrency: ConcurrencySettings {
            limit: record.max_concurrent,
            waiting_max: record.queue.max,
            wait_max: seconds(record.queue.timeout),
            mode: match record.concurrency_mode {
                ConcurrencyMode::Fixed => LimitMode::Fixed,
                ConcurrencyMode::Adaptive => LimitMode::Adaptive {
                    least: match record.max_concurrent {
                        0 => ADAPTIVE_LEAST,
                        most => most.min(ADAPTIVE_LEAST),
                    },
                },
            },
        },
        ..Settings::default()
    })
}

/// The rate of each caller, if the record has one.
pub fn identity_rate(record: &Record) -> Result<Option<policy::Rate>, PolicyError> {
    let own = record.rate.filter(|rate| rate.by == RateBy::Identity);
    own.map(|it| policy::Rate::new(it.per_second, it.burst))
        .transpose()
}

/// The breaker of each upstream; `None` if it is off. It stays open for the recovery timeout
/// however often it opened, so that an upstream that is well again is found within that time.
pub fn breaker(breaker: &Breaker) -> Result<Option<BreakerSettings>, PolicyError> {
    if !breaker.enabled {
        return Ok(None);
    }
    let open = seconds(breaker.recovery_timeout);
    Ok(Some(BreakerSettings {
        consecutive: breaker.failure_threshold,
        rate: breaker.failure_rate.map(|share| FailureRate {
            share,
            window: FAILURE_WINDOW,
            minimum: FAILURE_MINIMUM,
        }),
        // The cap is also the longest time that an upstream can ask for.
        open: Backoff::new(open, 1.0, open.max(OPEN_MAX), 0.0)?,
        probes: breaker.half_open_requests,
        ramp: seconds(breaker.ramp),
    }))
}

/// Seconds of a record, which are never negative and at most a week.
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}

const RETRY_WAIT: Duration = Duration::from_millis(25);
const RETRY_WAIT_MAX: Duration = Duration::from_millis(250);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
/// Where a limit that moves stops falling.
const ADAPTIVE_LEAST: u32 = 10;
/// `contracts`: http-proxy P4.
const FAILURE_WINDOW: Duration = Duration::from_secs(10);
const FAILURE_MINIMUM: u32 = 20;
const OPEN_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
