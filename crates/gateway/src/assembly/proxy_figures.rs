//! What the HTTP proxy says of itself when somebody asks for the metrics.
//!
//! The names of the contract (http-proxy 5.5) come first, ours begin with
//! `tidegate_proxy_`. The label `proxy` is the route's name, or its path; routes with one
//! name are added up.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::{Arc, OnceLock};

use policy::BreakerState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use router::proxy::{
    CONNECTIONS, ERROR_TYPES, FiguresSnapshot, Histogram, PHASES, Proxy, REFUSALS, STATUS_CLASSES,
};
use upstream::http_service::PoolFigures;

/// Reads what the proxy knows about itself.
#[derive(Clone, Default)]
pub(super) struct ProxyFigures {
    source: Arc<OnceLock<Source>>,
}

/// Takes a reading.
type Source = Box<dyn Fn() -> Reading + Send + Sync>;

/// The proxy at one time.
#[derive(Debug, Clone, Default)]
struct Reading {
    routes: Vec<RouteReading>,
    /// Requests that had no route.
    unrouted: u64,
    pool: PoolFigures,
    /// Lines of the access log that were written and dropped; `None` if there is none.
    access_log: Option<(u64, u64)>,
}

/// A route at one time.
#[derive(Debug, Clone)]
struct RouteReading {
    /// Its name, or its path if it has none.
    label: String,
    figures: FiguresSnapshot,
    /// Its upstreams' breakers, and how often they opened.
    breakers: Vec<BreakerState>,
    opened: u64,
    /// Requests that wait in its queue.
    queued: u64,
}

/// Every figure once, at zero, for the reference.
#[derive(Debug)]
pub(super) struct Sample;

/// Routes with one label.
#[derive(Debug, Clone, Default)]
struct Shown {
    figures: FiguresSnapshot,
    breakers: Vec<BreakerState>,
    opened: u64,
    queued: u64,
}

type Routes = BTreeMap<String, Shown>;

/// What is read of a route.
type Get<T> = fn(&Shown) -> T;

/// What is read of a route's counters that have a label more.
type GetEach<const N: usize> = fn(&FiguresSnapshot) -> &[u64; N];

impl ProxyFigures {
    /// From now on this proxy is shown; without one there are no figures.
    pub(super) fn show(&self, proxy: &Arc<Proxy>) {
        let proxy = Arc::clone(proxy);
        self.show_readings(move || Reading::of(&proxy));
    }

    fn show_readings(&self, source: impl Fn() -> Reading + Send + Sync + 'static) {
        self.source.get_or_init(|| Box::new(source));
    }

    /// How many routes there are, and requests under way; `None` without a proxy.
    pub(super) fn at_a_glance(&self) -> Option<(usize, u64)> {
        let reading = self.source.get()?();
        let under_way = reading.routes.iter().map(|route| route.figures.active);
        Some((reading.routes.len(), under_way.sum()))
    }

    /// The contract's figures alone, as `GET /api/gateway/metrics` gives them; `None`
    /// without a proxy.
    pub(super) fn contract_text(&self) -> Option<String> {
        let source = self.source.get()?;
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Contract(by_label(source().routes))));
        admin::metrics::render(&registry).ok()
    }
}

impl std::fmt::Debug for ProxyFigures {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ProxyFigures")
            .finish_non_exhaustive()
    }
}

impl Collector for ProxyFigures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        match self.source.get() {
            Some(source) => encode(encoder, source()),
            None => Ok(()),
        }
    }
}

impl Collector for Sample {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let route = RouteReading {
            label: "example".to_owned(),
            figures: FiguresSnapshot::default(),
            breakers: Vec::new(),
            opened: 0,
            queued: 0,
        };
        let pool = PoolFigures {
            connect_failures: vec![("timeout", 0)],
            misses: vec![("cold", 0)],
            ..PoolFigures::default()
        };
        let reading = Reading {
            routes: vec![route],
            unrouted: 0,
            pool,
            access_log: Some((0, 0)),
        };
        encode(encoder, reading)
    }
}

