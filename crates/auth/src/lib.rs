//! Tokens to identities: JWT, key sets, revocation, administrator tokens; signatures of
//! messages.
//!
//! A [`Verifier`] is built from [`TokenSettings`] and answers with the claims of
//! a token, or with why it was refused.
//! It reads no clock and no environment: the time is an argument, and references
//! to secrets are resolved by the caller before (see [`TokenSettings::resolve`]).
//!
//! What must hold (RFC 8725):
//! - a key is usable with the algorithms of its own family only, or with the one
//!   it is pinned to; the token's header chooses among keys, never how a key is used;
//! - there is no algorithm `none`, and no HMAC key ever comes from a key set;
//! - keys embedded in a token or named by it (`jwk`, `jku`, `x5u`, `x5c`) are ignored;
//! - nothing is read of a token's claims before its signature is checked.

pub mod admin_token;
pub mod durable;
pub mod jwks;
pub mod mint;
pub mod revocation;
pub mod settings;
pub mod signature;
pub mod verifier;

mod claims;
mod key;
mod pem;

pub use admin_token::{AdminTokens, same_secret};
pub use jwks::KeySets;
pub use revocation::{Revocation, Revocations};
pub use settings::{Secret, SettingsError, TokenSettings};
pub use signature::{SignatureSettings, Signatures};
pub use verifier::Verifier;
