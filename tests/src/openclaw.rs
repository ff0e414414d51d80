//! The relay against a real OpenClaw gateway, its model replaced by a local stub.
//!
//! `cargo xtask openclaw` installs the gateway and runs this. Too slow for every test run: the
//! gateway takes its time to start, and it is started several times.

pub mod checks;
mod forwarder;
mod model;
mod process;

pub use checks::{Check, run};
