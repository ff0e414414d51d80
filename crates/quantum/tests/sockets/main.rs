//! Quantum on real sockets of this machine, with TLS, and tonic on top.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "the test owns its tasks and clock"
)]

mod echo;
mod grpc;
mod pair;
mod transport;
