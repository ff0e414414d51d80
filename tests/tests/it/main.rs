//! The built gateway, driven from outside as operators and clients do.
#![expect(
    clippy::disallowed_methods,
    reason = "the tests live by the wall clock"
)]

mod bad_input;
mod doors;
mod drain;
mod kill;
mod live;
mod live_data;
mod live_dialect;
mod operators;
mod proxy;
mod proxy_evil;
mod proxy_http2;
mod proxy_kills;
mod proxy_reload;
mod quantum;
mod relay_backlog;
mod relay_doors;
mod reload;
mod session;
mod smuggling;
mod tls;
