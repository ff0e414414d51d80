//! A service that speaks gRPC, over TCP and over Quantum, as a process of its own; it logs
//! whose call it was.

mod process;
mod serve;
mod service;

pub use process::{Desk, Options, Way, stranger, tls};
pub use serve::run;
pub use service::orders;

/// What was made of `desk.proto`.
#[expect(
    missing_docs,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "written by a program"
)]
pub mod v1 {
    tonic::include_proto!("e2e.v1");
}

/// The descriptors of `desk.proto`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/desk.binpb"));
