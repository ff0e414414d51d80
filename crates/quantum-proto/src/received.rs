//! received.
