mod mutations;
mod responses;

use super::*;
use crate::fields::Known;

pub(super) const LIMITS: Limits = Limits {
    head: 4096,
    fields: 32,
    target: 1024,
};

fn parsed(bytes: &[u8]) -> Result<Option<RequestHead>, Reject> {
    request(&mut BytesMut::from(bytes), &LIMITS)
}

#[track_caller]
fn accepted(head: &str) -> RequestHead {
    match parsed(head.as_bytes()) {
        Ok(Some(head)) => head,
        other => panic!("{}: {other:?}", head.escape_debug()),
    }
}

#[track_caller]
fn refused(reject: Reject, heads: &[&str]) {
    for head in heads {
        let result = parsed(head.as_bytes());
        let found = result.map(|head| head.is_some());
        assert_eq!(found, Err(reject), "{}", head.escape_debug());
    }
}

/// Heads of `GET / HTTP/1.1` with a host and these lines.
#[track_caller]
fn refused_lines(reject: Reject, lines: &[&str]) {
    for line in lines {
        for (before, after) in [("Host: a\r\n", ""), ("", "Host: a\r\n")] {
            refused(
                reject,
                &[&format!("GET / HTTP/1.1\r\n{before}{line}\r\n{after}\r\n")],
            );
        }
    }
}

#[test]
fn plain_request_is_read() {
    let mut buffer = BytesMut::from(
        &b"POST /a/b?c=d HTTP/1.1\r\nHost: example.org:81\r\nX-A:\tb c \t\r\ncontent-length:5\r\n\r\nhello"
            [..],
    );
    let head = request(&mut buffer, &LIMITS).unwrap().unwrap();
    assert_eq!(head.method, Method::POST);
    assert_eq!(head.target.path(), "/a/b");
    assert_eq!(head.target.query(), Some("c=d"));
    assert_eq!(head.authority, "example.org:81");
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.framing, Framing::Length(5));
    assert!(head.keep_alive && !head.expects_continue && head.upgrade.is_none());
    assert_eq!(head.fields.get_named("x-a"), Some(&b"b c"[..]));
    assert_eq!(head.fields.text(Known::ContentLength), Some("5"));
    assert_eq!(buffer, "hello");
}

#[test]
fn head_fed_byte_by_byte_is_the_same() {
    let bytes =
        b"\r\n\r\nPUT /x HTTP/1.1\r\nHost: a\r\nEmpty:\r\nTransfer-Encoding: Chunked\r\n\r\n";
    let mut buffer = BytesMut::new();
    for (at, byte) in bytes.iter().enumerate() {
        buffer.extend_from_slice(&[*byte]);
        let head = request(&mut buffer, &LIMITS).unwrap();
        assert_eq!(head.is_some(), at + 1 == bytes.len(), "after {at} bytes");
        if let Some(head) = head {
            let whole = parsed(bytes).unwrap().unwrap();
            assert_eq!(format!("{head:?}"), format!("{whole:?}"));
            assert_eq!(head.framing, Framing::Chunked);
            assert_eq!(head.fields.get_named("empty"), Some(&b""[..]));
        }
    }
    assert!(buffer.is_empty());
}

#[test]
fn at_most_two_empty_lines_stand_before_a_request() {
    accepted("\r\nGET / HTTP/1.0\r\n\r\n");
    accepted("\r\n\r\nGET / HTTP/1.0\r\n\r\n");
    refused(
        Reject::RequestLine,
        &[
            "\r\n\r\n\r\n",
            "\r\n\r\n\r\nGET / HTTP/1.0\r\n\r\n",
            "\rGET /",
        ],
    );
    for incomplete in ["", "\r", "\r\n", "\r\n\r", "\r\n\r\n", "\r\n\r\n\r"] {
        let mut buffer = BytesMut::from(incomplete);
        assert!(request(&mut buffer, &LIMITS).unwrap().is_none());
        assert_eq!(buffer, incomplete);
    }
}

