//! Which pages may connect, and what browsers are told about it.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, HOST,
    ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::reply::{self, Reply};
use crate::live::Live;

/// Whether the request comes from a page that may connect, or from no page at all.
pub(crate) fn is_admitted(live: &Live, headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return true;
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    origins.next().is_none()
        && ((live.origins)(origin) || (live.demo.is_some() && is_own_page(origin, headers)))
}

/// Whether a page is the demo's own: the same host and port, and on this machine. A
/// name that merely resolves to this machine is not enough (DNS rebinding).
fn is_own_page(origin: &str, headers: &HeaderMap) -> bool {
    let Some((_, authority)) = origin.split_once("://") else {
        return false;
    };
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    authority.eq_ignore_ascii_case(host) && is_loopback(authority)
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Answers a browser's question before a request to another origin.
pub(crate) fn preflight(headers: &HeaderMap) -> Reply {
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    let answer = reply.headers_mut();
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("300"));
    answer.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, OPTIONS"),
    );
    grant(headers, &mut reply);
    reply
}

/// Lets the page read the answer; its origin has been admitted.
pub(crate) fn grant(headers: &HeaderMap, reply: &mut Reply) {
    let Some(origin) = headers.get(ORIGIN) else {
        return;
    };
    let answer = reply.headers_mut();
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    answer.insert(
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        HeaderValue::from_static("true"),
    );
    answer.insert(VARY, HeaderValue::from_static("Origin"));
    if let Some(asked) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn own(origin: &str, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        is_own_page(origin, &headers)
    }

    #[test]
    fn the_demo_page_is_told_from_pages_that_pretend() {
        assert!(own("http://127.0.0.1:8000", "127.0.0.1:8000"));
        assert!(own("http://localhost:8000", "localhost:8000"));
        assert!(own("http://[::1]:8000", "[::1]:8000"));
        assert!(!own("http://evil.example:8000", "evil.example:8000"));
        assert!(!own("http://127.0.0.1:9000", "127.0.0.1:8000"));
        assert!(!own("null", "127.0.0.1:8000"));
    }
}
