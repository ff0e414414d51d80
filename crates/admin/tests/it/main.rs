//! The admin listener from outside: real sockets, and a gateway that only takes notes.
#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the tests own their tasks, and a panic is how they fail"
)]

mod api;
mod audit;
mod console;
mod fake;
mod http;
mod listener;
mod open;
mod operator;
mod proxies;
mod records;
mod relay;
