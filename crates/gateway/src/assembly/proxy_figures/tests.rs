use std::time::Duration;

use router::proxy::{Connection, Decider, Ended, Figures, Outcome};

use super::*;

fn route(label: &str, breakers: Vec<BreakerState>) -> RouteReading {
    let figures = Figures::new(1);
    for (status, ms) in [(200, 5), (200, 70), (503, 20_000)] {
        figures.begin();
        figures.finish(&Outcome {
            ended: Ended::Complete,
            connection: Some(Connection::Reused),
            tries: 2,
            ..Outcome::refused(status, Decider::Upstream, Duration::from_millis(ms))
        });
    }
    figures.begin();
    RouteReading {
        label: label.to_owned(),
        figures: figures.snapshot(),
        breakers,
        opened: 4,
        queued: 2,
    }
}

fn shown(routes: &[RouteReading]) -> ProxyFigures {
    let figures = ProxyFigures::default();
    let routes = routes.to_vec();
    figures.show_readings(move || Reading {
        routes: routes.clone(),
        unrouted: 3,
        pool: PoolFigures {
            misses: vec![("cold", 4)],
            ..PoolFigures::default()
        },
        access_log: Some((9, 1)),
    });
    figures
}

fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(
            text.lines().any(|found| found == *line),
            "{line} is not in\n{text}"
        );
    }
}

#[test]
fn each_figure_stands_under_its_name() {
    let open = BreakerState::Open {
        retry_after: Duration::ZERO,
    };
    let figures = shown(&[route("openai", vec![open])]);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(figures.clone()));
    let text = admin::metrics::render(&registry).unwrap();
    let contract = [
        r#"gateway_requests_total{proxy="openai",status="2xx"} 2"#,
        r#"gateway_requests_total{proxy="openai",status="5xx"} 1"#,
        r#"gateway_errors_total{proxy="openai",type="5xx"} 1"#,
        r#"gateway_errors_total{proxy="openai",type="timeout"} 0"#,
        r#"gateway_active_connections{proxy="openai"} 1"#,
        r#"gateway_circuit_breaker_state{proxy="openai"} 1"#,
        r#"gateway_request_duration_seconds_bucket{le="0.01",proxy="openai"} 1"#,
        r#"gateway_request_duration_seconds_bucket{le="10.0",proxy="openai"} 2"#,
        r#"gateway_request_duration_seconds_bucket{le="+Inf",proxy="openai"} 3"#,
        r#"gateway_request_duration_seconds_count{proxy="openai"} 3"#,
        r#"gateway_request_duration_seconds_sum{proxy="openai"} 20.075"#,
        r#"gateway_latency_seconds_bucket{le="0.00005",proxy="openai"} 0"#,
    ];
    assert_lines(&text, &contract);
    assert_lines(&figures.contract_text().unwrap(), &contract);
    assert_lines(
        &text,
        &[
            r#"tidegate_proxy_connections_total{proxy="openai",kind="reused"} 3"#,
            r#"tidegate_proxy_retries_total{proxy="openai"} 3"#,
            r#"tidegate_proxy_queued{proxy="openai"} 2"#,
            r#"tidegate_proxy_pool_misses_total{reason="cold"} 4"#,
            r#"tidegate_proxy_breaker_opened_total{proxy="openai"} 4"#,
            "tidegate_proxy_unrouted_total 3",
            "tidegate_access_log_dropped_total 1",
        ],
    );
}

#[test]
fn routes_with_one_name_are_added_up() {
    let half_open = vec![BreakerState::HalfOpen];
    let figures = shown(&[
        route("a", half_open.clone()),
        route("b", vec![BreakerState::Closed]),
        route("a", half_open),
    ]);
    assert_lines(
        &figures.contract_text().unwrap(),
        &[
            r#"gateway_requests_total{proxy="a",status="2xx"} 4"#,
            r#"gateway_circuit_breaker_state{proxy="a"} 2"#,
            r#"gateway_requests_total{proxy="b",status="2xx"} 2"#,
            r#"gateway_circuit_breaker_state{proxy="b"} 0"#,
        ],
    );
}

#[test]
fn without_a_proxy_there_are_no_figures() {
    let figures = ProxyFigures::default();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(figures.clone()));
    let text = admin::metrics::render(&registry).unwrap();
    assert!(!text.contains("gateway_"), "{text}");
    assert_eq!(figures.contract_text(), None);
}
