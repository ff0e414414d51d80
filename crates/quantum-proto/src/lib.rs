//! The Quantum transport as a state machine: no socket, no clock, no task, no chance of its own.
//!
//! Reliable, encrypted streams over UDP that hide packet loss. Whoever drives a
//! [`connection::Connection`] hands it datagrams and the time, and takes from it datagrams,
//! events and the next deadline; the same code runs on sockets and in a simulated network.
//! The wire format is specified in `docs/internals/quantum.md`.
//!
//! The modules follow a packet: [`packet`] and [`frame`] are its bytes, [`crypto`] protects
//! them, [`streams`] is what it carries, [`received`] and [`recovery`] know what arrived,
//! [`fec`] rebuilds what did not, [`congestion`] says how fast, [`connection`] puts it all
//! together, and [`endpoint`] finds the connection that a datagram belongs to.
#![warn(missing_docs)]

#[cfg(test)]
mod chance;
pub mod codes;
pub mod config;
pub mod congestion;
pub mod connection;
pub mod crypto;
pub mod endpoint;
pub mod fec;
pub mod frame;
pub mod guuid;
pub mod packet;
pub mod ranges;
pub mod received;
pub mod recovery;
pub mod streams;
pub mod time;

pub use guuid::Guuid;
pub use time::Time;
