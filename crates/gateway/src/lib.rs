//! configuration and assembly: the only crate that knows all the others.
#![warn(missing_docs)]

pub mod assembly;
pub mod config;
pub mod demo;
pub mod echo_agent;
pub mod flags;
pub mod logging;
pub mod metrics;
pub mod reload;
pub mod route_json;
pub mod tokens;
