//! For tests: the built gateway started and stopped, clients, tokens, certificates.
//!
//! Everything is blocking and waits for conditions with a deadline, so that a test reads
//! as what happens from outside. Errors are `anyhow`: a test that meets one has failed.
#![warn(missing_docs)]
#![expect(clippy::disallowed_methods, reason = "tests live by the wall clock")]

pub mod certificate;
pub mod client;
pub mod crowd;
pub mod gateway;
pub mod http;
pub mod log;
pub mod lossy_link;
pub mod openclaw;
pub mod services;
pub mod stratix_agent;
pub mod token;

pub use client::{Client, ClientError, Close, Handshake};
pub use crowd::Crowd;
pub use gateway::Gateway;
pub use lossy_link::{LinkConfig, LinkCounts, LossyLink};

use std::time::Duration;

/// How long anything may take that should happen at once, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
