//! packet.
