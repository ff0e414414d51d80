//! Prometheus text, and what this listener counts about itself.
//!
//! Families are skipped in the text until they have a series, so each crate makes the
//! series of its closed label sets when it registers them; then a counter is visible, at
//! zero, before the first event, and [`reference_markdown`] sees it.

use std::fmt::Write;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::operator::Endpoint;
use crate::router::OPEN_PATHS;
use crate::{api, records};

/// What this listener counts about itself (names of `contracts`: im 3.9).
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram>,
    errors: Family<RouteLabels, Counter>,
    refusals: Family<AreaLabels, Counter>,
}

/// Who keeps the door of a part of the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Area {
    Api,
    Admin,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AreaLabels {
    area: &'static str,
}

impl HttpMetrics {
    /// Registers the families; prometheus-client adds `_total` to counters.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            errors: Family::default(),
            refusals: Family::default(),
        };
        registry.register(
            "gateway_http_requests",
            "HTTP requests answered on the admin listener, by route, method and status",
            metrics.requests.clone(),
        );
        registry.register(
            "gateway_http_request_duration_seconds",
            "Time from a request's head to its answer on the admin listener, by route",
            metrics.durations.clone(),
        );
        registry.register(
            "gateway_http_errors",
            "HTTP requests answered with a status of 400 or above on the admin listener, by route",
            metrics.errors.clone(),
        );
        registry.register(
            "tidegate_admin_auth_refused",
            "Requests refused for a missing or wrong API key or administrator token, by area",
            metrics.refusals.clone(),
        );
        for area in [Area::Api, Area::Admin] {
            drop(metrics.refusals.get_or_create(&area.labels()));
        }
        for path in OPEN_PATHS {
            metrics.expect_route(path, "GET");
        }
        for path in api::paths() {
            metrics.expect_route(path, "POST");
        }
        for endpoint in Endpoint::ALL {
            metrics.expect_route(endpoint.path(), endpoint.method());
        }
        for endpoint in records::Endpoint::ALL {
            metrics.expect_route(endpoint.path(), endpoint.method());
        }
        metrics
    }

    /// Makes the series of a route, so that they are seen before its first request.
    fn expect_route(&self, route: &str, method: &'static str) {
        let labels = RouteLabels {
            route: route.to_owned(),
        };
        drop(self.durations.get_or_create(&labels));
        drop(self.errors.get_or_create(&labels));
        let labels = RequestLabels {
            route: route.to_owned(),
            method,
            status: 200,
        };
        drop(self.requests.get_or_create(&labels));
    }

    /// Counts one answered request. `route` is the route's template, never the path.
    pub(crate) fn answered(&self, route: &str, method: &str, status: u16, took: Duration) {
        let labels = RouteLabels {
            route: route.to_owned(),
        };
        self.durations
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        if status >= 400 {
            self.errors.get_or_create(&labels).inc();
        }
        let method = METHODS
            .into_iter()
            .find(|known| *known == method)
            .unwrap_or("other");
        let labels = RequestLabels {
            route: labels.route,
            method,
            status,
        };
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts a request that was turned away at the door.
    pub(crate) fn refused(&self, area: Area) {
        self.refusals.get_or_create(&area.labels()).inc();
    }
}

impl Area {
    fn labels(self) -> AreaLabels {
        let area = match self {
            Self::Api => "api",
            Self::Admin => "admin",
        };
        AreaLabels { area }
    }
}

/// The registry as OpenMetrics text.
pub fn render(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::with_capacity(16 * 1024);
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    Ok(text)
}

/// The content type of [`render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A Markdown table of the registry's metrics (name, type, what it says), for
/// `docs/reference/metrics.md`. Rows are sorted by name.
pub fn reference_markdown(registry: &Registry) -> Result<String, std::fmt::Error> {
    let text = render(registry)?;
    let mut rows: Vec<(String, &str, &str)> = Vec::new();
    let mut help = ("", "");
    for line in text.lines() {
        if let Some((name, words)) = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '))
        {
            help = (name, words);
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            let shown = if kind == "counter" {
                format!("{name}_total")
            } else {
                name.to_owned()
            };
            let words = if help.0 == name { help.1 } else { "" };
            rows.push((shown, kind, words));
        }
    }
    rows.sort();
    rows.dedup();
    let mut page = String::from("| name | type | what it says |\n|---|---|---|\n");
    for (name, kind, words) in rows {
        // The registry ends each help text with a full stop.
        let words = words.trim_end_matches('.').replace('|', "\\|");
        writeln!(page, "| `{name}` | {kind} | {words} |")?;
    }
    Ok(page)
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The seed's range, 0.01 to 2.5 s, and 1 ms below it: most answers come from memory.
const DURATION_BUCKETS: [f64; 9] = [0.001, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

#[cfg(test)]
mod tests {
    use super::{HttpMetrics, reference_markdown, render};
    use prometheus_client::registry::Registry;
    use std::time::Duration;

    #[test]
    fn answers_are_counted_by_route_and_unknown_methods_share_a_label() {
        let mut registry = Registry::default();
        let metrics = HttpMetrics::new(&mut registry);
        metrics.answered("/api/info", "POST", 200, Duration::from_millis(3));
        metrics.answered("other", "BREW", 404, Duration::from_millis(3));
        let text = render(&registry).unwrap();
        for line in [
            r#"gateway_http_requests_total{route="/api/info",method="POST",status="200"} 1"#,
            r#"gateway_http_requests_total{route="other",method="other",status="404"} 1"#,
            r#"gateway_http_errors_total{route="other"} 1"#,
            r#"gateway_http_request_duration_seconds_count{route="/api/info"} 1"#,
            r#"tidegate_admin_auth_refused_total{area="api"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn reference_lists_each_family_once_with_its_name_on_the_wire() {
        let mut registry = Registry::default();
        HttpMetrics::new(&mut registry);
        let page = reference_markdown(&registry).unwrap();
        assert!(
            page.contains("| `gateway_http_requests_total` | counter | HTTP requests answered")
        );
        assert!(page.contains("| `gateway_http_request_duration_seconds` | histogram |"));
        assert_eq!(page.lines().count(), 2 + 4);
    }
}
