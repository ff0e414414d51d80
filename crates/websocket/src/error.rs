//! Why a peer's bytes are not acceptable.

use crate::close;

/// Why the bytes of a peer were refused; the connection has to be closed with
/// [`close_code`](Self::close_code).
///
/// Section numbers are those of RFC 6455 unless they say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A reserved bit is set that no negotiated extension gives a meaning (5.2).
    #[error("reserved bit is set without a negotiated extension")]
    ReservedBits,
    /// The operation code is one of 3–7 or 11–15 (5.2).
    #[error("operation code {0} is reserved")]
    ReservedOpCode(u8),
    /// A control frame has FIN clear (5.5).
    #[error("control frame is fragmented")]
    FragmentedControl,
    /// A control frame announces more than 125 bytes (5.5).
    #[error("control frame is longer than 125 bytes")]
    OversizedControl,
    /// A length is encoded in more bytes than it needs (5.2).
    #[error("frame length is not encoded minimally")]
    LengthNotMinimal,
    /// The most significant bit of a 64-bit length is set (5.2).
    #[error("frame length exceeds 63 bits")]
    LengthOverflow,
    /// A client sent a frame without a mask (5.1).
    #[error("frame of a client is not masked")]
    Unmasked,
    /// A server sent a frame with a mask (5.1).
    #[error("frame of a server is masked")]
    Masked,
    /// A continuation arrived although no message is open (5.4).
    #[error("continuation frame without a message to continue")]
    UnexpectedContinuation,
    /// A new message began inside an unfinished one (5.4).
    #[error("data frame inside an unfinished message")]
    ExpectedContinuation,
    /// A close frame carries exactly one byte (5.5.1).
    #[error("close frame carries half a status code")]
    CloseTruncated,
    /// A close frame carries a status code that must not be sent (7.4).
    #[error("close code {0} must not be sent")]
    CloseCode(u16),
    /// The reason of a close frame is not UTF-8 (5.5.1).
    #[error("close reason is not valid utf-8")]
    CloseReasonUtf8,
    /// A text message is not UTF-8 (8.1).
    #[error("text message is not valid utf-8")]
    TextUtf8,
    /// A frame announces more than [`Limits::frame_max`](crate::Limits::frame_max).
    #[error("frame exceeds the limit")]
    FrameTooLarge,
    /// A message grows over [`Limits::message_max`](crate::Limits::message_max).
    #[error("message exceeds the limit")]
    MessageTooLarge,
    /// A message inflates over [`Limits::inflated_max`](crate::Limits::inflated_max).
    #[error("decompressed message exceeds the limit")]
    InflatedTooLarge,
    /// A message inflates over
    /// [`Limits::inflate_ratio_max`](crate::Limits::inflate_ratio_max) times its size.
    #[error("decompressed message exceeds the permitted ratio")]
    InflateRatio,
    /// A compressed message is not a DEFLATE stream (RFC 7692, 7.2.2).
    #[error("compressed message is corrupt")]
    DeflateCorrupt,
}

impl FrameError {
    /// The status code that tells the peer what it did wrong (7.4.1).
    #[must_use]
    pub fn close_code(&self) -> u16 {
        match self {
            Self::ReservedBits
            | Self::ReservedOpCode(_)
            | Self::FragmentedControl
            | Self::OversizedControl
            | Self::LengthNotMinimal
            | Self::LengthOverflow
            | Self::Unmasked
            | Self::Masked
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation
            | Self::CloseTruncated
            | Self::CloseCode(_) => close::PROTOCOL_ERROR,
            Self::CloseReasonUtf8 | Self::TextUtf8 | Self::DeflateCorrupt => close::INVALID_PAYLOAD,
            Self::FrameTooLarge
            | Self::MessageTooLarge
            | Self::InflatedTooLarge
            | Self::InflateRatio => close::TOO_LARGE,
        }
    }

    /// A label for metrics, from a closed set.
    #[must_use]
    pub fn reason_label(&self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved_bits",
            Self::ReservedOpCode(_) => "reserved_opcode",
            Self::FragmentedControl => "fragmented_control",
            Self::OversizedControl => "oversized_control",
            Self::LengthNotMinimal => "length_not_minimal",
            Self::LengthOverflow => "length_overflow",
            Self::Unmasked => "unmasked",
            Self::Masked => "masked",
            Self::UnexpectedContinuation => "unexpected_continuation",
            Self::ExpectedContinuation => "expected_continuation",
            Self::CloseTruncated => "close_truncated",
            Self::CloseCode(_) => "close_code",
            Self::CloseReasonUtf8 => "close_reason_utf8",
            Self::TextUtf8 => "text_utf8",
            Self::FrameTooLarge => "frame_too_large",
            Self::MessageTooLarge => "message_too_large",
            Self::InflatedTooLarge => "inflated_too_large",
            Self::InflateRatio => "inflate_ratio",
            Self::DeflateCorrupt => "deflate_corrupt",
        }
    }
}
