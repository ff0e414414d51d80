//! The HTTP proxy: from a request to its upstream and back.
//!
//! ```text
//! request ─► table ─► access ─► breaker ─► slot, rate ─► endpoint ─► exchange ─► answer
//!            snapshot  rule     open?       queue        P2C         phases      metrics, log
//! ```
//!
//! A [`Record`] is what an operator writes; a route is what it compiles to. Requests
//! hold the route they began with, so a new table disturbs nothing under way.

mod caller;
mod compile;
mod record;
mod rule;
mod table;
mod template;

pub use caller::Caller;
pub use compile::{WeightedOrigin, breaker, identity_rate, origins, policy};
pub use record::{
    Ai, AiDialect, Breaker, Budget, ConcurrencyMode, MASK, Problem, Queue, Rate, RateBy, Record,
    Retry, Timeouts, UpstreamSpec, UpstreamVersions,
};
pub use rule::{AccessRule, Denial};
pub use table::{AmbiguousPath, Found, PathTaken, Routes};
pub use template::{Injection, InjectionError, Sources, Template, TemplateError};
