//! What the gateway itself says to a model's caller, in the dialect that was spoken.

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::AiDialect;

/// A comment that keeps a silent stream's connections open. Only between two events.
pub const HEARTBEAT: &[u8] = b": keep-alive\n\n";

/// What went wrong, as the APIs name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request can't be served as it is.
    InvalidRequest,
    /// No token, or a wrong one.
    Unauthenticated,
    /// The caller may not.
    Forbidden,
    /// There is no such route.
    NotFound,
    /// The request is too large.
    TooLarge,
    /// A rate or a budget is used up.
    RateLimited,
    /// No capacity, or the breaker is open.
    Overloaded,
    /// A phase took too long.
    TimedOut,
    /// The upstream broke off or said nothing sensible.
    Upstream,
}

impl Fault {
    /// What an answer with this status, made by the gateway, is about.
    pub fn of_status(status: u16) -> Self {
        match status {
            401 => Self::Unauthenticated,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            413 => Self::TooLarge,
            429 => Self::RateLimited,
            503 | 529 => Self::Overloaded,
            408 | 504 => Self::TimedOut,
            400..=499 => Self::InvalidRequest,
            _ => Self::Upstream,
        }
    }

    fn openai_type(self) -> &'static str {
        match self {
            Self::InvalidRequest | Self::NotFound | Self::TooLarge => "invalid_request_error",
            Self::Unauthenticated => "authentication_error",
            Self::Forbidden => "permission_error",
            Self::RateLimited => "rate_limit_error",
            Self::Overloaded | Self::TimedOut | Self::Upstream => "server_error",
        }
    }

    fn anthropic_type(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request_error",
            Self::Unauthenticated => "authentication_error",
            Self::Forbidden => "permission_error",
            Self::NotFound => "not_found_error",
            Self::TooLarge => "request_too_large",
            Self::RateLimited => "rate_limit_error",
            Self::Overloaded => "overloaded_error",
            Self::TimedOut => "timeout_error",
            Self::Upstream => "api_error",
        }
    }
}

/// The last event of a stream that broke: the status has long been sent, and without a
/// word of its own the end would look like a complete answer.
///
/// With `is_mid_event` it begins by ending the event that was cut; that event can't be
/// taken back. `code` is for programs (`timeout:gap`), `message` for people.
pub fn error_event(
    dialect: AiDialect,
    fault: Fault,
    code: &str,
    message: &str,
    is_mid_event: bool,
) -> Bytes {
    let break_off = if is_mid_event { "\n\n" } else { "" };
    let name = match dialect {
        AiDialect::OpenAi => "",
        AiDialect::Anthropic => "event: error\n",
    };
    let error = error(dialect, fault, code, message);
    Bytes::from(format!("{break_off}{name}data: {error}\n\n"))
}

/// The body of an answer that the gateway gives instead of the upstream, as
/// `application/json`.
pub fn error_body(dialect: AiDialect, fault: Fault, code: &str, message: &str) -> Bytes {
    Bytes::from(error(dialect, fault, code, message).to_string())
}

fn error(dialect: AiDialect, fault: Fault, code: &str, message: &str) -> Value {
    match dialect {
        AiDialect::OpenAi => json!({
            "error": {
                "message": message,
                "type": fault.openai_type(),
                "param": null,
                "code": code,
            }
        }),
        AiDialect::Anthropic => json!({
            "type": "error",
            "error": { "type": fault.anthropic_type(), "message": message }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Meter, Shape};
    use super::*;

    #[test]
    fn a_broken_stream_ends_with_an_error_its_caller_understands() {
        for dialect in [AiDialect::OpenAi, AiDialect::Anthropic] {
            for (cut, is_mid_event) in [("", false), ("data: {\"cho", true)] {
                let mut meter = Meter::new(dialect, Shape::EventStream);
                meter.push(cut.as_bytes());
                assert_eq!(meter.at_boundary(), !is_mid_event);
                let event = error_event(
                    dialect,
                    Fault::TimedOut,
                    "timeout:gap",
                    "upstream said \"nothing\"\nfor 120 s",
                    is_mid_event,
                );
                meter.push(&event);
                assert!(meter.has_error(), "{event:?}");
                assert!(meter.at_boundary());
            }
        }
    }

    #[test]
    fn bodies_have_the_shape_of_their_api() {
        let body = error_body(
            AiDialect::Anthropic,
            Fault::of_status(429),
            "budget",
            "used up",
        );
        assert_eq!(
            body,
            r#"{"error":{"message":"used up","type":"rate_limit_error"},"type":"error"}"#
        );
        let body = error_body(AiDialect::OpenAi, Fault::of_status(504), "timeout", "late");
        assert_eq!(
            body,
            r#"{"error":{"code":"timeout","message":"late","param":null,"type":"server_error"}}"#
        );
    }
}