impl Reading {
    fn of(proxy: &Proxy) -> Self {
        let now = proxy.clock().mono_ms();
        let routes = proxy.routes();
        let routes = routes.iter().map(|route| {
            let endpoints = route.endpoints(now);
            RouteReading {
                label: route.label.to_string(),
                figures: route.figures().snapshot(),
                opened: endpoints.iter().map(|endpoint| endpoint.opened).sum(),
                breakers: endpoints.iter().map(|endpoint| endpoint.breaker).collect(),
                queued: u64::from(route.guard_state().gate.waiting),
            }
        });
        Self {
            routes: routes.collect(),
            unrouted: proxy.unrouted(),
            pool: proxy.pool().figures(),
            access_log: proxy.log().map(|log| (log.written(), log.dropped())),
        }
    }
}

#[derive(Debug)]
struct Contract(Routes);

impl Collector for Contract {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        contract(&mut encoder, &self.0)
    }
}

fn by_label(readings: Vec<RouteReading>) -> Routes {
    let mut routes = Routes::new();
    for reading in readings {
        let shown = routes.entry(reading.label).or_default();
        shown.figures.add(&reading.figures);
        shown.breakers.extend(reading.breakers);
        shown.opened += reading.opened;
        shown.queued += reading.queued;
    }
    routes
}

fn encode(mut encoder: DescriptorEncoder<'_>, reading: Reading) -> Result<(), Error> {
    let routes = by_label(reading.routes);
    let encoder = &mut encoder;
    contract(encoder, &routes)?;
    kinds(encoder, &routes)?;
    for (name, help, get) in COUNTERS {
        counters(encoder, name, help, &routes, *get)?;
    }
    gauges(
        encoder,
        "tidegate_proxy_queued",
        "Requests that wait for a slot",
        &routes,
        |route| route.queued,
    )?;
    histograms(
        encoder,
        "tidegate_proxy_queue_seconds",
        "Time that requests waited for a slot; only those that did",
        &routes,
        |route| &route.figures.queued,
    )?;
    histograms(
        encoder,
        "tidegate_proxy_connect_seconds",
        "Time to connect to an upstream, for requests that found no connection",
        &routes,
        |route| &route.figures.connect,
    )?;
    histograms(
        encoder,
        "tidegate_proxy_first_content_seconds",
        "Time from a request's head to a model's first content",
        &routes,
        |route| &route.figures.first_content,
    )?;
    costs(encoder, &routes)?;
    ConstCounter::new(reading.unrouted).encode(encoder.encode_descriptor(
        "tidegate_proxy_unrouted",
        "Requests below /-/ for which there was no route",
        None,
        MetricType::Counter,
    )?)?;
    pool(encoder, &reading.pool)?;
    access_log(encoder, reading.access_log)
}

/// The figures of the contract.
fn contract(encoder: &mut DescriptorEncoder<'_>, routes: &Routes) -> Result<(), Error> {
    labelled(
        encoder,
        "gateway_requests",
        "Requests by route and class of status; none: the client left before an answer",
        routes,
        ("status", &STATUS_CLASSES, |figures| &figures.requests),
    )?;
    labelled(
        encoder,
        "gateway_errors",
        "Requests that failed, by route and type: 5xx of the upstream itself, connect, \
         timeout, broken off, circuit_open, capacity",
        routes,
        ("type", &ERROR_TYPES, |figures| &figures.errors),
    )?;
    gauges(
        encoder,
        "gateway_active_connections",
        "Requests under way, streams and tunnels included",
        routes,
        |route| route.figures.active,
    )?;
    gauges(
        encoder,
        "gateway_circuit_breaker_state",
        "Breakers of a route: 0 if one is closed, 2 if one is half-open, 1 if all are open",
        routes,
        |route| circuit(&route.breakers),
    )?;
    histograms(
        encoder,
        "gateway_request_duration_seconds",
        "Time from a request's head to the last byte of its answer",
        routes,
        |route| &route.figures.duration,
    )?;
    histograms(
        encoder,
        "gateway_upstream_latency_seconds",
        "Time from sending a request to the head of its answer",
        routes,
        |route| &route.figures.upstream,
    )?;
    histograms(
        encoder,
        "gateway_latency_seconds",
        "Time that the gateway itself takes: waiting for upstream, queue and client left out",
        routes,
        |route| &route.figures.overhead,
    )
}

