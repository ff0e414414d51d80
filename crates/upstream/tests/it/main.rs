//! Links to scripted agents, over real sockets.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests own their tasks and clock"
)]
#![expect(
    clippy::unwrap_used,
    reason = "a test that can not be set up has failed"
)]
#![expect(clippy::panic, reason = "a test that finds something else has failed")]

mod crowd;
mod grpc;
mod http1_exchange;
mod http2_exchange;
mod http_pool;
mod http_server;
mod links;
mod loss;
mod openclaw;
mod places;
mod quantum_peer;
mod stage;
mod tls;
