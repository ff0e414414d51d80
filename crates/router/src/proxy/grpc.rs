//! What the proxy has to know of gRPC to pass calls on (gRPC over HTTP/2).
//!
//! A call is a POST whose answer tells how it went in trailers, or in the head if there is
//! nothing else to say. So whatever the proxy itself has to say it says likewise: status 200 and
//! a `grpc-status`, which clients show as a status of their own.

use std::time::Duration;

use http1::{Fields, Framing, Known, RequestHead, Version};
use percent::encode;
use policy::Verdict;

use super::answer::{Answer, Body};
use super::outcome::{Ended, Phase};
use super::refusal::{Refusal, Said};

/// The statuses that the proxy itself gives, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Status {
    Cancelled = 1,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// Whether a request is a call: HTTP/2, POST, and content of gRPC.
pub(super) fn is_call(head: &RequestHead) -> bool {
    head.version == Version::Http2
        && head.method == http::Method::POST
        && head
            .fields
            .get(Known::ContentType)
            .is_some_and(is_content_type)
}

/// `application/grpc`, alone or with a format or parameters behind it; not that of gRPC-Web.
pub(super) fn is_content_type(value: &[u8]) -> bool {
    let Some(rest) = value.strip_prefix(CONTENT_TYPE.as_bytes()) else {
        return false;
    };
    matches!(rest.first(), None | Some(b'+' | b';'))
}

/// The service of a call's path: `/package.Service/Method`. A method whose name an upstream might
/// take for something else (escaped slashes, dot segments) is none.
pub(super) fn service_of(path: &str) -> Option<&str> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let is_name = method.bytes().all(is_plain) && method.bytes().any(|byte| byte != b'.');
    (!service.is_empty() && is_name).then_some(service)
}

/// How long the client waits for the whole call (`grpc-timeout`); one that can't be read is
/// none.
pub(super) fn timeout(fields: &Fields) -> Option<Duration> {
    let value = str::from_utf8(fields.get_named("grpc-timeout")?).ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit());
    let count: u64 = digits.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The status of an answer, in its head or trailers; `None` if it is not there.
pub(super) fn status(fields: &Fields) -> Option<u8> {
    str::from_utf8(fields.get_named("grpc-status")?)
        .ok()?
        .parse()
        .ok()
}

/// The upstream says that it takes no calls for now. Whether it has begun with this one is not
/// said by that: what stands before a service says it too when it loses the service.
pub(super) fn is_overload(status: Option<u8>) -> bool {
    status == Some(Status::Unavailable as u8)
}

/// The upstream wishes to be asked again, and so has done nothing.
pub(super) fn asks_again(fields: &Fields) -> bool {
    let wish = fields.get_named("grpc-retry-pushback-ms");
    wish.is_some_and(|it| !it.is_empty() && it.iter().all(u8::is_ascii_digit))
}

/// What a status says about the upstream: `DEADLINE_EXCEEDED` may be the client's own and says
/// nothing.
pub(super) fn verdict(status: Option<u8>) -> Verdict {
    match status {
        // UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS.
        Some(2 | 13..=15) => Verdict::Failure,
        Some(8) => Verdict::Soft,
        // CANCELLED, DEADLINE_EXCEEDED, ABORTED, UNIMPLEMENTED.
        Some(1 | 4 | 10 | 12) | None => Verdict::Neutral,
        Some(_) => Verdict::Success,
    }
}

