//! From JSON to a record.

use serde_json::{Map, Value};

use super::object::{Object, Problems, kind};
use super::{
    Address, Ai, AiDialect, Breaker, Budget, ConcurrencyMode, Problem, Queue, Rate, RateBy, Record,
    Retry, Timeouts, UpstreamSpec, UpstreamVersions, headers, path,
};
use crate::proxy::rule::AccessRule;

/// The fields of a record.
pub(super) const FIELDS: &[&str] = &[
    "name",
    "path",
    "upstream",
    "upstreams",
    "upstream_http",
    "upstream_roots",
    "strip_path",
    "access_rule",
    "headers",
    "timeout",
    "timeout_config",
    "active",
    "max_concurrent",
    "concurrency_mode",
    "queue",
    "circuit_breaker",
    "rate",
    "retry",
    "max_body",
    "websocket",
    "allow_private",
    "grpc_services",
    "ai",
];

/// Other spellings.
pub(super) const ALIASES: &[(&str, &str)] =
    &[("target_url", "upstream"), ("targetUrl", "upstream")];

impl Record {
    /// Reads a record, or tells all that is wrong with it, each with its field. `id`, `created`
    /// and `updated` are not among its fields.
    pub fn read(document: &Value) -> Result<Self, Vec<Problem>> {
        let problems = Problems::default();
        let empty = Map::new();
        let map = document.as_object().unwrap_or_else(|| {
            problems.invalid("", format!("must be an object, not {}", kind(document)));
            &empty
        });
        let object = Object::new(map, String::new(), FIELDS, ALIASES, &problems);
        let record = read(&object, &problems);
        problems.into_result()?;
        Ok(record)
    }
}

fn read(object: &Object<'_>, problems: &Problems) -> Record {
    let ai = read_ai(object, problems);
    let is_ai = ai.is_some();
    let access_rule = object.text("access_rule").unwrap_or_default().trim();
    if access_rule.chars().count() > ACCESS_RULE_MAX {
        object.invalid(
            "access_rule",
            format!("must have at most {ACCESS_RULE_MAX} characters"),
        );
    } else if AccessRule::parse(access_rule) == AccessRule::Unknown {
        object.invalid("access_rule", AccessRule::ACCEPTED);
    }
    let upstreams = read_upstreams(object, problems);
    let is_grpc = read_kind(object, &upstreams, is_ai);
    Record {
        name: read_name(object),
        path: read_path(object, problems),
        upstreams,
        upstream_http: object.choice(
            "upstream_http",
            &[
                ("auto", UpstreamVersions::Auto),
                ("1.1", UpstreamVersions::Http1),
                ("2", UpstreamVersions::Http2),
            ],
            UpstreamVersions::Auto,
        ),
        upstream_roots: read_roots(object),
        strip_path: object.boolean("strip_path", true),
        access_rule: access_rule.to_owned(),
        headers: headers::read(object, problems),
        // Models take their time, and calls of gRPC may stream: their phases have limits, the
        // whole has none.
        timeout: object.number(
            "timeout",
            1.0..=300.0,
            if is_ai || is_grpc { 0.0 } else { 30.0 },
        ),
        timeout_config: read_timeouts(object, is_ai),
        active: object.boolean("active", true),
        max_concurrent: object.integer("max_concurrent", 0..=10_000, 0),
        concurrency_mode: object.choice(
            "concurrency_mode",
            &[
                ("fixed", ConcurrencyMode::Fixed),
                ("adaptive", ConcurrencyMode::Adaptive),
            ],
            ConcurrencyMode::Fixed,
        ),
        queue: read_queue(object),
        circuit_breaker: read_breaker(object),
        rate: read_rate(object),
        retry: read_retry(object, is_ai),
        max_body: object.integer("max_body", 0..=BODY_MAX, 0),
        websocket: object.boolean("websocket", false),
        allow_private: object.boolean("allow_private", false),
        grpc_services: read_grpc_services(object, is_grpc),
        ai,
    }
}

