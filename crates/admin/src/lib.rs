//! health, metrics, the server API and operator endpoints.
//!
//! One listener for machines and operators, apart from the clients' one:
//!
//! | path | for | guarded by |
//! |---|---|---|
//! | `/healthz`, `/readyz` | the supervisor | nothing |
//! | `/metrics` | Prometheus | nothing, or an administrator token by [`Settings`] |
//! | `/api`, `/api/<method>` | backends | an API key |
//! | `/api/collections/_proxies/…` | operators, as records of PocketBase | an administrator token |
//! | `/api/gateway/metrics` | Prometheus | an administrator token, or nothing by [`Settings`] |
//! | `/api/openapi.json`, `/admin/openapi.json` | tools | nothing |
//! | `/console/…` | the operators' console: files without data | nothing |
//! | `/admin/…`, and whatever else | operators | an administrator token |
//!
//! This crate holds no state of the gateway. It reads requests, asks a [`Control`] and an
//! [`Operator`], which the assembly implements, and writes answers. [`router()`] makes the
//! router, [`serve`] gives it to a socket.
#![warn(missing_docs)]

pub mod api;
pub mod control;
pub mod error;
pub mod listener;
pub mod metrics;
pub mod openapi;
pub mod operator;
mod pages;
mod probes;
pub mod readiness;
mod records;
mod router;

pub use api::{ApiKeys, ErrorMode};
pub use control::{Control, Operator};
pub use error::{ApiError, OperatorError};
pub use listener::{ListenerLimits, serve, serve_with};
pub use metrics::HttpMetrics;
pub use probes::probes;
pub use readiness::{Readiness, Stage};
pub use router::{Settings, State, TokenCheck, router};
