//! Links to scripted agents, over real sockets.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests own their tasks and clock"
)]
#![expect(
    clippy::unwrap_used,
    reason = "a test that can not be set up has failed"
)]

mod crowd;
mod links;
mod loss;
mod openclaw;
mod places;
mod stage;
mod tls;