/// Whether the upstreams speak gRPC: all of them, or none.
fn read_kind(object: &Object<'_>, upstreams: &[UpstreamSpec], is_ai: bool) -> bool {
    let is_grpc = |it: &UpstreamSpec| Address::parse(&it.url).is_ok_and(|it| it.is_grpc);
    let count = upstreams.iter().filter(|it| is_grpc(it)).count();
    if count == 0 {
        return false;
    }
    if count < upstreams.len() {
        object.invalid("upstreams", "must be all of gRPC, or none");
    }
    if is_ai {
        object.invalid(
            "ai",
            "is for models behind http:// or https://, not for gRPC",
        );
    }
    if object.text("upstream_http").is_some_and(|it| it != "auto") {
        object.invalid(
            "upstream_http",
            "is for http:// and https://; gRPC speaks HTTP/2",
        );
    }
    true
}

fn read_grpc_services(object: &Object<'_>, is_grpc: bool) -> Vec<String> {
    let Some(value) = object.get("grpc_services") else {
        return Vec::new();
    };
    let is_name = |name: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._".contains(&byte);
        (1..=SERVICE_NAME_MAX).contains(&name.len()) && name.bytes().all(is_plain)
    };
    let names: Option<Vec<String>> = value.as_array().and_then(|items| {
        let name = |item: &Value| item.as_str().filter(|it| is_name(it)).map(str::to_owned);
        items.iter().map(name).collect()
    });
    let Some(mut names) = names.filter(|names| names.len() <= UPSTREAMS_MAX) else {
        let message =
            format!("must be a list of at most {UPSTREAMS_MAX} names of services: package.Service");
        object.invalid("grpc_services", message);
        return Vec::new();
    };
    if !names.is_empty() && !is_grpc {
        object.invalid("grpc_services", "needs upstreams of gRPC");
    }
    names.sort_unstable();
    names.dedup();
    names
}

fn read_name(object: &Object<'_>) -> String {
    let name = object.text("name").unwrap_or_default().trim();
    if name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
        let message = format!("must have at most {NAME_MAX} characters, none of them control ones");
        object.invalid("name", message);
    }
    name.to_owned()
}

fn read_path(object: &Object<'_>, problems: &Problems) -> String {
    if object.get("path").is_none() {
        let message = "path cannot be empty".to_owned();
        problems.add(object.field("path"), "validation_required", message);
        return String::new();
    }
    let Some(written) = object.text("path") else {
        return String::new();
    };
    path::normalised(written).unwrap_or_else(|problem| {
        let is_empty = written.trim().is_empty();
        let code = if is_empty {
            "validation_required"
        } else {
            "validation_invalid"
        };
        problems.add(object.field("path"), code, problem);
        String::new()
    })
}

fn read_upstreams(object: &Object<'_>, problems: &Problems) -> Vec<UpstreamSpec> {
    let mut upstreams = Vec::new();
    if object.get("upstream").is_some() {
        if object.get("upstreams").is_some() {
            let message = format!("is instead of {}, not beside it", object.field("upstream"));
            object.invalid("upstreams", message);
        }
        if let Some(url) = object.text("upstream") {
            add_upstream(url, 1, object.field("upstream"), &mut upstreams, problems);
        }
        return upstreams;
    }
    match object.get("upstreams") {
        Some(Value::Array(items)) if (1..=UPSTREAMS_MAX).contains(&items.len()) => {
            for (index, item) in items.iter().enumerate() {
                let field = format!("{}[{index}]", object.field("upstreams"));
                read_upstream(item, field, &mut upstreams, problems);
            }
        }
        Some(_) => {
            object.invalid(
                "upstreams",
                format!("must be a list of 1 to {UPSTREAMS_MAX} upstreams"),
            );
        }
        None => {
            let message = "missing; expected the URL of the upstream".to_owned();
            problems.add("upstream", "validation_required", message);
        }
    }
    upstreams
}

