//! The Quantum transport on real sockets, and gRPC over it.
#![warn(missing_docs)]
