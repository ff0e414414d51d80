//! gRPC services: unary calls under one policy, over TCP or over Quantum.
//!
//! ```text
//! Service::call ─► guard ─────────► endpoints ─► Channel ─► answer, or a Fault that
//!                  slot, rate,      P2C,          grpc://    says what may be done
//!                  deadline, tries  breaker each  grpcs://   after it
//!                                                 quantum://
//! ```
//!
//! `grpc_service` is a service whose endpoints are `grpc://` and `grpcs://` (tonic over TCP),
//! `quantum_peer` one whose endpoints are `quantum://`; a service may have both, and nothing
//! but the [`Channel`] differs.
//!
//! [`Schema`] translates between JSON and Protobuf, with descriptors from a file or by asking
//! the service (server reflection).

mod channel;
mod endpoints;
mod fault;
mod reflection;
mod schema;
mod service;
mod target;
mod unary;

pub use channel::{Channel, ChannelError};
pub use endpoints::EndpointLook;
pub use fault::{Failure, Fault};
pub use schema::{Descriptors, Schema, SchemaError};
pub use service::{Call, JsonFailure, Service, ServiceError, Settings};
pub use target::{Target, Tls, Transport};
pub use tonic::Code;
pub use tonic::metadata::{Ascii, MetadataMap};

/// A metadata key whose values are text.
pub type MetadataKey = tonic::metadata::MetadataKey<Ascii>;
