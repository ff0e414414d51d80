//! Why a connection ended, as CLOSE tells it.

/// Codes of CLOSE frames. Below 0x1000 they are the transport's, from there on the application's.
/// Those of streams (RESET, STOP) are the application's throughout; gRPC's are in the specification.
pub mod close {
    /// Nothing is wrong; the peer is done.
    pub const DONE: u32 = 0x00;
    /// The peer failed for a reason of its own.
    pub const INTERNAL: u32 = 0x01;
    /// The peer takes no connection now.
    pub const REFUSED: u32 = 0x02;
    /// More bytes than a window allowed.
    pub const FLOW_CONTROL: u32 = 0x03;
    /// More streams than allowed.
    pub const STREAM_LIMIT: u32 = 0x04;
    /// A frame for a stream that cannot be in that state.
    pub const STREAM_STATE: u32 = 0x05;
    /// A stream's end moved.
    pub const FINAL_SIZE: u32 = 0x06;
    /// A frame that cannot be read.
    pub const FRAME: u32 = 0x07;
    /// A rule of the protocol was broken.
    pub const VIOLATION: u32 = 0x08;
    /// Nothing can be sealed or opened any more: the keys are used up.
    pub const KEYS: u32 = 0x09;
    /// The TLS alert in the low byte (RFC 8446 section 6) ended the handshake.
    pub const TLS: u32 = 0x100;
    /// The first code of the application.
    pub const APPLICATION: u32 = 0x1000;
}
