//! The relay with a real log on disk and agents on real sockets.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod answers;
mod bad_days;
mod delivery;
mod fake_grpc;
mod proxy;
mod proxy_grpc;
mod scene;
mod services;