/// Ours with a label more.
fn kinds(encoder: &mut DescriptorEncoder<'_>, routes: &Routes) -> Result<(), Error> {
    labelled(
        encoder,
        "tidegate_proxy_refused",
        "Requests that the gateway refused, by who decided",
        routes,
        ("by", &REFUSALS, |figures| &figures.refused),
    )?;
    labelled(
        encoder,
        "tidegate_proxy_connections",
        "Requests that went upstream by their last connection: reused, or why it was not",
        routes,
        ("kind", &CONNECTIONS, |figures| &figures.connections),
    )?;
    labelled(
        encoder,
        "tidegate_proxy_timeouts",
        "Requests of which a phase took too long, by phase",
        routes,
        ("phase", &PHASES, |figures| &figures.timeouts),
    )
}

const COUNTERS: &[(&str, &str, Get<u64>)] = &[
    (
        "tidegate_proxy_retries",
        "Tries after the first of a request",
        |route| route.figures.retries,
    ),
    (
        "tidegate_proxy_hedges",
        "Tries sent beside another one",
        |route| route.figures.hedges,
    ),
    (
        "tidegate_proxy_breaker_opened",
        "Times that breakers of upstreams opened",
        |route| route.opened,
    ),
    (
        "tidegate_proxy_broken",
        "Answers that broke off after their head was passed on",
        |route| route.figures.broken,
    ),
    (
        "tidegate_proxy_clients_left",
        "Requests whose client left before the end of the answer",
        |route| route.figures.left,
    ),
    (
        "tidegate_proxy_request_bytes",
        "Bytes of the bodies of requests",
        |route| route.figures.request_bytes,
    ),
    (
        "tidegate_proxy_response_bytes",
        "Bytes of the bodies of answers",
        |route| route.figures.response_bytes,
    ),
    (
        "tidegate_proxy_input_tokens",
        "Tokens asked of models",
        |route| route.figures.input_tokens,
    ),
    (
        "tidegate_proxy_cached_tokens",
        "Tokens asked of models that came from their cache",
        |route| route.figures.cached_tokens,
    ),
    (
        "tidegate_proxy_output_tokens",
        "Tokens answered by models",
        |route| route.figures.output_tokens,
    ),
    (
        "tidegate_proxy_tokens_estimated",
        "Requests whose tokens were estimated, as the upstream did not count them to the end",
        |route| route.figures.estimated,
    ),
];

/// 0 closed, 1 open, 2 half-open. A route is as well as the best of its upstreams.
fn circuit(breakers: &[BreakerState]) -> u64 {
    let is_closed = |state: &BreakerState| matches!(state, BreakerState::Closed);
    let is_open = |state: &BreakerState| matches!(state, BreakerState::Open { .. });
    if breakers.is_empty() || breakers.iter().any(is_closed) {
        0
    } else if breakers.iter().all(is_open) {
        1
    } else {
        2
    }
}

