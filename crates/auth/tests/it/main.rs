//! Tokens made by another implementation, checked as a gateway does.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests own their tasks and clock"
)]

mod claims;
mod key_sets;
mod keys;
mod support;