/// An item of `upstreams`: a URL, or `{url, weight}`.
fn read_upstream(
    item: &Value,
    field: String,
    upstreams: &mut Vec<UpstreamSpec>,
    problems: &Problems,
) {
    match item {
        Value::String(url) => add_upstream(url, 1, field, upstreams, problems),
        Value::Object(map) => {
            let prefix = format!("{field}.");
            let item = Object::new(map, prefix, &["url", "weight"], &[], problems);
            let weight = item.integer("weight", 1..=1_000, 1);
            let Some(url) = item.text("url") else {
                if item.get("url").is_none() {
                    let message = "missing; expected a URL".to_owned();
                    problems.add(item.field("url"), "validation_required", message);
                }
                return;
            };
            add_upstream(url, weight, item.field("url"), upstreams, problems);
        }
        other => problems.invalid(
            field,
            format!(
                "must be a URL or an object with url and weight, not {}",
                kind(other)
            ),
        ),
    }
}

fn add_upstream(
    url: &str,
    weight: u32,
    field: String,
    upstreams: &mut Vec<UpstreamSpec>,
    problems: &Problems,
) {
    let url = url.trim();
    if url.is_empty() {
        let message = "is empty; expected the URL of the upstream".to_owned();
        problems.add(field, "validation_required", message);
        return;
    }
    match Address::parse(url) {
        Err(problem) => problems.invalid(field, problem),
        Ok(address) => {
            let url = address.url();
            if upstreams.iter().any(|other| other.url == url) {
                problems.invalid(field, "is the same upstream as another one");
                return;
            }
            upstreams.push(UpstreamSpec { url, weight });
        }
    }
}

fn read_roots(object: &Object<'_>) -> Option<String> {
    let text = object.text("upstream_roots")?.trim();
    if text.is_empty() {
        return None;
    }
    if text.len() > ROOTS_MAX {
        object.invalid(
            "upstream_roots",
            format!("must have at most {ROOTS_MAX} bytes"),
        );
    } else if !text.contains("-----BEGIN CERTIFICATE-----") {
        object.invalid("upstream_roots", "has no certificate in PEM");
    }
    Some(text.to_owned())
}

fn read_timeouts(object: &Object<'_>, is_ai: bool) -> Timeouts {
    let standard = if is_ai {
        Timeouts::AI
    } else {
        Timeouts::DEFAULT
    };
    object.limit_json("timeout_config", INNER_BYTES_MAX);
    let inner = object.inner(
        "timeout_config",
        &[
            "dial",
            "response_header",
            "idle",
            "first_byte",
            "gap",
            "total",
        ],
    );
    let phase = 0.01..=HOUR;
    Timeouts {
        dial: inner.number("dial", 0.01..=300.0, standard.dial),
        response_header: inner.number_or_zero(
            "response_header",
            phase.clone(),
            standard.response_header,
        ),
        idle: inner.number("idle", 1.0..=HOUR, standard.idle),
        first_byte: inner.number_or_zero("first_byte", phase.clone(), standard.first_byte),
        gap: inner.number_or_zero("gap", phase, standard.gap),
        total: inner.number_or_zero("total", 0.01..=7.0 * DAY, standard.total),
    }
}

fn read_queue(object: &Object<'_>) -> Queue {
    let inner = object.inner("queue", &["max", "timeout"]);
    Queue {
        max: inner.integer("max", 0..=100_000, 0),
        timeout: inner.number("timeout", 0.001..=300.0, Queue::TIMEOUT),
    }
}

fn read_breaker(object: &Object<'_>) -> Breaker {
    let standard = Breaker::DEFAULT;
    object.limit_json("circuit_breaker", INNER_BYTES_MAX);
    let inner = object.inner(
        "circuit_breaker",
        &[
            "enabled",
            "failure_threshold",
            "recovery_timeout",
            "half_open_requests",
            "failure_rate",
            "ramp",
        ],
    );
    let failure_rate = inner.get("failure_rate").is_some();
    Breaker {
        enabled: inner.boolean("enabled", standard.enabled),
        failure_threshold: inner.integer(
            "failure_threshold",
            1..=100_000,
            standard.failure_threshold,
        ),
        recovery_timeout: inner.number("recovery_timeout", 0.01..=HOUR, standard.recovery_timeout),
        half_open_requests: inner.integer(
            "half_open_requests",
            1..=1_000,
            standard.half_open_requests,
        ),
        failure_rate: failure_rate.then(|| inner.number("failure_rate", 0.01..=1.0, 1.0)),
        ramp: inner.number("ramp", 0.0..=HOUR, standard.ramp),
    }
}

