//! From a record to JSON.

use serde_json::{Value, json};

use super::{
    Ai, AiDialect, Breaker, ConcurrencyMode, Rate, RateBy, Record, Retry, Timeouts,
    UpstreamVersions,
};

impl Record {
    /// The record as JSON: names as in the contract (camelCase, inside snake_case), every field
    /// with its value, `upstream` if there is one and `upstreams` otherwise. What
    /// [`Record::read`] makes of it is the same record.
    pub fn write(&self) -> Value {
        let mut document = json!({
            "name": self.name,
            "path": self.path,
            "upstreamHttp": match self.upstream_http {
                UpstreamVersions::Auto => "auto",
                UpstreamVersions::Http1 => "1.1",
                UpstreamVersions::Http2 => "2",
            },
            "upstreamRoots": self.upstream_roots,
            "stripPath": self.strip_path,
            "accessRule": self.access_rule,
            "headers": self.headers.iter().map(|(name, value)| (name.clone(), json!(value)))
                .collect::<serde_json::Map<_, _>>(),
            // Without a limit it can't be written as a number: 0 is none that is accepted.
            "timeout": (self.timeout > 0.0).then(|| number(self.timeout)),
            "timeoutConfig": timeouts(&self.timeout_config),
            "active": self.active,
            "maxConcurrent": self.max_concurrent,
            "concurrencyMode": match self.concurrency_mode {
                ConcurrencyMode::Fixed => "fixed",
                ConcurrencyMode::Adaptive => "adaptive",
            },
            "queue": { "max": self.queue.max, "timeout": number(self.queue.timeout) },
            "circuitBreaker": breaker(&self.circuit_breaker),
            "rate": self.rate.as_ref().map(rate),
            "retry": retry(&self.retry),
            "maxBody": self.max_body,
            "websocket": self.websocket,
            "allowPrivate": self.allow_private,
            "grpcServices": self.grpc_services,
            "ai": self.ai.as_ref().map(ai),
        });
        let (name, value) = match self.upstreams.as_slice() {
            [only] if only.weight == 1 => ("upstream", json!(only.url)),
            several => {
                let item = |it: &super::UpstreamSpec| json!({ "url": it.url, "weight": it.weight });
                ("upstreams", several.iter().map(item).collect())
            }
        };
        if let Some(members) = document.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
        document
    }
}

fn timeouts(timeouts: &Timeouts) -> Value {
    json!({
        "dial": number(timeouts.dial),
        "response_header": number(timeouts.response_header),
        "idle": number(timeouts.idle),
        "first_byte": number(timeouts.first_byte),
        "gap": number(timeouts.gap),
        "total": number(timeouts.total),
    })
}

fn breaker(breaker: &Breaker) -> Value {
    json!({
        "enabled": breaker.enabled,
        "failure_threshold": breaker.failure_threshold,
        "recovery_timeout": number(breaker.recovery_timeout),
        "half_open_requests": breaker.half_open_requests,
        "failure_rate": breaker.failure_rate.map(number),
        "ramp": number(breaker.ramp),
    })
}

fn rate(rate: &Rate) -> Value {
    json!({
        "per_second": number(rate.per_second),
        "burst": rate.burst,
        "by": match rate.by {
            RateBy::Route => "route",
            RateBy::Identity => "identity",
        },
    })
}

fn retry(retry: &Retry) -> Value {
    json!({
        "attempts": retry.attempts,
        "unsafe_methods": retry.unsafe_methods,
        "on_overload": retry.on_overload,
        "hedge_after": number(retry.hedge_after),
        "body_max": retry.body_max,
    })
}

fn ai(ai: &Ai) -> Value {
    json!({
        "dialect": match ai.dialect {
            AiDialect::OpenAi => "openai",
            AiDialect::Anthropic => "anthropic",
        },
        "heartbeat": number(ai.heartbeat),
        "input_price": number(ai.input_price),
        "output_price": number(ai.output_price),
        "output_reserve": ai.output_reserve,
        "budget": {
            "tokens_per_minute": ai.budget.tokens_per_minute,
            "tokens_per_day": ai.budget.tokens_per_day,
            "cost_per_day": number(ai.budget.cost_per_day),
            "cost_per_month": number(ai.budget.cost_per_month),
        },
    })
}

/// Whole numbers without a point: 30 rather than 30.0.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && (0.0..1e15).contains(&value) {
        json!(value as u64)
    } else {
        json!(value)
    }
}
