//! End-to-end tests of the built gateway: Rust's in `tests/it`, the JavaScript SDK's in `sdk`.
//!
//! Here are the scenarios whose size matters. The tests run them small;
//! `cargo run --release -p e2e --example show -- reload 5000 500` (or `drain 5000 500`)
//! runs them at any size.
#![warn(missing_docs)]
#![expect(
    clippy::disallowed_methods,
    reason = "the tests live by the wall clock"
)]

pub mod config;
pub mod desk;
pub mod drain;
pub mod kill;
pub mod live_client;
pub mod live_data;
pub mod openclaw;
pub mod proxy;
pub mod reload;
pub mod schemathesis;
pub mod stratix;
