//! Delivery rate: how fast bytes arrived, seen from packets and their acknowledgements.

use crate::Time;

/// What was known when a packet was sent; kept beside the packet until its fate is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes delivered so far.
    pub(super) delivered: u64,
    /// When that count last grew.
    pub(super) delivered_at: Time,
    /// When the packet left whose acknowledgement made it grow.
    pub(super) first_sent: Time,
    /// Bytes declared lost so far.
    pub(super) lost: u64,
    /// Bytes in flight, this packet included.
    pub(super) inflight: u64,
    /// Counts packets, so that neighbours are recognised.
    pub(super) packet: u32,
    /// The sender had room but nothing to send.
    pub(super) app_limited: bool,
}
