//! Tokens made by another implementation, checked as a gateway does.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests own their tasks and clock"
)]
#![expect(
    clippy::unwrap_used,
    reason = "a test that can not be set up has failed"
)]

mod claims;
mod key_sets;
mod keys;
mod support;