/// Our own answer to a call.
pub(super) fn refused(refusal: &Refusal) -> Said {
    let status = match refusal {
        Refusal::Unauthenticated => Status::Unauthenticated,
        Refusal::Denied => Status::PermissionDenied,
        Refusal::NoRoute | Refusal::Path(_) => Status::Unimplemented,
        Refusal::NoUpgrade | Refusal::Handshake | Refusal::NoCall => Status::InvalidArgument,
        Refusal::Busy { .. } | Refusal::Budget { .. } => Status::ResourceExhausted,
        Refusal::BreakerOpen { .. } | Refusal::NoConnection(_) | Refusal::Upstream(_) => {
            Status::Unavailable
        }
        Refusal::TimedOut { .. } => Status::DeadlineExceeded,
        Refusal::Client(http1::Gone::TooLarge) => Status::ResourceExhausted,
        Refusal::Client(http1::Gone::TooSlow) => Status::DeadlineExceeded,
        Refusal::Client(http1::Gone::Malformed) => Status::InvalidArgument,
        Refusal::Client(http1::Gone::Left) => Status::Cancelled,
    };
    let mut said = Said {
        status: 200,
        fields: outcome(status, &refusal.to_string()),
        body: bytes::Bytes::new(),
    };
    said.put("content-type", CONTENT_TYPE);
    if let Some(after) = refusal.retry_after() {
        said.put("grpc-retry-pushback-ms", &after.as_millis().to_string());
    }
    said
}

/// Our own answer, as it goes to the client: a head and nothing else.
pub(super) fn answer(said: Said) -> Answer {
    Answer {
        status: said.status,
        fields: said.fields,
        framing: Framing::Empty,
        upgrade: None,
        body: Body::Empty,
    }
}

/// Trailers of an answer that broke off.
pub(super) fn broken(how: Ended) -> Fields {
    match how {
        Ended::TimedOut(Phase::Total) => outcome(Status::DeadlineExceeded, "deadline has passed"),
        Ended::TimedOut(_) => outcome(Status::DeadlineExceeded, "upstream took too long"),
        Ended::ClientLeft => outcome(Status::Cancelled, "client has left"),
        Ended::Complete | Ended::Refused | Ended::UpstreamBroke => {
            outcome(Status::Unavailable, "answer of the upstream broke off")
        }
    }
}

fn outcome(status: Status, message: &str) -> Fields {
    let mut fields = Fields::new();
    let number = (status as u8).to_string();
    let message = encode(message);
    for (name, value) in [("grpc-status", number), ("grpc-message", message)] {
        let put = fields.push(name, value.as_bytes());
        debug_assert!(put.is_ok(), "our own fields are valid");
    }
    fields
}

mod percent {
    /// Text as `grpc-message` has it: printable ASCII but `%`, the rest as bytes in percent.
    pub(super) fn encode(text: &str) -> String {
        let mut encoded = String::with_capacity(text.len());
        for byte in text.bytes() {
            if (b' '..=b'~').contains(&byte) && byte != b'%' {
                encoded.push(char::from(byte));
            } else {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
        encoded
    }
}

const CONTENT_TYPE: &str = "application/grpc";

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: &str, value: &str) -> Fields {
        let mut fields = Fields::new();
        fields.push(name, value.as_bytes()).unwrap();
        fields
    }

    #[test]
    fn timeouts_are_read_in_each_unit() {
        let read = |text: &str| timeout(&fields("grpc-timeout", text));
        for (text, nanos) in [
            ("1H", 3_600_000_000_000),
            ("2M", 120_000_000_000),
            ("3S", 3_000_000_000),
            ("4m", 4_000_000),
            ("5u", 5_000),
            ("6n", 6),
            ("99999999n", 99_999_999),
        ] {
            assert_eq!(read(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "+1S", "123456789S", "1é"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn content_of_grpc_is_told_from_grpc_web() {
        for value in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;x=y",
        ] {
            assert!(is_content_type(value.as_bytes()), "{value}");
        }
        for value in [
            "application/grpc-web",
            "application/grpcs",
            "text/plain",
            "",
        ] {
            assert!(!is_content_type(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn only_the_path_of_a_call_names_a_service() {
        assert_eq!(service_of("/a.B/C"), Some("a.B"));
        for path in [
            "/a.B",
            "/a.B/",
            "//C",
            "/a/b/c",
            "a/b",
            "",
            "/a.B/..",
            "/a.B/.",
            "/a.B/..%2fc",
            "/a.B/%2e%2e",
            "/a.B/\\c",
        ] {
            assert_eq!(service_of(path), None, "{path}");
        }
    }

    #[test]
    fn words_of_a_status_are_plain_ascii() {
        assert_eq!(encode("50% für a\n"), "50%25 f%C3%BCr a%0A");
    }
}