fn read_rate(object: &Object<'_>) -> Option<Rate> {
    object.get("rate")?;
    let inner = object.inner("rate", &["per_second", "burst", "by"]);
    if inner.get("per_second").is_none() {
        inner.invalid("per_second", "missing; expected requests per second");
        return None;
    }
    let per_second = inner.number("per_second", 0.001..=1_000_000.0, 1.0);
    Some(Rate {
        per_second,
        burst: inner.integer("burst", 1..=1_000_000, per_second.ceil().max(1.0) as u32),
        by: inner.choice(
            "by",
            &[("route", RateBy::Route), ("identity", RateBy::Identity)],
            RateBy::Route,
        ),
    })
}

fn read_retry(object: &Object<'_>, is_ai: bool) -> Retry {
    let inner = object.inner(
        "retry",
        &[
            "attempts",
            "unsafe_methods",
            "on_overload",
            "hedge_after",
            "body_max",
        ],
    );
    Retry {
        attempts: inner.integer("attempts", 0..=5, 1),
        unsafe_methods: inner.boolean("unsafe_methods", false),
        on_overload: inner.boolean("on_overload", true),
        hedge_after: inner.number_or_zero("hedge_after", 0.001..=300.0, 0.0),
        body_max: inner.integer(
            "body_max",
            0..=16 * 1024 * 1024,
            if is_ai { 1024 * 1024 } else { 64 * 1024 },
        ),
    }
}

fn read_ai(object: &Object<'_>, problems: &Problems) -> Option<Ai> {
    let map = match object.get("ai")? {
        Value::Bool(true) => return Some(Ai::default()),
        Value::Bool(false) => return None,
        Value::Object(map) => map,
        other => {
            let message = format!("must be true, false or an object, not {}", kind(other));
            object.invalid("ai", message);
            return None;
        }
    };
    let inner = Object::new(
        map,
        format!("{}.", object.field("ai")),
        &[
            "dialect",
            "heartbeat",
            "input_price",
            "output_price",
            "output_reserve",
            "budget",
        ],
        &[],
        problems,
    );
    let budget = inner.inner(
        "budget",
        &[
            "tokens_per_minute",
            "tokens_per_day",
            "cost_per_day",
            "cost_per_month",
        ],
    );
    let standard = Ai::default();
    Some(Ai {
        dialect: inner.choice(
            "dialect",
            &[
                ("openai", AiDialect::OpenAi),
                ("anthropic", AiDialect::Anthropic),
            ],
            standard.dialect,
        ),
        heartbeat: inner.number_or_zero("heartbeat", 0.1..=300.0, standard.heartbeat),
        input_price: inner.number("input_price", 0.0..=MONEY_MAX, standard.input_price),
        output_price: inner.number("output_price", 0.0..=MONEY_MAX, standard.output_price),
        output_reserve: inner.integer("output_reserve", 1..=10_000_000, standard.output_reserve),
        budget: Budget {
            tokens_per_minute: budget.integer("tokens_per_minute", 0..=TOKENS_MAX, 0),
            tokens_per_day: budget.integer("tokens_per_day", 0..=TOKENS_MAX, 0),
            cost_per_day: budget.number("cost_per_day", 0.0..=MONEY_MAX, 0.0),
            cost_per_month: budget.number("cost_per_month", 0.0..=MONEY_MAX, 0.0),
        },
    })
}

const NAME_MAX: usize = 100;
const ACCESS_RULE_MAX: usize = 2_000;
const UPSTREAMS_MAX: usize = 64;
const SERVICE_NAME_MAX: usize = 200;
const ROOTS_MAX: usize = 65_536;
/// Longest JSON text of the breaker's and the timeouts' settings.
const INNER_BYTES_MAX: usize = 1_024;
/// A tebibyte.
const BODY_MAX: u64 = 1 << 40;
const TOKENS_MAX: u64 = 1_000_000_000_000;
const MONEY_MAX: f64 = 1e9;
const HOUR: f64 = 3_600.0;
const DAY: f64 = 24.0 * HOUR;