#[test]
fn malformed_request_lines_are_refused() {
    refused(
        Reject::RequestLine,
        &[
            "GET\r\n\r\n",
            "GET /\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET /  HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1 \r\n\r\n",
            " GET / HTTP/1.1\r\n\r\n",
            "GET /a b HTTP/1.1\r\n\r\n",
            "GET\t/ HTTP/1.1\r\n\r\n",
            "GET /\tHTTP/1.1\r\n\r\n",
            "G@T / HTTP/1.1\r\n\r\n",
            "G\u{e9}T / HTTP/1.1\r\n\r\n",
            "GET / http/1.1\r\n\r\n",
            "GET / HTTP/1.1x\r\n\r\n",
            "GET / HTTP/11\r\n\r\n",
            "GET / HTTP/1.10\r\n\r\n",
            "GET / HTTP/1,1\r\n\r\n",
            "GET / HTTPS/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\r\n\r\n",
            "AVERYVERYVERYVERYVERYVERYLONGMETHOD / HTTP/1.1\r\n\r\n",
        ],
    );
}

#[test]
fn other_versions_are_refused() {
    for version in ["0.9", "1.2", "1.9", "2", "2.0", "3", "3.0"] {
        refused(
            Reject::Version,
            &[&format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n")],
        );
    }
    refused(Reject::Version, &["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]);
}

#[test]
fn malformed_targets_are_refused() {
    for target in [
        "a",
        "a/b",
        "a.example:80",
        "*",
        "/#",
        "/a#b",
        "/\u{e9}",
        "/\u{1}",
        "/\u{7f}",
        "/a\rb",
        "?a",
        "//\0",
        "ftp://a/",
        "http:/a",
        "http:///",
        "http://",
        "http://u@a/",
        "http://u:p@a/",
        "http://a:x/",
        "http://a b/",
        "http://a,b/",
        "ws://a/",
        "http://a%2f/",
        "http://a\\/",
    ] {
        let reject = if target.contains(' ') {
            Reject::RequestLine
        } else {
            Reject::Target
        };
        refused(
            reject,
            &[&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")],
        );
    }
    let head = accepted("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(head.target.as_str(), "*");
    refused(
        Reject::Connect,
        &[
            "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
            "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    );
}

#[test]
fn absolute_targets_become_paths() {
    for (target, host, path) in [
        ("http://a.example/b?c", "a.example", "/b?c"),
        ("HTTP://A.Example:80/", "a.example", "/"),
        ("http://a", "A:80", "/"),
        ("https://a:443?q=/x", "a", "/?q=/x"),
        ("https://[::1]:8443/x", "[::1]:8443", "/x"),
    ] {
        let head = accepted(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(
            (head.target.as_str(), &head.authority[..]),
            (path, host.as_bytes())
        );
    }
    for (target, host) in [
        ("http://a/", "b"),
        ("http://a/", "a:81"),
        ("https://a/", "a:80"),
        ("http://a:81/", "a"),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        refused(Reject::HostMismatch, &[&head]);
    }
    let head = accepted("GET http://a:81/b HTTP/1.0\r\n\r\n");
    assert_eq!(
        (head.target.as_str(), &head.authority[..]),
        ("/b", &b"a:81"[..])
    );
}

#[test]
fn host_is_one_plain_name() {
    for host in [
        "a",
        "A-b_c~d.example.",
        "127.0.0.1:1",
        "[::1]",
        "[::ffff:1.2.3.4]:65535",
        "xn--a:08",
    ] {
        let head = accepted(&format!("GET / HTTP/1.1\r\nHOST:{host}\r\n\r\n"));
        assert_eq!(head.authority, host);
    }
    let long = "a".repeat(255);
    for host in [
        "",
        " ",
        ":80",
        "a:",
        "a:0",
        "a:65536",
        "a:080000",
        "a:+1",
        "a:1:1",
        "a:x",
        "u@a",
        "u:p@a",
        "a b",
        "a,b",
        "a/b",
        "a?b",
        "a#b",
        "a\\b",
        "a%20b",
        "[::1",
        "::1",
        "[]",
        "[::1]x",
        "[a]",
        "[::1%25eth0]",
        "a\t",
        "\u{e9}",
        "a;b",
        "a\"",
        &long,
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        if host == "a\t" {
            accepted(&head);
        } else {
            refused(Reject::Host, &[&head]);
        }
    }
    refused(
        Reject::Host,
        &[
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\n\r\n",
        ],
    );
    assert!(accepted("GET / HTTP/1.0\r\n\r\n").authority.is_empty());
}

#[test]
fn bare_line_feeds_are_refused_as_soon_as_they_come() {
    refused(
        Reject::BareLineFeed,
        &[
            "\n",
            "\r\n\nGET",
            "GET / HTTP/1.1\n",
            "GET / HTTP/1.1\r\nHost: a\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\r\nHost: a\r\nB: c\nD: e\r\n\r\n",
            "GET /\n HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    );
}

#[test]
fn malformed_fields_are_refused() {
    refused_lines(
        Reject::Folded,
        &[
            " folded",
            "\tfolded",
            " B: c",
            " ",
            "A: b\r\n c",
            "A: b\r\n\t",
        ],
    );
    refused_lines(
        Reject::Name,
        &[
            "A",
            ": b",
            "A : b",
            "A\t: b",
            "A b: c",
            "A_b: c",
            "Content_Length: 5",
            "Transfer-Encoding : chunked",
            "A\u{b}: b",
            "\u{e9}: b",
            "A\0: b",
            "(A): b",
            "A,B: c",
            "\"A\": b",
            "A\r: b",
            "\r: b",
            "\u{b}A: b",
        ],
    );
    refused_lines(
        Reject::Value,
        &[
            "A: \0",
            "A: b\0c",
            "A: b\rc",
            "A: \rb",
            "A: b\r",
            "A: \u{b}",
            "A: \u{1}b",
            "A: b\u{7f}",
            "A: \u{1b}[0m",
            "Connection: \"close\"",
            "Connection: a b",
            "Connection: close, @",
        ],
    );
    let head = accepted("GET / HTTP/1.1\r\nHost: a\r\nA:b:c \u{e9}\td\r\n\r\n");
    assert_eq!(head.fields.get_named("a"), Some("b:c \u{e9}\td".as_bytes()));
}

#[test]
fn lengths_are_plain_numbers() {
    refused_lines(
        Reject::ContentLength,
        &[
            "Content-Length:",
            "Content-Length: +5",
            "Content-Length: -5",
            "Content-Length: 0x5",
            "Content-Length: 5_0",
            "Content-Length: 5, 5",
            "Content-Length: 5,",
            "Content-Length: 5 5",
            "Content-Length: 5.0",
            "Content-Length: 5e1",
            "Content-Length: a",
            "Content-Length: \u{b2}",
            "Content-Length: 9223372036854775808",
            "Content-Length: 99999999999999999999",
            "Content-Length: 18446744073709551621",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\ncontent-length: 6",
            "Content-Length: 0\r\nContent-Length: 0",
        ],
    );
    for (value, framing) in [
        ("0", Framing::Empty),
        ("000", Framing::Empty),
        ("007", Framing::Length(7)),
        ("9223372036854775807", Framing::Length(i64::MAX as u64)),
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: {value}\r\n\r\n");
        assert_eq!(accepted(&head).framing, framing);
    }
    assert_eq!(
        accepted("POST / HTTP/1.1\r\nHost: a\r\n\r\n").framing,
        Framing::Empty
    );
}

#[test]
fn transfer_encoding_is_chunked_alone() {
    refused_lines(
        Reject::TransferEncoding,
        &[
            "Transfer-Encoding:",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: chunked,",
            "Transfer-Encoding: ,chunked",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: chunkedx",
            "Transfer-Encoding: \"chunked\"",
            "Transfer-Encoding: chunked;q=1",
            "Transfer-Encoding: chun ked",
            "Transfer-Encoding: \u{a0}chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\ntransfer-encoding: identity",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
            "Content-Length: 5\r\nTransfer-Encoding: gzip",
        ],
    );
    refused(
        Reject::TransferEncoding,
        &["POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"],
    );
    refused_lines(
        Reject::BothFramings,
        &[
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 0",
        ],
    );
    for value in ["chunked", "CHUNKED", "\tchunked "] {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {value}\r\n\r\n");
        assert_eq!(accepted(&head).framing, Framing::Chunked);
    }
}

#[test]
fn connection_says_whether_it_stands() {
    for (version, lines, stands) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: a, CLOSE ,\r\n", false),
        (
            "1.1",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let head = accepted(&format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n"));
        assert_eq!(head.keep_alive, stands, "{version} {lines}");
    }
}

#[test]
fn upgrades_have_no_body() {
    let base = "GET / HTTP/1.1\r\nHost: a\r\n";
    let head = accepted(&format!(
        "{base}Connection: x, Upgrade\r\nUpgrade: websocket\r\n\r\n"
    ));
    assert_eq!(head.upgrade.as_deref(), Some(&b"websocket"[..]));
    for lines in [
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n",
        "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nContent-Length: 5\r\n",
    ] {
        assert_eq!(
            accepted(&format!("{base}{lines}\r\n")).upgrade,
            None,
            "{lines}"
        );
    }
    let old = accepted("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(old.upgrade, None);
    refused_lines(
        Reject::UpgradeWithBody,
        &[
            "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1",
            "Transfer-Encoding: chunked\r\nConnection: upgrade\r\nUpgrade: websocket",
            "Upgrade: websocket\r\nContent-Length: 1",
        ],
    );
    accepted(&format!(
        "{base}Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n"
    ));
}

#[test]
fn expectations_are_to_continue() {
    refused_lines(
        Reject::Expectation,
        &["Expect: 200-ok", "Expect:", "Expect: 100-continue, x"],
    );
    for (head, expects) in [
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n",
            true,
        ),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
            false,
        ),
        (
            "PUT / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            false,
        ),
    ] {
        assert_eq!(accepted(head).expects_continue, expects);
    }
}

#[test]
fn limits_hold_to_the_byte() {
    let limits = Limits {
        head: 100,
        fields: 3,
        target: 20,
    };
    let parse = |head: &str| request(&mut BytesMut::from(head), &limits).map(|head| head.is_some());
    let padded = |length: usize| {
        let rest = "GET / HTTP/1.1\r\nHost: a\r\nA: \r\n\r\n".len();
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n",
            "b".repeat(length - rest)
        )
    };
    assert_eq!(parse(&padded(100)), Ok(true));
    assert_eq!(parse(&padded(101)), Err(Reject::TooLarge));
    assert_eq!(parse(&padded(200)[..99]), Ok(false));
    assert_eq!(parse(&padded(200)[..100]), Err(Reject::TooLarge));
    let fields = |count: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "A:\r\n".repeat(count - 1)
        )
    };
    assert_eq!(parse(&fields(3)), Ok(true));
    assert_eq!(parse(&fields(4)), Err(Reject::TooManyFields));
    let target = |length: usize| {
        format!(
            "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
            "t".repeat(length - 1)
        )
    };
    assert_eq!(parse(&target(20)), Ok(true));
    assert_eq!(parse(&target(21)), Err(Reject::TargetTooLong));
    // Where the head's limit comes first, it is still the line that does not end.
    let wide = Limits {
        target: 500,
        ..limits
    };
    let mut endless = BytesMut::from(format!("GET /{}", "t".repeat(200)).as_str());
    let refused = request(&mut endless, &wide).map(|head| head.is_some());
    assert_eq!(refused, Err(Reject::TargetTooLong));
    // A line that does not end is refused before the whole head's limit is reached.
    assert_eq!(parse(&target(90)[..80]), Err(Reject::TargetTooLong));
}

#[test]
fn statuses_fit_their_reasons() {
    for (reject, status) in [
        (Reject::TargetTooLong, 414),
        (Reject::TooLarge, 431),
        (Reject::TooManyFields, 431),
        (Reject::Version, 505),
        (Reject::Connect, 501),
        (Reject::Expectation, 417),
        (Reject::BothFramings, 400),
    ] {
        assert_eq!(reject.status(), status);
    }
}
