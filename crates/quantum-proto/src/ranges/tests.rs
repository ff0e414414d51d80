//! Ranges against a naive set.
