//! One call through one policy to what lies behind the gateway.
#![warn(missing_docs)]

pub mod grpc;
pub mod guard;
pub mod http_service;
pub mod quantum_peer;
pub mod ws_agent;