/// A counter for each route and each of some names.
fn labelled<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    routes: &Routes,
    (label, kinds, get): (&str, &[&str; N], GetEach<N>),
) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (route, shown) in routes {
        for (kind, value) in kinds.iter().zip(get(&shown.figures)) {
            let labels = [("proxy", route.as_str()), (label, *kind)];
            ConstCounter::new(*value).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    routes: &Routes,
    get: Get<u64>,
) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (route, shown) in routes {
        let labels = [("proxy", route.as_str())];
        ConstCounter::new(get(shown)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    routes: &Routes,
    get: Get<u64>,
) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (route, shown) in routes {
        let labels = [("proxy", route.as_str())];
        ConstGauge::new(whole(get(shown))).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn histograms<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    routes: &Routes,
    get: fn(&Shown) -> &Histogram<N>,
) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (route, shown) in routes {
        let histogram = get(shown);
        // The encoder adds them up as it goes.
        let mut buckets: Vec<(f64, u64)> = histogram
            .bounds
            .iter()
            .map(|bound| *bound as f64 / 1e6)
            .zip(histogram.buckets)
            .collect();
        buckets.push((f64::INFINITY, histogram.beyond));
        let labels = [("proxy", route.as_str())];
        family
            .encode_family(&labels)?
            .encode_histogram::<NoLabelSet>(
                histogram.sum_us as f64 / 1e6,
                histogram.count(),
                &buckets,
                None,
            )?;
    }
    Ok(())
}

fn costs(encoder: &mut DescriptorEncoder<'_>, routes: &Routes) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(
        "tidegate_proxy_cost",
        "What models cost, in the unit of the route's prices",
        None,
        MetricType::Counter,
    )?;
    for (route, shown) in routes {
        let labels = [("proxy", route.as_str())];
        let cost = shown.figures.micro_cost as f64 / 1e6;
        ConstCounter::new(cost).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// Connections to upstreams, over all routes: routes with one upstream share them.
fn pool(encoder: &mut DescriptorEncoder<'_>, pool: &PoolFigures) -> Result<(), Error> {
    for (name, help, value) in [
        (
            "tidegate_proxy_pool_connects",
            "Connections made to upstreams",
            pool.connects,
        ),
        (
            "tidegate_proxy_pool_reuses",
            "Requests that found a connection",
            pool.reuses,
        ),
    ] {
        ConstCounter::new(value).encode(encoder.encode_descriptor(
            name,
            help,
            None,
            MetricType::Counter,
        )?)?;
    }
    for (name, help, value) in [
        (
            "tidegate_proxy_pool_idle",
            "Connections of HTTP/1.1 to upstreams that rest",
            pool.idle,
        ),
        (
            "tidegate_proxy_pool_open",
            "Connections to upstreams that are open",
            pool.open,
        ),
        (
            "tidegate_proxy_pool_http2",
            "Connections of HTTP/2 to upstreams that are open",
            pool.http2,
        ),
    ] {
        ConstGauge::new(whole(value)).encode(encoder.encode_descriptor(
            name,
            help,
            None,
            MetricType::Gauge,
        )?)?;
    }
    by_reason(
        encoder,
        "tidegate_proxy_pool_connect_failures",
        "Connections to upstreams that could not be made, by reason",
        &pool.connect_failures,
    )?;
    by_reason(
        encoder,
        "tidegate_proxy_pool_misses",
        "Requests that found no connection, by reason",
        &pool.misses,
    )
}

fn by_reason(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    reasons: &[(&'static str, u64)],
) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (reason, value) in reasons {
        let labels = [("reason", *reason)];
        ConstCounter::new(*value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn access_log(encoder: &mut DescriptorEncoder<'_>, lines: Option<(u64, u64)>) -> Result<(), Error> {
    let Some((written, dropped)) = lines else {
        return Ok(());
    };
    for (name, help, value) in [
        (
            "tidegate_access_log_written",
            "Lines of the access log that were written",
            written,
        ),
        (
            "tidegate_access_log_dropped",
            "Lines of the access log that were dropped: too many waited, or the file failed",
            dropped,
        ),
    ] {
        ConstCounter::new(value).encode(encoder.encode_descriptor(
            name,
            help,
            None,
            MetricType::Counter,
        )?)?;
    }
    Ok(())
}

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
