//! What an operator writes about a route: the fields of the contract and ours.
//!
//! [`Record::read`] takes a JSON object and tells all that is wrong with it at once. Names are
//! read in camelCase and in snake_case, at both levels; [`Record::write`] gives the contract's:
//! camelCase outside, snake_case inside. `null` is a field that was left out.

use std::fmt;

mod address;
mod defaults;
mod document;
mod headers;
mod object;
mod path;
mod read;
mod write;

pub use document::MASK;

pub(super) use address::{Address, scheme_name};
pub(super) use path::comparable;

/// A route as it is written (`contracts`: http-proxy 5.1). Durations are seconds. Printing it
/// shows no credentials.
#[derive(Clone, PartialEq)]
pub struct Record {
    /// For people and metrics; the path if empty.
    pub name: String,
    /// Public prefix, from `/-/` on: `/-/openai` serves itself and `/-/openai/…`. Written
    /// without `/-`, it gets it.
    pub path: String,
    /// Where requests go; at least one.
    pub upstreams: Vec<UpstreamSpec>,
    /// Versions of HTTP spoken with the upstreams.
    pub upstream_http: UpstreamVersions,
    /// Certificates (PEM) trusted instead of the system's.
    pub upstream_roots: Option<String>,
    /// The prefix is taken off.
    pub strip_path: bool,
    /// Who may pass.
    pub access_rule: String,
    /// Fields set on what goes upstream; values are templates. In their order.
    pub headers: Vec<(String, String)>,
    /// The whole request; 1 to 300, or 0 for models and gRPC unless told otherwise: no limit. Event
    /// streams and tunnels are exempt: `gap` and `total` are for them.
    pub timeout: f64,
    /// Phases.
    pub timeout_config: Timeouts,
    /// It serves.
    pub active: bool,
    /// Requests in flight; 0 is no limit.
    pub max_concurrent: u32,
    /// Whether the limit finds its own level below `max_concurrent`.
    pub concurrency_mode: ConcurrencyMode,
    /// What waits for a slot.
    pub queue: Queue,
    /// The breaker of each upstream.
    pub circuit_breaker: Breaker,
    /// How many requests per second.
    pub rate: Option<Rate>,
    /// Further tries.
    pub retry: Retry,
    /// Bytes of a request's body; 0 is no limit.
    pub max_body: u64,
    /// WebSocket upgrades are let through.
    pub websocket: bool,
    /// Upstreams may have loopback and private addresses.
    pub allow_private: bool,
    /// gRPC services (`package.Service`) whose calls come here from `/package.Service/Method`
    /// on the main listener too: most clients of gRPC can't put a prefix before that.
    pub grpc_services: Vec<String>,
    /// The upstreams are models.
    pub ai: Option<Ai>,
}

impl fmt::Debug for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", Self::masked(&self.write()))
    }
}

impl Record {
    /// Its upstreams speak gRPC.
    pub fn is_grpc(&self) -> bool {
        let mut upstreams = self.upstreams.iter();
        upstreams.any(|it| Address::parse(&it.url).is_ok_and(|address| address.is_grpc))
    }
}

/// One upstream of a route.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamSpec {
    /// `http://` or `https://`, host, perhaps port and path; `grpc://`, `grpcs://` or
    /// `quantum://`, host and port. No user, query or fragment.
    pub url: String,
    /// Its share, beside the others'; 1 to 1000.
    pub weight: u32,
}

/// Versions of HTTP spoken with the upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamVersions {
    /// `auto`: HTTP/1.1, or over TLS what the server chooses.
    #[default]
    Auto,
    /// `1.1`.
    Http1,
    /// `2`, without TLS by prior knowledge.
    Http2,
}

/// Phases of a request, in seconds; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timeouts {
    /// To connect.
    pub dial: f64,
    /// From the request's last byte to the answer's head.
    pub response_header: f64,
    /// How long a connection rests in the pool.
    pub idle: f64,
    /// From the answer's head to its first content.
    pub first_byte: f64,
    /// Between two parts of an answer.
    pub gap: f64,
    /// All of an event stream or a tunnel.
    pub total: f64,
}

/// Whether the limit of requests in flight moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConcurrencyMode {
    /// `fixed`.
    #[default]
    Fixed,
    /// `adaptive`: by the upstream's latency, at most `maxConcurrent`.
    Adaptive,
}

/// What waits for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Queue {
    /// Requests that wait at once; 0 is off.
    pub max: u32,
    /// How long one waits, in seconds.
    pub timeout: f64,
}

/// When an upstream is left alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Breaker {
    /// Off unless asked for.
    pub enabled: bool,
    /// Failures in a row.
    pub failure_threshold: u32,
    /// Seconds until the first trial.
    pub recovery_timeout: f64,
    /// Trials at once.
    pub half_open_requests: u32,
    /// Share of failures within 10 s and at least 20 requests, 0 to 1.
    pub failure_rate: Option<f64>,
    /// Seconds from recovery to all requests.
    pub ramp: f64,
}

/// How many requests per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Sustained.
    pub per_second: f64,
    /// At once.
    pub burst: u32,
    /// Who shares it.
    pub by: RateBy,
}

/// Who shares a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RateBy {
    /// `route`: everybody.
    #[default]
    Route,
    /// `identity`: each caller has its own; guests by address.
    Identity,
}

/// Further tries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Beyond the first; 0 to 5.
    pub attempts: u32,
    /// Requests that are not idempotent are repeated as well.
    pub unsafe_methods: bool,
    /// Answers with these statuses are tried again elsewhere: 502, 503 and 504 unless
    /// told otherwise, and 429 for models.
    pub on_overload: bool,
    /// Seconds after which a second try is sent beside the first; 0 is off.
    pub hedge_after: f64,
    /// Bytes of a request's body kept for further tries.
    pub body_max: u32,
}

/// The upstreams are models.
#[derive(Debug, Clone, PartialEq)]
pub struct Ai {
    /// Which API is spoken.
    pub dialect: AiDialect,
    /// Seconds between heartbeat comments on a silent stream; 0 is off.
    pub heartbeat: f64,
    /// Price of a million tokens asked, in `currency` units.
    pub input_price: f64,
    /// Price of a million tokens answered.
    pub output_price: f64,
    /// Tokens taken to be answered if a request sets no limit.
    pub output_reserve: u32,
    /// Limits of each identity.
    pub budget: Budget,
}

/// Which API is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AiDialect {
    /// `openai`: chat completions, completions, responses, embeddings.
    #[default]
    OpenAi,
    /// `anthropic`: messages.
    Anthropic,
}

/// Limits of each identity; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Budget {
    /// Tokens per minute.
    pub tokens_per_minute: u64,
    /// Tokens per day (UTC).
    pub tokens_per_day: u64,
    /// Cost per day (UTC), in the unit of the prices.
    pub cost_per_day: f64,
    /// Cost per calendar month (UTC).
    pub cost_per_month: f64,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field as it was written: `circuitBreaker.failure_threshold`.
    pub field: String,
    /// A short code: `validation_required`, `validation_invalid`, `validation_unknown` (no such
    /// field), `validation_masked` (a value that was shown masked comes back),
    /// `validation_not_unique`.
    pub code: &'static str,
    /// What and why.
    pub message: String,
}

#[cfg(test)]
mod tests;
